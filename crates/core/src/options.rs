//! Checks what users set for a builder against what the builder says that it takes. Pure.
//!
//! This is no validator of JSON Schema. The options of a builder are one flat object, so that `[builders.NAME]` and
//! `--builder-opt KEY=VALUE` can both set them; of its schema `properties` with `type`, `enum`, `description` and `scope`, and
//! `additionalProperties` are read. The usual crate, `jsonschema`, brings some sixty others (regular expressions, big
//! numbers, e-mail addresses, resolving of remote references), knows no lines and columns, and says things in terms of
//! JSON pointers; what is left to do without it is this file.

use std::fmt;

use serde_json::{Number, Value};

use crate::builder::Description;
use crate::diagnostic::Diagnostic;
use crate::place::{Located, Place};
use crate::suggestion;

/// The options of a builder, as its description says them.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    builder: &'a str,
    schema: &'a Value,
}

/// An option that a builder does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct OptionError {
    // Boxed, for it is large and rare.
    problem: Box<OptionProblem>,
    place: Place,
    known: Vec<String>,
}

/// What is wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionProblem {
    /// The builder has no such option.
    #[error("builder `{builder}` has no option `{option}`")]
    Unknown {
        /// The builder.
        builder: String,
        /// The option.
        option: String,
        /// The one that was probably meant.
        likely: Option<String>,
    },
    /// The value is of another kind.
    #[error("option `{option}` of builder `{builder}` must be {expected}, but {found} was found")]
    WrongKind {
        /// The builder.
        builder: String,
        /// The option.
        option: String,
        /// What the builder takes: `a whole number`.
        expected: String,
        /// What was written: `a text`.
        found: &'static str,
    },
    /// It is the user's to set.
    #[error("option `{option}` of builder `{builder}` is set by the user alone, and not by a spec or a project")]
    OnlyUser {
        /// The builder.
        builder: String,
        /// The option.
        option: String,
    },
    /// The value is none of those that the builder takes.
    #[error("option `{option}` of builder `{builder}` must be {}", Choices(.choices))]
    NotAChoice {
        /// The builder.
        builder: String,
        /// The option.
        option: String,
        /// The values that it takes.
        choices: Vec<String>,
    },
}

struct Choices<'a>(&'a [String]);

impl fmt::Display for Choices<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&alternatives(self.0))
    }
}

impl OptionError {
    /// What is wrong.
    pub fn problem(&self) -> &OptionProblem {
        &self.problem
    }

    /// The error as it is shown, with the options that the builder takes.
    pub fn diagnostic(&self) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.to_string()).at(self.place.clone());
        if let OptionProblem::Unknown { likely: Some(likely), .. } = self.problem.as_ref() {
            return diagnostic.hint(format!("did you mean `{likely}`?"));
        }
        if let OptionProblem::OnlyUser { option, .. } = self.problem.as_ref() {
            return diagnostic.hint(format!("set it in your own config, or by `--builder-opt {option}=…`"));
        }
        if let OptionProblem::Unknown { builder, .. } = self.problem.as_ref() {
            diagnostic = diagnostic.hint(match self.known.as_slice() {
                [] => format!("`{builder}` takes no options"),
                known => format!("`{builder}` takes {}", known.join(", ")),
            });
        }
        diagnostic
    }
}

impl<'a> Options<'a> {
    /// The options that `description` names.
    pub fn of(description: &'a Description) -> Self {
        Self { builder: &description.name, schema: &description.options_schema }
    }

    /// Checks a value that a spec or a project's file gave: others wrote them, so that an option with `"scope": "user"` in
    /// the schema is none of theirs.
    ///
    /// # Errors
    /// As [`Options::check`], and when the option is the user's.
    pub fn check_foreign(&self, name: &str, given: &Located<Value>) -> Result<(), OptionError> {
        if self.property(name).is_some_and(|property| property["scope"] == "user") {
            let (builder, option) = (self.builder.to_owned(), name.to_owned());
            let problem = Box::new(OptionProblem::OnlyUser { builder, option });
            return Err(OptionError { problem, place: given.place.clone(), known: Vec::new() });
        }
        self.check(name, given)
    }

