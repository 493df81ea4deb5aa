//! Reads every blob of the cache and compares it with its name, so that a disk's mistake is found before a build does.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use imagespec_core::digest::Digest;
use rayon::prelude::*;

use super::{Cache, CacheError};

/// What a look at every blob came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How many blobs are what their names say.
    pub blobs: usize,
    /// Their length in bytes.
    pub size_bytes: u64,
    /// Names of those that were not and are gone now, sorted. A build that needs one fetches or makes it again.
    pub removed: Vec<String>,
}

/// Compares every blob of the cache in `root` with its name. Builds may go on meanwhile.
///
/// # Errors
/// When a file cannot be read or removed.
pub fn verify(root: &Path) -> Result<Verified, CacheError> {
    let cache = Cache::open(root)?;
    let folder = root.join("blobs/sha256");
    let names: Result<Vec<_>, _> =
        fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let names: Vec<_> = names.map_err(|source| CacheError::Io { action: "read", path: folder.clone(), source })?;
    let size_bytes = AtomicU64::new(0);
    let removed: Result<Vec<Option<String>>, CacheError> = names
        .par_iter()
        .map(|name| {
            let path = folder.join(name);
            let name = name.to_string_lossy().into_owned();
            let is_right = match Digest::from_hex(&name) {
                Ok(digest) => cache.verify_blob(digest)?,
                Err(_) => {
                    // Nothing of the cache is called so.
                    fs::remove_file(&path).map_err(|source| CacheError::Io { action: "remove", path, source })?;
                    None
                }
            };
            size_bytes.fetch_add(is_right.unwrap_or(0), Ordering::Relaxed);
            Ok(if is_right.is_some() { None } else { Some(name) })
        })
        .collect();
    let mut removed: Vec<String> = removed?.into_iter().flatten().collect();
    removed.sort();
    Ok(Verified { blobs: names.len() - removed.len(), size_bytes: size_bytes.into_inner(), removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_removed_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let right = cache.store_bytes(b"right").unwrap().digest;
        let wrong = cache.store_bytes(b"wrong").unwrap().digest;
        fs::write(cache.blob_path(wrong), b"gnorw").unwrap();
        fs::write(folder.path().join("blobs/sha256/note"), b"").unwrap();
        let verified = verify(folder.path()).unwrap();
        assert_eq!(verified, Verified { blobs: 1, size_bytes: 5, removed: vec![wrong.to_hex(), "note".to_owned()] });
        assert!(cache.has_blob(right) && !cache.has_blob(wrong));
    }
}
