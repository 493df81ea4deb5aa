//! Which builders there are, where each came from, and the one of a name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imagespec_core::builder::{Builder, Bundled, Restart};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::place::Place;
use imagespec_core::suggestion;

use crate::descriptor::Descriptor;
use crate::error::PluginError;
use crate::file::PluginFile;
use crate::loaded::{Loaded, Mode};

/// Where builders come from. Each source is weaker than the one before it; the current directory is none.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The plugins of the project: those that its user approved, and those that he did not.
    pub project: BTreeMap<String, Pinned>,
    /// The plugins of the user's config.
    pub user: BTreeMap<String, Pinned>,
    /// Folders whose files are plugins: the user's own, then the system's.
    pub folders: Vec<PathBuf>,
    /// This program, that a worker is started as.
    pub program: PathBuf,
}

/// A plugin with the digest that it had when it was chosen.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The file.
    pub path: PathBuf,
    /// The sha256 that it must have.
    pub sha256: Digest,
    /// Where its code runs.
    pub mode: Mode,
    /// Whether it may stand in for a bundled builder.
    pub overrides: bool,
    /// Whether the user approved it. Those of the user's own config are.
    pub approval: Approval,
    /// Where the path is written.
    pub place: Place,
}

/// Whether a user approved a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Yes, with this digest.
    Given,
    /// Yes, with another digest.
    OfAnother(Digest),
    /// No.
    Missing,
}

/// Where a builder came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is linked into the program.
    Bundled,
    /// `[plugins]` of the project file.
    Project,
    /// `[plugins]` of the user's config.
    User,
    /// A folder of plugins.
    Folder(PathBuf),
}

/// A builder of a name, whether or not it can be used.
#[derive(Debug)]
pub struct Candidate {
    /// The name.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// The file, if it is one.
    pub path: Option<PathBuf>,
    /// The digest that the file must have.
    pub pin: Option<Digest>,
    /// Where its code would run, if it is a file.
    pub mode: Mode,
    /// Why it cannot be used, if that is known without running any of its code.
    pub problem: Option<Problem>,
}

/// Why a builder that was found cannot be used.
#[derive(Debug)]
pub enum Problem {
    /// Another one of the name comes first.
    Hidden(Origin),
    /// It is the project's, and its user did not approve it.
    NotApproved {
        /// Where the project says so.
        place: Place,
        /// What the user approved instead.
        other: Option<Digest>,
    },
    /// The file.
    File(PluginError),
}

/// The builder of a name.
pub struct Chosen {
    /// The builder.
    pub builder: Box<dyn Builder>,
    /// Those of the same name that are not used.
    pub hidden: Vec<Candidate>,
}

impl Catalog {
    /// Everything that there is, the strongest first. No code of a plugin is run; of folders every file is read.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = self.outside_folders();
        // One that is pinned, too, is there once.
        let pinned: Vec<_> = self.project.values().chain(self.user.values()).map(|pinned| real(&pinned.path)).collect();
        let found = self.folders.iter().flat_map(|folder| in_folder(folder));
        candidates.extend(found.filter(|found| found.path.as_ref().is_none_or(|path| !pinned.contains(&real(path)))));
        hide(&mut candidates);
        candidates
    }

    /// The builder called `name`.
    ///
    /// # Errors
    /// When there is none, or the one that comes first cannot be used: a weaker one of the name never stands in for it.
    pub fn find(&self, name: &str) -> Result<Chosen, Diagnostic> {
        let mut known = self.outside_folders();
        known.retain(|candidate| candidate.name == name);
        // Their files are read only if nobody else has the name.
        if known.is_empty() {
            known.extend(self.folders.iter().flat_map(|folder| in_folder(folder)).filter(|found| found.name == name));
        }
        hide(&mut known);
        let mut known = known.into_iter();
        let first = known.next().ok_or_else(|| self.nobody(name))?;
        Ok(Chosen { builder: self.open(first)?, hidden: known.collect() })
    }

    /// Loads a candidate.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(&self, candidate: Candidate) -> Result<Box<dyn Builder>, Diagnostic> {
        if let Some(problem) = &candidate.problem {
            return Err(problem.diagnostic(&candidate));
        }
        let Some(path) = &candidate.path else {
            let bundled = bundled().find(|bundled| bundled.name == candidate.name).expect("it was found there");
            return Ok((bundled.make)(Restart::bundled(self.program.clone())));
        };
        let file = candidate.read(path)?;
        match Loaded::load(&file, candidate.mode, &self.program) {
            Ok(loaded) => Ok(Box::new(loaded)),
            Err(error) => Err(error.diagnostic()),
        }
    }

    /// Those that are found without reading a file.
    fn outside_folders(&self) -> Vec<Candidate> {
        let own = |overrides| {
            let own = self.user.iter().filter(move |(_, pinned)| pinned.overrides == overrides);
            own.map(|(name, pinned)| self.pinned(name, Origin::User, pinned))
        };
        let bundled = bundled().map(|bundled| candidate(bundled.name, Origin::Bundled, None));
        let project = self.project.iter().map(|(name, pinned)| self.pinned(name, Origin::Project, pinned));
        own(true).chain(bundled).chain(project).chain(own(false)).collect()
    }

    fn pinned(&self, name: &str, origin: Origin, pinned: &Pinned) -> Candidate {
        let not_approved = |other| Problem::NotApproved { place: pinned.place.clone(), other };
        let problem = match pinned.approval {
            Approval::Given => None,
            Approval::OfAnother(digest) => Some(not_approved(Some(digest))),
            Approval::Missing => Some(not_approved(None)),
        };
        let path = Some(pinned.path.clone());
        Candidate { pin: Some(pinned.sha256), mode: pinned.mode, problem, ..candidate(name, origin, path) }
    }

    fn nobody(&self, name: &str) -> Diagnostic {
        let candidates = self.candidates();
        let names: Vec<_> =
            candidates.iter().filter(|found| found.problem.is_none()).map(|found| &found.name).collect();
        let diagnostic = Diagnostic::error(format!("there is no builder `{name}`"));
        if let Some(likely) = suggestion::closest(name, names.iter().map(|name| name.as_str())) {
            return diagnostic.hint(format!("did you mean `{likely}`?"));
        }
        match names.as_slice() {
            [] => diagnostic.hint("there is none at all: `imagespec plugin add PATH` adds one that is a file"),
            names => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                diagnostic.hint(format!(
                    "the builders are {}; `imagespec plugin add PATH` adds one that is a file",
                    names.join(", ")
                ))
            }
        }
    }
}

