//! A Python that neither the base nor its apt has: a build of python-build-standalone, in a layer of its own at
//! `/opt/python/cpython-VERSION`. The layer is a function of the archive that uv fetched and verified.

mod archive;

use imagespec_core::digest::Digest;
use imagespec_core::event::{Outcome, Unit};

use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure, Position};
use crate::bytecode::{self, Sources};
use crate::cache::{CacheError, Key};
use crate::layer::{FORMAT_VERSION, Layer, LayerError, LayerPath};
use crate::lock;
use crate::python::{BasePython, PythonError};
use crate::survey;
use crate::wheel::{Interpreter, Libc, Observer, PythonBuild, PythonBuildError, Uv};
pub(crate) use archive::ArchiveError;

/// Raised whenever the same archive would be laid out otherwise.
const LAYOUT_VERSION: &str = "1";

/// Why there is no such Python.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManagedError {
    /// There is nothing in the base that a program runs with.
    #[error("the base has neither glibc nor musl, which builds of Python are made for")]
    NoLibc,
    /// It cannot be had.
    #[error(transparent)]
    Build(#[from] PythonBuildError),
    /// Its archive is not what it should be.
    #[error("the archive of Python {version} cannot be laid out")]
    Archive {
        /// The whole version.
        version: String,
        /// What is wrong.
        source: ArchiveError,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The layer cannot be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Fetches or finds Python `wanted`, `3.12` or `3.12.8`; and its layers, that of its bytecode among them.
pub(crate) fn find(
    building: &Building<'_>,
    wanted: &str,
    position: &Position<'_>,
) -> Result<(BasePython, Vec<ImageLayer>), Failure> {
    let libc = survey::libc(building, position.below)?.ok_or_else(|| PythonError::from(ManagedError::NoLibc))?;
    let (build, archive, (layer, outcome)) = building.progress.counted(
        &format!("fetch Python {wanted}"),
        Unit::Bytes,
        None,
        |_| Ok::<_, Failure>(made(building, wanted, position, libc).map_err(PythonError::from)?),
        |(build, _, (_, outcome))| (*outcome, build.version()),
    )?;
    let place = place(&build);
    let path = format!("/{place}/bin/python3.{}", build.minor);
    let interpreter = Interpreter { path, minor: build.minor, patch: build.patch };
    let python = BasePython { interpreter, libc, archive: Some(archive) };
    let mut layers = vec![own_layer(layer, outcome, &format!("python {}", build.version()))];
    let below: Vec<_> = position.below.iter().chain(&layers).cloned().collect();
    let position = Position { below: &below, ..*position };
    // Its own modules come without bytecode; those of a distribution's Python with it.
    let sources = Sources {
        title: "compile Python's modules to bytecode",
        layers: &layers,
        folder: &format!("{place}/lib/python3.{}", build.minor),
    };
    let bytecode = bytecode::layers(building, &sources, &python, &position)?;
    layers.extend(bytecode);
    Ok((python, layers))
}

fn made(
    building: &Building<'_>,
    wanted: &str,
    position: &Position<'_>,
    libc: Libc,
) -> Result<(PythonBuild, Digest, (Layer, Outcome)), ManagedError> {
    let cache = &building.cache;
    let cancelled = || building.progress.is_cancelled();
    let observer = Observer { received: &|_| {}, cancelled: &cancelled };
    let uv = Uv::find(cache, observer).map_err(PythonBuildError::from)?.tied(building.sandbox.tie());
    let build = uv.python_build(cache, wanted, position.platform.machine(), libc, observer)?;
    let locked = lock::image(position).and_then(|image| image.python_archive);
    let digest = match locked.filter(|digest| cache.has_blob(*digest)) {
        // A newer uv may know a newer archive of the same version.
        Some(digest) => digest,
        None => uv.python_archive(cache, &build, observer)?,
    };
    let place = place(&build);
    let timestamp = building.request.timestamp;
    let parts = [FORMAT_VERSION, LAYOUT_VERSION, &digest.to_string(), place.as_str(), &timestamp.to_string()];
    let made = cache.layer::<ManagedError>(Key::new("python", parts.map(str::as_bytes)), timestamp, |writer| {
        let malformed = |source| ManagedError::Archive { version: build.version(), source };
        let tree = archive::read(cache, digest, &place, build.minor).map_err(malformed)?;
        Ok(archive::write(writer, &tree)?)
    })?;
    Ok((build, digest, made))
}

/// Where the build comes to lie.
fn place(build: &PythonBuild) -> LayerPath {
    let place = format!("opt/python/cpython-{}", build.version());
    LayerPath::new(&place).expect("a version is numbers and dots")
}
