//! What a builder answers, read with distrust: its text reaches terminals and files.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::builder::{BuildError, Description, FailureKind, Feature};
use crate::event::Event;
use crate::report::Report;
use crate::spec::check;

/// An answer that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// Not JSON, or not of its shape.
    #[error("its {what} is not readable")]
    Json {
        /// `description`, `report`, `error`.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A report of an image that it made, without any.
    #[error("its report names no image, and no other one in its place")]
    NoImage,
    /// What it renders is nothing, or could command a terminal.
    #[error("what it renders is empty, or has control characters")]
    Text,
    /// A name that no builder can be chosen by.
    #[error("it calls itself `{name}`, and a builder has lower-case letters, digits, `_`, `.` and `-`")]
    Name {
        /// The name, without control characters.
        name: String,
    },
    /// The options are no mapping.
    #[error("its `options_schema` is no JSON Schema of an object, or has control characters")]
    OptionsSchema,
}

impl InvalidAnswer {
    /// The same as a bug of `builder`.
    pub fn into_build_error(self, builder: &str) -> BuildError {
        let message = format!("builder `{builder}` does not answer as a builder must: {self}");
        let causes = std::error::Error::source(&self).map(ToString::to_string).into_iter().collect();
        let hints = vec![format!("tell its author; `imagespec plugin test {builder}` shows what else is wrong")];
        BuildError { kind: FailureKind::Internal, message, causes, hints, field: None }
    }
}

/// Reads what a builder says of itself. Features that nobody here knows are ignored.
///
/// # Errors
/// When it is not readable, or no such builder can be.
pub fn description_from_json(text: &str) -> Result<Description, InvalidAnswer> {
    #[derive(Deserialize)]
    struct DescriptionV1 {
        name: String,
        version: String,
        #[serde(default)]
        summary: String,
        features: Vec<Value>,
        #[serde(default)]
        options_schema: Value,
    }
    let wire: DescriptionV1 =
        serde_json::from_str(text).map_err(|source| InvalidAnswer::Json { what: "description", source })?;
    if check::builder_name(&wire.name).is_err() {
        return Err(InvalidAnswer::Name { name: plain(&wire.name) });
    }
    let schema = &wire.options_schema;
    if has_control(schema)
        || !(schema.is_null()
            || schema.is_object() && (schema["properties"].is_null() || schema["properties"].is_object()))
    {
        return Err(InvalidAnswer::OptionsSchema);
    }
    let features: BTreeSet<Feature> =
        wire.features.into_iter().filter_map(|feature| serde_json::from_value(feature).ok()).collect();
    Ok(Description {
        name: wire.name,
        version: line(&wire.version),
        summary: line(&wire.summary),
        features,
        options_schema: wire.options_schema,
    })
}

/// Reads a builder's report.
///
/// # Errors
/// When it is not readable.
pub fn report_from_json(text: &str) -> Result<Report, InvalidAnswer> {
    let report: Report = serde_json::from_str(text).map_err(|source| InvalidAnswer::Json { what: "report", source })?;
    match report.images.is_empty() && report.name.is_none() {
        true => Err(InvalidAnswer::NoImage),
        false => Ok(report),
    }
}

/// What a builder found, as it crosses.
pub fn found_to_json(found: Option<&Report>) -> String {
    serde_json::to_string(&found).expect("a report has only string keys")
}

/// Reads what a builder found: null is nothing.
///
/// # Errors
/// When it is neither that nor a report.
pub fn found_from_json(text: &str) -> Result<Option<Report>, InvalidAnswer> {
    if text.trim() == "null" {
        return Ok(None);
    }
    report_from_json(text).map(Some)
}

/// What was rendered, as it crosses.
pub fn rendered_to_json(text: &str) -> String {
    serde_json::json!({ "text": text }).to_string()
}

/// Reads what a builder rendered. Nothing of it is replaced: it is made to be used as it is.
///
/// # Errors
/// When it is not readable, empty, or has control characters but for the end of a line and the tabulator.
pub fn rendered_from_json(text: &str) -> Result<String, InvalidAnswer> {
    #[derive(Deserialize)]
    struct RenderedV1 {
        text: String,
    }
    let RenderedV1 { text } =
        serde_json::from_str(text).map_err(|source| InvalidAnswer::Json { what: "answer to `render`", source })?;
    match text.trim().is_empty() || plain(&text) != text {
        true => Err(InvalidAnswer::Text),
        false => Ok(text),
    }
}

/// Reads an event. One that nobody here knows is none.
pub fn event_from_json(text: &str) -> Option<Event> {
    Some(match serde_json::from_str(text).ok()? {
        Event::StepStarted { step, title } => Event::StepStarted { step, title: line(&title) },
        Event::StepFinished { step, duration_ms, outcome, summary } => {
            Event::StepFinished { step, duration_ms, outcome, summary: line(&summary) }
        }
        Event::Output { step, line: text } => Event::Output { step, line: line(&text) },
        Event::Notice { message } => Event::Notice { message: line(&message) },
        Event::Warning { message } => Event::Warning { message: line(&message) },
        event @ Event::StepProgress { .. } => event,
    })
}

