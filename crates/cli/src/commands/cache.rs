//! `imagespec cache`: how large it is, and an end of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::failure::Failure;
use crate::prepare;
use crate::session::{print_data, print_line};

/// Prints how much of the disk each part of the cache takes.
pub(crate) fn du() -> Result<(), Failure> {
    let root = prepare::cache_folder()?;
    let mut total_bytes = 0;
    for part in ["blobs", "records", "snapshots", "store", "tmp"] {
        let size_bytes = size(&root.join(part))?;
        total_bytes += size_bytes;
        print_data(&format!("{:>10}  {part}", megabytes(size_bytes)))?;
    }
    Ok(print_data(&format!("{:>10}  {}", megabytes(total_bytes), root.display()))?)
}

/// Removes the cache.
pub(crate) fn clear() -> Result<(), Failure> {
    let root = prepare::cache_folder()?;
    let mut removed_bytes = 0;
    // Only what we made: the folder may be one that the user has other things in.
    for part in ["blobs", "records", "snapshots", "store", "tmp", "locks"] {
        let folder = root.join(part);
        if folder.is_dir() {
            removed_bytes += size(&folder)?;
            fs::remove_dir_all(&folder)?;
        }
    }
    print_line(&format!("removed {} from {}", megabytes(removed_bytes), root.display()));
    Ok(())
}

fn size(folder: &Path) -> Result<u64, Failure> {
    let mut size_bytes = 0;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        size_bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(size_bytes)
}

fn megabytes(size_bytes: u64) -> String {
    format!("{}.{} MB", size_bytes / 1_000_000, size_bytes % 1_000_000 / 100_000)
}
