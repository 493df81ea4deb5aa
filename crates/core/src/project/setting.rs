//! One `--set key=value`: a layer above every file. Pure.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::document::{Entry, FORBIDDEN_IN_VALUE_HINT, Node, Scalar, ScalarKind, Value, forbidden_in_value};
use crate::place::{Located, Positions, Source};
use crate::spec::error::{SpecError, SpecErrorKind, shorten};
use crate::spec::field::{self, Kind};

/// One value that the command line sets.
#[derive(Debug, Clone)]
pub struct Setting {
    /// A mapping with one field.
    pub(super) node: Node,
    /// The folder that a relative path in it starts from.
    pub(super) directory: PathBuf,
}

impl Setting {
    /// Reads `KEY=VALUE`, or `KEY.NAME=VALUE` for a field that is a mapping. `directory` is the folder that relative
    /// paths start from, absolute.
    ///
    /// The value of a list is split at commas, but not within brackets or quotes and not between the versions of a
    /// requirement (`pandas>=2,<3`). An empty value means an empty list, or that the field is left out.
    ///
    /// # Errors
    /// When `=` is missing, or the field is unknown, or a name is missing or superfluous.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, SpecError> {
        Self::read("--set", text, directory)
    }

    /// Reads the value of `--platform`, platforms with commas between them.
    ///
    /// # Errors
    /// When a character is not allowed.
    pub fn platforms(text: &str, directory: &Path) -> Result<Self, SpecError> {
        Self::read("--platform", &format!("platform={text}"), directory)
    }

    /// Reads the value of `--registry`, which is not empty.
    ///
    /// # Errors
    /// When a character is not allowed.
    pub fn registry(text: &str, directory: &Path) -> Result<Self, SpecError> {
        Self::read("--registry", &format!("registry={text}"), directory)
    }

    /// Errors call it `origin`.
    fn read(origin: &str, text: &str, directory: &Path) -> Result<Self, SpecError> {
        let positions = Positions::new(Source { name: origin.to_owned(), text: text.to_owned() });
        let Some((key, value)) = text.split_once('=') else {
            return Err(SpecError::nowhere(SpecErrorKind::NotSetting { text: shorten(text) })
                .hint("write it as in `--set python_version=3.11` or `--set env.DEBUG=1`"));
        };
        if let Some(character) = forbidden_in_value(text) {
            let error = SpecError::nowhere(SpecErrorKind::ForbiddenCharacter { character });
            return Err(error.hint(FORBIDDEN_IN_VALUE_HINT));
        }
        let (field, name) = match key.split_once('.') {
            Some((field, name)) => (field, Some(name)),
            None => (key, None),
        };
        let located = |range: Range<usize>| Located {
            value: positions.slice(range.clone()).to_owned(),
            place: positions.place(range),
        };
        let key = located(0..field.len());
        let Some(known) = field::find(field) else {
            let kind = SpecErrorKind::UnknownKey { key: shorten(field), within: None };
            let error = SpecError::new(kind, key.place);
            return Err(match field::suggest(field) {
                Some(suggestion) => error.hint(format!("did you mean `{suggestion}`?")),
                None => error.hint("`imagespec schema` lists every field"),
            });
        };
        let start = text.len() - value.len();
        let scalar = |range: Range<usize>| Node {
            place: positions.place(range.clone()),
            value: Value::Scalar(Scalar::plain(positions.slice(range))),
        };
        let is_mapping = matches!(known.kind, Kind::Variables { .. } | Kind::Options(_));
        let value = match (name, is_mapping) {
            (Some(name), true) if !name.is_empty() => {
                let key = located(field.len() + 1..field.len() + 1 + name.len());
                let place = key.place.clone();
                Node { place, value: Value::Mapping(vec![Entry { key, value: scalar(start..text.len()) }]) }
            }
            (None, false) => match &known.kind {
                Kind::List(_) | Kind::Arguments(_) | Kind::Secrets(_) if known.name != "commands" => {
                    let items = split(value).into_iter().map(|item| scalar(start + item.start..start + item.end));
                    Node { place: positions.place(start..text.len()), value: Value::Sequence(items.collect()) }
                }
                _ if value.is_empty() => {
                    let nothing = Scalar { kind: ScalarKind::Null, text: String::new() };
                    Node { place: key.place.clone(), value: Value::Scalar(nothing) }
                }
                _ => scalar(start..text.len()),
            },
            _ => {
                let (problem, form) = match is_mapping {
                    true => ("is a mapping, so `--set` needs a name behind a dot", format!("{field}.NAME=VALUE")),
                    false => ("is no mapping, so `--set` takes no name behind a dot", format!("{field}=VALUE")),
                };
                let kind = SpecErrorKind::BadSetting { field: field.to_owned(), problem };
                return Err(SpecError::new(kind, key.place).hint(format!("write `--set {form}`")));
            }
        };
        let place = key.place.clone();
        let node = Node { place, value: Value::Mapping(vec![Entry { key, value }]) };
        Ok(Self { node, directory: directory.to_owned() })
    }
}

/// The stretches between commas that separate items.
fn split(text: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let (mut start, mut depth, mut quote) = (0, 0_usize, None);
    for (index, character) in text.char_indices() {
        match (character, quote) {
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(character),
            ('[' | '(' | '{', None) => depth += 1,
            (']' | ')' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 && !text[index + 1..].trim_start().starts_with(['<', '>', '=', '!', '~']) => {
                items.push(trimmed(text, start..index));
                start = index + 1;
            }
            _ => {}
        }
    }
    items.push(trimmed(text, start..text.len()));
    items.retain(|item| !item.is_empty());
    items
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let item = &text[range.clone()];
    let start = range.start + item.len() - item.trim_start().len();
    start..start + item.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_commas_but_requirements_stay_whole() {
        let items = |text: &'static str| split(text).into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(items("a, b"), ["a", "b"]);
        assert_eq!(items("pandas>=2,<3,uvicorn[standard,x]==1"), ["pandas>=2,<3", "uvicorn[standard,x]==1"]);
        assert_eq!(items("x; python_version in 'a,b',y"), ["x; python_version in 'a,b'", "y"]);
        assert_eq!(items(""), Vec::<&str>::new());
        assert_eq!(items(",a,"), ["a"]);
    }
}
