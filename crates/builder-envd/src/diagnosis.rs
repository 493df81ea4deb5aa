//! Whether there is an envd, which one, and where it would build. For `imagespec doctor`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagespec_buildkit::Progress;
use imagespec_core::builder::{BuildError, Session};
use imagespec_core::event::Event;

use crate::failure;
use crate::home::{Home, HomeError};
use crate::options::Options;

/// What is known of the envd that a build would use.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// Whether somebody says which one, or where it builds.
    pub is_configured: bool,
    /// The program, its version, and where it builds; else why it cannot be used.
    pub found: Result<Found, BuildError>,
}

/// An envd.
#[derive(Debug, Clone)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// What it says of its version.
    pub version: String,
    /// Name of its context.
    pub context: String,
    /// Where its BuildKit is.
    pub address: String,
}

/// Nobody is told of anything.
struct Silent;

impl Session for Silent {
    fn event(&self, _event: Event) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Asks the envd that a build with these options would use. Its home is made in `folder`, and removed.
pub fn diagnose(options: &BTreeMap<String, serde_json::Value>, folder: &Path) -> Diagnosis {
    let options = Options::of_process(options);
    let is_configured = options != Options::default();
    let found = look(&options, folder).map_err(|error| failure::home(&error));
    Diagnosis { is_configured, found }
}

fn look(options: &Options, folder: &Path) -> Result<Found, HomeError> {
    let home = Home::new(folder, options, &Progress::new(&Silent))?;
    let (program, version) = (home.program.clone(), home.version.clone());
    let (context, address) = (home.context.name.clone(), home.context.address.clone());
    Ok(Found { program, version, context, address })
}
