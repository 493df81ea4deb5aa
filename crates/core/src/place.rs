//! Where a value was written: file, line and column, with the file's text at hand for an error. Pure.

use std::fmt;
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