impl Candidate {
    /// Reads the file at `path`, its own: it must be the one that was pinned, and the plugin of this builder. None of its
    /// code runs.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(&self, path: &Path) -> Result<PluginFile, Diagnostic> {
        let read = || {
            let file = PluginFile::read(path)?;
            self.pin.map_or(Ok(()), |pin| file.check_pin(pin))?;
            match Descriptor::read(&file)?.name {
                name if name != self.name => {
                    Err(PluginError::OtherName { path: path.to_owned(), name, wanted: self.name.clone() })
                }
                _ => Ok(file),
            }
        };
        read().map_err(|error| match self.origin {
            Origin::Project => error.in_project(),
            Origin::Bundled | Origin::User | Origin::Folder(_) => error.diagnostic(),
        })
    }
}

/// The builders that are linked in, by name.
pub fn bundled() -> impl Iterator<Item = &'static Bundled> {
    let mut all: Vec<_> = inventory::iter::<Bundled>().collect();
    all.sort_by_key(|bundled| bundled.name);
    all.into_iter()
}

fn candidate(name: &str, origin: Origin, path: Option<PathBuf>) -> Candidate {
    Candidate { name: name.to_owned(), origin, path, pin: None, mode: Mode::Worker, problem: None }
}

/// The plugins that lie in `folder`, in the order of their file names. A folder that is not there has none.
fn in_folder(folder: &Path) -> Vec<Candidate> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "so")).collect();
    paths.sort();
    let found = paths.into_iter().map(|path| {
        let descriptor = PluginFile::read(&path).and_then(|file| Descriptor::read(&file));
        let (name, problem) = match descriptor {
            Ok(descriptor) => (descriptor.name, None),
            // It is shown under the name of its file.
            Err(error) => (stem(&path), Some(Problem::File(error))),
        };
        Candidate { problem, ..candidate(&name, Origin::Folder(folder.to_owned()), Some(path)) }
    });
    found.collect()
}

/// The path without symbolic links, where it leads to something.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// `hello` for `libhello.so`.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("lib").unwrap_or(&stem).replace(char::is_control, "\u{fffd}")
}

/// Marks all but the first of each name.
fn hide(candidates: &mut [Candidate]) {
    let mut first: BTreeMap<String, Origin> = BTreeMap::new();
    for candidate in candidates {
        match first.get(&candidate.name) {
            Some(origin) => candidate.problem = Some(Problem::Hidden(origin.clone())),
            None => drop(first.insert(candidate.name.clone(), candidate.origin.clone())),
        }
    }
}

impl Origin {
    /// Where it came from, in words: `the project`.
    pub fn words(&self) -> String {
        match self {
            Self::Bundled => "bundled".to_owned(),
            Self::Project => "the project".to_owned(),
            Self::User => "your config".to_owned(),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }
}

impl Problem {
    /// The problem as an error about `candidate`.
    pub fn diagnostic(&self, candidate: &Candidate) -> Diagnostic {
        let name = &candidate.name;
        match self {
            Self::Hidden(origin) => {
                let whose = match origin {
                    Origin::Bundled => "the bundled one comes first".to_owned(),
                    Origin::Project => "that of the project comes first".to_owned(),
                    Origin::User if candidate.path.is_none() => {
                        "your config has another one stand in for it".to_owned()
                    }
                    Origin::User => "that of your config comes first".to_owned(),
                    Origin::Folder(folder) => format!("another one in `{}` comes first", folder.display()),
                };
                let path = candidate.path.as_ref().map(|path| format!(" in `{}`", path.display())).unwrap_or_default();
                let diagnostic = Diagnostic::error(format!("builder `{name}`{path} is not used: {whose}"));
                match origin {
                    Origin::Bundled => diagnostic
                        .hint("`imagespec plugin add --override PATH` has a plugin stand in for a bundled builder"),
                    _ => diagnostic.hint("`imagespec builders` shows both"),
                }
            }
            Self::NotApproved { place, other } => {
                let message = match other {
                    None => format!("builder `{name}` is a file that the project names, and you did not approve it"),
                    Some(_) => {
                        format!("the project names another file for builder `{name}` than the one that you approved")
                    }
                };
                let mut diagnostic = Diagnostic::error(message).at(place.clone());
                if let (Some(other), Some(pin)) = (other, candidate.pin) {
                    diagnostic.notes.push(format!("you approved {other}, and the project names {pin}"));
                }
                diagnostic.hint(format!("look at what it is and approve it: `imagespec plugin add {name}`"))
            }
            Self::File(error) => error.diagnostic(),
        }
    }
}
