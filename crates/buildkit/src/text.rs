//! Words of others, as they are shown. Pure.

/// Characters of a daemon's words that are shown.
const WORDS_LENGTH_MAX: usize = 600;

/// Words of a daemon on one line of bounded length.
pub fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS_LENGTH_MAX).collect()
}
