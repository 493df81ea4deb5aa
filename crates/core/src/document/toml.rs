//! TOML 1.0, with the source text of numbers and dates.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Budget, Entry, Format, Node, Scalar, ScalarKind, Value, check_keys, duplicate_key, string, too_deep};
use crate::place::{Located, Positions};
use crate::spec::error::{SpecError, SpecErrorKind};

/// The tree; `None` for a text without any key.
pub(super) fn parse(positions: &Positions) -> Result<Option<Node>, SpecError> {
    let (table, errors) = DeTable::parse_recoverable(positions.text());
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let place = positions.place(span.clone());
        return Err(match error.message() {
            message if message.contains("recurs") => too_deep(place),
            "duplicate key" => {
                let value = positions.slice(span.clone()).trim_matches(['"', '\'']).to_owned();
                let first = first_key(table.get_ref(), &value).filter(|first| *first < span.start);
                let first = first.map(|start| positions.place(start..start + value.len()));
                duplicate_key(&Located { value, place }, first)
            }
            message => {
                SpecError::new(SpecErrorKind::Syntax { format: Format::Toml, message: message.to_owned() }, place)
            }
        });
    }
    if table.get_ref().is_empty() {
        return Ok(None);
    }
    let mut reader = Reader { positions, budget: Budget { values: 0 } };
    let entries = reader.entries(table.into_inner(), 0)?;
    Ok(Some(Node { place: positions.place(0..0), value: Value::Mapping(entries) }))
}

struct Reader<'a> {
    positions: &'a Positions,
    budget: Budget,
}

impl Reader<'_> {
    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, SpecError> {
        let span = value.span();
        let place = self.positions.place(span.clone());
        self.budget.spend(&place, depth)?;
        let value = match value.into_inner() {
            DeValue::String(text) => return string(text.into_owned(), ScalarKind::Quoted, place),
            DeValue::Integer(_) | DeValue::Float(_) => self.scalar(ScalarKind::Number, span),
            DeValue::Boolean(_) => self.scalar(ScalarKind::Boolean, span),
            DeValue::Datetime(_) => self.scalar(ScalarKind::Plain, span),
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| self.node(item, depth + 1));
                Value::Sequence(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Mapping(self.entries(table, depth)?),
        };
        Ok(Node { place, value })
    }

    /// The entries in the order in which they were written; the parser hands them out by name.
    fn entries(&mut self, table: DeTable<'_>, depth: usize) -> Result<Vec<Entry>, SpecError> {
        let mut entries: Vec<(Spanned<DeString<'_>>, _)> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let read = entries.into_iter().map(|(key, value)| {
            let place = self.positions.place(key.span());
            let key = Located { value: key.into_inner().into_owned(), place };
            Ok(Entry { key, value: self.node(value, depth + 1)? })
        });
        let entries = read.collect::<Result<Vec<_>, _>>()?;
        check_keys(&entries)?;
        Ok(entries)
    }

    fn scalar(&self, kind: ScalarKind, span: std::ops::Range<usize>) -> Value {
        Value::Scalar(Scalar { kind, text: self.positions.slice(span).to_owned() })
    }
}

/// Where the only key called `name` starts; nothing if several tables have one.
fn first_key(table: &DeTable<'_>, name: &str) -> Option<usize> {
    let mut starts = Vec::new();
    let mut tables = vec![table];
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            if key.get_ref() == name {
                starts.push(key.span().start);
            }
            if let DeValue::Table(inner) = value.get_ref() {
                tables.push(inner);
            }
        }
    }
    match starts[..] {
        [start] => Some(start),
        _ => None,
    }
}
