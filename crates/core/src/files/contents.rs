//! Digests the files that were found, on all processors.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{FilesError, FilesProblem};
use super::{Found, FoundKind};
use crate::digest::Digest;
use crate::plan::CopiedFile;

/// Below this many, threads cost more than they save.
const PARALLEL_MIN: usize = 32;

/// What each of `found` is, in the same order. A link still has the target that stands in it.
pub(super) fn read(found: &[Found]) -> Result<Vec<CopiedFile>, FilesError> {
    let threads = match found.len() {
        0..PARALLEL_MIN => 1,
        _ => std::thread::available_parallelism().map_or(1, |threads| threads.get().min(16)),
    };
    let next = AtomicUsize::new(0);
    // Each thread takes the next file, for one may be a thousand times as large as another.
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = found.get(index) else { return done };
            done.push((index, read_one(item)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = work();
        for other in others {
            results.extend(other.join().expect("digesting does not panic"));
        }
        results
    });
    // The first error in the order of the files, so that it is the same one each time.
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn read_one(item: &Found) -> Result<CopiedFile, FilesError> {
    let unreadable = |error| FilesError::unreadable(item.destination.clone(), error, &item.place);
    match item.kind {
        FoundKind::Directory => Ok(CopiedFile::Directory),
        FoundKind::File => digest(&item.path).map_err(unreadable),
        FoundKind::Link(_) => {
            let target = std::fs::read_link(&item.path).map_err(unreadable)?;
            match target.to_str() {
                Some(target) if !target.chars().any(char::is_control) => {
                    Ok(CopiedFile::Link { target: target.to_owned() })
                }
                _ => {
                    let path = target.display().to_string();
                    Err(FilesError::new(FilesProblem::Name { path }, &item.place))
                }
            }
        }
    }
}

fn digest(path: &Path) -> io::Result<CopiedFile> {
    let mut file = File::open(path)?;
    let executable = file.metadata()?.permissions().mode() & 0o111 != 0;
    let (digest, size_bytes) = Digest::of_reader(&mut file)?;
    Ok(CopiedFile::File { digest, size_bytes, executable })
}
