//! What happened, where, and what to do about it: as data, and as plain text. Pure; colours are the program's business.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

use crate::place::Place;

/// How many columns of a line are shown; a longer one is cut around what it is shown for.
const EXCERPT_COLUMNS_MAX: usize = 100;

/// One error or warning for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it ends the work.
    pub severity: Severity,
    /// What happened: one line, lower case, values in backticks.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// Whether the line itself may be shown.
    pub excerpt: Excerpt,
    /// A few words beside the carets.
    pub label: Option<String>,
    /// What else is known: causes, other places.
    pub notes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
}

/// Whether a diagnostic ends the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Whether the line that a diagnostic points at may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excerpt {
    /// It may.
    Shown,
    /// It may not, because it holds a password; or it need not, because the error is about the whole file.
    Hidden,
}

impl Diagnostic {
    /// An error without a place, notes and hints.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: None,
            excerpt: Excerpt::Shown,
            label: None,
            notes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A warning without a place, notes and hints.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// The same with a place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The same with a further hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text of compilers: message, place, line, carets, notes, hints. Every line ends in a newline.
    pub fn render(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text = String::new();
        push_entry(&mut text, severity, &self.message);
        if let Some(place) = &self.place {
            self.push_place(&mut text, place);
        }
        for note in &self.notes {
            push_entry(&mut text, "note", note);
        }
        for hint in &self.hints {
            push_entry(&mut text, "hint", hint);
        }
        text
    }

    fn push_place(&self, text: &mut String, place: &Place) {
        let number = place.line.to_string();
        let margin = " ".repeat(number.len() + 1);
        let location: String = place.to_string().chars().map(Glyph::of).map(|glyph| glyph.text).collect();
        // Writing to a String cannot fail, so the results of `writeln!` carry nothing.
        let _ = writeln!(text, "{margin}--> {location}");
        if self.excerpt == Excerpt::Hidden {
            return;
        }
        let excerpt = cut(place);
        let label = self.label.as_ref().map(|label| format!(" {label}")).unwrap_or_default();
        let _ = writeln!(text, "{margin} |");
        let _ = writeln!(text, "{}", format!(" {number} | {}", excerpt.line).trim_end());
        let indent = " ".repeat(excerpt.caret_column);
        let _ = writeln!(text, "{margin} | {indent}{}{label}", "^".repeat(excerpt.caret_columns));
    }
}

/// One line after `kind: `; further lines of `message` are indented beneath it.
fn push_entry(text: &mut String, kind: &str, message: &str) {
    let indent = " ".repeat(kind.len() + 2);
    let message = message.trim_end().replace('\n', &format!("\n{indent}"));
    let _ = writeln!(text, "{kind}: {message}");
}

/// The part of a line that is shown, with the columns of a terminal where the carets stand.
struct Cut {
    line: String,
    caret_column: usize,
    caret_columns: usize,
}

/// A character as it is shown, and how many columns it takes.
struct Glyph {
    text: String,
    columns: usize,
}

impl Glyph {
    fn of(character: char) -> Self {
        let text = match character {
            '\t' => "→   ".to_owned(),
            '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('␀').to_string(),
            '\u{7f}' => "␡".to_owned(),
            _ if is_invisible(character) => format!("<U+{:04X}>", u32::from(character)),
            _ => return Self { text: character.to_string(), columns: character.width().unwrap_or(1) },
        };
        Self { columns: text.chars().count(), text }
    }
}

/// Whether `character` would change how a line is read without being seen: C1 controls, line and paragraph
/// separators, bidirectional controls and the byte order mark.
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

