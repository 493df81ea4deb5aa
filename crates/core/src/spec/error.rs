//! Why a text is no spec: every kind of error, with its place. Turned into a [`Diagnostic`] here, printed elsewhere.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Excerpt};
use crate::document::Format;
use crate::place::Place;

/// Why a spec or a project file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SpecError {
    /// What is wrong.
    pub kind: SpecErrorKind,
    /// Where, if it can be said.
    pub place: Option<Place>,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// What is wrong with a spec or a project file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecErrorKind {
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is a folder, a pipe or a device.
    #[error("`{}` is no file", .path.display())]
    NotFile {
        /// The path.
        path: PathBuf,
    },
    /// The name of the file ends in nothing known.
    #[error("cannot tell the format of `{}`", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than a spec may be.
    #[error("the file is larger than {limit_bytes} bytes, which no spec needs")]
    TooLarge {
        /// How many bytes it may have.
        limit_bytes: u64,
    },
    /// The file is no UTF-8.
    #[error("the file is not UTF-8: byte 0x{byte:02x} cannot stand here")]
    NotUtf8 {
        /// The first byte that is wrong.
        byte: u8,
    },
    /// A character that cannot be seen and may do harm.
    #[error("character U+{:04X} is not allowed", u32::from(*.character))]
    ForbiddenCharacter {
        /// The character.
        character: char,
    },
    /// Nothing, or only comments.
    #[error("the file is empty")]
    Empty,
    /// A second YAML document.
    #[error("a second YAML document starts here, but a file holds one")]
    SeveralDocuments,
    /// The grammar of the format is violated.
    #[error("this is not {format}: {message}")]
    Syntax {
        /// The format.
        format: Format,
        /// What its parser says.
        message: String,
    },
    /// Lists or mappings within each other, too many times.
    #[error("lists and mappings are nested more than {limit} deep")]
    TooDeep {
        /// How many levels are allowed.
        limit: usize,
    },
    /// More values than a spec needs, or aliases that would expand to as many.
    #[error("the file has more than {limit} values, what its aliases stand for included")]
    TooManyValues {
        /// How many values are allowed.
        limit: usize,
    },
    /// An alias whose anchor is missing, or that stands inside of its own anchor.
    #[error("this alias has no anchor before it")]
    UnknownAnchor,
    /// A YAML tag.
    #[error("tag `{tag}` is not supported")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// A YAML merge key.
    #[error("merge key `<<` is not supported")]
    MergeKey,
    /// A key that is a list, a mapping or nothing.
    #[error("a key must be text")]
    KeyNotText,
    /// A key that stands twice in the same mapping.
    #[error("key `{key}` is written twice")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands first, if that is known.
        first: Option<Place>,
    },
    /// The file is something else than a mapping of fields.
    #[error("{what} must be a mapping of fields, but {found} was found")]
    NotMapping {
        /// `a spec`, `` `env` ``
        what: String,
        /// `a list`
        found: &'static str,
    },
    /// A key that nobody knows.
    #[error("unknown key `{key}`{}", Within(.within))]
    UnknownKey {
        /// The key.
        key: String,
        /// The mapping that it stands in, unless that is the whole file.
        within: Option<String>,
    },
    /// A value of another kind than the field takes.
    #[error("`{field}` must be {expected}, but {found} was found")]
    WrongKind {
        /// The field.
        field: String,
        /// `a list of texts`
        expected: &'static str,
        /// `a mapping`
        found: &'static str,
    },
    /// A value that the field does not take.
    #[error("`{field}` cannot be `{text}`: {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// The value, shortened if it is long.
        text: Box<str>,
        /// Why not.
        problem: Box<str>,
    },
    /// A key of a mapping that cannot be used.
    #[error("`{field}` cannot have the key `{key}`: {problem}")]
    InvalidKey {
        /// The field.
        field: String,
        /// The key, shortened if it is long.
        key: Box<str>,
        /// Why not.
        problem: Box<str>,
    },
    /// A URL with a user name or a password in it. The value is in neither the message nor the excerpt.
    #[error("`{field}` has a URL with credentials in it, where others will read them")]
    Credentials {
        /// The field.
        field: String,
    },
    /// Something that must be written is not.
    #[error("{what} needs `{key}`")]
    Missing {
        /// `an entry of `secrets``
        what: String,
        /// The key.
        key: &'static str,
    },
    /// An image that the project file does not have.
    #[error("no image is called `{name}`")]
    UnknownImage {
        /// What was asked for.
        name: String,
    },
    /// `--set` with a name where none belongs, or without one where it does.
    #[error("`{field}` {problem}")]
    BadSetting {
        /// The field.
        field: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// `--set` without `=`.
    #[error("`{text}` is not of the form KEY=VALUE")]
    NotSetting {
        /// What was given.
        text: String,
    },
}

