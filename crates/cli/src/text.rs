//! Words from outside, as they are shown to people.

/// `text` on one line, with everything escaped that would move the cursor or change how the line is read.
pub(crate) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        let is_direction = matches!(
            character,
            '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        );
        match character {
            '\t' => line.push(' '),
            '\n' => line.push_str("\\n"),
            _ if character.is_control() || is_direction => line.extend(character.escape_unicode()),
            _ => line.push(character),
        }
    }
    line
}

/// `text` with at most `characters_max` characters and no runs of blanks.
pub(crate) fn shortened(text: &str, characters_max: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= characters_max {
        return text;
    }
    let kept: String = text.chars().take(characters_max - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_an_image_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}b\nc\td"), "a\\u{1b}[2J\\u{202e}b\\nc d");
        assert_eq!(shortened("RUN  make\n all", 40), "RUN make all");
        assert_eq!(shortened("0123456789", 5), "0123…");
    }
}
