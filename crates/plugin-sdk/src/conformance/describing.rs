//! Whether what a builder says of itself is of use to people and to the program.

use std::sync::Arc;

use imagespec_core::builder::{Description, Feature};
use imagespec_core::options::Options;
use imagespec_core::place::{Located, Place, Source};
use serde_json::{Value, json};

use super::subject::Fault;

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

const BASES: [Feature; 6] = [
    Feature::BaseScratch,
    Feature::BaseRegistry,
    Feature::BaseOciLayout,
    Feature::BaseDockerArchive,
    Feature::BaseBootstrap,
    Feature::BaseNested,
];

const OUTPUTS: [Feature; 5] = [
    Feature::OutputStore,
    Feature::OutputRegistry,
    Feature::OutputOci,
    Feature::OutputDockerArchive,
    Feature::OutputDocker,
];

/// Version, summary, features and options.
pub(super) fn check(description: &Description) -> Result<(), Fault> {
    let failed = |why: &str| Err(Fault::Failed(why.to_owned()));
    if description.version.trim().is_empty() {
        return failed("its `version` is empty: `env!(\"CARGO_PKG_VERSION\")` will do");
    }
    if description.summary.trim().is_empty() || description.summary.contains('\n') {
        return failed("its `summary` must be one line for `imagespec builders`");
    }
    if !BASES.iter().any(|base| description.features.contains(base)) {
        return failed("it names no base among its `features`, so that no plan is for it");
    }
    if !OUTPUTS.iter().any(|output| description.features.contains(output)) {
        return failed("it names no output among its `features`, so that its images can go nowhere");
    }
    let options = Options::of(description);
    let properties = description.options_schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        let kinds = match &property["type"] {
            Value::String(kind) => vec![kind.as_str()],
            Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap_or_default()).collect(),
            _ => Vec::new(),
        };
        if kinds.is_empty() || !kinds.iter().all(|kind| TYPES.contains(kind)) {
            let types = TYPES.join("`, `");
            return Err(Fault::Failed(format!(
                "its option `{name}` has no `type` in `options_schema` that the program knows: give it one of `{types}`"
            )));
        }
        let value = sample(property, kinds[0]);
        let shown = value.to_string();
        let source = Arc::new(Source { name: "imagespec.toml".to_owned(), text: format!("{name} = {shown}") });
        let place = Place { source, line: 1, column: name.chars().count() + 4, length: shown.chars().count() };
        if let Err(error) = options.check(name, &Located { value, place }) {
            return Err(Fault::Failed(format!("no value of its option `{name}` is right: {error}")));
        }
    }
    Ok(())
}

/// A value that the schema of an option allows.
fn sample(property: &Value, kind: &str) -> Value {
    if let Some(choice) = property["enum"].as_array().and_then(|choices| choices.first()) {
        return choice.clone();
    }
    match kind {
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([]),
        "object" => json!({}),
        "null" => Value::Null,
        _ => json!("text"),
    }
}
