//! The layer of copied and source files, verified against the plan's digests as they are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use imagespec_core::digest::{Digest, Hasher};
use imagespec_core::event::Outcome;
use imagespec_core::plan::{CopiedFile, CopyStep, FILES_ROOT};

use crate::builder::Failure;
use crate::cache::{Cache, Key};
use crate::layer::{Attributes, FORMAT_VERSION, InvalidLayerPath, Layer, LayerPath};

/// Why files could not be put into a layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// A file is not what the plan says any more.
    #[error("`{path}` changed while the image was built")]
    Changed {
        /// The file on this machine.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request does not say where a file of its plan lies.
    #[error("the plan's file {digest} was not handed over")]
    Missing {
        /// The digest in the plan.
        digest: Digest,
    },
    /// A path that no layer can hold.
    #[error(transparent)]
    Path(#[from] InvalidLayerPath),
}

/// Reads the file that the plan names by `digest`.
pub(crate) fn read(sources: &BTreeMap<Digest, PathBuf>, digest: Digest) -> Result<Vec<u8>, FilesError> {
    let path = sources.get(&digest).ok_or(FilesError::Missing { digest })?;
    let content = std::fs::read(path).map_err(|source| FilesError::Unreadable { path: path.clone(), source })?;
    if Digest::of(&content) == digest { Ok(content) } else { Err(FilesError::Changed { path: path.clone() }) }
}

/// Makes or finds the layer of `step`. `sources` says where the content of each digest lies.
pub(crate) fn layer(
    cache: &Cache,
    step: &CopyStep,
    sources: &BTreeMap<Digest, PathBuf>,
    timestamp: u64,
) -> Result<(Layer, Outcome), Failure> {
    let mut entries = Vec::with_capacity(step.files.len());
    for (path, file) in &step.files {
        entries.push((LayerPath::new(&format!("{FILES_ROOT}/{path}")).map_err(FilesError::from)?, file));
    }
    // A layer is sorted by component, a map of paths by character.
    entries.sort_by(|(left, _), (right, _)| left.as_str().split('/').cmp(right.as_str().split('/')));
    let key = key(&entries, timestamp);
    cache.layer(key, timestamp, |writer| {
        for (path, file) in &entries {
            match file {
                CopiedFile::Directory => writer.directory(path, Attributes::root(0o755))?,
                CopiedFile::Link { target } => writer.symlink(path, target)?,
                CopiedFile::File { digest, size_bytes, executable } => {
                    let source = sources.get(digest).ok_or(FilesError::Missing { digest: *digest })?;
                    let file = File::open(source)
                        .map_err(|error| FilesError::Unreadable { path: source.clone(), source: error })?;
                    let mut content = Hashed { file, hasher: Hasher::default() };
                    let mode = if *executable { 0o755 } else { 0o644 };
                    writer.file(path, Attributes::root(mode), *size_bytes, &mut content)?;
                    if content.hasher.finish().0 != *digest {
                        return Err(FilesError::Changed { path: source.clone() }.into());
                    }
                }
            }
        }
        Ok(())
    })
}

fn key(entries: &[(LayerPath, &CopiedFile)], timestamp: u64) -> Key {
    let mut parts = vec![FORMAT_VERSION.to_owned(), timestamp.to_string()];
    for (path, file) in entries {
        parts.push(path.to_string());
        parts.push(match file {
            CopiedFile::Directory => "directory".to_owned(),
            CopiedFile::Link { target } => format!("link {target}"),
            CopiedFile::File { digest, executable: true, .. } => format!("executable {digest}"),
            CopiedFile::File { digest, executable: false, .. } => format!("file {digest}"),
        });
    }
    Key::new("files", parts.iter().map(String::as_bytes))
}

struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
