//! Requirements and lock files: what a spec's `requirements` names, read and brought to a normal form.
//!
//! | file | what it becomes |
//! | --- | --- |
//! | `uv.lock` | digests of it and of the `pyproject.toml` beside it |
//! | `poetry.lock` | pinned requirements with hashes, and the digest of the `pyproject.toml` beside it |
//! | `pylock.toml`, `pylock.NAME.toml` | its digest (PEP 751) |
//! | `pyproject.toml` | `project.dependencies` |
//! | any other name | requirements.txt, as pip defines it, with everything that it includes |
//!
//! Paths are relative to the file that names them. They may lead up as far as the project's folder (the one with
//! `imagespec.toml`, else that of the spec), never out of it, not by a symbolic link either. Nothing is taken from
//! the environment, and a URL with credentials is refused, because plans are stored in images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pep440_rs::{Version, VersionSpecifiers};
use toml::Spanned;

use crate::digest::Digest;
use crate::place::{Located, Place};
use crate::plan::{PipInput, Requirement};

mod error;
mod locks;
mod path;
mod pip_file;
mod poetry;
mod pyproject;
mod requirement;
mod text;

pub use error::{RequirementsError, RequirementsProblem};
pub use path::PathProblem;
pub(crate) use path::UNREADABLE_HINT;
pub use requirement::RequirementProblem;

pub(crate) use error::redacted;
pub(crate) use path::{display_name, locate};
use requirement::refuse_unknown_archives;
pub(crate) use requirement::{BadRequirement, CREDENTIALS_HINT, check_url, normalize, refuse_credentials_in, url};
use text::TextFile;

/// What a spec wants from Python's package index, with all files read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// What to install.
    pub input: PipInput,
    /// The index that a requirements file asks for.
    pub index: Option<Located<String>>,
    /// Further indexes that files ask for, in order.
    pub extra_indexes: Vec<String>,
    /// Pages with wheels that files ask for, in order.
    pub find_links: Vec<String>,
    /// Arguments for the resolver that files ask for, in order.
    pub extra_args: Vec<String>,
    /// The Python versions that the files are for, as they were written.
    pub requires_python: Option<Located<String>>,
    /// The files that `input` names by digest.
    pub files: BTreeMap<Digest, PathBuf>,
}

/// Files of other tools that people may try, with what to do instead.
const OTHER_TOOLS: [(&str, &str, &str); 8] = [
    ("Pipfile", "Pipenv", "run `pipenv requirements > requirements.txt` and use that"),
    ("Pipfile.lock", "Pipenv", "run `pipenv requirements --hash > requirements.txt` and use that"),
    ("pdm.lock", "PDM", "run `pdm export -f pylock -o pylock.toml` and use that"),
    ("setup.py", "setuptools", "list the packages in `packages`, or move them to `pyproject.toml`"),
    ("setup.cfg", "setuptools", "list the packages in `packages`, or move them to `pyproject.toml`"),
    ("environment.yml", "conda", "list the packages in `conda_packages`, the channels in `conda_channels`"),
    ("environment.yaml", "conda", "list the packages in `conda_packages`, the channels in `conda_channels`"),
    ("pixi.lock", "pixi", "list the packages in `conda_packages` and `packages`"),
];

