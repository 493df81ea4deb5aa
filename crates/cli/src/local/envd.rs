//! The envd that the bundled builder of that name would run: which one it is, and where it builds.

use imagespec_builder_envd::{EnvdBuilder, diagnose};
use imagespec_core::builder::Builder;

use crate::commands::doctor::{Finding, Mark};
use crate::failure::Failure;
use crate::options;
use crate::prepare::{self, Surroundings};

/// What is said of it by `doctor`, where builds are `preferred`'s that choose no builder themselves. Who has no envd, and
/// does not speak of one, does not miss it.
pub(crate) fn envd_findings(surroundings: &Surroundings, preferred: &str) -> Result<Vec<Finding>, Failure> {
    let description = EnvdBuilder.describe();
    let options = options::of_files(&description, surroundings)?;
    let diagnosis = diagnose(&options, &prepare::cache_folder()?.join("envd"));
    let is_wanted = diagnosis.is_configured || preferred == description.name;
    Ok(match diagnosis.found {
        Ok(found) => vec![
            Finding::new(Mark::Ok, format!("{}, {}", found.program.display(), found.version)),
            Finding::new(Mark::Ok, format!("context `{}`, which builds at {}", found.context, found.address)),
        ],
        Err(error) if is_wanted => vec![Finding::of(Failure::from(error), Mark::Fail)],
        Err(_) => Vec::new(),
    })
}
