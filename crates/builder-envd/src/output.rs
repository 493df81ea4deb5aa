//! Where the image goes, and what it came to.

use imagespec_buildkit::Progress;
use imagespec_core::builder::{BuildRequest, Output, RegistryAccess};
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::plan::Base;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use imagespec_distribution::CredentialStore;
use imagespec_layout::{self as layout, Archive, Observer, ReadError, open_blob};
use serde_json::Value;
use std::path::Path;

use crate::base::{self, BaseError, ReadyBase};
use crate::builder::{Building, Failure, Made};
use crate::engine::Engine;
use crate::follow::Followed;
use crate::lower::{BASE_FOLDER, Recipe};

/// Finds out before any work whether the outputs can take the image.
pub(crate) fn check(building: &Building<'_>) -> Result<(), Failure> {
    for output in &building.request.outputs {
        match output {
            Output::Oci { dest } => layout::check_layout(dest)?,
            Output::DockerArchive { dest } => layout::check_archive(dest)?,
            Output::Store => Engine::of_process()?.ping(building.is_cancelled)?,
            Output::Docker { socket } => Engine::at(socket).ping(building.is_cancelled)?,
            Output::Registry => {}
        }
    }
    Ok(())
}

/// The image, if an engine keeps it under its name and it need not go anywhere else.
pub(crate) fn kept(building: &Building<'_>) -> Result<Option<Report>, Failure> {
    let request = building.request;
    let mut found = None;
    for output in &request.outputs {
        let engine = match output {
            Output::Store => Engine::of_process()?,
            Output::Docker { socket } => Engine::at(socket),
            Output::Registry | Output::Oci { .. } | Output::DockerArchive { .. } => return Ok(None),
        };
        let image = engine.inspect(&request.name.familiar(), building.is_cancelled)?.unwrap_or_default();
        let is_same = image["Config"]["Labels"]["imagespec.spec-hash"] == request.spec_hash.to_string();
        let digest = image["Id"].as_str().and_then(|id| id.parse::<Digest>().ok()).filter(|_| is_same);
        let Some(digest) = digest else { return Ok(None) };
        // With containerd's store it is that of the manifest, and nothing says what the config's is.
        let pinned = image["RepoDigests"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has_manifest = pinned.iter().any(|pin| pin.as_str().is_some_and(|pin| pin.ends_with(&digest.to_string())));
        let images = (!has_manifest).then(|| PlatformImage {
            platform: request.plan.platforms.first().expect("a plan has a platform").clone(),
            digest,
            config_digest: digest,
            base_digest: None,
            layers: Vec::new(),
        });
        let name = Some(request.name.clone());
        found = Some(Report { digest, images: images.into_iter().collect(), name, duration_ms: 0 });
    }
    Ok(found)
}

/// Brings the image to the outputs, and returns its digest where it was pushed.
pub(crate) fn deliver(building: &Building<'_>, made: &Made) -> Result<Digest, Failure> {
    let name = &building.request.name;
    let mut digest = made.image.digest();
    for output in &building.request.outputs {
        let title = match output {
            Output::Registry => format!("push {}", name.familiar()),
            Output::Oci { dest } => format!("write oci:{}", dest.display()),
            Output::DockerArchive { dest } => format!("write {}", dest.display()),
            Output::Store | Output::Docker { .. } => format!("load {}", name.familiar()),
        };
        let step = building.progress.begin(&title);
        match output {
            Output::Registry if made.is_in_engine && is_usual(building) => {
                digest = push_from_engine(building, made)?.unwrap_or(digest);
            }
            Output::Registry => {
                let folder = made.saved.as_ref().map(layout::Saved::folder);
                digest =
                    building.registry.push(&made.image, folder, name, &|done, total| step.reach(done, Some(total)))?;
            }
            Output::Store | Output::Docker { .. } => {
                let engine = match output {
                    Output::Docker { socket } => Engine::at(socket),
                    _ => Engine::of_process()?,
                };
                load(building, made, &engine)?;
                // An engine that keeps no manifests calls it by its config, and nobody else has it.
                let found = engine.inspect(&name.familiar(), building.is_cancelled)?.unwrap_or_default();
                let id = made.image.config_digest();
                if building.request.outputs.len() == 1 && found["Id"] == id.to_string() {
                    digest = id;
                }
            }
            Output::Oci { .. } | Output::DockerArchive { .. } => write(building, made, output)?,
        }
        step.finish(Outcome::Done, String::new());
    }
    Ok(digest)
}

/// Whether the registry needs nothing that an engine does not know.
fn is_usual(building: &Building<'_>) -> bool {
    let access = building.request.registries.get(building.request.name.registry());
    access.is_none_or(|access| *access == RegistryAccess::default())
}

/// Has the engine that built the image push it, after it took what it should be.
fn push_from_engine(building: &Building<'_>, made: &Made) -> Result<Option<Digest>, Failure> {
    let engine = Engine::of_process()?;
    load(building, made, &engine)?;
    let name = &building.request.name;
    let store = CredentialStore::from_files(building.request.credential_files.clone());
    let login = store.login(name.registry(), name.repository())?;
    Ok(engine.push(name, login, building.is_cancelled)?)
}

/// Has an engine take the image under its name.
fn load(building: &Building<'_>, made: &Made, engine: &Engine) -> Result<(), Failure> {
    let open = |digest| made.open(digest);
    let mut archive = Archive::of(&building.request.name, &made.image, &open)?;
    let size_bytes = archive.size_bytes();
    Ok(engine.load(&mut archive, size_bytes, building.is_cancelled)?)
}

fn write(building: &Building<'_>, made: &Made, output: &Output) -> Result<(), Failure> {
    let observer = Observer { cancelled: building.is_cancelled, written: &|| {} };
    let open = |digest| made.open(digest);
    let name = &building.request.name;
    match output {
        Output::Oci { dest } => {
            let tag = name.tag().unwrap_or("latest");
            layout::write_layout(dest, tag, std::slice::from_ref(&made.image), None, &open, &observer)
        }
        Output::DockerArchive { dest } => layout::write_archive(dest, name, &made.image, &open, &observer),
        Output::Store | Output::Registry | Output::Docker { .. } => Ok(()),
    }
}

/// Writes a base that is in no registry to `folder`, from which it can be pushed.
pub(crate) fn write_base(request: &BuildRequest, folder: &Path, progress: &Progress<'_>) -> Result<(), Failure> {
    let Base::OciLayout { digest } = &request.plan.base else { return Ok(()) };
    let step = progress.begin(&format!("write {BASE_FOLDER}"));
    let (source, image) = base::given(request, *digest)?;
    let unreadable = |error: ReadError| BaseError::Layout { path: source.display().to_string(), source: error };
    let open = |digest: Digest| {
        let blob = image.layers.iter().find(|layer| layer.digest == digest).expect("only its own are asked for");
        open_blob(source, *blob).map_err(|error| Failure::from(unreadable(error)))
    };
    let cancelled = || progress.is_cancelled();
    let observer = Observer { cancelled: &cancelled, written: &|| {} };
    let images = std::slice::from_ref(&image);
    layout::write_layout(&folder.join(BASE_FOLDER), "latest", images, None, &open, &observer)?;
    step.finish(Outcome::Done, String::new());
    Ok(())
}

/// What a build came to.
pub(crate) fn report(
    request: &BuildRequest,
    base: &ReadyBase,
    made: &Made,
    digest: Digest,
    recipe: &Recipe,
    followed: &Followed,
) -> Report {
    let image = &made.image;
    let config: Value = serde_json::from_slice(&image.config).unwrap_or_default();
    let history = config["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let made_by: Vec<_> = history
        .iter()
        .filter(|entry| entry["empty_layer"] != true)
        .map(|entry| entry["created_by"].as_str().unwrap_or_default())
        .collect();
    let mut commands = recipe.commands.iter();
    let layers = image.layers.iter().enumerate().map(|(index, layer)| {
        let by = made_by.get(index).filter(|_| made_by.len() == image.layers.len()).copied().unwrap_or_default();
        let title = if index < base.known.layers {
            "base".to_owned()
        } else if by.contains("bash -c set -euo pipefail") {
            commands.next().map_or_else(|| "command".to_owned(), |told| told.title.clone())
        } else if by.contains("bash -c apt-get ") {
            recipe.apt.as_ref().map_or_else(|| "Debian packages".to_owned(), |told| told.title.clone())
        } else if by.starts_with("copy /workdir") {
            "working directory".to_owned()
        } else {
            "files".to_owned()
        };
        let is_cached = index < base.known.layers || followed.cached.contains(&title);
        let outcome = if is_cached { Outcome::Cached } else { Outcome::Done };
        ReportedLayer { digest: layer.digest, size_bytes: layer.size_bytes, title, outcome }
    });
    let image = PlatformImage {
        platform: request.plan.platforms.first().expect("a plan has a platform").clone(),
        digest: image.digest(),
        config_digest: image.config_digest(),
        base_digest: Some(base.known.digest),
        layers: layers.collect(),
    };
    Report { digest, images: vec![image], name: None, duration_ms: 0 }
}
