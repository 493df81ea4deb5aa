//! The builder's options: `[builders.envd]`, `--builder-opt` and the spec's `builder_options`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The variable by which flytekit's users name a context of envd.
const CONTEXT_VARIABLE: &str = "FLYTE_ENVD_CONTEXT";

/// What the user wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The program, by path or by name.
    pub(crate) program: Option<String>,
    /// A context that the user made with envd, and who names it.
    pub(crate) context: Option<(String, &'static str)>,
    /// Kind of the BuildKit: `tcp`.
    pub(crate) builder: Option<String>,
    /// Where that is.
    pub(crate) address: Option<String>,
    /// What envd tells a BuildKit that it starts about registries.
    pub(crate) registry_config: Option<PathBuf>,
}

impl Options {
    /// JSON Schema, by which the program checks them. Whoever chooses the program or the BuildKit gets the build's files and
    /// logins: a spec may not.
    pub(crate) fn schema() -> Value {
        let kinds = ["moby-worker", "docker-container", "nerdctl-container", "kube-pod", "tcp", "unix"];
        json!({
            "type": "object",
            "properties": {
                "program": { "type": "string", "scope": "user" },
                "context": { "type": "string", "scope": "user" },
                "builder": { "type": "string", "enum": kinds, "scope": "user" },
                "address": { "type": "string", "scope": "user" },
                "registry_config": { "type": "string", "scope": "user" }
            },
            "additionalProperties": false
        })
    }

    /// Reads options that were checked, and the variable of this process.
    pub(crate) fn of_process(options: &BTreeMap<String, Value>) -> Self {
        Self::of(options, std::env::var(CONTEXT_VARIABLE).ok())
    }

    fn of(options: &BTreeMap<String, Value>, variable: Option<String>) -> Self {
        let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
        let (builder, address) = (text("builder"), text("address"));
        let asked = text("context").map(|name| (name, "the option `context`"));
        // What is said to imagespec itself counts more.
        let variable = variable.filter(|name| !name.is_empty() && builder.is_none() && address.is_none());
        let context = asked.or_else(|| variable.map(|name| (name, CONTEXT_VARIABLE)));
        let registry_config = text("registry_config").map(PathBuf::from);
        Self { program: text("program"), context, builder, address, registry_config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &Value, variable: Option<&str>) -> Options {
        let options = options.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone()));
        Options::of(&options.collect(), variable.map(str::to_owned))
    }

    #[test]
    fn the_variable_of_flytekit_names_a_context_unless_an_option_says_where_buildkit_is() {
        let named = |options: &Options| options.context.clone();
        assert_eq!(named(&read(&json!({}), Some("team"))), Some(("team".to_owned(), CONTEXT_VARIABLE)));
        assert_eq!(named(&read(&json!({}), Some(""))), None);
        assert_eq!(named(&read(&json!({"address": "tcp://127.0.0.1:1"}), Some("team"))), None);
        let both = read(&json!({"context": "own"}), Some("team"));
        assert_eq!(named(&both), Some(("own".to_owned(), "the option `context`")));
    }
}
