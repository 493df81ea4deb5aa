//! Where a value was written: file, line and column, with the file's text at hand for an error. Pure.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that values come from.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// How to call it in an error: the path as the user gave it, or `--set`.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

/// A stretch of one line in a [`Source`].
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub source: Arc<Source>,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Length in characters, at least 1.
    pub length: usize,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl Place {
    /// The text of the line, without its end.
    pub fn line_text(&self) -> &str {
        self.source.text.lines().nth(self.line - 1).unwrap_or_default()
    }
}

/// Turns byte offsets of a text into places, without counting a long line again and again.
pub(crate) struct Positions {
    source: Arc<Source>,
    line_starts: Vec<usize>,
    /// How many characters begin before each multiple of [`BLOCK_BYTES`].
    characters_before: Vec<usize>,
}

const BLOCK_BYTES: usize = 128;

impl Positions {
    /// Reads the text once.
    pub(crate) fn new(source: Source) -> Self {
        let bytes = source.text.as_bytes();
        let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        let mut characters_before = vec![0];
        for block in bytes.chunks(BLOCK_BYTES) {
            let before = characters_before.last().copied().unwrap_or_default();
            characters_before.push(before + count_characters(block));
        }
        Self { source: Arc::new(source), line_starts, characters_before }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.source.text
    }

    /// The text between two byte offsets; empty if they are no character boundaries.
    pub(crate) fn slice(&self, range: Range<usize>) -> &str {
        self.source.text.get(range).unwrap_or_default()
    }

    /// The part of `range` that stands on its first line, at least one character long. A range at the end of the text
    /// is moved to the end of its last line that is not empty.
    pub(crate) fn place(&self, range: Range<usize>) -> Place {
        let text = &self.source.text;
        let start = if range.start >= text.len() { text.trim_end().len() } else { range.start };
        let line = self.line_starts.partition_point(|line_start| *line_start <= start);
        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).map_or(text.len(), |next| next - 1);
        let line_end = line_start + self.slice(line_start..line_end).trim_end_matches('\r').len();
        let end = range.end.clamp(start, line_end.max(start));
        Place {
            source: Arc::clone(&self.source),
            line,
            column: self.characters(start) - self.characters(line_start) + 1,
            length: (self.characters(end) - self.characters(start)).max(1),
        }
    }

    /// The place of one character by line and column, both counted from 1.
    pub(crate) fn place_at(&self, line: usize, column: usize) -> Place {
        let line = line.clamp(1, self.line_starts.len());
        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).copied().unwrap_or(self.source.text.len());
        let offset = self
            .slice(line_start..line_end)
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(line_end, |(index, _)| line_start + index);
        self.place(offset..offset + 1)
    }

    fn characters(&self, offset: usize) -> usize {
        let block = offset / BLOCK_BYTES;
        self.characters_before[block] + count_characters(&self.source.text.as_bytes()[block * BLOCK_BYTES..offset])
    }
}

/// How many characters begin in `bytes`: every byte of UTF-8 but a continuation begins one.
fn count_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), place: self.place }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.source.name, self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(text: &str) -> Positions {
        Positions::new(Source { name: "a.yaml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn columns_count_characters_even_far_into_a_line() {
        let text = format!("a\n{}x: é\n", "é".repeat(3000));
        let positions = positions(&text);
        let offset = text.find('x').expect("an x");
        let place = positions.place(offset..offset + 1);
        assert_eq!((place.line, place.column, place.length), (2, 3001, 1));
        assert_eq!(positions.place_at(2, 3001), place);
    }

    #[test]
    fn a_place_ends_with_its_line_and_the_end_of_the_text_has_one() {
        let positions = positions("one\r\ntwo\n\n");
        let whole = positions.place(1..100);
        assert_eq!((whole.line, whole.column, whole.length), (1, 2, 2));
        let end = positions.place(100..100);
        assert_eq!((end.line, end.column, end.length, end.line_text()), (2, 4, 1, "two"));
    }
}