/// Why a value was refused, before it is known which field it belongs to.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The value is wrong.
    Invalid {
        /// Why.
        problem: String,
        /// What to do.
        hints: Vec<String>,
    },
    /// The value holds a password.
    Credentials {
        /// What to do.
        hint: &'static str,
    },
}

struct Within<'a>(&'a Option<String>);

impl SpecError {
    pub(crate) fn new(kind: SpecErrorKind, place: Place) -> Self {
        Self { kind, place: Some(place), hints: Vec::new() }
    }

    pub(crate) fn nowhere(kind: SpecErrorKind) -> Self {
        Self { kind, place: None, hints: Vec::new() }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The refusal of `text`, which stands at `place` as a value of `field`.
    pub(crate) fn refused(field: &str, text: &str, place: Place, refusal: Refusal) -> Self {
        let field = field.to_owned();
        match refusal {
            Refusal::Invalid { problem, hints } => {
                let kind = SpecErrorKind::Invalid { field, text: shorten(text).into(), problem: problem.into() };
                Self { kind, place: Some(place), hints }
            }
            Refusal::Credentials { hint } => Self::new(SpecErrorKind::Credentials { field }, place).hint(hint),
        }
    }

    /// The error as data for a printer.
    pub fn diagnostic(&self) -> Diagnostic {
        let mut notes = Vec::new();
        if let SpecErrorKind::DuplicateKey { first: Some(first), .. } = &self.kind {
            notes.push(format!("it stands first at {first}"));
        }
        let cause = std::error::Error::source(&self.kind);
        notes.extend(std::iter::successors(cause, |cause| cause.source()).map(ToString::to_string));
        let excerpt = match self.kind {
            // The one has a line that must not be seen, the others have none worth seeing.
            SpecErrorKind::Credentials { .. } | SpecErrorKind::Empty | SpecErrorKind::TooLarge { .. } => {
                Excerpt::Hidden
            }
            _ => Excerpt::Shown,
        };
        let diagnostic = Diagnostic::error(self.to_string());
        Diagnostic { place: self.place.clone(), excerpt, notes, hints: self.hints.clone(), ..diagnostic }
    }
}

impl From<&SpecError> for Diagnostic {
    fn from(error: &SpecError) -> Self {
        error.diagnostic()
    }
}

impl Refusal {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into(), hints: Vec::new() }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Invalid { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }
}

impl fmt::Display for Within<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(within) => write!(formatter, " in `{within}`"),
            None => Ok(()),
        }
    }
}

/// Errors in the order of their places, so that a reader goes through the file once.
pub(crate) fn sort(errors: &mut [SpecError]) {
    errors.sort_by_key(|error| error.place.as_ref().map(|place| (place.source.name.clone(), place.line, place.column)));
}

/// `text` on one line and at most about 60 characters long, for a message.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut characters = text.chars();
    let mut short = String::new();
    for character in characters.by_ref().take(CHARACTERS_MAX) {
        if character.is_control() || crate::diagnostic::is_invisible(character) {
            short.extend(character.escape_default());
        } else {
            short.push(character);
        }
    }
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
