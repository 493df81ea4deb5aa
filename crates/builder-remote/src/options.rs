//! The builder's options: `[builders.remote]`, `--builder-opt` and the spec's `builder_options`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::endpoint::{Defaults, Endpoint, EndpointError};

/// Where BuildKit's own client looks for the daemon's address.
const VARIABLE: &str = "BUILDKIT_HOST";

/// What the user wishes.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The daemons; at least one.
    pub(crate) endpoints: Vec<Endpoint>,
    /// A repository for caches that all daemons read and write.
    pub(crate) cache: Option<String>,
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error("no BuildKit daemon is named")]
    None,
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("endpoint `{0}` is named twice")]
    Twice(String),
    #[error("`endpoints` must be a list of texts")]
    NoText,
    #[error("`in_flight` must be a whole number from 1 on")]
    InFlight,
}

impl Options {
    /// JSON Schema, by which the program checks them. A daemon gets the build's files, secrets and logins: a spec may not choose
    /// it, nor whom to trust.
    pub(crate) fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "endpoints": { "type": ["array", "string"], "scope": "user" },
                "ca": { "type": "string", "scope": "user" },
                "cert": { "type": "string", "scope": "user" },
                "key": { "type": "string", "scope": "user" },
                "server_name": { "type": "string", "scope": "user" },
                "in_flight": { "type": "integer" },
                "cache": { "type": "string" }
            },
            "additionalProperties": false
        })
    }

    /// Reads options that were checked, and variables of this process.
    ///
    /// # Errors
    /// When they name no daemon, or one that is none.
    pub(crate) fn of(options: &BTreeMap<String, Value>) -> Result<Self, OptionsError> {
        Self::read(options, |name| std::env::var(name).ok())
    }

    fn read(
        options: &BTreeMap<String, Value>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, OptionsError> {
        let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut defaults = Defaults {
            ca: text("ca").map(PathBuf::from),
            cert: text("cert").map(PathBuf::from),
            key: text("key").map(PathBuf::from),
            server_name: text("server_name"),
            ..Defaults::default()
        };
        if let Some(in_flight) = options.get("in_flight") {
            let count = in_flight.as_u64().and_then(|count| usize::try_from(count).ok()).and_then(NonZeroUsize::new);
            defaults.in_flight = count.ok_or(OptionsError::InFlight)?;
        }
        let texts = match options.get("endpoints") {
            Some(Value::Array(items)) => {
                let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                texts.ok_or(OptionsError::NoText)?
            }
            Some(Value::String(one)) => vec![one.clone()],
            _ => variable(VARIABLE).filter(|one| !one.is_empty()).into_iter().collect(),
        };
        let home = variable("HOME");
        let home = home.as_deref().map(Path::new);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for text in texts {
            let endpoint = Endpoint::parse(&text, &defaults, home)?;
            if endpoints.iter().any(|other| other.address == endpoint.address) {
                return Err(OptionsError::Twice(endpoint.address));
            }
            endpoints.push(endpoint);
        }
        if endpoints.is_empty() {
            return Err(OptionsError::None);
        }
        Ok(Self { endpoints, cache: text("cache") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(options: Value, host: Option<&str>) -> String {
        let options = options.as_object().unwrap().clone().into_iter().collect();
        match Options::read(&options, |name| host.filter(|_| name == VARIABLE).map(str::to_owned)) {
            Ok(options) => {
                let told = options.endpoints.iter().map(|one| format!("{} {}", one.address, one.in_flight));
                told.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn endpoints_come_from_the_options_and_else_from_the_variable_of_buildkits_client() {
        let two = json!({ "endpoints": ["unix:///a.sock", "tcp://b?in_flight=2"], "in_flight": 3 });
        assert_eq!(told(two, Some("unix:///c.sock")), "unix:///a.sock 3, tcp://b:1234 2");
        assert_eq!(told(json!({}), Some("unix:///c.sock")), "unix:///c.sock 4");
        assert_eq!(told(json!({}), None), "no BuildKit daemon is named");
        assert_eq!(told(json!({ "endpoints": [1] }), None), "`endpoints` must be a list of texts");
        assert_eq!(
            told(json!({ "endpoints": "unix:///a", "in_flight": 0 }), None),
            "`in_flight` must be a whole number from 1 on"
        );
        let twice = json!({ "endpoints": ["tcp://b", "tcp://b:1234?weight=2"] });
        assert_eq!(told(twice, None), "endpoint `tcp://b:1234` is named twice");
    }
}
