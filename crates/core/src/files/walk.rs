//! Lists what `copy` and `source_root` name. Looks at names and kinds only, never into files that are copied.

use std::fs::{FileType, Metadata};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use super::error::{FilesError, FilesProblem};
use super::ignored::{Ignored, Verdict};
use super::{Found, FoundKind, LinkPolicy, Origin, WantedFiles};
use crate::place::{Located, Place};
use crate::requirements::locate;
use crate::spec::{CopyPath, SourceCopyMode};

/// Files, folders and links that one image may get.
const FOUND_MAX: usize = 1_000_000;

/// What `copy` leaves out of folders: changed by tools, not by people.
const NEVER_COPIED: [&str; 6] = [".git", ".hg", ".svn", ".jj", "__pycache__", ".DS_Store"];

/// What `source_root` leaves out beside [`NEVER_COPIED`].
const NO_SOURCE: [&str; 10] = [
    ".eggs",
    ".hypothesis",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".venv",
    "node_modules",
];

/// Lists one entry of `copy`.
pub(super) fn copy_entry(
    wanted: &WantedFiles<'_>,
    entry: &Located<CopyPath>,
    found: &mut Vec<Found>,
) -> Result<(), FilesError> {
    let Located { value: CopyPath { folder, path }, place } = entry;
    let origin = if folder.as_os_str().is_empty() { Origin::Copy } else { Origin::CopyFromElsewhere };
    let folder = locate(wanted.root, wanted.directory, folder)
        .map_err(|problem| FilesError::located(problem, "project's folder", place))?;
    let path = Path::new(path);
    // Docker takes no `..` either, even where it leads back.
    if path.components().any(|component| matches!(component, Component::ParentDir)) {
        let problem = FilesProblem::Outside { path: path.display().to_string(), folder: origin.folder() };
        return Err(FilesError::new(problem, place));
    }
    let path =
        locate(&folder, &folder, path).map_err(|problem| FilesError::located(problem, origin.folder(), place))?;
    let destination = relative_text(&path, &folder, place)?;
    let metadata = symlink_metadata(&path, &folder, place)?;
    let mut walk = Walk { folder: &folder, place, origin, rules: Rules::Copy, found };
    walk.visit(path, destination, &metadata, Verdict::Take)
}

/// Lists the files of `source_root`.
pub(super) fn source(
    wanted: &WantedFiles<'_>,
    source_root: &Located<PathBuf>,
    mode: SourceCopyMode,
    found: &mut Vec<Found>,
) -> Result<(), FilesError> {
    let place = &source_root.place;
    let folder = locate(wanted.root, wanted.directory, &source_root.value)
        .map_err(|problem| FilesError::located(problem, "project's folder", place))?;
    if !folder.is_dir() {
        let problem = FilesProblem::NotAFolder { path: source_root.value.display().to_string() };
        return Err(FilesError::new(problem, place));
    }
    let ignored = Ignored::new(wanted.root, &folder, place)?;
    let rules = Rules::Source { mode, ignored: Box::new(ignored) };
    let mut walk = Walk { folder: &folder, place, origin: Origin::Source, rules, found };
    walk.children(&folder, "")
}

/// What is left out.
enum Rules {
    Copy,
    Source { mode: SourceCopyMode, ignored: Box<Ignored> },
}

struct Walk<'a> {
    folder: &'a Path,
    place: &'a Place,
    origin: Origin,
    rules: Rules,
    found: &'a mut Vec<Found>,
}

