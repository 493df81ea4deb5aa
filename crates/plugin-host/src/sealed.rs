//! A file in memory that nobody can change any more, not even this program: what was verified is what is loaded.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// Everything that could change the bytes.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A sealed file in memory. Its descriptor stays open over `exec`, so that processes of the builder can load it, too.
#[derive(Debug)]
pub struct Sealed(OwnedFd);

impl Sealed {
    /// A copy of `bytes`. The kernel shows it as `memfd:NAME`.
    ///
    /// # Errors
    /// When the kernel has no memory or no such files.
    pub fn new(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(name, MemfdFlags::ALLOW_SEALING)?);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SEALS)?;
        Ok(Self(file.into()))
    }

    /// One that another process made, by a path such as `/proc/7/fd/3`.
    ///
    /// # Errors
    /// When it cannot be opened, or is not sealed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_descriptor(rustix::fs::open(path, OFlags::RDONLY, Mode::empty())?)
    }

    /// One that this process inherited.
    ///
    /// # Errors
    /// When it is not sealed.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let seals = fcntl_get_seals(&descriptor)?;
        match seals.contains(SEALS) {
            true => Ok(Self(descriptor)),
            false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a sealed file in memory")),
        }
    }

    /// Its number, which is the same in every process that inherits it.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Where this process finds it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.number()).into()
    }

    /// Where other processes of the same user find it, while this one lives.
    pub fn path_for_others(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.number()).into()
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_cannot_be_changed_and_what_is_not_is_refused() {
        let sealed = Sealed::new("test", b"bytes").unwrap();
        assert_eq!(std::fs::read(sealed.path()).unwrap(), b"bytes");
        assert!(std::fs::write(sealed.path(), b"other").is_err());
        assert_eq!(std::fs::read(Sealed::open(&sealed.path_for_others()).unwrap().path()).unwrap(), b"bytes");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Sealed::open(file.path()).is_err());
    }
}
