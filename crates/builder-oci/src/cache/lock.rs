//! Locks between processes, with a time-out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cache, CacheError, note_use};

/// How long a process waits for another one before it gives up.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long it waits between two looks.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// Waiting for less long is not worth a word.
const LONG: Duration = Duration::from_secs(1);

/// How the one who waits and the one who waits for him speak to each other.
#[derive(Debug, Default)]
pub struct Patience {
    is_over: AtomicBool,
    waiting: AtomicUsize,
}

impl Patience {
    /// Ends all waiting, now and later.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Whether somebody has waited for another process for more than a second.
    pub fn is_tried(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

/// Counts as waiting for long while it lives.
struct LongWait<'a>(&'a Patience);

impl<'a> LongWait<'a> {
    fn new(patience: &'a Patience) -> Self {
        patience.waiting.fetch_add(1, Ordering::SeqCst);
        Self(patience)
    }
}

impl Drop for LongWait<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A lock that is held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits until nobody holds the lock `name` alone, and holds it together with others.
    pub(super) fn shared(root: &Path, name: &str, patience: &Patience) -> Result<Self, CacheError> {
        wait(root, name, WAIT_MAX, patience, File::try_lock_shared)
    }

    /// Holds the lock `name` alone, if nobody holds it.
    pub(super) fn alone(root: &Path, name: &str) -> Result<Option<Self>, CacheError> {
        match wait(root, name, Duration::ZERO, &Patience::default(), File::try_lock) {
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
    /// When another process holds it for 15 minutes, the lock file cannot be made, or our patience ends.
    pub fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        wait(self.root(), name, WAIT_MAX, &self.patience, File::try_lock)
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
    patience: &Patience,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<Lock, CacheError> {
    let path = path(root, name);
    let io_error = |source| CacheError::Io { action: "lock", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error)?;
    let start = Instant::now();
    let mut long_wait = None;
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(Lock { file }),
            Err(TryLockError::WouldBlock) if patience.is_over.load(Ordering::SeqCst) => {
                return Err(CacheError::Cancelled);
            }
            Err(TryLockError::WouldBlock) if start.elapsed() < wait_max => {
                if start.elapsed() >= LONG {
                    long_wait.get_or_insert_with(|| LongWait::new(patience));
                }
                thread::sleep(WAIT_STEP);
            }
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
        let at_once = || wait(cache.root(), "layer-1", Duration::ZERO, &Patience::default(), File::try_lock);
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

    #[test]
    fn one_who_waits_says_so_after_a_second_and_stops_when_he_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let patience = std::sync::Arc::<Patience>::default();
        let cache = Cache::open_patiently(folder.path(), std::sync::Arc::clone(&patience)).unwrap();
        let held = Cache::open(folder.path()).unwrap().lock("layer-1").unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| cache.lock("layer-1").map(drop));
            while !patience.is_tried() {
                assert!(start.elapsed() < LONG * 10, "nobody says that he waits");
                thread::yield_now();
            }
            assert!(start.elapsed() >= LONG);
            patience.end();
            assert!(matches!(waiting.join().unwrap(), Err(CacheError::Cancelled)));
        });
        assert!(!patience.is_tried());
        drop(held);
        assert!(cache.lock("layer-1").is_ok());
    }
}
