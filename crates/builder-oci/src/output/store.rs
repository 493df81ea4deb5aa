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

    fn path(&self, name: &Reference) -> PathBuf {
        let folder = self.cache.store_folder().join(name.registry()).join(name.repository());
        // No tag ends in `:`, so a tag never collides with a repository below.
        folder.join(format!("{}:", name.tag().unwrap_or("latest")))
    }
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
