//! Removes from the cache what nobody needs. It works alone: whoever uses the cache keeps it out, and it keeps out
//! whoever begins to, so that nothing disappears under a build.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use imagespec_core::digest::Digest;
use serde_json::Value;

use super::{BUILDERS, Cache, CacheError, FOLDERS, USE, lock};
use crate::output::Store;
use crate::sandbox::{Sandbox, SandboxError};

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePolicy {
    /// How long something that no image of the store needs must not have been used.
    pub unused_for: Duration,
    /// Whether it is removed.
    pub mode: PruneMode,
}

/// Whether something is removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// It is removed.
    Remove,
    /// It is counted.
    DryRun,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Layers, wheels, packages and documents.
    pub blobs: Removed,
    /// What was found out for a key.
    pub records: Removed,
    /// Layers unpacked for the sandbox.
    pub snapshots: Removed,
    /// What other builders keep.
    pub builders: Removed,
    /// What builds left behind that were killed.
    pub leftovers: Removed,
    /// How many images the store has, which keep what they need.
    pub images: usize,
}

/// How much of one kind was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many files or trees.
    pub count: usize,
    /// How much they took of the disk, in bytes.
    pub size_bytes: u64,
}

/// Why the cache could not be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The cache cannot be used, or somebody else uses it.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file or tree cannot be removed.
    #[error("cannot remove `{path}`")]
    Remove {
        /// The file or tree.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tree of other owners cannot be removed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Removes from the cache in `root` what no image of its store needs and nobody used for a while, and everything that
/// killed builds left behind.
///
/// # Errors
/// When somebody uses the cache, or something cannot be read or removed. What was removed until then stays removed.
pub fn prune(root: &Path, sandbox: &Sandbox, policy: PrunePolicy) -> Result<Pruned, PruneError> {
    let cache = Cache::open_alone(root)?;
    let images = Store::new(cache.clone()).images()?;
    let mut needed = Needed::default();
    for digest in &images {
        needed.add(&cache, *digest, DEPTH_MAX)?;
    }
    let pruning = Pruning { cache: &cache, sandbox, policy, now: SystemTime::now() };
    // The order matters to one who kills it: a record must not outlive its blob for long, nor a snapshot its lock.
    Ok(Pruned {
        images: images.len(),
        leftovers: pruning.leftovers()?,
        records: pruning.records()?,
        snapshots: pruning.snapshots(&needed.diff_ids)?,
        blobs: pruning.blobs(&needed.blobs)?,
        builders: pruning.builders()?,
    })
}

/// Removes everything from the cache in `root`, the images of its store included, and returns how much of the disk that
/// took, in bytes. Files that are not the cache's own stay.
///
/// # Errors
/// As [`prune`].
pub fn clear(root: &Path, sandbox: &Sandbox) -> Result<u64, PruneError> {
    let cache = Cache::open_alone(root)?;
    let mut removed_bytes = 0;
    for folder in FOLDERS.iter().filter(|folder| **folder != "locks") {
        let folder = root.join(folder);
        removed_bytes += disk_usage_bytes(&folder);
        remove_tree(sandbox, &folder)?;
    }
    remove_locks(&cache, |_| true)?;
    Ok(removed_bytes)
}

/// How much of the disk the tree at `path` takes, in bytes; nothing if it does not exist. What only the sandbox may
/// look into is not counted.
pub fn disk_usage_bytes(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let own_bytes = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own_bytes;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own_bytes + entries.map(|entry| disk_usage_bytes(&entry.path())).sum::<u64>()
}

/// The name of the lock of a snapshot.
pub(super) fn snapshot_lock(hex: &str) -> String {
    format!("snapshot-{hex}")
}

/// How many indexes may stand within each other.
const DEPTH_MAX: usize = 4;

/// What the images of the store need.
#[derive(Default)]
struct Needed {
    blobs: BTreeSet<String>,
    diff_ids: BTreeSet<String>,
}

impl Needed {
    /// Adds the manifest or index `digest` with everything beneath it.
    fn add(&mut self, cache: &Cache, digest: Digest, depth_max: usize) -> Result<(), CacheError> {
        let Some(document) = self.document(cache, digest)? else { return Ok(()) };
        let digests = |list: &Value| -> Vec<Digest> {
            let entries = list.as_array().into_iter().flatten();
            entries.filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect()
        };
        if depth_max > 0 {
            for manifest in digests(&document["manifests"]) {
                self.add(cache, manifest, depth_max - 1)?;
            }
        }
        self.blobs.extend(digests(&document["layers"]).iter().map(Digest::to_hex));
        let Some(config) = document["config"]["digest"].as_str().and_then(|text| text.parse().ok()) else {
            return Ok(());
        };
        let config = self.document(cache, config)?.unwrap_or_default();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.diff_ids.extend(diff_ids.filter_map(|text| text.strip_prefix("sha256:")).map(str::to_owned));
        Ok(())
    }

    fn document(&mut self, cache: &Cache, digest: Digest) -> Result<Option<Value>, CacheError> {
        self.blobs.insert(digest.to_hex());
        Ok(cache.read_blob(digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

struct Pruning<'a> {
    cache: &'a Cache,
    sandbox: &'a Sandbox,
    policy: PrunePolicy,
    now: SystemTime,
}

impl Pruning<'_> {
    /// Everything in `tmp`, and files that were to become names in the store.
    fn leftovers(&self) -> Result<Removed, PruneError> {
        let mut removed = Removed::default();
        for path in entries(&self.cache.temporary_folder())? {
            self.remove(&mut removed, &path)?;
        }
        for path in Store::new(self.cache.clone()).leftovers()? {
            self.remove(&mut removed, &path)?;
        }
        Ok(removed)
    }

    fn records(&self) -> Result<Removed, PruneError> {
        let mut removed = Removed::default();
        for kind in entries(&self.cache.root().join("records"))? {
            for path in entries(&kind)? {
                if self.is_unused(&path) {
                    self.remove(&mut removed, &path)?;
                }
            }
        }
        Ok(removed)
    }

    fn blobs(&self, needed: &BTreeSet<String>) -> Result<Removed, PruneError> {
        let mut removed = Removed::default();
        for path in entries(&self.cache.root().join("blobs/sha256"))? {
            if !needed.contains(&name(&path)) && self.is_unused(&path) {
                self.remove(&mut removed, &path)?;
            }
        }
        Ok(removed)
    }

    /// Files and folders of other builders, which note themselves when they use one.
    fn builders(&self) -> Result<Removed, PruneError> {
        let mut removed = Removed::default();
        for builder in entries(&self.cache.root().join(BUILDERS))? {
            if !builder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            for path in entries(&builder)? {
                if self.is_unused(&path) {
                    self.remove(&mut removed, &path)?;
                }
            }
        }
        Ok(removed)
    }

    fn snapshots(&self, needed: &BTreeSet<String>) -> Result<Removed, PruneError> {
        let mut removed = Removed::default();
        for path in entries(&self.cache.snapshots_folder())? {
            let lock = lock::path(self.cache.root(), &snapshot_lock(&name(&path)));
            if needed.contains(&name(&path)) || !self.is_unused(&lock) {
                continue;
            }
            removed.count += 1;
            removed.size_bytes += disk_usage_bytes(&path);
            if self.policy.mode == PruneMode::Remove {
                // A snapshot has its name only while it is whole.
                let aside = self.cache.temporary_folder().join(format!("removed-{}", name(&path)));
                fs::rename(&path, &aside).map_err(|source| PruneError::Remove { path: path.clone(), source })?;
                remove_tree(self.sandbox, &aside)?;
            }
        }
        if self.policy.mode == PruneMode::Remove {
            let snapshots = self.cache.snapshots_folder();
            remove_locks(self.cache, |lock| {
                lock.strip_prefix(&snapshot_lock("")).is_none_or(|hex| !snapshots.join(hex).exists())
            })?;
        }
        Ok(removed)
    }

    fn remove(&self, removed: &mut Removed, path: &Path) -> Result<(), PruneError> {
        removed.count += 1;
        removed.size_bytes += disk_usage_bytes(path);
        match self.policy.mode {
            PruneMode::Remove => remove_tree(self.sandbox, path),
            PruneMode::DryRun => Ok(()),
        }
    }

    /// Whether `path` was not used for as long as the policy says. One without a time was not.
    fn is_unused(&self, path: &Path) -> bool {
        let Ok(modified) = path.symlink_metadata().and_then(|metadata| metadata.modified()) else { return true };
        // A time to come is no reason to remove anything.
        self.now.duration_since(modified).is_ok_and(|age| age >= self.policy.unused_for)
    }
}

/// Removes the locks that `is_removed` says, but for the one that is held here.
fn remove_locks(cache: &Cache, is_removed: impl Fn(&str) -> bool) -> Result<(), PruneError> {
    for path in entries(&cache.root().join("locks"))? {
        if name(&path) != USE && is_removed(&name(&path)) {
            fs::remove_file(&path).map_err(|source| PruneError::Remove { path, source })?;
        }
    }
    Ok(())
}

/// Removes a file or a tree, and has the sandbox do it where others own what is in it.
fn remove_tree(sandbox: &Sandbox, path: &Path) -> Result<(), PruneError> {
    let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let result = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) if is_folder => Ok(sandbox.remove(path)?),
        Err(source) => Err(PruneError::Remove { path: path.to_owned(), source }),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(|source| CacheError::Io { action: "read", path: folder.to_owned(), source })
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use imagespec_core::builder::Restart;

    use super::*;
    use crate::cache::Key;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn sandbox() -> Sandbox {
        Sandbox::new(Restart::bundled(PathBuf::from("no sandbox is needed for one's own files")))
    }

    fn policy(mode: PruneMode) -> PrunePolicy {
        PrunePolicy { unused_for: 30 * DAY, mode }
    }

    fn age(path: &Path, days: u32) {
        File::open(path).unwrap().set_modified(SystemTime::now() - days * DAY).unwrap();
    }

    /// An image of the store with one layer, a record, and a blob that nobody needs, all 40 days old.
    fn old_cache(root: &Path) -> (Digest, Digest) {
        let cache = Cache::open(root).unwrap();
        let layer = cache.store_bytes(b"layer").unwrap().digest;
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#);
        let config = cache.store_bytes(config.as_bytes()).unwrap().digest;
        let manifest = format!(r#"{{"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#);
        let manifest = cache.store_bytes(manifest.as_bytes()).unwrap().digest;
        let index = format!(r#"{{"manifests":[{{"digest":"{manifest}"}}]}}"#);
        let index = cache.store_bytes(index.as_bytes()).unwrap().digest;
        let unneeded = cache.store_bytes(b"unneeded").unwrap().digest;
        let key = Key::new("test", [&b"1"[..]]);
        cache.remember(key, &1).unwrap();
        fs::create_dir_all(cache.store_folder().join("docker.io/library/app")).unwrap();
        fs::write(cache.store_folder().join("docker.io/library/app/1:"), index.to_string()).unwrap();
        for digest in [layer, config, manifest, index, unneeded] {
            age(&cache.blob_path(digest), 40);
        }
        age(&root.join("records/test").join(key.digest().to_hex()), 40);
        for (name, days) in [(layer.to_hex(), 40), ("0".repeat(64), 40), ("1".repeat(64), 3)] {
            fs::create_dir_all(cache.snapshots_folder().join(&name).join("usr")).unwrap();
            let lock = root.join("locks").join(snapshot_lock(&name));
            fs::write(&lock, "").unwrap();
            age(&lock, days);
        }
        fs::create_dir_all(root.join("builders/tiny/unused")).unwrap();
        for (name, days) in [("tiny/unused", 40), ("tiny/used", 3)] {
            let path = root.join(BUILDERS).join(name);
            if !path.is_dir() {
                fs::write(&path, "").unwrap();
            }
            age(&path, days);
        }
        fs::create_dir_all(cache.temporary_folder().join("bootstrap-x/root")).unwrap();
        fs::write(cache.store_folder().join("docker.io/.tmpX"), "half").unwrap();
        (layer, unneeded)
    }

    fn counts(pruned: &Pruned) -> [usize; 6] {
        let Pruned { blobs, records, snapshots, builders, leftovers, images } = pruned;
        [blobs.count, records.count, snapshots.count, builders.count, leftovers.count, *images]
    }

    #[test]
    fn what_an_image_needs_stays_and_what_nobody_used_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, unneeded) = old_cache(folder.path());
        let counted = prune(folder.path(), &sandbox(), policy(PruneMode::DryRun)).unwrap();
        assert_eq!(counts(&counted), [1, 1, 1, 1, 2, 1]);
        // The dry run itself was no use of anything but the image.
        let removed = prune(folder.path(), &sandbox(), policy(PruneMode::Remove)).unwrap();
        assert_eq!(counts(&removed), [1, 1, 1, 1, 2, 1]);
        let cache = Cache::open(folder.path()).unwrap();
        assert!(cache.has_blob(layer) && !cache.has_blob(unneeded));
        assert!(cache.snapshot_path(layer).join("usr").is_dir());
        assert!(!cache.snapshots_folder().join("0".repeat(64)).exists());
        assert!(cache.snapshots_folder().join("1".repeat(64)).exists());
        assert!(folder.path().join("builders/tiny/used").exists());
        assert_eq!(entries(&cache.temporary_folder()).unwrap(), Vec::<PathBuf>::new());
        drop(cache);
        let again = prune(folder.path(), &sandbox(), policy(PruneMode::Remove)).unwrap();
        assert_eq!(counts(&again), [0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_used_again_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (_, unneeded) = old_cache(folder.path());
        let cache = Cache::open(folder.path()).unwrap();
        assert!(cache.has_blob(unneeded));
        assert_eq!(cache.record::<u32>(Key::new("test", [&b"1"[..]])).unwrap(), Some(1));
        drop(cache.lock_snapshot(Digest::from_hex(&"0".repeat(64)).unwrap()).unwrap());
        drop(cache);
        let removed = prune(folder.path(), &sandbox(), policy(PruneMode::Remove)).unwrap();
        assert_eq!(counts(&removed), [0, 0, 0, 1, 2, 1]);
    }

    #[test]
    fn nothing_is_removed_while_somebody_uses_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        old_cache(folder.path());
        let used = Cache::open(folder.path()).unwrap();
        let error = prune(folder.path(), &sandbox(), policy(PruneMode::Remove)).unwrap_err();
        assert!(matches!(error, PruneError::Cache(CacheError::InUse { .. })), "{error}");
        assert!(matches!(clear(folder.path(), &sandbox()), Err(PruneError::Cache(CacheError::InUse { .. }))));
        drop(used);
        assert!(clear(folder.path(), &sandbox()).unwrap() > 0);
        let left: Vec<_> = entries(folder.path()).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(left.iter().filter(|name| *name != "blobs").collect::<Vec<_>>(), ["locks"]);
        assert_eq!(entries(&folder.path().join("locks")).unwrap().len(), 1);
    }
}
