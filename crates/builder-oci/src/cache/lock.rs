//! Locks between processes, with a time-out.

use std::fs::{File, OpenOptions, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cache, CacheError};

/// How long a process waits for another one before it gives up.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long it waits between two looks.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped, or its process ends.
pub struct Lock {
    _file: File,
}

impl Cache {
    /// Waits until no other process works on `name`, and keeps the others waiting while the lock lives.
    ///
    /// `name` is a file name: lower-case letters, digits and `-`.
    ///
    /// # Errors
    /// When another process holds it for 15 minutes, or the lock file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        self.lock_within(name, WAIT_MAX)
    }

    fn lock_within(&self, name: &str, wait_max: Duration) -> Result<Lock, CacheError> {
        let path = self.root().join("locks").join(name);
        let io_error = |source| CacheError::Io { action: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if start.elapsed() < wait_max => thread::sleep(WAIT_STEP),
                Err(TryLockError::WouldBlock) => {
                    return Err(CacheError::Locked { name: name.to_owned(), waited_seconds: wait_max.as_secs() });
                }
                Err(TryLockError::Error(source)) => return Err(io_error(source)),
            }
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
        let held = cache.lock("layer-1").unwrap();
        assert!(matches!(cache.lock_within("layer-1", Duration::ZERO), Err(CacheError::Locked { .. })));
        drop(held);
        assert!(cache.lock_within("layer-1", Duration::ZERO).is_ok());
    }
}
