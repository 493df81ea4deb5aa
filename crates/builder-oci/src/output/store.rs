//! The store of images that were built without a registry: names in the cache's `store` folder, content in its blobs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_layout::{LayoutError, write_aside};

use super::observed;
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

    /// The digest of the manifest or index that is called `name`, if it is here: the one of that digest where `name`
    /// has one, else the one of that tag.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, name: &Reference) -> Result<Option<Digest>, CacheError> {
        if let Some(digest) = name.digest() {
            let is_called_so = self.digests(&self.folder(name))?.contains(&digest) && self.cache.has_blob(digest);
            return Ok(is_called_so.then_some(digest));
        }
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok().filter(|digest| self.cache.has_blob(*digest))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { action: "read", path, source }),
        }
    }

    /// The images that are called as `name` is but for the tag, the last one that was written first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tagged(&self, name: &Reference) -> Result<Vec<(Reference, Digest)>, CacheError> {
        let mut found = Vec::new();
        let folder = self.folder(name);
        for path in files(&folder)?.into_iter().filter(|path| path.parent() == Some(&folder) && is_name(path)) {
            let read = |path: &Path| Ok((fs::metadata(path)?.modified()?, fs::read_to_string(path)?));
            let (time, text) =
                read(&path).map_err(|source| CacheError::Io { action: "read", path: path.clone(), source })?;
            let tag = path.file_name().and_then(|tag| tag.to_str()).unwrap_or_default().trim_end_matches(':');
            let reference = format!("{}/{}:{tag}", name.registry(), name.repository()).parse();
            if let (Ok(reference), Ok(digest)) = (reference, text.trim().parse::<Digest>()) {
                found.extend(self.cache.has_blob(digest).then_some((time, reference, digest)));
            }
        }
        found.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
        Ok(found.into_iter().map(|(_, reference, digest)| (reference, digest)).collect())
    }

    /// The digests of all images.
    pub(crate) fn images(&self) -> Result<Vec<Digest>, CacheError> {
        self.digests(&self.cache.store_folder())
    }

    /// The digests of the images beneath `folder`.
    fn digests(&self, folder: &Path) -> Result<Vec<Digest>, CacheError> {
        let mut digests = Vec::new();
        for path in files(folder)?.into_iter().filter(|path| is_name(path)) {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|source| CacheError::Io { action: "read", path, source })?;
            digests.extend(text.trim().parse::<Digest>());
        }
        Ok(digests)
    }

    /// Files that were to become names, if nobody is writing one now.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>, CacheError> {
        Ok(files(&self.cache.store_folder())?.into_iter().filter(|path| !is_name(path)).collect())
    }

    fn folder(&self, name: &Reference) -> PathBuf {
        self.cache.store_folder().join(name.registry()).join(name.repository())
    }

    fn path(&self, name: &Reference) -> PathBuf {
        // No tag ends in `:`, so a tag never collides with a repository below.
        self.folder(name).join(format!("{}:", name.tag().unwrap_or("latest")))
    }
}

/// The files beneath `folder`, none if it does not exist.
fn files(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry =
            entry.map_err(|error| CacheError::Io { action: "read", path: folder.to_owned(), source: error.into() })?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Whether a file of the store is the name of an image.
fn is_name(path: &Path) -> bool {
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
    fs::create_dir_all(&folder).map_err(|source| LayoutError::Io { path: folder, source })?;
    observed(building, |observer| {
        Ok(write_aside(&path, observer, |file| file.write_all(stored.digest.to_string().as_bytes()))?)
    })
}
