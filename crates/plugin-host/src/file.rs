//! A plugin's file, read once: the bytes that were verified are the bytes that are loaded.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use rustix::fs::{Mode, OFlags};

use crate::error::{Mistrust, PluginError};

/// The largest file that is read, in bytes. A plugin with symbols for a debugger has a few hundred megabytes.
const SIZE_BYTES_MAX: u64 = 2 << 30;

/// A folder that anybody may write to, but in which nobody renames what is not theirs.
const STICKY: u32 = 0o1000;

/// A plugin's file that nobody else could have changed.
#[derive(Debug)]
pub struct PluginFile {
    /// Where it is, without symbolic links.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
    /// The sha256 of `bytes`.
    pub digest: Digest,
}

impl PluginFile {
    /// Reads the file at `path`, if nobody but root and the user may change it or replace it.
    ///
    /// # Errors
    /// When it cannot be read, or is not trusted.
    pub fn read(path: &Path) -> Result<Self, PluginError> {
        let failed = |source| PluginError::Read { path: path.to_owned(), source };
        let mistrusted = |mistrust| PluginError::NotTrusted { path: path.to_owned(), mistrust };
        let real = fs::canonicalize(path).map_err(failed)?;
        // A named pipe would wait for a writer, and a device may do anything.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(&real, flags, Mode::empty()).map_err(|error| failed(error.into()))?);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(mistrusted(Mistrust::NotRegular));
        }
        check(&real, &metadata).map_err(mistrusted)?;
        for folder in real.ancestors().skip(1) {
            let metadata = fs::symlink_metadata(folder).map_err(failed)?;
            check(folder, &metadata).map_err(mistrusted)?;
        }
        let bytes = read_all(file, metadata.len()).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| mistrusted(Mistrust::Size { max: SIZE_BYTES_MAX }))?;
        Ok(Self { path: real, digest: Digest::of(&bytes), bytes })
    }

    /// Compares it with the digest that it had when its user chose it.
    ///
    /// # Errors
    /// When it is another file.
    pub fn check_pin(&self, pinned: Digest) -> Result<(), PluginError> {
        match self.digest == pinned {
            true => Ok(()),
            false => Err(PluginError::Changed { path: self.path.clone(), pinned, found: self.digest }),
        }
    }
}

fn read_all(file: File, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(SIZE_BYTES_MAX)).unwrap_or_default());
    file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| u64::try_from(bytes.len()).is_ok_and(|length| length <= SIZE_BYTES_MAX)))
}

/// Refuses what somebody else than root and this user may change.
fn check(path: &Path, metadata: &Metadata) -> Result<(), Mistrust> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Mistrust::Owner { path: path.to_owned(), owner });
    }
    // What lies in a sticky folder such as `/tmp` is safe from others, and its own owner is looked at.
    if metadata.is_dir() && mode & STICKY != 0 {
        return Ok(());
    }
    let whom = match mode {
        _ if mode & 0o002 != 0 => "others",
        _ if mode & 0o020 != 0 => "its group",
        _ => return Ok(()),
    };
    Err(Mistrust::Writable { path: path.to_owned(), whom, mode })
}
