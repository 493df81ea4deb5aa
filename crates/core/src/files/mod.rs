//! The files that an image gets: `copy` and `source_root`, listed, checked and digested. Writes nothing.
//!
//! - `copy` takes files and folders as they are, with their path relative to the spec. Of a folder, version control
//!   (`.git`, `.hg`, `.svn`, `.jj`), `__pycache__` and `.DS_Store` are left out, because they change without anybody
//!   changing anything; a `copy` entry that names one of them gets it.
//! - `source_root` takes the files below a folder, with their path relative to it. `.gitignore` files (from the project's
//!   folder down, also where there is no `.git`) and the `.dockerignore` at the source root leave out what they name.
//!   Neither the user's global ignore file nor `.git/info/exclude` counts: they differ between machines. Always left
//!   out are version control, folders with a `pyvenv.cfg` (virtual environments), `node_modules`, `*.egg-info`,
//!   `*.pyc`, `*.pyo`, `.DS_Store`, and the caches `__pycache__`, `.eggs`, `.hypothesis`, `.ipynb_checkpoints`,
//!   `.mypy_cache`, `.nox`, `.pytest_cache`, `.ruff_cache`, `.tox` and `.venv`.
//! - `source_copy_mode: auto` takes `*.py`, `*.pyi` and `py.typed`, and nothing else; `all` takes everything.
//!
//! Symbolic links stay links, if they point to something that is copied too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::place::{Located, Place};
use crate::plan::CopiedFile;
use crate::spec::{CopyPath, SourceCopyMode};

mod contents;
mod dockerignore;
mod error;
mod ignored;
mod links;
mod walk;

pub use error::{FilesError, FilesProblem};

/// What a spec says about files. All paths in it are relative to `directory`.
pub struct WantedFiles<'a> {
    /// The project's folder, absolute; `source_root` may lie anywhere inside of it.
    pub root: &'a Path,
    /// The spec's folder, absolute, inside of `root`.
    pub directory: &'a Path,
    /// Entries of `copy`.
    pub copy: &'a [Located<CopyPath>],
    /// `source_root` and which of its files.
    pub source: Option<(&'a Located<PathBuf>, SourceCopyMode)>,
}

/// The files that an image gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectedFiles {
    /// By path in the image, relative to `/root`.
    pub entries: BTreeMap<String, CopiedFile>,
    /// Where the content of each regular file lies.
    pub paths: BTreeMap<Digest, PathBuf>,
}

/// Something that was found and may be copied.
struct Found {
    /// Path in the image, relative to `/root`.
    destination: String,
    /// Where it lies.
    path: PathBuf,
    kind: FoundKind,
    origin: Origin,
    /// The value that asked for it.
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundKind {
    File,
    Link(LinkPolicy),
    Directory,
}

/// What to do about a link whose target is not copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkPolicy {
    /// It is an error.
    MustLead,
    /// The link is left out as its target was: a folder that holds no Python file.
    MayDangle,
}

/// Which field asked for a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// `copy` in the spec itself.
    Copy,
    /// `copy` in a file of another folder.
    CopyFromElsewhere,
    Source,
}

impl Origin {
    /// How an error calls the folder that nothing leads out of.
    fn folder(self) -> &'static str {
        match self {
            Self::Copy => "folder of the spec",
            Self::CopyFromElsewhere => "folder of the file that says so",
            Self::Source => "source root",
        }
    }
}

impl Found {
    /// The folder that it was found from: that of the spec, or the source root.
    fn folder(&self) -> &Path {
        let folder = self.path.ancestors().nth(self.destination.split('/').count());
        folder.expect("a path ends in its destination")
    }
}

/// Lists, checks and digests the files that a spec names.
///
/// # Errors
/// When an entry does not exist, leads out of its folder, is neither file, folder nor link, has a name that is not plain
/// UTF-8 text, or when two different files would get one path.
pub fn collect(wanted: &WantedFiles<'_>) -> Result<CollectedFiles, FilesError> {
    let mut found = Vec::new();
    for entry in wanted.copy {
        walk::copy_entry(wanted, entry, &mut found)?;
    }
    if let Some((source_root, mode)) = wanted.source
        && mode != SourceCopyMode::None
    {
        walk::source(wanted, source_root, mode, &mut found)?;
    }
    // The same file may be asked for twice: by its name and with its folder.
    found.sort_by(|one, other| one.destination.cmp(&other.destination).then_with(|| one.path.cmp(&other.path)));
    found.dedup_by(|one, other| one.destination == other.destination && one.path == other.path);
    let copied = contents::read(&found)?;
    let mut collected = CollectedFiles::default();
    let mut owners: BTreeMap<String, &Found> = BTreeMap::new();
    for (item, mut file) in found.iter().zip(copied) {
        if let CopiedFile::Link { target } = &mut file {
            *target = links::relative_target(item, target)?;
        }
        if let CopiedFile::File { digest, .. } = &file {
            collected.paths.entry(*digest).or_insert_with(|| item.path.clone());
        }
        match collected.entries.get(&item.destination) {
            Some(other) if *other != file => {
                return Err(FilesError::conflict(item, owners[&item.destination]));
            }
            Some(_) => {}
            None => {
                owners.insert(item.destination.clone(), item);
                collected.entries.insert(item.destination.clone(), file);
            }
        }
    }
    refuse_files_as_folders(&owners, &collected.entries)?;
    links::check(&owners, &mut collected.entries)?;
    drop_implied_directories(&mut collected.entries);
    Ok(collected)
}

/// One entry of `copy` may be a file where `source_root` has a folder.
fn refuse_files_as_folders(
    owners: &BTreeMap<String, &Found>,
    entries: &BTreeMap<String, CopiedFile>,
) -> Result<(), FilesError> {
    for path in entries.keys() {
        for (position, _) in path.match_indices('/') {
            let parent = &path[..position];
            if entries.get(parent).is_some_and(|file| *file != CopiedFile::Directory) {
                return Err(FilesError::conflict(owners[path], owners[parent]));
            }
        }
    }
    Ok(())
}

/// A folder with something in it needs no entry.
fn drop_implied_directories(entries: &mut BTreeMap<String, CopiedFile>) {
    let implied: Vec<String> = entries
        .iter()
        .filter(|(path, file)| **file == CopiedFile::Directory && links::has_children(entries, path))
        .map(|(path, _)| path.clone())
        .collect();
    for path in implied {
        entries.remove(&path);
    }
}

#[cfg(test)]
mod tests;