impl Walk<'_> {
    /// Takes what lies at `path`, whatever it is.
    fn visit(
        &mut self,
        path: PathBuf,
        destination: String,
        metadata: &Metadata,
        verdict: Verdict,
    ) -> Result<(), FilesError> {
        let file_type = metadata.file_type();
        if file_type.is_dir() {
            if !destination.is_empty() && self.takes_empty_folders() && verdict == Verdict::Take {
                self.push(path.clone(), destination.clone(), FoundKind::Directory)?;
            }
            return self.children(&path, &destination);
        }
        if file_type.is_symlink() {
            return match self.link_policy(&path, &destination) {
                Some(policy) => self.push(path, destination, FoundKind::Link(policy)),
                None => Ok(()),
            };
        }
        if !self.takes_file(&destination) {
            return Ok(());
        }
        match special_kind(file_type) {
            None => self.push(path, destination, FoundKind::File),
            Some(kind) => {
                let problem = FilesProblem::Special { path: display(&path, self.folder), kind };
                Err(FilesError::new(problem, self.place))
            }
        }
    }

    /// Takes what lies in the folder at `path`.
    fn children(&mut self, path: &Path, destination: &str) -> Result<(), FilesError> {
        if let Rules::Source { ignored, .. } = &mut self.rules {
            ignored.enter(path, self.place)?;
        }
        let unreadable = |error| FilesError::unreadable(display(path, self.folder), error, self.place);
        let mut children: Vec<PathBuf> = Vec::new();
        for child in std::fs::read_dir(path).map_err(unreadable)? {
            children.push(child.map_err(unreadable)?.path());
        }
        children.sort();
        for child in children {
            let name = child.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            let metadata = symlink_metadata(&child, self.folder, self.place)?;
            let verdict = self.verdict(&child, name.as_deref(), destination, &metadata);
            if verdict == Verdict::LeaveOut {
                continue;
            }
            let name = plain_name(name, &child, self.folder, self.place)?;
            let destination = if destination.is_empty() { name } else { format!("{destination}/{name}") };
            self.visit(child, destination, &metadata, verdict)?;
        }
        if let Rules::Source { ignored, .. } = &mut self.rules {
            ignored.leave();
        }
        Ok(())
    }

    fn verdict(&self, path: &Path, name: Option<&str>, folder: &str, metadata: &Metadata) -> Verdict {
        if name.is_some_and(|name| NEVER_COPIED.contains(&name)) {
            return Verdict::LeaveOut;
        }
        let Rules::Source { ignored, .. } = &self.rules else { return Verdict::Take };
        let name = name.unwrap_or_default();
        if NO_SOURCE.contains(&name) || [".pyc", ".pyo", ".egg-info"].iter().any(|ending| name.ends_with(ending)) {
            return Verdict::LeaveOut;
        }
        if metadata.is_dir() && path.join("pyvenv.cfg").is_file() {
            return Verdict::LeaveOut;
        }
        let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        ignored.verdict(path, &relative, metadata.is_dir())
    }

    fn takes_empty_folders(&self) -> bool {
        !matches!(self.rules, Rules::Source { mode: SourceCopyMode::Auto, .. })
    }

    fn takes_file(&self, destination: &str) -> bool {
        match self.rules {
            Rules::Source { mode: SourceCopyMode::Auto, .. } => is_python(destination),
            _ => true,
        }
    }

    /// Whether to take a link, and what if it leads to nothing that is copied.
    fn link_policy(&self, path: &Path, destination: &str) -> Option<LinkPolicy> {
        let is_auto = matches!(self.rules, Rules::Source { mode: SourceCopyMode::Auto, .. });
        if !is_auto || is_python(destination) {
            Some(LinkPolicy::MustLead)
        } else if path.is_dir() {
            // Its folder may hold Python files, which are then found as what they are.
            Some(LinkPolicy::MayDangle)
        } else {
            None
        }
    }

    fn push(&mut self, path: PathBuf, destination: String, kind: FoundKind) -> Result<(), FilesError> {
        if self.found.len() >= FOUND_MAX {
            let problem = FilesProblem::TooMany { limit: FOUND_MAX };
            return Err(FilesError::new(problem, self.place));
        }
        self.found.push(Found { destination, path, kind, origin: self.origin, place: self.place.clone() });
        Ok(())
    }
}

fn is_python(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "py.typed" || name.ends_with(".py") || name.ends_with(".pyi")
}

fn special_kind(file_type: FileType) -> Option<&'static str> {
    if file_type.is_fifo() {
        Some("fifo")
    } else if file_type.is_socket() {
        Some("socket")
    } else if file_type.is_block_device() || file_type.is_char_device() {
        Some("device")
    } else {
        None
    }
}

fn symlink_metadata(path: &Path, folder: &Path, place: &Place) -> Result<Metadata, FilesError> {
    std::fs::symlink_metadata(path).map_err(|error| FilesError::unreadable(display(path, folder), error, place))
}

/// `path` relative to `folder`, with `/` between components; empty for the folder itself.
fn relative_text(path: &Path, folder: &Path, place: &Place) -> Result<String, FilesError> {
    let relative = path.strip_prefix(folder).expect("a located path lies inside of its folder");
    let mut text = String::new();
    for component in relative.components() {
        let name = component.as_os_str().to_str().map(str::to_owned);
        let name = plain_name(name, relative, folder, place)?;
        if !text.is_empty() {
            text.push('/');
        }
        text.push_str(&name);
    }
    Ok(text)
}

fn plain_name(name: Option<String>, path: &Path, folder: &Path, place: &Place) -> Result<String, FilesError> {
    match name {
        Some(name) if !name.chars().any(char::is_control) => Ok(name),
        _ => Err(FilesError::new(FilesProblem::Name { path: display(path, folder) }, place)),
    }
}

/// `path` for an error: relative to `folder`.
pub(super) fn display(path: &Path, folder: &Path) -> String {
    match path.strip_prefix(folder) {
        Ok(relative) if relative.as_os_str().is_empty() => ".".to_owned(),
        Ok(relative) => relative.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
