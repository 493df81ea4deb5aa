//! The modules of layers of packages on their way to the compiler, and what comes back. What the image's interpreter
//! wrote is looked at with distrust: no links are followed, and only what has the form of bytecode gets into a layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use imagespec_layout::Compression;
use rayon::prelude::*;
use tar::Archive;

use crate::base::{Cancelled, ImageLayer};
use crate::builder::Failure;
use crate::cache::{Cache, CacheError};
use crate::compression;
use crate::layer::{Attributes, LayerPath, LayerWriter};

/// A larger module is no program that somebody wrote, and would take the compiler a long time.
const MODULE_SIZE_BYTES_MAX: u64 = 16 << 20;
/// What a module compiles to at most, as often as its own size, and on top of that.
const BYTECODE_FACTOR_MAX: u64 = 64;
const BYTECODE_BASE_BYTES_MAX: u64 = 64 << 10;
/// Magic number, flags and hash of the source (PEP 552).
const HEADER_SIZE_BYTES: usize = 16;
/// Where the flags stand in it, and what they are: by hash, and not compared.
const FLAGS: std::ops::Range<usize> = 4..8;
const UNCHECKED: [u8; 4] = [1, 0, 0, 0];
/// What open(2) says of links, and of sockets.
const LOOP: Option<i32> = Some(rustix::io::Errno::LOOP.raw_os_error());
const NO_DEVICE: Option<i32> = Some(rustix::io::Errno::NXIO.raw_os_error());

/// The modules of one layer: by their paths in the image without a leading `/`, the names that the compiler knows.
pub(super) type Extracted = BTreeMap<String, String>;

/// Writes the modules of `layers` that lie in `folder` of the image to `target`.
pub(super) fn extract(
    cache: &Cache,
    layers: &[&ImageLayer],
    folder: &str,
    target: &Path,
    cancelled: Cancelled<'_>,
) -> Result<Vec<Extracted>, Failure> {
    let extracted = layers.par_iter().enumerate().map(|(number, layer)| {
        if cancelled() {
            return Err(Failure::Cancelled);
        }
        let digest = layer.layer.digest;
        let path = cache.blob_path(digest);
        let failed = |source| Failure::from(CacheError::Io { action: "read", path: path.clone(), source });
        let blob = cache.open_blob(digest)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let compression = Compression::of(&layer.media_type).expect("a layer that was made here has a known type");
        let mut archive = Archive::new(compression::open(compression, blob).map_err(failed)?);
        let mut modules = Extracted::new();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let Some(path) = module(&entry, folder) else { continue };
            let name = format!("{number}-{}", modules.len());
            let written = File::create_new(target.join(&name)).and_then(|mut file| io::copy(&mut entry, &mut file));
            written.map_err(|source| CacheError::Io { action: "write", path: target.join(&name), source })?;
            modules.insert(path, name);
        }
        // A blob says at its end alone whether it is what it must be.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
        Ok(modules)
    });
    extracted.collect()
}

/// The path of an entry that is a module in `folder`.
fn module<R: Read>(entry: &tar::Entry<'_, R>, folder: &str) -> Option<String> {
    let path = String::from_utf8(entry.path_bytes().into_owned()).ok()?;
    let inside = path.strip_prefix(folder)?.strip_prefix('/')?;
    let name = inside.rsplit('/').next()?;
    let is_module = name.strip_suffix(".py").is_some_and(|stem| !stem.is_empty());
    let is_file = entry.header().entry_type().is_file() && entry.size() <= MODULE_SIZE_BYTES_MAX;
    (is_module && is_file && LayerPath::new(&path).is_ok()).then_some(path)
}

/// Writes the list that the compiler reads.
pub(super) fn write_list(target: &Path, extracted: &[Extracted]) -> Result<(), CacheError> {
    let path = target.join("list");
    let write = || {
        let mut list = BufWriter::new(File::create_new(&path)?);
        for (path, name) in extracted.iter().flatten() {
            writeln!(list, "{name} /{path}")?;
        }
        list.flush()
    };
    write().map_err(|source| CacheError::Io { action: "write", path: path.clone(), source })
}

/// The files with the bytecode of one layer's modules, by the components of their paths in the image, as a layer is sorted.
pub(super) struct Modules(BTreeMap<Vec<String>, PathBuf>);

impl Modules {
    /// Finds what the compiler wrote to `target`.
    ///
    /// # Errors
    /// When something there cannot be read; it is not known then what a module compiles to.
    pub(super) fn open(
        sources: &Path,
        target: &Path,
        modules: &Extracted,
        python_minor: u16,
    ) -> Result<Self, CacheError> {
        let mut compiled = BTreeMap::new();
        for (path, name) in modules {
            let (source, bytecode) = (sources.join(name), target.join(name));
            let failed = |error| CacheError::Io { action: "read", path: source.clone(), source: error };
            let size_bytes = fs::metadata(&source).map_err(failed)?.len();
            let size_bytes_max = size_bytes.saturating_mul(BYTECODE_FACTOR_MAX) + BYTECODE_BASE_BYTES_MAX;
            match opened(&bytecode)? {
                Some((_, size_bytes)) if size_bytes <= size_bytes_max => {}
                _ => continue,
            }
            let mut components: Vec<String> = path.split('/').map(str::to_owned).collect();
            let name = components.pop().expect("a path has a last component");
            let stem = name.strip_suffix(".py").expect("the paths are those of modules");
            components.extend(["__pycache__".to_owned(), format!("{stem}.cpython-3{python_minor}.pyc")]);
            compiled.insert(components, bytecode);
        }
        Ok(Self(compiled))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn paths(&self) -> Vec<String> {
        self.0.keys().map(|components| components.join("/")).collect()
    }

    pub(super) fn write(&self, writer: &mut LayerWriter) -> Result<(), Failure> {
        for (components, bytecode) in &self.0 {
            // One whose name is too long with what Python adds to it is compiled when it is imported.
            let Ok(path) = LayerPath::new(&components.join("/")) else { continue };
            // Nobody has written to it since, for the sandbox is gone.
            let Some((mut file, size_bytes)) = opened(bytecode)? else { continue };
            writer.file(&path, Attributes::root(0o644), size_bytes, &mut file)?;
        }
        Ok(())
    }
}

/// A file with bytecode, and its size; nothing where there is none.
fn opened(path: &Path) -> Result<Option<(File, u64)>, CacheError> {
    // A link or a pipe in its place would be the work of somebody who wants to read this machine's files, or to stop us.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("the flags of open(2) are a C int");
    let failed = |source| CacheError::Io { action: "read", path: path.to_owned(), source };
    let mut file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // What is no file: nothing, a link, a socket.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if [LOOP, NO_DEVICE].contains(&error.raw_os_error()) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() <= HEADER_SIZE_BYTES as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER_SIZE_BYTES];
    file.read_exact(&mut header).and_then(|()| file.rewind()).map_err(failed)?;
    Ok((header[FLAGS] == UNCHECKED).then_some((file, metadata.len())))
}