/// Reads what `file` names and adds `packages`. `directory` is the spec's; both it and what is read lie inside of `root`.
///
/// # Errors
/// When a file cannot be read or used, or when `packages` stand beside a lock file.
pub fn read(
    root: &Path,
    directory: &Path,
    file: Option<&Located<PathBuf>>,
    packages: &[Located<String>],
) -> Result<Option<Requirements>, RequirementsError> {
    let listed = packages.iter().map(listed).collect::<Result<BTreeSet<_>, _>>()?;
    let Some(named) = file else {
        return Ok((!listed.is_empty()).then(|| Requirements::listed(listed)));
    };
    let at_spec = |problem: RequirementsProblem| RequirementsError::new(problem, named.place.clone());
    let written = named.value.display().to_string();
    let name = display_name(&named.place.source.name, &written);
    let file_name = named.value.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some((_, tool, hint)) = OTHER_TOOLS.iter().find(|(known, ..)| *known == file_name) {
        return Err(at_spec(RequirementsProblem::OtherTool { path: written, tool, hint }));
    }
    let lock_command = match file_name {
        "uv.lock" => Some("uv lock"),
        "poetry.lock" => Some("poetry lock"),
        _ if is_pylock(file_name) => Some("uv export --format pylock.toml -o pylock.toml"),
        _ => None,
    };
    if let (Some(command), Some(first)) = (lock_command, packages.first()) {
        let problem = RequirementsProblem::PackagesBesideLock { lock: written, command };
        return Err(RequirementsError::new(problem, first.place.clone()));
    }
    let path = locate(root, directory, &named.value).map_err(|problem| at_spec(problem.into()))?;
    let file = TextFile::read(&path, &name).map_err(at_spec)?;
    match file_name {
        "uv.lock" => read_uv_lock(&file, root).map(Some),
        "poetry.lock" => read_poetry_lock(&file, root).map(Some),
        "pyproject.toml" => read_pyproject(&file, listed).map(Some),
        _ if is_pylock(file_name) => {
            let requires_python = locks::check_pylock(&file)?;
            let input = PipInput::Pylock { lock: file.digest };
            Ok(Some(Requirements::new(input).for_python(&file, requires_python).with_files([&file])))
        }
        _ => read_pip_file(&file, root, listed).map(Some),
    }
}

/// The normal text of a requirement, or the text itself if it is none.
pub(crate) fn normal_text(text: &str) -> String {
    normalize(text).unwrap_or_else(|_| text.to_owned())
}

fn listed(package: &Located<String>) -> Result<Requirement, RequirementsError> {
    let normal = normalize(&package.value).map_err(|bad| bad.problem);
    let checked = normal.and_then(|text| refuse_unknown_archives(&text).map(|()| text));
    match checked {
        Ok(text) => Ok(Requirement { text, hashes: BTreeSet::new() }),
        Err(problem) => Err(RequirementsError::new(RequirementsProblem::Requirement(problem), package.place.clone())),
    }
}

fn is_pylock(name: &str) -> bool {
    name == "pylock.toml" || (name.starts_with("pylock.") && name.ends_with(".toml") && name.matches('.').count() == 2)
}

fn read_uv_lock(file: &TextFile, root: &Path) -> Result<Requirements, RequirementsError> {
    let requires_python = locks::check_uv_lock(file)?;
    let pyproject = pyproject_beside(file, root)?;
    if let Some(dependencies) = pyproject::dependencies(&pyproject) {
        locks::check_is_current(file, &dependencies, &pyproject)?;
    }
    let input = PipInput::UvLock { lock: file.digest, pyproject: pyproject.digest };
    Ok(Requirements::new(input).for_python(file, requires_python).with_files([file, &pyproject]))
}

fn read_poetry_lock(file: &TextFile, root: &Path) -> Result<Requirements, RequirementsError> {
    let lock = poetry::read(file)?;
    let pyproject = pyproject_beside(file, root)?;
    let input = PipInput::Locked { requirements: lock.requirements, pyproject: pyproject.digest };
    let mut requirements = Requirements::new(input).for_python(file, lock.requires_python).with_files([&pyproject]);
    requirements.extra_indexes = lock.extra_indexes;
    Ok(requirements)
}

fn read_pyproject(file: &TextFile, listed: BTreeSet<Requirement>) -> Result<Requirements, RequirementsError> {
    let mut project = pyproject::read(file)?;
    project.requirements.extend(listed);
    Ok(Requirements::listed(project.requirements).for_python(file, project.requires_python))
}

fn read_pip_file(
    file: &TextFile,
    root: &Path,
    listed: BTreeSet<Requirement>,
) -> Result<Requirements, RequirementsError> {
    let mut read = pip_file::read(file, root)?;
    read.requirements.extend(listed);
    let input = PipInput::Requirements { requirements: read.requirements, constraints: read.constraints };
    Ok(Requirements {
        index: read.index,
        extra_indexes: read.extra_indexes,
        find_links: read.find_links,
        extra_args: read.extra_args,
        ..Requirements::new(input)
    })
}

