//! The JSON Schema of a spec file, for editors. Made from the table that the decoder reads by. Pure.

use serde_json::{Map, Value, json};

use crate::document::{Format, Node};
use crate::spec::field::{FIELDS, Field, Kind};
use crate::spec::secret;

/// JSON Schema (draft 2020-12) of a spec file in any format.
///
/// It knows the fields and the kinds of their values. What a value means is checked only when a spec is read.
pub fn spec_schema() -> Value {
    let properties: Map<String, Value> =
        FIELDS.iter().map(|field| (field.name.to_owned(), field_schema(field))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imagespec",
        "description": "A Python environment that becomes a container image",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn field_schema(field: &Field) -> Value {
    let mut schema = kind_schema(&field.kind);
    schema.insert("description".to_owned(), field.description.into());
    schema.insert("examples".to_owned(), json!([example(field)]));
    Value::Object(schema)
}

/// The example of a field as JSON.
fn example(field: &Field) -> Value {
    let node = Node::parse("example", field.example.as_bytes(), Format::Yaml).expect("examples are YAML, by a test");
    node.to_json()[field.name].take()
}

/// A field without a value is a field that was left out, so every kind takes `null`.
fn kind_schema(kind: &Kind) -> Map<String, Value> {
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    let schema = match kind {
        Kind::Text(_) => json!({ "type": ["string", "number", "boolean", "null"] }),
        Kind::Path(_) => json!({ "type": ["string", "null"] }),
        Kind::Choice(words, _) => {
            let words = words.iter().map(|word| Value::from(*word)).chain([Value::Null]).collect::<Vec<_>>();
            json!({ "enum": words })
        }
        Kind::List(_) | Kind::Words(_) => {
            json!({ "type": ["string", "number", "boolean", "array", "null"], "items": scalar })
        }
        Kind::Arguments(_) => json!({ "type": ["array", "null"], "items": scalar }),
        Kind::Variables { .. } => json!({ "type": ["object", "null"], "additionalProperties": scalar }),
        Kind::Options(_) => json!({ "type": ["object", "null"] }),
        Kind::Secrets(_) => {
            let keys: Map<String, Value> =
                secret::KEYS.iter().map(|key| ((*key).to_owned(), json!({ "type": "string" }))).collect();
            let entry =
                json!({ "type": "object", "properties": keys, "required": ["id"], "additionalProperties": false });
            let one = json!({ "anyOf": [{ "type": "string" }, entry] });
            json!({ "anyOf": [one, { "type": "array", "items": one }, { "type": "null" }] })
        }
        Kind::Base => json!({ "anyOf": [{ "type": ["string", "null"] }, { "$ref": "#" }] }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    #[test]
    fn every_example_of_the_table_is_a_spec_by_itself() {
        for field in &FIELDS {
            if let Err(errors) = Spec::parse("example.yaml", field.example.as_bytes(), Format::Yaml) {
                panic!("{}", errors[0].diagnostic().render());
            }
            assert!(field.example.starts_with(&format!("{}: ", field.name)), "{}", field.name);
        }
    }

    #[test]
    fn the_schema_has_exactly_the_fields_that_the_decoder_knows() {
        let schema = spec_schema();
        let properties = schema["properties"].as_object().expect("properties");
        let names: Vec<_> = properties.keys().map(String::as_str).collect();
        assert_eq!(names, FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
        for name in names {
            let errors = Spec::parse("a.yaml", format!("{name}: null").as_bytes(), Format::Yaml);
            assert!(errors.is_ok(), "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }

    /// For each kind of JSON value: what the schema says of it must be what the decoder says of it.
    #[test]
    fn the_schema_takes_the_kinds_that_the_decoder_takes() {
        let schema = spec_schema();
        for field in &FIELDS {
            let schema = &schema["properties"][field.name];
            for (kind, value) in [("string", "x"), ("array", "[]"), ("object", "{}"), ("null", "null")] {
                let text = format!("{}: {value}", field.name);
                let errors = Spec::parse("a.yaml", text.as_bytes(), Format::Yaml).err().unwrap_or_default();
                let is_wrong = errors.iter().any(|error| {
                    matches!(
                        error.kind,
                        crate::spec::SpecErrorKind::WrongKind { .. } | crate::spec::SpecErrorKind::NotMapping { .. }
                    )
                });
                assert_eq!(takes(schema, kind), !is_wrong, "{text}");
            }
        }
    }

    fn takes(schema: &Value, kind: &str) -> bool {
        if let Some(options) = schema["anyOf"].as_array() {
            return options.iter().any(|option| takes(option, kind));
        }
        match (&schema["type"], schema["enum"].is_array(), schema["$ref"].is_string()) {
            (Value::String(only), ..) => only == kind,
            (Value::Array(kinds), ..) => kinds.iter().any(|one| one == kind),
            (_, true, _) => kind == "string" || kind == "null",
            (_, _, is_spec) => is_spec && kind == "object",
        }
    }

    #[test]
    fn a_field_of_the_schema_has_its_description_and_an_example() {
        insta::assert_snapshot!(serde_json::to_string(&spec_schema()["properties"]["packages"]).expect("JSON"), @r#"{"type":["string","number","boolean","array","null"],"items":{"type":["string","number","boolean"]},"description":"Python packages (PEP 508)","examples":[["pandas","numpy>=1.26"]]}"#);
    }
}
