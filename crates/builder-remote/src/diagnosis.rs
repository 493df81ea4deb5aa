//! Whether the daemons answer that the user's own settings lead to, for `imagespec doctor`.

use std::collections::BTreeMap;

use imagespec_buildkit::control::About;
use imagespec_core::builder::BuildError;
use serde_json::Value;

use crate::builder::Failure;
use crate::daemon::Daemon;
use crate::options::{Options, OptionsError};

/// One endpoint, and what answers there.
#[derive(Debug)]
pub struct Diagnosis {
    /// Its address.
    pub address: String,
    /// What it says of itself.
    pub about: Result<About, BuildError>,
}

/// Asks each daemon that `options` name. None are named by most users, which is no error.
///
/// # Errors
/// When the options cannot be used.
pub fn diagnose(options: &BTreeMap<String, Value>) -> Result<Vec<Diagnosis>, BuildError> {
    let options = match Options::of(options) {
        Ok(options) => options,
        Err(OptionsError::None) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::Options(error).tell("")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Runtime(error).tell(""))?;
    let diagnoses = options.endpoints.iter().map(|endpoint| {
        let address = endpoint.address.clone();
        let connected = runtime.block_on(Daemon::connect(endpoint));
        let unreachable = |source| Failure::Unreachable { address: address.clone(), source }.tell("");
        let about = connected.map(|daemon| daemon.about).map_err(unreachable);
        Diagnosis { address, about }
    });
    Ok(diagnoses.collect())
}
