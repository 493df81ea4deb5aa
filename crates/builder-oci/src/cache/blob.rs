//! Blobs by digest: written aside and renamed, verified on read.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use imagespec_core::digest::{Digest, Hasher};
use tempfile::NamedTempFile;

use super::{Cache, CacheError, Lock, note_use};
use crate::point::{self, Point};

/// A blob that is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Digest of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// A blob that is being written. Dropped without [`BlobWriter::commit`], it leaves nothing behind.
pub struct BlobWriter {
    file: NamedTempFile,
    hasher: Hasher,
    cache: Cache,
}

impl Cache {
    /// Begins a blob.
    ///
    /// # Errors
    /// When no file can be made in the cache.
    pub fn blob_writer(&self) -> Result<BlobWriter, CacheError> {
        let folder = self.temporary_folder();
        let file = NamedTempFile::new_in(&folder).map_err(|source| CacheError::Io {
            action: "write",
            path: folder,
            source,
        })?;
        Ok(BlobWriter { file, hasher: Hasher::default(), cache: self.clone() })
    }

    /// Stores `bytes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn store_bytes(&self, bytes: &[u8]) -> Result<StoredBlob, CacheError> {
        let digest = Digest::of(bytes);
        if self.has_blob(digest) {
            return Ok(StoredBlob { digest, size_bytes: bytes.len() as u64 });
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(|source| writer.io_error(source))?;
        writer.commit()
    }

    /// Stores `content` as a blob that may be executed, and gives its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store_program(&self, content: &[u8]) -> Result<PathBuf, CacheError> {
        let path = self.blob_path(self.store_bytes(content)?.digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|source| CacheError::Io {
            action: "make executable",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Whether the blob of `digest` is here. Its content is verified when it is read, not now.
    pub fn has_blob(&self, digest: Digest) -> bool {
        let file = File::open(self.blob_path(digest)).ok();
        // One who asks relies on the answer, which makes it a use.
        file.is_some_and(|file| {
            file.metadata().is_ok_and(|metadata| metadata.is_file()) && {
                note_use(&file);
                true
            }
        })
    }

    /// Has `fetch` store the blob of `digest`, unless it is here. Of several processes that want it at once, one fetches.
    ///
    /// # Errors
    /// Whatever `fetch` fails with, or the cache.
    pub(crate) fn fetch_once<E: From<CacheError>>(
        &self,
        digest: Digest,
        fetch: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if self.has_blob(digest) {
            return Ok(());
        }
        let _lock = self.lock_blob(digest)?;
        if self.has_blob(digest) { Ok(()) } else { fetch() }
    }

    /// Waits until nobody else fetches the blob of `digest`.
    pub(crate) fn lock_blob(&self, digest: Digest) -> Result<Lock, CacheError> {
        self.lock(&format!("blob-{}", digest.to_hex()))
    }

    /// Opens the blob of `digest`, if it is here. The reader fails at its end if the content is not what it must be.
    ///
    /// # Errors
    /// When the file is there but cannot be opened.
    pub fn open_blob(&self, digest: Digest) -> Result<Option<VerifiedReader>, CacheError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => {
                note_use(&file);
                let reader = BufReader::with_capacity(256 * 1024, file);
                Ok(Some(VerifiedReader { reader, hasher: Some(Hasher::default()), expected: digest, path }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { action: "read", path, source }),
        }
    }

    /// The path of the blob of `digest`, after its whole content was verified; `None` if it is absent or was
    /// corrupt, in which case it is gone now. For content that is read in no order, such as a wheel.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn verified_blob_path(&self, digest: Digest) -> Result<Option<PathBuf>, CacheError> {
        let is_whole = self.verify_blob(digest)?.is_some();
        // To ask notes the use.
        Ok((is_whole && self.has_blob(digest)).then(|| self.blob_path(digest)))
    }

    /// Length in bytes of the blob of `digest`, after its whole content was verified; `None` if it is absent or was
    /// corrupt, in which case it is gone now. To look at it is no use of it.
    pub(super) fn verify_blob(&self, digest: Digest) -> Result<Option<u64>, CacheError> {
        let path = self.blob_path(digest);
        let io_error = |source| CacheError::Io { action: "read", path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let (found, size_bytes) = Digest::of_reader(&mut file).map_err(io_error)?;
        if found == digest {
            return Ok(Some(size_bytes));
        }
        tracing::warn!(%digest, "a blob of the cache is corrupt and is removed");
        fs::remove_file(&path).map_err(io_error)?;
        Ok(None)
    }

    /// The whole content of a small blob, verified; `None` if it is absent or was corrupt.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn read_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.blob_path(digest);
        let read = File::open(&path).and_then(|mut file| {
            note_use(&file);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes)),
            Ok(_) => {
                tracing::warn!(%digest, "a blob of the cache is corrupt and is removed");
                fs::remove_file(&path).map_err(|source| CacheError::Io { action: "remove", path, source })?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { action: "read", path, source }),
        }
    }
}

