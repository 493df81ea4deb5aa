//! The plan that an image carries in its config, wherever the image lies. No layer is read.

use std::path::Path;

use imagespec_core::builder::BuildError;
use imagespec_core::explanation::HashedPlan;
use oci_spec::image::ImageManifest;
use serde::Deserialize;
use serde_json::Value;

use crate::base::{self, BaseError};
use crate::builder::Failure;
use crate::documents::{Content, OpenError, Source};

/// The plan that the image of `source` carries. None of an image that another program made. All images of an index
/// have one plan.
///
/// # Errors
/// When a document cannot be had or is none, or what it carries is no plan.
pub fn carried_plan(source: Source<'_>) -> Result<Option<HashedPlan>, OpenError> {
    match source.top()?.content {
        Content::Image(manifest) => of_manifest(source, &manifest),
        Content::Index(index) => {
            for descriptor in index.manifests() {
                let is_image =
                    descriptor.platform().as_ref().is_none_or(|platform| platform.os().to_string() != "unknown");
                if is_image && let Content::Image(manifest) = source.child(descriptor)?.content {
                    return of_manifest(source, &manifest);
                }
            }
            Ok(None)
        }
    }
}

/// The same for an archive that `docker save` wrote, or a build with `type=docker-archive`. A compressed one is unpacked
/// into a nameless file in the folder `temporary`.
///
/// # Errors
/// When the file cannot be read or is no such archive, or what it carries is no plan.
pub fn carried_plan_of_archive(file: &Path, temporary: &Path) -> Result<Option<HashedPlan>, BuildError> {
    let read = || {
        let config = base::docker_archive_config(file, temporary)?;
        of_config(&config).map_err(|problem| {
            let base = format!("docker-archive:{}", file.display());
            Failure::from(BaseError::Malformed { base, problem })
        })
    };
    read().map_err(|failure: Failure| failure.tell())
}

fn of_manifest(source: Source<'_>, manifest: &ImageManifest) -> Result<Option<HashedPlan>, OpenError> {
    let name = || manifest.config().digest().to_string();
    of_config(&source.config_bytes(manifest)?).map_err(|problem| OpenError::Malformed { name: name(), problem })
}

/// The plan in a config; otherwise what is wrong with it. Whoever made the image may have written anything.
fn of_config(config: &[u8]) -> Result<Option<HashedPlan>, String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "imagespec.plan")]
        plan: Option<Value>,
    }
    let config: Config = serde_json::from_slice(config).map_err(|error| format!("its config: {error}"))?;
    config.plan.map(HashedPlan::from_json).transpose().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PLAN;

    #[test]
    fn a_config_carries_a_plan_or_none_or_rubbish() {
        let read = |config: &str| of_config(config.replace("PLAN", PLAN).as_bytes());
        assert_eq!(read(r#"{"os": "linux"}"#), Ok(None));
        let plan = r#"{"kind": "plan", "plan": {"base": {"kind": "scratch"}, "config": {}, "steps": []}, "scheme": 1}"#;
        assert!(matches!(read(&format!(r#"{{"PLAN": {plan}}}"#)), Ok(Some(plan)) if plan.scheme() == 1));
        assert_eq!(read(r#"{"PLAN": "{}"}"#), Err("it has no plan in it".to_owned()));
        assert_eq!(read(r#"{"PLAN": {"scheme": 1, "plan": {"steps": 3}}}"#), Err("its plan is damaged".to_owned()));
        assert!(read("[").is_err_and(|problem| problem.starts_with("its config: EOF")));
        // serde_json gives up on what is nested too deep, so that nothing here runs out of stack.
        let deep = format!(r#"{{"PLAN": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).is_err_and(|problem| problem.contains("recursion limit")));
    }
}
