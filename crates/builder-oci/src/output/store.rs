//! The store of images that were built without a registry: names in the cache's `store` folder, content in its blobs.

use std::fs;
use std::io;
use std::path::PathBuf;

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;

use super::OutputError;
use super::layout::write_aside;
use crate::builder::{Building, Failure};
use crate::cache::{Cache, CacheError};
use crate::image::Image;

/// The images on this machine.
#[derive(Debug, Clone)]
pub struct Store {
    cache: Cache,
}

impl Store {
    /// The store in `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache }
    }

    /// The digest of the manifest or index that is called `name`, if it is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, name: &Reference) -> Result<Option<Digest>, CacheError> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok().filter(|digest| self.cache.has_blob(*digest))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { action: "read", path, source }),
        }
    }

    /// The digests of all images.
    pub(crate) fn images(&self) -> Result<Vec<Digest>, CacheError> {
        let mut digests = Vec::new();
        for path in self.files()?.into_iter().filter(|path| is_name(path)) {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|source| CacheError::Io { action: "read", path, source })?;
            digests.extend(text.trim().parse::<Digest>());
        }
        Ok(digests)
    }

    /// Files that were to become names, if nobody is writing one now.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>, CacheError> {
        Ok(self.files()?.into_iter().filter(|path| !is_name(path)).collect())
    }

    fn files(&self) -> Result<Vec<PathBuf>, CacheError> {
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(self.cache.store_folder()).sort_by_file_name() {
            let entry = entry.map_err(|error| CacheError::Io {
                action: "read",
                path: self.cache.store_folder(),
                source: error.into(),
            })?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
        Ok(files)
    }

    fn path(&self, name: &Reference) -> PathBuf {
        let folder = self.cache.store_folder().join(name.registry()).join(name.repository());
        // No tag ends in `:`, so a tag never collides with a repository below.
        folder.join(format!("{}:", name.tag().unwrap_or("latest")))
    }
}

/// Whether a file of the store is the name of an image.
fn is_name(path: &std::path::Path) -> bool {
    path.to_string_lossy().ends_with(':')
}

pub(super) fn write(building: &Building<'_>, images: &[Image], index: Option<&[u8]>) -> Result<(), Failure> {
    let cache = &building.cache;
    for image in images {
        cache.store_bytes(&image.config)?;
        cache.store_bytes(&image.manifest)?;
    }
    let document = index.unwrap_or(&images[0].manifest);
    let stored = cache.store_bytes(document)?;
    let path = Store::new(cache.clone()).path(&building.request.name);
    let folder = path.parent().expect("a name lies in a folder").to_owned();
    fs::create_dir_all(&folder).map_err(|source| OutputError::Io { path: folder, source })?;
    write_aside(&path, |file| file.write_all(stored.digest.to_string().as_bytes()))
}
