//! Packages that are installed when a container starts: a small program before the image's entry point, and uv, which
//! installs them. Nothing of theirs is in the image.
//!
//! uv and not pip: it resolves as the build does, with the same rule for several indexes, in a tenth of the time, and
//! needs nothing of the image but its Python. It is the pinned one, in a layer that all such images share.

use std::fs::File;

use imagespec_core::event::Outcome;
use imagespec_core::plan::Plan;
use imagespec_core::platform::Platform;
use imagespec_core::runtime::{INSTALLER, PROGRAM, SETTINGS, START, settings};

use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure};
use crate::cache::{CacheError, Key};
use crate::layer::{Attributes, FORMAT_VERSION, LayerError, LayerPath};
use crate::progress;
use crate::wheel::{Observer, ResolveError, Uv};

/// Why an image cannot install packages when it starts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// There is no uv for its processor.
    #[error("uv, which installs runtime packages, has no build for {machine}")]
    NoInstaller {
        /// The processor.
        machine: String,
    },
    /// uv cannot be had.
    #[error(transparent)]
    Uv(ResolveError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A layer cannot be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// The layers that an image with runtime packages needs; none for others.
pub(crate) fn layers(building: &Building<'_>, plan: &Plan, platform: &Platform) -> Result<Vec<ImageLayer>, Failure> {
    let count = plan.config.runtime_packages.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    building.progress.step(
        &format!("prepare {}", progress::count(count, "runtime package")),
        || Ok::<_, Failure>(made(building, plan, platform)?),
        |layers| {
            let is_cached = layers.iter().all(|layer| layer.outcome == Outcome::Cached);
            (if is_cached { Outcome::Cached } else { Outcome::Done }, String::new())
        },
    )
}

fn made(building: &Building<'_>, plan: &Plan, platform: &Platform) -> Result<Vec<ImageLayer>, RuntimeError> {
    let cache = &building.cache;
    let timestamp = building.request.timestamp;
    let time = timestamp.to_string();
    let cancelled = || building.progress.is_cancelled();
    let observer = Observer { received: &|_| {}, cancelled: &cancelled };
    let pinned = Uv::pinned(cache, platform.machine(), observer).map_err(|error| match error {
        ResolveError::NoUv { machine } => RuntimeError::NoInstaller { machine },
        error => RuntimeError::Uv(error),
    });
    let (program, digest) = pinned?;
    let key = Key::new("runtime-installer", [FORMAT_VERSION, &digest.to_string(), &time].map(str::as_bytes));
    let (installer, outcome) = cache.layer::<RuntimeError>(key, timestamp, |writer| {
        let failed = |source| CacheError::Io { action: "read", path: program.clone(), source };
        let mut file = File::open(&program).map_err(failed)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        Ok(writer.file(&path(INSTALLER), Attributes::root(0o755), size_bytes, &mut file)?)
    })?;
    let installer = own_layer(installer, outcome, "uv");
    let settings = settings(plan).to_string();
    let key = Key::new("runtime", [FORMAT_VERSION, PROGRAM, &settings, &time].map(str::as_bytes));
    let (start, outcome) = cache.layer::<RuntimeError>(key, timestamp, |writer| {
        for (file, mode, text) in [(SETTINGS, 0o644, settings.as_str()), (START, 0o755, PROGRAM)] {
            writer.file(&path(file), Attributes::root(mode), text.len() as u64, &mut text.as_bytes())?;
        }
        Ok(())
    })?;
    Ok(vec![installer, own_layer(start, outcome, "runtime packages")])
}

fn path(text: &str) -> LayerPath {
    LayerPath::new(text).expect("the paths of these files are proper ones")
}
