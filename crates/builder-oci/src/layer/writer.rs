//! Writes one layer: entries → tar → compressor.

use std::collections::BTreeSet;
use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{Compressor, Layer, LayerPath};
use crate::cache::{BlobWriter, CacheError};

/// Writes the entries of one layer, in ascending order of their paths.
pub struct LayerWriter {
    archive: tar::Builder<Compressor>,
    directories: BTreeSet<String>,
    last: Option<String>,
    timestamp: u64,
}

/// What an entry carries beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, setuid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The blob could not be written, or the content not read.
    #[error("cannot write `{path}` to a layer")]
    Io {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The content is shorter or longer than was said.
    #[error("`{path}` should have {expected} bytes and has not")]
    WrongSize {
        /// The entry.
        path: String,
        /// Length in bytes that was said.
        expected: u64,
    },
    /// An entry does not follow the one before it. A bug of ours.
    #[error("`{path}` stands after `{previous}` in a layer")]
    Unsorted {
        /// The entry.
        path: String,
        /// The one before.
        previous: String,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Attributes {
    /// A file or folder of root with these permission bits.
    pub fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

impl LayerWriter {
    pub(super) fn new(blob: BlobWriter, timestamp: u64) -> Self {
        let mut archive = tar::Builder::new(Compressor::new(blob));
        archive.sparse(false);
        archive.follow_symlinks(false);
        Self { archive, directories: BTreeSet::new(), last: None, timestamp }
    }

    /// Adds a directory, and those above it with mode 0755 where they are not in the layer yet.
    ///
    /// # Errors
    /// When it does not follow the entry before it, or cannot be written.
    pub fn directory(&mut self, path: &LayerPath, attributes: Attributes) -> Result<(), LayerError> {
        if self.directories.contains(path.as_str()) {
            return Ok(());
        }
        self.parents(path)?;
        self.append_directory(path.as_str(), attributes)
    }

    /// Adds a regular file of `size_bytes`, read from `content`.
    ///
    /// # Errors
    /// When it does not follow the entry before it, has another length, or cannot be read or written.
    pub fn file(
        &mut self,
        path: &LayerPath,
        attributes: Attributes,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        self.parents(path)?;
        self.advance(path.as_str())?;
        let mut header = self.header(EntryType::Regular, attributes);
        header.set_size(size_bytes);
        let mut counted = Exact { content, left: size_bytes };
        let result = self.archive.append_data(&mut header, path.as_str(), &mut counted);
        // The archive pads what is short without a word, so the length is checked here.
        if counted.left > 0 || (result.is_ok() && counted.has_more().unwrap_or(false)) {
            return Err(LayerError::WrongSize { path: path.to_string(), expected: size_bytes });
        }
        result.map_err(|source| LayerError::Io { path: path.to_string(), source })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When it does not follow the entry before it, or cannot be written.
    pub fn symlink(&mut self, path: &LayerPath, target: &str) -> Result<(), LayerError> {
        self.parents(path)?;
        self.advance(path.as_str())?;
        let mut header = self.header(EntryType::Symlink, Attributes::root(0o777));
        header.set_size(0);
        self.archive
            .append_link(&mut header, path.as_str(), target)
            .map_err(|source| LayerError::Io { path: path.to_string(), source })
    }

    pub(super) fn finish(self) -> Result<Layer, LayerError> {
        self.archive.into_inner().map_err(|source| LayerError::Io { path: "end".to_owned(), source })?.finish()
    }

    fn append_directory(&mut self, path: &str, attributes: Attributes) -> Result<(), LayerError> {
        self.advance(path)?;
        self.directories.insert(path.to_owned());
        let mut header = self.header(EntryType::Directory, attributes);
        header.set_size(0);
        self.archive
            .append_data(&mut header, format!("{path}/"), io::empty())
            .map_err(|source| LayerError::Io { path: path.to_owned(), source })
    }

    fn parents(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        for parent in path.parents() {
            if !self.directories.contains(parent) {
                self.append_directory(parent, Attributes::root(0o755))?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, path: &str) -> Result<(), LayerError> {
        // Compared by component: a folder's content stands right behind it, whatever sorts before `/`.
        match &self.last {
            Some(previous) if previous.split('/').ge(path.split('/')) => {
                Err(LayerError::Unsorted { path: path.to_owned(), previous: previous.clone() })
            }
            _ => {
                self.last = Some(path.to_owned());
                Ok(())
            }
        }
    }

    fn header(&self, kind: EntryType, attributes: Attributes) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(attributes.uid);
        header.set_gid(attributes.gid);
        header.set_mtime(self.timestamp);
        header
    }
}

/// Reads exactly so many bytes.
struct Exact<'a> {
    content: &'a mut dyn Read,
    left: u64,
}

impl Exact<'_> {
    fn has_more(&mut self) -> io::Result<bool> {
        Ok(self.content.read(&mut [0])? > 0)
    }
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.content.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text).unwrap()
    }

    #[test]
    fn the_same_entries_give_the_same_bytes_and_folders_are_implied() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let make = || {
            let mut writer = LayerWriter::new(cache.blob_writer().unwrap(), 0);
            writer.file(&path("root/a/b.txt"), Attributes::root(0o644), 2, &mut &b"hi"[..]).unwrap();
            writer.symlink(&path("root/a/c"), "b.txt").unwrap();
            writer.finish().unwrap()
        };
        let layer = make();
        assert_eq!(layer, make());
        let blob = cache.open_blob(layer.digest).unwrap().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob));
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["root/", "root/a/", "root/a/b.txt", "root/a/c"]);
    }

    #[test]
    fn a_path_out_of_order_twice_or_of_another_length_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut writer = LayerWriter::new(cache.blob_writer().unwrap(), 0);
        writer.symlink(&path("b"), "x").unwrap();
        assert!(matches!(writer.symlink(&path("a"), "x"), Err(LayerError::Unsorted { .. })));
        assert!(matches!(writer.symlink(&path("b"), "x"), Err(LayerError::Unsorted { .. })));
        for size_bytes in [1, 3] {
            let mut writer = LayerWriter::new(cache.blob_writer().unwrap(), 0);
            let result = writer.file(&path("a"), Attributes::root(0o644), size_bytes, &mut &b"hi"[..]);
            assert!(matches!(result, Err(LayerError::WrongSize { .. })), "{size_bytes}");
        }
    }
}
