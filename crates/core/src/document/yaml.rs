//! YAML 1.2 through serde-saphyr, with the source text of every scalar that is no string.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::AliasLimits;
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, NonFiniteFloatPolicy, Options, Spanned, from_str_with_options,
};

use super::{
    Budget, DEPTH_MAX, Entry, Format, Node, Scalar, ScalarKind, VALUES_MAX, Value, check_keys, string, too_deep,
};
use crate::place::{Located, Place, Positions};
use crate::spec::error::{SpecError, SpecErrorKind};

/// The tree; `None` for a text without any node.
pub(super) fn parse(positions: &Positions) -> Result<Option<Node>, SpecError> {
    let root = match from_str_with_options::<Spanned<Raw>>(positions.text(), options()) {
        Ok(root) => root,
        Err(error) => return refuse(positions, error.without_snippet()),
    };
    let range = range(&root.defined);
    if matches!(root.value, Raw::Scalar(ScalarKind::Null, _)) && positions.slice(range).trim().is_empty() {
        return Ok(None);
    }
    Reader { positions, budget: Budget { values: 0 } }.node(root, 0).map(Some)
}

fn options() -> Options {
    let mut alias_limits = AliasLimits::default();
    alias_limits.max_total_replayed_events = VALUES_MAX;
    alias_limits.max_replay_stack_depth = DEPTH_MAX;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX + 1,
            flow_nesting_limit: DEPTH_MAX + 1,
            max_documents: 1,
            max_events: 4 * VALUES_MAX,
            max_nodes: 2 * VALUES_MAX,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_events: 4 * VALUES_MAX,
        },
        alias_limits: alias_limits,
        // Both are found below, with better places than the parser's.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// Bytes before `place`.
fn offset_of(text: &str, place: &Place) -> usize {
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(place.line - 1).map(str::len).sum();
    let in_line = lines.next().and_then(|line| line.char_indices().nth(place.column - 1));
    before + in_line.map_or(0, |(index, _)| index)
}

fn refuse(positions: &Positions, error: &Error) -> Result<Option<Node>, SpecError> {
    let place = match error.location() {
        Some(location) => {
            let line = usize::try_from(location.line()).unwrap_or(usize::MAX);
            positions.place_at(line, usize::try_from(location.column()).unwrap_or(usize::MAX))
        }
        None => positions.place(0..0),
    };
    let too_many = SpecErrorKind::TooManyValues { limit: VALUES_MAX };
    let kind = match innermost(error) {
        Error::Eof { .. } => return Ok(None),
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            return Err(SpecError::new(SpecErrorKind::SeveralDocuments, place)
                .hint("write one file for each spec, or `[images.NAME]` in `imagespec.toml`"));
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => return Err(too_deep(place)),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => too_many,
        Error::UnknownAnchor { .. } | Error::RecursiveReferencesRequireWeakTypes { .. } => SpecErrorKind::UnknownAnchor,
        Error::UnsupportedTag { tag, .. } => {
            // The parser says where the value begins that the tag stands before.
            let before = offset_of(positions.text(), &place);
            let start = positions.slice(0..before).rfind(tag.as_str()).filter(|_| !tag.is_empty());
            let place = start.map_or(place, |start| positions.place(start..start + tag.len()));
            return Err(SpecError::new(SpecErrorKind::Tag { tag: tag.clone() }, place)
                .hint("remove the tag: a spec is plain data"));
        }
        Error::ExternalMessage { msg, .. } if msg == "recursion limit exceeded" => return Err(too_deep(place)),
        Error::ExternalMessage { msg, .. } | Error::Message { msg, .. } => {
            let kind = SpecErrorKind::Syntax { format: Format::Yaml, message: msg.clone() };
            let error = SpecError::new(kind, place);
            return Err(match hint(msg) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        other => {
            let message = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let message = message.lines().next().unwrap_or_default().to_owned();
            SpecErrorKind::Syntax { format: Format::Yaml, message }
        }
    };
    Err(SpecError::new(kind, place))
}

/// What to do about the slips that happen most.
fn hint(message: &str) -> Option<&'static str> {
    if message.contains("tab") {
        return Some("indent with blanks: YAML allows no tabs");
    }
    message.contains("mapping values are not allowed").then_some("put a text that holds `: ` in quotes")
}

fn innermost(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

struct Reader<'a> {
    positions: &'a Positions,
    budget: Budget,
}

impl Reader<'_> {
    fn node(&mut self, raw: Spanned<Raw>, depth: usize) -> Result<Node, SpecError> {
        let place = self.place(&raw.defined);
        self.budget.spend(&place, depth)?;
        let value = match raw.value {
            Raw::String(text) => {
                let kind = match self.positions.slice(range(&raw.defined)).as_bytes().first() {
                    Some(b'"' | b'\'') => ScalarKind::Quoted,
                    _ => ScalarKind::Plain,
                };
                return string(text, kind, place);
            }
            Raw::Scalar(kind, value) => {
                let text = self.positions.slice(range(&raw.defined)).trim();
                // `!!int "3"` is a number in quotes; they are no part of its text.
                let text = if text.starts_with(['"', '\'']) { value } else { text.to_owned() };
                Value::Scalar(Scalar { kind, text })
            }
            Raw::Sequence(items) => {
                let items = items.into_iter().map(|item| self.node(item, depth + 1));
                Value::Sequence(items.collect::<Result<_, _>>()?)
            }
            Raw::Mapping(pairs) => {
                let pairs = pairs.into_iter().map(|(key, value)| self.entry(key, value, depth + 1));
                let entries = pairs.collect::<Result<Vec<_>, _>>()?;
                check_keys(&entries)?;
                Value::Mapping(entries)
            }
        };
        Ok(Node { place, value })
    }

    fn entry(&mut self, key: Spanned<Raw>, value: Spanned<Raw>, depth: usize) -> Result<Entry, SpecError> {
        let place = self.place(&key.defined);
        let text = match key.value {
            Raw::String(text) => text,
            Raw::Scalar(ScalarKind::Boolean | ScalarKind::Number, _) => {
                self.positions.slice(range(&key.defined)).trim().to_owned()
            }
            _ => return Err(SpecError::new(SpecErrorKind::KeyNotText, place)),
        };
        if text == "<<" {
            return Err(SpecError::new(SpecErrorKind::MergeKey, place)
                .hint("write the keys out, or put shared ones under `[defaults]` of `imagespec.toml`"));
        }
        Ok(Entry { key: Located { value: text, place }, value: self.node(value, depth)? })
    }

    fn place(&self, location: &Location) -> Place {
        self.positions.place(range(location))
    }
}

/// The bytes that a location spans.
fn range(location: &Location) -> Range<usize> {
    let offset = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or_default();
    let start = offset(location.span().byte_offset());
    start..start.saturating_add(offset(location.span().byte_len()))
}

/// What the parser hands out, before the text of scalars is looked up.
enum Raw {
    Scalar(ScalarKind, String),
    String(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Null, String::new()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Boolean, value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut sequence = Vec::new();
        while let Some(item) = items.next_element()? {
            sequence.push(item);
        }
        Ok(Raw::Sequence(sequence))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut mapping = Vec::new();
        while let Some(key) = entries.next_key()? {
            mapping.push((key, entries.next_value()?));
        }
        Ok(Raw::Mapping(mapping))
    }
}
