//! Where finished images go. Whatever goes wrong, nothing half-made bears the image's name.

mod engine;
mod registry;
mod store;

use std::io::{self, Read};
use std::path::PathBuf;

use imagespec_core::builder::Output;
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome, Unit};
use imagespec_distribution::Blob;
use imagespec_layout::{LayoutError, Observer, check_archive, check_layout, write_archive, write_layout};

use crate::base::{BaseError, ImageLayer, Origin};
use crate::builder::{Building, Failure};
use crate::image::Image;
use crate::point::{self, Point};
use crate::progress;

use self::engine::Engine;

pub use store::Store;

/// Why an image could not be written where it should go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// A file cannot be written.
    #[error(transparent)]
    File(LayoutError),
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
            Output::Oci { dest } => check_layout(dest)?,
            Output::DockerArchive { dest } => check_archive(dest)?,
            Output::Store | Output::Registry => {}
        }
    }
    Ok(())
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
                || {
                    let tag = building.request.name.tag().unwrap_or("latest");
                    let images: Vec<_> = images.iter().map(on_disk).collect();
                    let open = |digest| open(building, digest);
                    observed(building, |observer| write_layout(dest, tag, &images, index, &open, observer))
                },
                |()| (Outcome::Done, String::new()),
            )
        }
        Output::DockerArchive { dest } => {
            let [image] = images else { return Err(OutputError::ManyPlatforms { count: images.len() }.into()) };
            fetch_layers(building, images)?;
            building.progress.step(
                &format!("write {}", dest.display()),
                || {
                    let (name, open) = (&building.request.name, |digest| open(building, digest));
                    observed(building, |observer| write_archive(dest, name, &on_disk(image), &open, observer))
                },
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

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::Cancelled => Self::Cancelled,
            error => Self::Output(OutputError::File(error)),
        }
    }
}

/// Writes files of which the tests can kill every one, until the user asks to stop.
fn observed(building: &Building<'_>, write: impl FnOnce(&Observer<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    let (cancelled, written) = (|| building.progress.is_cancelled(), || point::reached(Point::OutputWritten));
    write(&Observer { cancelled: &cancelled, written: &written })
}

/// `image` as it is written.
fn on_disk(image: &Image) -> imagespec_layout::Image {
    let layers =
        image.layers.iter().map(|ImageLayer { layer, .. }| Blob { digest: layer.digest, size_bytes: layer.size_bytes });
    imagespec_layout::Image { manifest: image.manifest.clone(), config: image.config.clone(), layers: layers.collect() }
}

/// Opens a layer in the cache.
fn open(building: &Building<'_>, digest: Digest) -> Result<Box<dyn Read + Send>, Failure> {
    let absent = || LayoutError::Io { path: building.cache.blob_path(digest), source: io::ErrorKind::NotFound.into() };
    Ok(Box::new(building.cache.open_blob(digest)?.ok_or_else(absent)?))
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
