//! The engine that the bundled builder `docker` would build in: whether it answers, what it can do, and images that it keeps.

use std::path::PathBuf;

use imagespec_builder_docker::{self as docker, Diagnosis, DockerBuilder, diagnose};
use imagespec_core::builder::{BuildError, BuildRequest, Builder, Output, Session};
use imagespec_core::digest::Digest;

use super::Workspace;
use crate::commands::doctor::{Finding, Mark};
use crate::failure::Failure;
use crate::options;
use crate::prepare::Surroundings;

/// What is said of it by `doctor`, where builds are `preferred`'s that choose no builder themselves.
pub(crate) fn engine_findings(surroundings: &Surroundings, preferred: &str) -> Result<Vec<Finding>, Failure> {
    let description = DockerBuilder.describe();
    let options = options::of_files(&description, surroundings)?;
    let is_wanted = preferred == description.name;
    let diagnosis = diagnose(&options);
    let is_default = diagnosis.is_default();
    let Diagnosis { address, about } = diagnosis;
    let place = address.map(|(place, origin)| format!("{place} ({origin})"));
    let about = match about {
        Ok(about) => about,
        Err(error) => {
            // Whoever says where an engine is, or builds with it, counts on one; nobody else misses it.
            let mark = if is_default && !is_wanted { Mark::Warn } else { Mark::Fail };
            return Ok(vec![Finding::of(Failure::from(error), mark)]);
        }
    };
    let (major, minor) = about.api;
    let engine = format!("{} {}, API {major}.{minor}, {}", about.name, about.version, about.platform);
    let mut findings = vec![Finding::new(Mark::Ok, place.unwrap_or_default()), Finding::new(Mark::Ok, engine)];
    findings.push(match about.has_buildkit {
        true => Finding::new(Mark::Ok, "BuildKit is inside"),
        false => Finding::new(Mark::Warn, "no BuildKit is inside, and builder `docker` cannot build there")
            .hint("take Docker Engine 20.10 or newer, or build with `--builder oci`"),
    });
    findings.push(Finding::new(
        Mark::Ok,
        match about.has_containerd_store {
            true => "it keeps images in containerd: several platforms under one name",
            false => "it keeps one platform under a name; the containerd image store keeps several",
        },
    ));
    Ok(findings)
}

/// Whether images that the builder called `name` keeps can be had from it.
pub(super) fn hands_over(name: &str) -> bool {
    name == docker::NAME
}

/// Has the engine hand over the image of `request` that it keeps, if it still does. A command that is killed leaves what
/// `cache prune` finds.
pub(super) fn hand_over(
    request: BuildRequest,
    workspace: Workspace,
    session: &dyn Session,
) -> Result<Option<(Workspace, Digest)>, BuildError> {
    let outputs = vec![Output::Oci { dest: handed_over(&workspace) }];
    let digest = docker::export(&BuildRequest { outputs, ..request }, session)?;
    Ok(digest.map(|digest| (workspace, digest)))
}

/// Where it lies.
pub(super) fn handed_over(workspace: &Workspace) -> PathBuf {
    workspace.path().join("image")
}
