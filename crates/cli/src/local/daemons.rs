//! The daemons that the bundled builder `remote` would build on: whether they answer, and what they build for.

use imagespec_builder_remote::{RemoteBuilder, diagnose};
use imagespec_core::builder::Builder;

use crate::commands::doctor::{Finding, Mark};
use crate::failure::Failure;
use crate::options;
use crate::prepare::Surroundings;

/// What is said of them by `doctor`. Nobody names daemons but who builds on them, so that one that does not answer fails.
pub(crate) fn daemon_findings(surroundings: &Surroundings) -> Result<Vec<Finding>, Failure> {
    let options = options::of_files(&RemoteBuilder.describe(), surroundings)?;
    let diagnoses = diagnose(&options)?;
    let findings = diagnoses.into_iter().map(|diagnosis| match diagnosis.about {
        Ok(about) => {
            let platforms: Vec<_> = about.platforms.iter().map(ToString::to_string).collect();
            let version = about.version.map(|version| format!("BuildKit {version}, ")).unwrap_or_default();
            Finding::new(Mark::Ok, format!("{}: {version}{}", diagnosis.address, platforms.join(", ")))
        }
        Err(error) => Finding::of(Failure::from(error), Mark::Fail),
    });
    Ok(findings.collect())
}
