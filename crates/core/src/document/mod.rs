//! YAML, TOML and JSON as one tree of located values. No field is known here and no file is read.

mod json;
#[cfg(test)]
mod tests;
mod text;
mod toml;
mod yaml;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::place::{Located, Place, Positions, Source};
use crate::spec::error::{SpecError, SpecErrorKind};

pub(crate) use text::forbidden_in_value;

/// How many bytes a file may have.
pub const SIZE_BYTES_MAX: u64 = 1024 * 1024;
/// How many lists and mappings may stand within each other.
const DEPTH_MAX: usize = 32;
/// How many values a document may have once its aliases are expanded.
const VALUES_MAX: usize = 20_000;

/// A format that specs are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, one document.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// JSON (RFC 8259), without comments and trailing commas.
    Json,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands. For a list or a mapping this may be no more than its first character.
    pub place: Place,
    /// What stands there.
    pub value: Value,
}

/// What stands in a document.
#[derive(Debug, Clone)]
pub enum Value {
    /// Anything but a list or a mapping.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order in which it was written; no key stands twice.
    Mapping(Vec<Entry>),
}

/// A value with the text as it was written: `3.10` stays `3.10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// What the format takes it for.
    pub kind: ScalarKind,
    /// The source text; of a string its content, without quotes and with escapes resolved.
    pub text: String,
}

/// What a format takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string without quotes, one in a YAML block, or a TOML date.
    Plain,
    /// A string in quotes.
    Quoted,
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: Located<String>,
    /// The value.
    pub value: Node,
}

impl Format {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    /// When it is none of `.yaml`, `.yml`, `.toml` and `.json`.
    pub fn of(path: &Path) -> Result<Self, SpecError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        match ending.as_deref() {
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("toml") => Ok(Self::Toml),
            Some("json") => Ok(Self::Json),
            _ => Err(SpecError::nowhere(SpecErrorKind::UnknownFormat { path: path.to_owned() })
                .hint("a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Json => "JSON",
        })
    }
}

impl Node {
    /// Reads a document whose top level is a mapping.
    ///
    /// `name` is how errors call the text.
    ///
    /// # Errors
    /// The first thing that is wrong with the text, with its place.
    pub fn parse(name: &str, text: &[u8], format: Format) -> Result<Self, SpecError> {
        let text = text::check(name, text)?;
        let positions = Positions::new(Source { name: name.to_owned(), text });
        let node = match format {
            Format::Yaml => yaml::parse(&positions),
            Format::Toml => toml::parse(&positions),
            Format::Json => json::parse(&positions),
        }?;
        let Some(node) = node else {
            let error = SpecError::new(SpecErrorKind::Empty, positions.place(0..0));
            return Err(error.hint("write fields with values, such as `packages: [pandas]`"));
        };
        match node.value {
            Value::Mapping(_) => Ok(node),
            _ => {
                let kind = SpecErrorKind::NotMapping { what: "the file".to_owned(), found: node.found() };
                Err(SpecError::new(kind, node.place).hint("write fields with values, such as `packages: [pandas]`"))
            }
        }
    }

    /// What stands here, with its article: `a list`.
    pub(crate) fn found(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Boolean => "a boolean",
                ScalarKind::Number => "a number",
                ScalarKind::Plain | ScalarKind::Quoted => "a text",
            },
        }
    }

    /// Whether nothing was written.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: ScalarKind::Null, .. }))
    }

    /// The value in the terms of JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => {
                entries.iter().map(|entry| (entry.key.value.clone(), entry.value.to_json())).collect()
            }
        }
    }
}

impl Scalar {
    /// What `text` would be without quotes, as `--set` takes it.
    pub(crate) fn plain(text: &str) -> Self {
        let kind = match text {
            "true" | "false" => ScalarKind::Boolean,
            _ if serde_json::from_str::<serde_json::Number>(text).is_ok() => ScalarKind::Number,
            _ => ScalarKind::Plain,
        };
        Self { kind, text: text.to_owned() }
    }

    fn to_json(&self) -> serde_json::Value {
        match self.kind {
            ScalarKind::Null => serde_json::Value::Null,
            ScalarKind::Boolean => serde_json::Value::Bool(self.text.eq_ignore_ascii_case("true")),
            // A number that JSON cannot say, such as `.inf` or `0x10`, is handed on as it was written.
            ScalarKind::Number => serde_json::from_str::<serde_json::Number>(&self.text.replace('_', ""))
                .map_or_else(|_| serde_json::Value::String(self.text.clone()), serde_json::Value::Number),
            ScalarKind::Plain | ScalarKind::Quoted => serde_json::Value::String(self.text.clone()),
        }
    }
}

/// Counts the values of a document and refuses one too many.
struct Budget {
    values: usize,
}

impl Budget {
    fn spend(&mut self, place: &Place, depth: usize) -> Result<(), SpecError> {
        if depth > DEPTH_MAX {
            return Err(too_deep(place.clone()));
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(SpecError::new(SpecErrorKind::TooManyValues { limit: VALUES_MAX }, place.clone()));
        }
        Ok(())
    }
}

fn too_deep(place: Place) -> SpecError {
    SpecError::new(SpecErrorKind::TooDeep { limit: DEPTH_MAX }, place)
}

/// Refuses a key that stands twice.
fn check_keys(entries: &[Entry]) -> Result<(), SpecError> {
    let mut seen = HashMap::new();
    for Entry { key, .. } in entries {
        if let Some(first) = seen.insert(key.value.as_str(), &key.place) {
            return Err(duplicate_key(key, Some(first.clone())));
        }
    }
    Ok(())
}

fn duplicate_key(key: &Located<String>, first: Option<Place>) -> SpecError {
    let kind = SpecErrorKind::DuplicateKey { key: crate::spec::error::shorten(&key.value), first };
    SpecError::new(kind, key.place.clone()).hint("keep one of them, and put the values of both there")
}

/// What to do about a character that no value may hold.
pub(crate) const FORBIDDEN_IN_VALUE_HINT: &str = "remove it: it cannot be seen, and it changes how the value is read";

/// A string's node, unless the string holds what no value may hold.
fn string(text: String, kind: ScalarKind, place: Place) -> Result<Node, SpecError> {
    match forbidden_in_value(&text) {
        Some(character) => {
            Err(SpecError::new(SpecErrorKind::ForbiddenCharacter { character }, place).hint(FORBIDDEN_IN_VALUE_HINT))
        }
        None => Ok(Node { place, value: Value::Scalar(Scalar { kind, text }) }),
    }
}
