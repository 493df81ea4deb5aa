//! The modules of layers of packages on their way to the compiler, and what comes back. What the image's interpreter
//! wrote is looked at with distrust: no links are followed, and only what has the form of bytecode gets into a layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use imagespec_core::event::Outcome;
use rayon::prelude::*;
use tar::Archive;

use crate::base::{Cancelled, GZIP_LAYER, ImageLayer};
use crate::builder::Failure;
use crate::cache::{Cache, CacheError, Key};
use crate::compression::Compression;
use crate::layer::{Attributes, FORMAT_VERSION, Layer, LayerPath, LayerWriter};

/// A larger module is no program that somebody wrote, and would take the compiler a long time.
const MODULE_SIZE_BYTES_MAX: u64 = 16 << 20;
/// What such a module compiles to at most.
const BYTECODE_SIZE_BYTES_MAX: u64 = 256 << 20;
/// Magic number, flags and hash of the source (PEP 552).
const HEADER_SIZE_BYTES: usize = 16;
/// Where the flags stand in it, and what they are: by hash, and not compared.
const FLAGS: std::ops::Range<usize> = 4..8;
const UNCHECKED: [u8; 4] = [1, 0, 0, 0];
/// By hash, and compared.
const CHECKED: [u8; 4] = [3, 0, 0, 0];

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
        let mut archive = Archive::new(compression.open(blob).map_err(failed)?);
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

/// The bytecode of one layer's modules, by the components of its paths in the image, as a layer is sorted.
pub(super) struct Modules(BTreeMap<Vec<String>, Vec<u8>>);

impl Modules {
    /// Reads what the compiler wrote to `folder`.
    pub(super) fn open(folder: &Path, modules: &Extracted, python_minor: u16) -> Result<Self, CacheError> {
        let mut compiled = BTreeMap::new();
        for (path, name) in modules {
            let Some(bytecode) = bytecode(&folder.join(name))? else { continue };
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

    pub(super) fn write(&self, writer: &mut LayerWriter) -> Result<(), Failure> {
        for (components, bytecode) in &self.0 {
            // One whose name is too long with what Python adds to it is compiled when it is imported.
            let Ok(path) = LayerPath::new(&components.join("/")) else { continue };
            writer.file(&path, Attributes::root(0o644), bytecode.len() as u64, &mut bytecode.as_slice())?;
        }
        Ok(())
    }
}

/// The bytecode in a file; nothing where there is none.
fn bytecode(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    // A link or a pipe in its place would be the work of somebody who wants to read this machine's files, or to stop us.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("the flags of open(2) are a C int");
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let Ok(file) = opened else { return Ok(None) };
    let failed = |source| CacheError::Io { action: "read", path: path.to_owned(), source };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(BYTECODE_SIZE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let is_bytecode = bytes.len() > HEADER_SIZE_BYTES && bytes[FLAGS] == UNCHECKED;
    Ok((is_bytecode && bytes.len() as u64 <= BYTECODE_SIZE_BYTES_MAX).then_some(bytes))
}

/// The same bytecode as `unchecked`, marked to be compared with its sources when it is imported.
pub(super) fn checked(cache: &Cache, unchecked: Layer, timestamp: u64) -> Result<(Layer, Outcome), Failure> {
    let diff_id = unchecked.diff_id.to_string();
    let key = Key::new("bytecode-checked", [FORMAT_VERSION, &diff_id, &timestamp.to_string()].map(str::as_bytes));
    cache.layer(key, timestamp, |writer| {
        let path = cache.blob_path(unchecked.digest);
        let failed = |source| Failure::from(CacheError::Io { action: "read", path: path.clone(), source });
        let blob = cache.open_blob(unchecked.digest)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let compression = Compression::of(GZIP_LAYER).expect("our own layers have a known type");
        let mut archive = Archive::new(compression.open(blob).map_err(failed)?);
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = LayerPath::new(&path).expect("a path of a layer that was made here is one");
            let mut bytecode = Vec::new();
            entry.read_to_end(&mut bytecode).map_err(failed)?;
            if let Some(flags) = bytecode.get_mut(FLAGS) {
                flags.copy_from_slice(&CHECKED);
            }
            writer.file(&path, Attributes::root(0o644), bytecode.len() as u64, &mut bytecode.as_slice())?;
        }
        // A blob says at its end alone whether it is what it must be.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
        Ok(())
    })
}