/// A failure as it crosses.
pub fn error_to_json(error: &BuildError) -> String {
    serde_json::to_string(error).expect("an error has only string keys")
}

/// Reads a builder's failure. A kind that nobody here knows is [`FailureKind::Internal`].
///
/// # Errors
/// When it is not readable.
pub fn error_from_json(text: &str) -> Result<BuildError, InvalidAnswer> {
    #[derive(Deserialize)]
    struct ErrorV1 {
        #[serde(default)]
        kind: Value,
        message: String,
        #[serde(default)]
        causes: Vec<String>,
        #[serde(default)]
        hints: Vec<String>,
        #[serde(default)]
        field: Option<String>,
    }
    let wire: ErrorV1 = serde_json::from_str(text).map_err(|source| InvalidAnswer::Json { what: "error", source })?;
    let plain_all = |texts: Vec<String>| texts.iter().map(|text| plain(text)).collect();
    Ok(BuildError {
        kind: serde_json::from_value(wire.kind).unwrap_or(FailureKind::Internal),
        message: plain(&wire.message),
        causes: plain_all(wire.causes),
        hints: plain_all(wire.hints),
        field: wire.field,
    })
}

/// One line of text without what could command a terminal.
fn line(text: &str) -> String {
    plain(text).replace('\n', "\u{fffd}")
}

/// Whether any name or text in `value` has a control character.
fn has_control(value: &Value) -> bool {
    let controls = |text: &str| text.chars().any(char::is_control);
    match value {
        Value::String(text) => controls(text),
        Value::Array(values) => values.iter().any(has_control),
        Value::Object(members) => members.iter().any(|(name, value)| controls(name) || has_control(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The text without what could command a terminal: control characters but for the end of a line and the tabulator.
fn plain(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_builder_offers_is_ignored() {
        let text = r#"{"name": "fleet", "version": "2", "features": ["pip", "teleport", 7], "later": true}"#;
        let description = description_from_json(text).unwrap();
        assert_eq!(description.features, BTreeSet::from([Feature::Pip]));
    }

    #[test]
    fn a_hostile_description_is_refused_or_made_harmless() {
        let error = description_from_json(r#"{"name": "a\u001b[2Jb", "version": "", "features": []}"#).unwrap_err();
        insta::assert_snapshot!(error, @"it calls itself `a�[2Jb`, and a builder has lower-case letters, digits, `_`, `.` and `-`");
        let text = r#"{"name": "a", "version": "1\u001b[31m", "features": []}"#;
        assert_eq!(description_from_json(text).unwrap().version, "1\u{fffd}[31m");
        let text = r#"{"name": "a", "version": "1", "features": [], "options_schema": [1]}"#;
        assert!(matches!(description_from_json(text), Err(InvalidAnswer::OptionsSchema)));
    }

    #[test]
    fn what_is_rendered_crosses_as_it_is_or_not_at_all() {
        let text = "FROM debian\nRUN printf '\ta \"b\" \\\\'\n";
        assert_eq!(rendered_from_json(&rendered_to_json(text)).unwrap(), text);
        for wrong in [" \n", "FROM debian\u{1b}[2J"] {
            assert!(matches!(rendered_from_json(&rendered_to_json(wrong)), Err(InvalidAnswer::Text)));
        }
        assert!(matches!(rendered_from_json("FROM debian"), Err(InvalidAnswer::Json { .. })));
    }

    #[test]
    fn what_is_found_crosses_and_is_nothing_or_a_report() {
        assert_eq!(found_from_json(&found_to_json(None)).unwrap(), None);
        let name = Some("app:1".parse().expect("it is a reference"));
        let report = Report { digest: crate::digest::Digest::of(b"a"), images: Vec::new(), name, duration_ms: 1 };
        assert_eq!(found_from_json(&found_to_json(Some(&report))).unwrap(), Some(report.clone()));
        let nameless = Report { name: None, ..report };
        assert!(matches!(found_from_json(&found_to_json(Some(&nameless))), Err(InvalidAnswer::NoImage)));
        assert!(matches!(found_from_json("{}"), Err(InvalidAnswer::Json { .. })));
    }

    #[test]
    fn a_failure_of_an_unknown_kind_is_a_bug() {
        let error = error_from_json(r#"{"kind": "cosmic-ray", "message": "a bit\u0007 flipped"}"#).unwrap();
        assert_eq!((error.kind, error.message.as_str()), (FailureKind::Internal, "a bit\u{fffd} flipped"));
        let crossed = error_from_json(&error_to_json(&error)).unwrap();
        assert_eq!(crossed, error);
    }
}
