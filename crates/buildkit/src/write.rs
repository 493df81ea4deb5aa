//! Writes a recipe to a folder, from which any Docker builds the image.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use imagespec_core::digest::{Digest, Hasher};

use crate::recipe::{Entry, Recipe};

/// Why a recipe could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something is there already.
    #[error("`{path}` is not empty")]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what the plan says any more.
    #[error("`{path}` changed while the image was built")]
    Changed {
        /// The file on this machine.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Recipe {
    /// Reads the files of the context and compares each with its digest.
    ///
    /// # Errors
    /// When one cannot be read, or is another one.
    pub fn verify(&self) -> Result<(), WriteError> {
        for entry in self.context.values() {
            let Entry::File { path, digest, size_bytes, .. } = entry else { continue };
            let unreadable = |source| WriteError::Unreadable { path: path.clone(), source };
            let mut file = File::open(path).map_err(unreadable)?.take(size_bytes.saturating_add(1));
            if Digest::of_reader(&mut file).map_err(unreadable)? != (*digest, *size_bytes) {
                return Err(WriteError::Changed { path: path.clone() });
            }
        }
        Ok(())
    }

    /// Writes the Dockerfile and its whole context to `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When something is in the folder already, a file of the context changed or cannot be read, or the folder cannot be
    /// written.
    pub fn write(&self, folder: &Path) -> Result<(), WriteError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        if fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
            return Err(WriteError::Occupied { path: folder.to_owned() });
        }
        write_context(&self.context, folder)?;
        let path = folder.join("Dockerfile");
        created(&path, false).and_then(|mut file| file.write_all(self.dockerfile.as_bytes())).map_err(failed(&path))
    }
}

/// Writes a context to `folder`, which is there. Each file is compared with its digest.
///
/// # Errors
/// When a file changed or cannot be read, or the folder cannot be written.
pub fn write_context(context: &BTreeMap<String, Entry>, folder: &Path) -> Result<(), WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Write { path, source }
    };
    for (path, entry) in context {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            make_folders(parent).map_err(failed(parent))?;
        }
        match entry {
            Entry::Directory => make_folders(&path).map_err(failed(&path))?,
            Entry::Link { target } => symlink(target, &path).map_err(failed(&path))?,
            Entry::Bytes { content, executable } => {
                created(&path, *executable).and_then(|mut file| file.write_all(content)).map_err(failed(&path))?;
            }
            Entry::File { path: source, digest, executable, .. } => {
                let unreadable = |error| WriteError::Unreadable { path: source.clone(), source: error };
                let mut hashed = Hashed { file: File::open(source).map_err(unreadable)?, hasher: Hasher::default() };
                let mut file = created(&path, *executable).map_err(failed(&path))?;
                io::copy(&mut hashed, &mut file).map_err(failed(&path))?;
                if hashed.hasher.finish().0 != *digest {
                    return Err(WriteError::Changed { path: source.clone() });
                }
            }
        }
    }
    Ok(())
}

/// Makes a folder that the umask of nobody changes, and those that it lies in: `/root` of an image has the mode of ours.
fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A new file that the umask of nobody changes.
fn created(path: &Path, executable: bool) -> io::Result<File> {
    let mode = if executable { 0o755 } else { 0o644 };
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
