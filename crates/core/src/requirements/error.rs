//! What can be wrong with a requirements or lock file, where, and what to do.

use std::fmt;
use std::sync::Arc;

use super::path::PathProblem;
use super::requirement::{RequirementProblem, userinfo};
use crate::place::{Place, Source};

/// A requirements or lock file that cannot be used.
#[derive(Debug)]
pub struct RequirementsError {
    // Boxed, for it travels through every result here.
    problem: Box<RequirementsProblem>,
    place: Place,
}

impl fmt::Display for RequirementsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(formatter)
    }
}

impl std::error::Error for RequirementsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.problem.as_ref())
    }
}

/// What is wrong with a requirements or lock file.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsProblem {
    /// A path that leads to no file of the project.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// A folder, a device or a fifo.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// More than 10 MiB.
    #[error("`{path}` is larger than 10 MiB")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Not text.
    #[error("`{path}` is not UTF-8 text")]
    NotUtf8 {
        /// The file.
        path: String,
    },
    /// A kind of file that other tools use.
    #[error("`{path}` is a file of {tool}, which is not supported")]
    OtherTool {
        /// The file.
        path: String,
        /// Whose it is.
        tool: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A lock file beside packages.
    #[error("`packages` cannot be combined with the lock file `{lock}`, which says everything that is installed")]
    PackagesBesideLock {
        /// The lock file.
        lock: String,
        /// The command that makes the lock anew.
        command: &'static str,
    },
    /// A bad requirement.
    #[error("{0}")]
    Requirement(RequirementProblem),
    /// A character that no requirements file has.
    #[error("the line holds the control character U+{code:04X}")]
    ControlCharacter {
        /// Its code point.
        code: u32,
    },
    /// A file includes itself.
    #[error("`{path}` includes itself: {chain}")]
    Cycle {
        /// The file.
        path: String,
        /// The files from the first to itself again.
        chain: String,
    },
    /// Files that include files that include files.
    #[error("requirements files include each other more than {limit} deep")]
    TooDeep {
        /// How deep they may.
        limit: usize,
    },
    /// More than a real project has.
    #[error("more than {limit} requirements")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// An included file that is a URL.
    #[error("`{url}` is a URL, and only files of the project can be included")]
    RemoteInclude {
        /// The URL.
        url: String,
    },
    /// `-e`
    #[error("`{option}` installs a folder of this machine in place, which an image cannot have")]
    Editable {
        /// `-e` or `--editable`.
        option: String,
    },
    /// An option that has no meaning for an image.
    #[error("`{option}` is not supported in a requirements file")]
    RefusedOption {
        /// The option.
        option: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An option that pip does not have either.
    #[error("unknown option `{option}`")]
    UnknownOption {
        /// The option.
        option: String,
    },
    /// An option without its value, or a flag with one.
    #[error("`{option}` takes {takes}")]
    OptionValue {
        /// The option.
        option: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A quote that is not closed.
    #[error("the quote is not closed")]
    OpenQuote,
    /// A digest that is none.
    #[error("`{text}` is not a digest: expected `sha256:`, `sha384:` or `sha512:` and its hexadecimal digits")]
    Hash {
        /// What was written.
        text: String,
    },
    /// Some requirements have hashes, and this one has none.
    #[error("`{requirement}` has no `--hash`, but {why}")]
    MissingHash {
        /// The requirement.
        requirement: String,
        /// Why it should.
        why: &'static str,
    },
    /// A hash of what is not pinned.
    #[error("`{requirement}` has a `--hash` but is not pinned to one version")]
    NotPinned {
        /// The requirement.
        requirement: String,
    },
    /// The spec and the file name different indexes.
    #[error("the file asks for the index `{in_file}` and the spec's `pip_index` for `{in_spec}`")]
    TwoIndexes {
        /// In the requirements file.
        in_file: String,
        /// In the spec.
        in_spec: String,
    },
    /// Not TOML, or not of the shape of the file.
    #[error("not readable: {message}")]
    Toml {
        /// What the parser says.
        message: String,
    },
    /// A lock file of a version that is not known.
    #[error("`{name}` has version `{version}`, and only {known} can be read")]
    LockVersion {
        /// The file's name.
        name: &'static str,
        /// Its version.
        version: String,
        /// What can be read.
        known: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// No pyproject.toml beside the lock.
    #[error("there is no `pyproject.toml` beside `{lock}`")]
    NoPyproject {
        /// The lock file.
        lock: String,
    },
    /// A lock that was made from another pyproject.toml.
    #[error("`{lock}` was made before `{dependency}` was changed in `pyproject.toml`")]
    StaleLock {
        /// What differs.
        dependency: String,
        /// The lock file.
        lock: String,
    },
    /// An entry of a lock file that is a folder or file of this machine.
    #[error("package `{package}` is locked to `{location}`, a file or folder of this machine")]
    LocalPackage {
        /// The package.
        package: String,
        /// Where it lies.
        location: String,
    },
    /// An entry of a lock file that comes from somewhere unknown.
    #[error("package `{package}` has a source of kind `{kind}`, which is not supported")]
    UnknownSource {
        /// The package.
        package: String,
        /// The kind.
        kind: String,
    },
    /// An entry of a lock file without digests.
    #[error("package `{package}` has no hashes in the lock file")]
    NoFiles {
        /// The package.
        package: String,
        /// What to do.
        hint: &'static str,
    },
    /// A pyproject.toml whose dependencies stand elsewhere.
    #[error("`dependencies` of the project are dynamic: only its build backend knows them")]
    DynamicDependencies,
    /// A pyproject.toml of Poetry's own form, without a lock.
    #[error("the project's dependencies are written in Poetry's own form")]
    PoetryProject,
    /// A pyproject.toml with no project.
    #[error("there is no `[project]` table")]
    NoProject,
    /// `requires-python` that is no version specifier.
    #[error("`{text}` is not a version specifier like `>=3.9`")]
    RequiresPython {
        /// What was written.
        text: String,
    },
    /// The image's Python is not one that the file is for.
    #[error("the file requires Python `{required}`, and the image has Python {version}")]
    WrongPython {
        /// What the file says.
        required: String,
        /// What the image has.
        version: String,
    },
}

impl RequirementsError {
    pub(super) fn new(problem: RequirementsProblem, place: Place) -> Self {
        Self { problem: Box::new(problem), place: redacted(place) }
    }

    /// What is wrong.
    pub fn problem(&self) -> &RequirementsProblem {
        &self.problem
    }

    /// The line of the requirements file, or of the spec if the file could not be read.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl RequirementsProblem {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Path(problem) => return problem.hint().map(str::to_owned),
            Self::OtherTool { hint, .. }
            | Self::RefusedOption { hint, .. }
            | Self::LockVersion { hint, .. }
            | Self::NoFiles { hint, .. } => hint,
            Self::PackagesBesideLock { command, .. } => {
                return Some(format!("add the packages to `pyproject.toml` and run `{command}`"));
            }
            Self::Requirement(problem) => return Some(problem.hint()),
            Self::Cycle { .. } => "remove one of the `-r` or `-c` lines",
            Self::RemoteInclude { .. } => "download the file and include it from the project",
            Self::Editable { .. } => {
                "copy the code with `source_root` or `copy`; it is importable without being installed"
            }
            Self::MissingHash { .. } => {
                "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes all of them"
            }
            Self::UnknownOption { .. } => "options of the resolver that pip does not know go to `pip_extra_args`",
            Self::Hash { .. } => "copy all of the digest, or make the file again with the tool that wrote it",
            Self::Toml { .. } => "make the file again with the tool that wrote it",
            Self::NotPinned { .. } => "write `==` and the version that the digest belongs to",
            Self::TwoIndexes { .. } => "keep one of them; a further index goes to `pip_extra_index_url`",
            Self::NoPyproject { .. } => "keep the lock file beside the `pyproject.toml` that it was made from",
            Self::StaleLock { .. } => "run `uv lock`",
            Self::LocalPackage { .. } => "publish it to an index, or copy its code with `source_root` or `copy`",
            Self::DynamicDependencies => "run `uv lock` and set `requirements: uv.lock`",
            Self::PoetryProject => "run `poetry lock` and set `requirements: poetry.lock`",
            Self::NoProject => "add `[project]` with `dependencies`, or use a requirements.txt",
            Self::WrongPython { .. } => "set `python_version` to one that fits, or change `requires-python`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The same place in a text that has `*` in place of every URL's user name and password.
pub(crate) fn redacted(place: Place) -> Place {
    if userinfo(&place.source.text).is_none() {
        return place;
    }
    let mut text = String::with_capacity(place.source.text.len());
    let mut rest = place.source.text.as_str();
    while let Some(secret) = userinfo(rest) {
        text.push_str(&rest[..secret.start]);
        text.extend(rest[secret.clone()].chars().map(|_| '*'));
        rest = &rest[secret.end..];
    }
    text.push_str(rest);
    let source = Arc::new(Source { name: place.source.name.clone(), text });
    Place { source, ..place }
}
