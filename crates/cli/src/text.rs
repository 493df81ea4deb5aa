//! Numbers and words from outside, as they are shown to people.

/// A length as people say it: `350 bytes`, `42.1 MB`.
pub(crate) fn size(size_bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| size_bytes >= *unit) {
        // Tenths, rounded down.
        Some((unit, name)) => format!("{}.{} {name}", size_bytes / unit, size_bytes % unit * 10 / unit),
        None => format!("{size_bytes} bytes"),
    }
}

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
    fn a_length_is_said_in_the_unit_that_fits() {
        let said = [0, 999, 1_000, 44_198_984, u64::MAX].map(size);
        assert_eq!(said, ["0 bytes", "999 bytes", "1.0 kB", "44.1 MB", "18446744073.7 GB"]);
    }

    #[test]
    fn words_of_an_image_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}b\nc\td"), "a\\u{1b}[2J\\u{202e}b\\nc d");
        assert_eq!(shortened("RUN  make\n all", 40), "RUN make all");
        assert_eq!(shortened("0123456789", 5), "0123…");
    }
}
