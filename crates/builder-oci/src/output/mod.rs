//! Where finished images go. Whatever goes wrong, nothing half-made bears the image's name.

mod docker_archive;
mod layout;
mod registry;
mod store;

use std::io;
use std::path::PathBuf;

use imagespec_core::builder::Output;
use imagespec_core::event::Outcome;
use imagespec_distribution::Blob;

use crate::base::{ImageLayer, Origin};
use crate::builder::{Building, Failure};
use crate::image::Image;

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
    /// This builder does not load into engines.
    #[error("`type=docker` is not offered by this builder yet")]
    Engine,
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
            let push = || registry::push(building, images, index);
            building.progress.step(&title, push, |sent| (Outcome::Done, sent.clone()))?;
            Ok(())
        }
        Output::Docker => Err(OutputError::Engine.into()),
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
    if building.cache.has_blob(layer.layer.digest) {
        return Ok(());
    }
    let blob = Blob { digest: layer.layer.digest, size_bytes: layer.layer.size_bytes };
    building.progress.step(
        &format!("pull {}", blob.digest),
        || {
            let mut writer = building.cache.blob_writer()?;
            building.client.pull_blob(reference, blob, &mut writer, &mut |_| {})?;
            writer.commit_as(blob.digest, &reference.familiar())?;
            Ok(())
        },
        |()| (Outcome::Done, format!("{} bytes", blob.size_bytes)),
    )
}
