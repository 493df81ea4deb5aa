//! Locks between processes, with a time-out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cache, CacheError, note_use};

/// How long a process waits for another one before it gives up.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long it waits between two looks.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits until nobody holds the lock `name` alone, and holds it together with others.
    pub(super) fn shared(root: &Path, name: &str) -> Result<Self, CacheError> {
        wait(root, name, WAIT_MAX, File::try_lock_shared)
    }

    /// Holds the lock `name` alone, if nobody holds it.
    pub(super) fn alone(root: &Path, name: &str) -> Result<Option<Self>, CacheError> {
        match wait(root, name, Duration::ZERO, File::try_lock) {
            Ok(lock) => Ok(Some(lock)),
            Err(CacheError::Locked { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that what the lock stands for is used now.
    pub(super) fn touch(&self) {
        note_use(&self.file);
    }
}

impl Cache {
    /// Waits until no other process works on `name`, and keeps the others waiting while the lock lives.
    ///
    /// `name` is a file name: lower-case letters, digits and `-`.
    ///
    /// # Errors
    /// When another process holds it for 15 minutes, or the lock file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        wait(self.root(), name, WAIT_MAX, File::try_lock)
    }
}

/// Where the lock `name` of the cache in `root` lies.
pub(super) fn path(root: &Path, name: &str) -> PathBuf {
    root.join("locks").join(name)
}

fn wait(
    root: &Path,
    name: &str,
    wait_max: Duration,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<Lock, CacheError> {
    let path = path(root, name);
    let io_error = |source| CacheError::Io { action: "lock", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error)?;
    let start = Instant::now();
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(Lock { file }),
            Err(TryLockError::WouldBlock) if start.elapsed() < wait_max => thread::sleep(WAIT_STEP),
            Err(TryLockError::WouldBlock) => {
                return Err(CacheError::Locked { name: name.to_owned(), waited_seconds: wait_max.as_secs() });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_ends_in_an_error_and_a_dropped_one_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let at_once = || wait(cache.root(), "layer-1", Duration::ZERO, File::try_lock);
        let held = cache.lock("layer-1").unwrap();
        assert!(matches!(at_once(), Err(CacheError::Locked { .. })));
        drop(held);
        assert!(at_once().is_ok());
    }

    #[test]
    fn users_share_a_cache_and_keep_out_one_who_removes() {
        let folder = tempfile::tempdir().unwrap();
        let users = (Cache::open(folder.path()).unwrap(), Cache::open(folder.path()).unwrap());
        assert!(matches!(Cache::open_alone(folder.path()), Err(CacheError::InUse { .. })));
        let clone = users.0.clone();
        drop(users);
        assert!(matches!(Cache::open_alone(folder.path()), Err(CacheError::InUse { .. })));
        drop(clone);
        assert!(Cache::open_alone(folder.path()).is_ok());
    }
}
