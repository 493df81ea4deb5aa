//! Where finished images go. Whatever goes wrong, nothing half-made bears the image's name.

mod docker_archive;
mod engine;
mod layout;
mod registry;
mod store;

use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::builder::Output;
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome, Unit};
use imagespec_distribution::Blob;

use crate::base::{BaseError, ImageLayer, Origin};
use crate::builder::{Building, Failure};
use crate::image::Image;
use crate::progress;

use self::engine::Engine;

pub use store::Store;

/// Why an image could not be written where it should go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that holds something else.
    #[error("`{path}` is not empty and no OCI image layout")]
    NotALayout {
        /// The folder.
        path: PathBuf,
    },
    /// An archive for `docker load` holds one platform.
    #[error("an archive for `docker load` holds one platform, and this image has {count}")]
    ManyPlatforms {
        /// How many platforms the image has.
        count: usize,
    },
    /// Nobody listens at an engine's socket, or not to us.
    #[error("cannot reach a Docker engine at `{socket}`")]
    NoEngine {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An engine did not do as it was asked.
    #[error("the engine at `{socket}` did not {action}: {problem}")]
    Engine {
        /// Its socket.
        socket: PathBuf,
        /// What was asked: `load the image`.
        action: &'static str,
        /// What it said, or how the conversation ended. One line.
        problem: String,
    },
    /// An engine says that it loaded the image, and has another one.
    #[error("the engine at `{socket}` has {found} under the image's name instead of {expected}")]
    OtherImage {
        /// Its socket.
        socket: PathBuf,
        /// The id that the image must have.
        expected: Digest,
        /// What it has instead.
        found: String,
    },
}

/// Finds out before any work whether the outputs can take the image.
pub(crate) fn check(building: &Building<'_>) -> Result<(), Failure> {
    let count = building.request.plan.platforms.len();
    for output in &building.request.outputs {
        if count > 1 && matches!(output, Output::Docker { .. } | Output::DockerArchive { .. }) {
            return Err(OutputError::ManyPlatforms { count }.into());
        }
        match output {
            Output::Docker { socket } => drop(Engine::connect(socket, building)?),
            Output::Oci { dest } => layout::check(dest)?,
            Output::DockerArchive { dest } => docker_archive::check(dest)?,
            Output::Store | Output::Registry => {}
        }
    }
    Ok(())
}

/// Finds out whether `target` could be made in `folder`, by making a file without a name there.
fn check_writable(folder: &Path, target: &Path) -> Result<(), OutputError> {
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        // The error would name the folder.
        Err(error) => {
            let source = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            Err(OutputError::Io { path: target.to_owned(), source })
        }
    }
}

/// Writes `images`, and the `index` over them if there is one, to `output`.
pub(crate) fn write(
    building: &Building<'_>,
    output: &Output,
    images: &[Image],
    index: Option<&[u8]>,
) -> Result<(), Failure> {
    match output {
        Output::Store => {
            fetch_layers(building, images)?;
            store::write(building, images, index)
        }
        Output::Oci { dest } => {
            fetch_layers(building, images)?;
            building.progress.step(
                &format!("write oci:{}", dest.display()),
                || layout::write(building, dest, images, index),
                |()| (Outcome::Done, String::new()),
            )
        }
        Output::DockerArchive { dest } => {
            let [image] = images else { return Err(OutputError::ManyPlatforms { count: images.len() }.into()) };
            fetch_layers(building, images)?;
            building.progress.step(
                &format!("write {}", dest.display()),
                || docker_archive::write(building, dest, image),
                |()| (Outcome::Done, String::new()),
            )
        }
        Output::Registry => {
            let title = format!("push {}", building.request.name.familiar());
            let layers = images.iter().flat_map(|image| &image.layers);
            let total_bytes = layers.map(|layer| layer.layer.size_bytes).sum();
            let push = |step: &progress::Step<'_>| registry::push(building, images, index, step);
            let summary = |sent_bytes: &u64| (Outcome::Done, format!("{} sent", event::size(*sent_bytes)));
            building.progress.counted(&title, Unit::Bytes, Some(total_bytes), push, summary)?;
            Ok(())
        }
        Output::Docker { socket } => {
            let [image] = images else { return Err(OutputError::ManyPlatforms { count: images.len() }.into()) };
            let engine = Engine::connect(socket, building)?;
            let title = format!("load {} into {}", building.request.name.familiar(), socket.display());
            if engine.has(image)? {
                return building.progress.step(&title, || Ok(()), |()| (Outcome::Cached, String::new()));
            }
            fetch_layers(building, images)?;
            building.progress.step(&title, || engine.load(image), |()| (Outcome::Done, String::new()))
        }
    }
}

/// Pulls the layers of bases that are not in the cache.
fn fetch_layers(building: &Building<'_>, images: &[Image]) -> Result<(), Failure> {
    for layer in images.iter().flat_map(|image| &image.layers) {
        fetch_layer(building, layer)?;
    }
    Ok(())
}

/// Pulls `layer` into the cache if it is not there.
pub(crate) fn fetch_layer(building: &Building<'_>, layer: &ImageLayer) -> Result<(), Failure> {
    let Origin::Registry(reference) = &layer.origin else { return Ok(()) };
    let blob = Blob { digest: layer.layer.digest, size_bytes: layer.layer.size_bytes };
    building.cache.fetch_once(blob.digest, || {
        if building.cache.is_offline() {
            let what = format!("layer {} of `{}`", blob.digest, reference.familiar());
            return Err(BaseError::Offline { what }.into());
        }
        building.progress.counted(
            &format!("pull {}", blob.digest),
            Unit::Bytes,
            Some(blob.size_bytes),
            |step| {
                let mut writer = building.cache.blob_writer()?;
                let pulled = building.client.pull_blob(reference, blob, &mut writer, &mut |done| step.reach(done));
                pulled.map_err(BaseError::from)?;
                writer.commit_as(blob.digest, &reference.familiar())?;
                Ok(())
            },
            |()| (Outcome::Done, event::size(blob.size_bytes)),
        )
    })
}
