//! Whether an engine answers, what it is, and what to do. For `imagespec doctor`.

use std::collections::BTreeMap;

use imagespec_core::builder::{BuildError, FailureKind};

use crate::engine::{About, Address, DEFAULT, Engine};
use crate::failure;
use crate::options::Options;

/// What is known of the engine that a build would use.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// Where it is, as DOCKER_HOST says it, and who says so; none if what says so is no address.
    pub address: Option<(String, String)>,
    /// What it is, or why it does not answer.
    pub about: Result<About, BuildError>,
}

impl Diagnosis {
    /// Whether nobody says where the engine is, so that it was looked for where engines usually are.
    pub fn is_default(&self) -> bool {
        self.address.as_ref().is_some_and(|(_, origin)| origin == DEFAULT)
    }
}

/// Asks the engine that a build with these options would use.
pub fn diagnose(options: &BTreeMap<String, serde_json::Value>) -> Diagnosis {
    let wishes = Options::of(options).wishes();
    let address = Address::find(&wishes).ok().map(|address| (address.place.to_string(), address.origin));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let about = match runtime {
        Ok(runtime) => runtime.block_on(Engine::connect(&wishes)).map(|engine| engine.about),
        Err(error) => return Diagnosis { address, about: Err(BuildError::new(FailureKind::Machine, &error)) },
    };
    Diagnosis { address, about: about.map_err(|error| failure::engine(&error, "")) }
}