impl BlobWriter {
    /// How many bytes were written so far.
    pub fn size_bytes(&self) -> u64 {
        self.hasher.size_bytes()
    }

    /// Gives the blob its name.
    ///
    /// # Errors
    /// When it cannot be synced or renamed.
    pub fn commit(mut self) -> Result<StoredBlob, CacheError> {
        let path = self.file.path().to_owned();
        let io_error = |source| CacheError::Io { action: "write", path: path.clone(), source };
        self.file.flush().map_err(io_error)?;
        let (digest, size_bytes) = std::mem::take(&mut self.hasher).finish();
        let target = self.cache.blob_path(digest);
        if !target.exists() {
            self.file.as_file().sync_data().map_err(io_error)?;
            point::reached(Point::BlobWritten);
            self.file.persist(&target).map_err(|error| CacheError::Io {
                action: "write",
                path: target,
                source: error.error,
            })?;
            point::reached(Point::BlobNamed);
        }
        Ok(StoredBlob { digest, size_bytes })
    }

    /// Gives the blob its name if its content has the digest that it must have; `what` names it in the error.
    ///
    /// # Errors
    /// When the digest is another one, or as [`BlobWriter::commit`].
    pub fn commit_as(self, expected: Digest, what: &str) -> Result<StoredBlob, CacheError> {
        let found = self.hasher.clone().finish().0;
        if found != expected {
            return Err(CacheError::WrongDigest { what: what.to_owned(), expected, found });
        }
        self.commit()
    }

    pub(crate) fn io_error(&self, source: io::Error) -> CacheError {
        CacheError::Io { action: "write", path: self.file.path().to_owned(), source }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a blob and fails at its end if the content has not the digest that it must have.
pub struct VerifiedReader {
    reader: BufReader<File>,
    hasher: Option<Hasher>,
    expected: Digest,
    path: PathBuf,
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
            && hasher.finish().0 != self.expected
        {
            // The next build fetches or makes it again.
            let _ = fs::remove_file(&self.path);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob {} of the cache was corrupt and has been removed; try again", self.expected),
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_blob_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut writer = cache.blob_writer().unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert!(!cache.has_blob(Digest::of(b"half")));
        assert_eq!(fs::read_dir(cache.temporary_folder()).unwrap().count(), 0);

        let stored = cache.store_bytes(b"whole").unwrap();
        assert_eq!(cache.read_blob(stored.digest).unwrap().as_deref(), Some(&b"whole"[..]));
    }

    #[test]
    fn of_many_who_want_a_blob_one_fetches_it() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"wanted");
        let fetched = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let cache = Cache::open(folder.path()).unwrap();
                    let fetch = || {
                        fetched.fetch_add(1, Ordering::SeqCst);
                        cache.store_bytes(b"wanted").map(drop)
                    };
                    cache.fetch_once(digest, fetch).unwrap();
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
    }

    #[test]
    fn content_with_another_digest_is_not_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut writer = cache.blob_writer().unwrap();
        writer.write_all(b"evil").unwrap();
        let error = writer.commit_as(Digest::of(b"good"), "six-1.16.0.whl").unwrap_err();
        insta::assert_snapshot!(error, @"content of `six-1.16.0.whl` has digest sha256:b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73 instead of sha256:770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c");
    }

    #[test]
    fn a_corrupt_blob_is_noticed_on_every_way_of_reading_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let digest = cache.store_bytes(b"content").unwrap().digest;
        let spoil = || fs::write(cache.blob_path(digest), b"contend").unwrap();

        spoil();
        assert_eq!(cache.read_blob(digest).unwrap(), None);
        spoil();
        assert_eq!(cache.verified_blob_path(digest).unwrap(), None);
        spoil();
        let mut reader = cache.open_blob(digest).unwrap().unwrap();
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!cache.has_blob(digest));
    }
}