    /// Whether there is an option called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// Checks a value that a file or `--set` gave.
    ///
    /// # Errors
    /// When there is no option `name`, or it takes no such value.
    pub fn check(&self, name: &str, given: &Located<Value>) -> Result<(), OptionError> {
        let Some(property) = self.property(name) else {
            if self.schema["additionalProperties"] == true {
                return Ok(());
            }
            return Err(self.unknown(name, place_of_key(name, &given.place)));
        };
        if !kinds(property).is_empty() && !kinds(property).iter().any(|kind| is_of_kind(&given.value, kind)) {
            let expected: Vec<_> = kinds(property).iter().map(|kind| in_words(kind).to_owned()).collect();
            let problem = OptionProblem::WrongKind {
                builder: self.builder.to_owned(),
                option: name.to_owned(),
                expected: expected.join(" or "),
                found: found(&given.value),
            };
            return Err(self.error(problem, given.place.clone()));
        }
        match property["enum"].as_array() {
            Some(choices) if !choices.contains(&given.value) => {
                let choices = choices.iter().map(|choice| format!("`{}`", text_of(choice))).collect();
                let (builder, option) = (self.builder.to_owned(), name.to_owned());
                Err(self.error(OptionProblem::NotAChoice { builder, option, choices }, given.place.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Reads and checks the text that `--builder-opt NAME=TEXT` gave: a number, a boolean or a list where the builder
    /// takes one, else the text itself. `place` is that of the name.
    ///
    /// # Errors
    /// As [`Options::check`].
    pub fn read(&self, name: &str, text: &str, place: &Place) -> Result<Value, OptionError> {
        let kinds = self.property(name).map(kinds).unwrap_or_default();
        let value = kinds.iter().find_map(|kind| match *kind {
            "integer" | "number" => serde_json::from_str::<Number>(text).ok().map(Value::Number),
            "boolean" => text.parse().ok().map(Value::Bool),
            "array" => Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()),
            _ => None,
        });
        let value = value.unwrap_or_else(|| Value::from(text));
        self.check(name, &Located { value: value.clone(), place: place.clone() })?;
        Ok(value)
    }

    fn property(&self, name: &str) -> Option<&'a Value> {
        self.schema["properties"].as_object()?.get(name)
    }

    fn unknown(&self, name: &str, place: Place) -> OptionError {
        let names = self.schema["properties"].as_object();
        let names = || names.iter().flat_map(|names| names.keys().map(String::as_str));
        let likely = suggestion::closest(name, names()).map(str::to_owned);
        let (builder, option) = (self.builder.to_owned(), name.to_owned());
        self.error(OptionProblem::Unknown { builder, option, likely }, place)
    }

    fn error(&self, problem: OptionProblem, place: Place) -> OptionError {
        let properties = self.schema["properties"].as_object();
        let known = properties.iter().flat_map(|properties| properties.keys()).map(|name| format!("`{name}`"));
        OptionError { problem: Box::new(problem), place, known: known.collect() }
    }
}

/// Where the key of the value at `place` stands, if it stands before it on the same line; else the value's place.
fn place_of_key(name: &str, place: &Place) -> Place {
    let before: String = place.line_text().chars().take(place.column - 1).collect();
    match before.rfind(name) {
        Some(start) => {
            Place { column: before[..start].chars().count() + 1, length: name.chars().count().max(1), ..place.clone() }
        }
        None => place.clone(),
    }
}

/// The kinds that a schema allows; none allows every kind.
fn kinds(property: &Value) -> Vec<&str> {
    match &property["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn in_words(kind: &str) -> &str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        "null" => "nothing",
        other => other,
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::place::Source;

    fn description() -> Description {
        Description {
            name: "docker".to_owned(),
            version: "1".to_owned(),
            summary: String::new(),
            features: BTreeSet::new(),
            options_schema: json!({
                "type": "object",
                "properties": {
                    "jobs": {"type": "integer"},
                    "compression": {"type": "string", "enum": ["gzip", "zstd"]},
                    "hosts": {"type": "array"},
                    "trace": {"type": ["boolean", "string"]},
                },
                "additionalProperties": false,
            }),
        }
    }

    fn line(text: &str, column: usize, length: usize) -> Place {
        let source = Arc::new(Source { name: "train.yaml".to_owned(), text: text.to_owned() });
        Place { source, line: 1, column, length }
    }

    fn shown(name: &str, value: Value, text: &str) -> String {
        let column = text.rfind(": ").expect("a key and a value") + 3;
        let place = line(text, column, text.trim_end_matches('}').len() + 1 - column);
        let description = description();
        let error = Options::of(&description).check(name, &Located { value, place }).expect_err("it is wrong");
        error.diagnostic().render()
    }

    #[test]
    fn an_unknown_option_is_pointed_at_and_the_likely_one_is_named() {
        insta::assert_snapshot!(shown("compresion", json!("zstd"), "builder_options: {compresion: zstd}"), @"
        error: builder `docker` has no option `compresion`
          --> train.yaml:1:19
           |
         1 | builder_options: {compresion: zstd}
           |                   ^^^^^^^^^^
        hint: did you mean `compression`?
        ");
        insta::assert_snapshot!(shown("x", json!(1), "  x: 1"), @"
        error: builder `docker` has no option `x`
          --> train.yaml:1:3
           |
         1 |   x: 1
           |   ^
        hint: `docker` takes `jobs`, `compression`, `hosts`, `trace`
        ");
    }

    #[test]
    fn a_value_of_another_kind_says_what_is_taken() {
        insta::assert_snapshot!(shown("jobs", json!("many"), "  jobs: many"), @"
        error: option `jobs` of builder `docker` must be a whole number, but a text was found
          --> train.yaml:1:9
           |
         1 |   jobs: many
           |         ^^^^
        ");
        insta::assert_snapshot!(shown("trace", json!(1), "  trace: 1"), @"
        error: option `trace` of builder `docker` must be `true` or `false` or a text, but a number was found
          --> train.yaml:1:10
           |
         1 |   trace: 1
           |          ^
        ");
        insta::assert_snapshot!(shown("compression", json!("xz"), "  compression: xz"), @"
        error: option `compression` of builder `docker` must be `gzip` or `zstd`
          --> train.yaml:1:16
           |
         1 |   compression: xz
           |                ^^
        ");
    }

    #[test]
    fn a_text_of_the_command_line_becomes_what_the_builder_takes() {
        let description = description();
        let options = Options::of(&description);
        let place = line("--builder-opt", 1, 1);
        assert_eq!(options.read("jobs", "4", &place), Ok(json!(4)));
        assert_eq!(options.read("compression", "zstd", &place), Ok(json!("zstd")));
        assert_eq!(options.read("hosts", "a, b", &place), Ok(json!(["a", "b"])));
        assert_eq!(options.read("trace", "true", &place), Ok(json!(true)));
        assert_eq!(options.read("trace", "all", &place), Ok(json!("all")));
        assert!(options.read("jobs", "four", &place).is_err());
        assert!(options.read("nothing", "x", &place).is_err());
    }
}
