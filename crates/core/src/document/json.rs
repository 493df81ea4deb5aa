//! JSON as RFC 8259 has it: no comments, no trailing commas, no other quotes.

use jsonc_parser::ast::{ObjectProp, ObjectPropName, Value as Ast};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{Budget, Entry, Format, Node, Scalar, ScalarKind, Value, check_keys, string, too_deep};
use crate::place::{Located, Place, Positions};
use crate::spec::error::{SpecError, SpecErrorKind};

/// The tree; `None` for a text without any value.
pub(super) fn parse(positions: &Positions) -> Result<Option<Node>, SpecError> {
    let strict = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let result = parse_to_ast(positions.text(), &CollectOptions::default(), &strict).map_err(|error| {
        let place = place(positions, error.range());
        match error.kind() {
            ParseErrorKind::NestingDepthExceeded => too_deep(place),
            kind => syntax(&kind.to_string(), place),
        }
    })?;
    let mut reader = Reader { positions, budget: Budget { values: 0 } };
    result.value.map(|value| reader.node(value, 0)).transpose()
}

struct Reader<'a> {
    positions: &'a Positions,
    budget: Budget,
}

impl Reader<'_> {
    fn node(&mut self, value: Ast<'_>, depth: usize) -> Result<Node, SpecError> {
        let range = value.range();
        let place = place(self.positions, range);
        self.budget.spend(&place, depth)?;
        let value = match value {
            Ast::StringLit(literal) => {
                self.check_line_ends(literal.range)?;
                return string(literal.value.into_owned(), ScalarKind::Quoted, place);
            }
            Ast::NumberLit(_) => self.scalar(ScalarKind::Number, range),
            Ast::BooleanLit(_) => self.scalar(ScalarKind::Boolean, range),
            Ast::NullKeyword(_) => self.scalar(ScalarKind::Null, range),
            Ast::Array(array) => {
                let items = array.elements.into_iter().map(|element| self.node(element, depth + 1));
                Value::Sequence(items.collect::<Result<_, _>>()?)
            }
            Ast::Object(object) => {
                let properties = object.properties.into_iter().map(|property| self.entry(property, depth + 1));
                let entries = properties.collect::<Result<Vec<_>, _>>()?;
                check_keys(&entries)?;
                Value::Mapping(entries)
            }
        };
        Ok(Node { place, value })
    }

    fn entry(&mut self, property: ObjectProp<'_>, depth: usize) -> Result<Entry, SpecError> {
        let range = match &property.name {
            ObjectPropName::String(literal) => literal.range,
            ObjectPropName::Word(literal) => literal.range,
        };
        self.check_line_ends(range)?;
        let key = Located { value: property.name.into_string(), place: place(self.positions, range) };
        Ok(Entry { key, value: self.node(property.value, depth)? })
    }

    fn scalar(&self, kind: ScalarKind, range: Range) -> Value {
        Value::Scalar(Scalar { kind, text: self.positions.slice(range.start..range.end).to_owned() })
    }

    /// The parser lets line ends and tabs stand in a string; RFC 8259 section 7 wants them escaped.
    fn check_line_ends(&self, range: Range) -> Result<(), SpecError> {
        let text = self.positions.slice(range.start..range.end);
        match text.find(|character: char| character.is_control()) {
            None => Ok(()),
            Some(index) => {
                let start = range.start + index;
                let place = self.positions.place(start..start + 1);
                Err(syntax("a line end or tab in a string must be written `\\n` or `\\t`", place))
            }
        }
    }
}

fn place(positions: &Positions, range: Range) -> Place {
    positions.place(range.start..range.end)
}

fn syntax(message: &str, place: Place) -> SpecError {
    let mut characters = message.chars();
    let message = characters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(characters).collect();
    SpecError::new(SpecErrorKind::Syntax { format: Format::Json, message }, place)
}