fn cut(place: &Place) -> Cut {
    let start = place.column - 1;
    let first = start.saturating_sub(EXCERPT_COLUMNS_MAX / 3);
    let before = if first == 0 { "" } else { "…" };
    let mut line = before.to_owned();
    let mut columns = before.chars().count();
    let (mut caret_column, mut caret_columns) = (None, 0);
    let mut characters = place.line_text().chars().enumerate().skip(first).peekable();
    while let Some((index, character)) = characters.next_if(|_| columns < EXCERPT_COLUMNS_MAX) {
        let glyph = Glyph::of(character);
        if (start..start + place.length).contains(&index) {
            caret_column.get_or_insert(columns);
            caret_columns += glyph.columns;
        }
        columns += glyph.columns;
        line.push_str(&glyph.text);
    }
    if characters.peek().is_some() {
        line.push('…');
    }
    Cut { line, caret_column: caret_column.unwrap_or(columns), caret_columns: caret_columns.max(1) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::place::Source;

    fn diagnostic(text: &str, line: usize, column: usize, length: usize) -> Diagnostic {
        let source = Arc::new(Source { name: "train.yaml".to_owned(), text: text.to_owned() });
        Diagnostic::error("unknown key `pakages`").at(Place { source, line, column, length })
    }

    #[test]
    fn an_error_shows_what_where_and_what_to_do() {
        let text = "a:\n\n\n\n\n\n  pakages:\n";
        insta::assert_snapshot!(diagnostic(text, 7, 3, 7).hint("did you mean `packages`?").render(), @"
        error: unknown key `pakages`
          --> train.yaml:7:3
           |
         7 |   pakages:
           |   ^^^^^^^
        hint: did you mean `packages`?
        ");
    }

    #[test]
    fn a_label_stands_beside_the_carets_and_notes_come_before_hints() {
        let mut diagnostic = diagnostic("pakages: x", 1, 1, 7).hint("first\nsecond");
        diagnostic.label = Some("here".to_owned());
        diagnostic.notes.push("a cause".to_owned());
        diagnostic.severity = Severity::Warning;
        insta::assert_snapshot!(diagnostic.render(), @"
        warning: unknown key `pakages`
          --> train.yaml:1:1
           |
         1 | pakages: x
           | ^^^^^^^ here
        note: a cause
        hint: first
              second
        ");
    }

    #[test]
    fn a_hidden_line_is_pointed_at_but_not_shown() {
        let diagnostic = Diagnostic { excerpt: Excerpt::Hidden, ..diagnostic("pip_index: secret", 1, 12, 6) };
        insta::assert_snapshot!(diagnostic.render(), @"
        error: unknown key `pakages`
          --> train.yaml:1:12
        ");
    }

    #[test]
    fn tabs_and_control_characters_are_made_visible() {
        insta::assert_snapshot!(diagnostic("a\tb\0c\u{202e}d", 1, 7, 1).render(), @"
        error: unknown key `pakages`
          --> train.yaml:1:7
           |
         1 | a→   b␀c<U+202E>d
           |                 ^
        ");
    }

    #[test]
    fn wide_characters_take_two_columns_and_accents_none() {
        insta::assert_snapshot!(diagnostic("名前e\u{301}: pakages", 1, 7, 7).render(), @"
        error: unknown key `pakages`
          --> train.yaml:1:7
           |
         1 | 名前é: pakages
           |        ^^^^^^^
        ");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "x".repeat(500_000), "y".repeat(500_000));
        insta::assert_snapshot!(diagnostic(&text, 1, 500_001, 4).render(), @"
        error: unknown key `pakages`
          --> train.yaml:1:500001
           |
         1 | …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxHEREyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
           |                                   ^^^^
        ");
        let whole = diagnostic(&text, 1, 1, 1_000_004).render();
        assert!(whole.lines().all(|line| line.chars().count() < 120), "{whole}");
    }

    #[test]
    fn a_place_behind_the_end_of_its_line_still_gets_a_caret() {
        insta::assert_snapshot!(diagnostic("a: [", 1, 5, 1).render(), @"
        error: unknown key `pakages`
          --> train.yaml:1:5
           |
         1 | a: [
           |     ^
        ");
    }
}
