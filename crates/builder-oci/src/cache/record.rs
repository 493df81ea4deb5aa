//! Records: what was found out or made for a key, as small JSON files.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};

use imagespec_core::digest::{Digest, Hasher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::{Cache, CacheError, note_use};
use crate::point::{self, Point};

/// The key of a record: a kind, and a digest over everything that the result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: &'static str,
    digest: Digest,
}

impl Key {
    /// The key of a `kind` of result, made of `parts` in order. Each part is preceded by its length, so that no two
    /// lists of parts have the same key.
    pub fn new<'a>(kind: &'static str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Hasher::default();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self { kind, digest: hasher.finish().0 }
    }

    /// The digest over the parts.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.kind, self.digest.to_hex())
    }
}

impl Cache {
    /// The record of `key`; `None` if there is none, or one that does not read as a `T`.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn record<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, CacheError> {
        let path = self.root().join("records").join(key.kind).join(key.digest.to_hex());
        let read = File::open(&path).and_then(|mut file| {
            note_use(&file);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { action: "read", path, source }),
        }
    }

    /// Writes the record of `key`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember<T: Serialize>(&self, key: Key, value: &T) -> Result<(), CacheError> {
        let folder = self.root().join("records").join(key.kind);
        let path = folder.join(key.digest.to_hex());
        let io_error = |source| CacheError::Io { action: "write", path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(io_error)?;
        let mut file = NamedTempFile::new_in(self.temporary_folder()).map_err(io_error)?;
        serde_json::to_writer(&mut file, value).map_err(|error| io_error(error.into()))?;
        file.flush().map_err(io_error)?;
        file.as_file().sync_data().map_err(io_error)?;
        point::reached(Point::RecordWritten);
        file.persist(&path).map_err(|error| io_error(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_run_together() {
        let key = |parts: &[&'static [u8]]| Key::new("wheel", parts.iter().copied());
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"a"]), key(&[b"a", b""]));
        assert_eq!(key(&[b"a", b"b"]), key(&[b"a", b"b"]));
    }

    #[test]
    fn a_record_comes_back_and_a_broken_one_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::new("test", [&b"1"[..]]);
        assert_eq!(cache.record::<Vec<u32>>(key).unwrap(), None);
        cache.remember(key, &vec![1, 2]).unwrap();
        assert_eq!(cache.record::<Vec<u32>>(key).unwrap(), Some(vec![1, 2]));
        fs::write(folder.path().join("records/test").join(key.digest().to_hex()), "[1,").unwrap();
        assert_eq!(cache.record::<Vec<u32>>(key).unwrap(), None);
    }
}
