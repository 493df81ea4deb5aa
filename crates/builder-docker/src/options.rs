//! The builder's options: `[builders.docker]`, `--builder-opt` and the spec's `builder_options`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::Wishes;

/// What the user wishes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    host: Option<String>,
    context: Option<String>,
    /// The network of the build: BuildKit's `default`, `host` or `none`.
    pub(crate) network: Option<String>,
}

impl Options {
    /// JSON Schema, by which the program checks them. Whoever chooses the engine gets the build's files, secrets and logins: a
    /// spec may not.
    pub(crate) fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "host": { "type": "string", "scope": "user" },
                "context": { "type": "string", "scope": "user" },
                "network": { "type": "string", "enum": ["default", "host", "none"] }
            },
            "additionalProperties": false
        })
    }

    /// Reads options that were checked.
    pub(crate) fn of(options: &BTreeMap<String, Value>) -> Self {
        let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
        Self { host: text("host"), context: text("context"), network: text("network") }
    }

    /// What leads to the engine.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes::of_process(self.host.clone(), self.context.clone())
    }
}