fn pyproject_beside(lock: &TextFile, root: &Path) -> Result<TextFile, RequirementsError> {
    let directory = lock.path.parent().expect("a file that was read lies in a folder");
    let name = display_name(&lock.source.name, "pyproject.toml");
    let at_lock = |problem| RequirementsError::new(problem, lock.start());
    let path = locate(root, directory, Path::new("pyproject.toml")).map_err(|problem| match problem {
        PathProblem::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            at_lock(RequirementsProblem::NoPyproject { lock: lock.source.name.clone() })
        }
        problem => at_lock(problem.into()),
    })?;
    TextFile::read(&path, &name).map_err(at_lock)
}

impl Requirements {
    fn new(input: PipInput) -> Self {
        Self {
            input,
            index: None,
            extra_indexes: Vec::new(),
            find_links: Vec::new(),
            extra_args: Vec::new(),
            requires_python: None,
            files: BTreeMap::new(),
        }
    }

    fn listed(requirements: BTreeSet<Requirement>) -> Self {
        Self::new(PipInput::Requirements { requirements, constraints: BTreeSet::new() })
    }

    fn for_python(mut self, file: &TextFile, requires: Option<Spanned<String>>) -> Self {
        self.requires_python = requires.map(|requires| {
            let place = file.place(requires.span());
            Located { value: requires.into_inner(), place }
        });
        self
    }

    fn with_files<'a>(mut self, files: impl IntoIterator<Item = &'a TextFile>) -> Self {
        self.files.extend(files.into_iter().map(|file| (file.digest, file.path.clone())));
        self
    }

    /// Compares the files' `requires-python` with the image's Python, `3.11` or `3.11.2`. A version of two numbers fits if
    /// any of its releases does.
    ///
    /// # Errors
    /// When the files are for other versions, or say something that is no version specifier.
    pub fn check_python(&self, version: &str) -> Result<(), RequirementsError> {
        let Some(required) = &self.requires_python else { return Ok(()) };
        let at = |problem| RequirementsError::new(problem, required.place.clone());
        let specifiers: VersionSpecifiers = required
            .value
            .parse()
            .map_err(|_| at(RequirementsProblem::RequiresPython { text: required.value.clone() }))?;
        let candidates = match version.matches('.').count() {
            1 => vec![version.to_owned(), format!("{version}.0"), format!("{version}.999")],
            _ => vec![version.to_owned()],
        };
        let fits = |text: &String| text.parse::<Version>().map_or(true, |version| specifiers.contains(&version));
        if candidates.iter().any(fits) {
            return Ok(());
        }
        let version = version.to_owned();
        Err(at(RequirementsProblem::WrongPython { required: required.value.clone(), version }))
    }

    /// Compares the index that a requirements file asks for with the spec's `pip_index`, and returns the one that counts.
    ///
    /// # Errors
    /// When both are there and differ.
    pub fn index(&self, in_spec: Option<&Located<String>>) -> Result<Option<String>, RequirementsError> {
        match (&self.index, in_spec) {
            (Some(in_file), Some(in_spec)) if in_file.value != in_spec.value => {
                let problem =
                    RequirementsProblem::TwoIndexes { in_file: in_file.value.clone(), in_spec: in_spec.value.clone() };
                Err(RequirementsError::new(problem, in_file.place.clone()))
            }
            (in_file, in_spec) => Ok(in_spec.or(in_file.as_ref()).map(|index| index.value.clone())),
        }
    }

    /// Whether a place is needed to install to, that is, whether anything is wanted at all.
    pub fn is_empty(&self) -> bool {
        match &self.input {
            PipInput::Requirements { requirements, .. } | PipInput::Locked { requirements, .. } => {
                requirements.is_empty()
            }
            PipInput::UvLock { .. } | PipInput::Pylock { .. } => false,
        }
    }
}

/// The place of a bad package in a spec, narrowed to the bad part where the text stands unquoted.
pub(crate) fn error_at(place: &Place, problem: RequirementProblem) -> RequirementsError {
    RequirementsError::new(RequirementsProblem::Requirement(problem), place.clone())
}

#[cfg(test)]
mod tests;
