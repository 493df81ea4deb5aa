//! Lock files that are handed to the resolver as they are: uv.lock and pylock.toml (PEP 751). Checked, not interpreted.

use std::collections::BTreeSet;
use std::str::FromStr;

use pep440_rs::VersionSpecifiers;
use pep508_rs::{Requirement as Pep508, VerbatimUrl, VersionOrUrl};
use serde::Deserialize;
use toml::Spanned;

use super::error::{RequirementsError, RequirementsProblem};
use super::text::TextFile;

#[derive(Deserialize)]
struct UvLock {
    version: u64,
    #[serde(rename = "requires-python")]
    requires_python: Option<Spanned<String>>,
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
struct UvPackage {
    name: Spanned<String>,
    #[serde(default)]
    source: toml::Table,
    metadata: Option<UvMetadata>,
}

/// What a package said about itself when the lock was made.
#[derive(Deserialize)]
struct UvMetadata {
    #[serde(default, rename = "requires-dist")]
    requires_dist: Vec<UvRequirement>,
}

#[derive(Deserialize)]
struct UvRequirement {
    name: String,
    #[serde(default)]
    specifier: String,
    marker: Option<String>,
}

impl UvPackage {
    /// Whether this is the project that the lock was made for.
    fn is_project(&self) -> bool {
        PROJECT_SOURCES.iter().any(|kind| self.source.get(*kind).and_then(toml::Value::as_str) == Some("."))
    }
}

/// How uv.lock says that a package is a folder.
const PROJECT_SOURCES: [&str; 4] = ["editable", "directory", "path", "virtual"];

#[derive(Deserialize)]
struct Pylock {
    #[serde(rename = "lock-version")]
    lock_version: Spanned<String>,
    #[serde(rename = "requires-python")]
    requires_python: Option<Spanned<String>>,
    #[serde(default)]
    packages: Vec<PylockPackage>,
}

#[derive(Deserialize)]
struct PylockPackage {
    name: Spanned<String>,
    directory: Option<toml::Table>,
    archive: Option<toml::Table>,
    vcs: Option<toml::Table>,
    sdist: Option<toml::Table>,
    #[serde(default)]
    wheels: Vec<toml::Table>,
}

/// Checks a `uv.lock` and returns its `requires-python`.
pub(super) fn check_uv_lock(file: &TextFile) -> Result<Option<Spanned<String>>, RequirementsError> {
    let lock: UvLock = file.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    if lock.version != 1 {
        let problem = RequirementsProblem::LockVersion {
            name: "uv.lock",
            version: lock.version.to_string(),
            known: "version 1",
            hint: "run `uv lock` with a uv that writes version 1",
        };
        return Err(RequirementsError::new(problem, file.start()));
    }
    for package in &lock.package {
        // The project itself is `.`: its dependencies are installed, and its code comes with `source_root` or `copy`.
        let local = PROJECT_SOURCES
            .iter()
            .find_map(|kind| package.source.get(*kind)?.as_str())
            .filter(|location| *location != ".");
        if let Some(location) = local {
            return Err(local_package(file, &package.name, location));
        }
    }
    Ok(lock.requires_python)
}

/// Compares a `uv.lock` with the `dependencies` of the pyproject.toml beside it, as `uv lock --check` does for these,
/// so that a package that was added without locking again is not missed only when the image runs.
pub(super) fn check_is_current(
    lock: &TextFile,
    dependencies: &[Spanned<String>],
    pyproject: &TextFile,
) -> Result<(), RequirementsError> {
    let document: UvLock = lock.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    let Some(metadata) =
        document.package.iter().find(|package| package.is_project()).and_then(|package| package.metadata.as_ref())
    else {
        return Ok(());
    };
    let is_extra =
        |requirement: &&UvRequirement| requirement.marker.as_ref().is_some_and(|marker| marker.contains("extra"));
    let locked: BTreeSet<_> = metadata
        .requires_dist
        .iter()
        .filter(|requirement| !is_extra(requirement))
        .map(|requirement| (requirement.name.clone(), sorted(&requirement.specifier)))
        .collect();
    let stale = |dependency: String, place| {
        RequirementsError::new(RequirementsProblem::StaleLock { dependency, lock: lock.source.name.clone() }, place)
    };
    let mut wanted = BTreeSet::new();
    for dependency in dependencies {
        // One that cannot be read is told by whoever reads it; here it cannot be compared.
        let Ok(requirement) = Pep508::<VerbatimUrl>::from_str(dependency.get_ref()) else { continue };
        let specifier = match &requirement.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => sorted(&specifiers.to_string()),
            _ => BTreeSet::new(),
        };
        let key = (requirement.name.to_string(), specifier);
        if !locked.contains(&key) {
            return Err(stale(dependency.get_ref().clone(), pyproject.place(dependency.span())));
        }
        wanted.insert(key);
    }
    match locked.iter().find(|key| !wanted.contains(*key)) {
        Some((name, _)) if wanted.len() == dependencies.len() => Err(stale(name.clone(), lock.start())),
        _ => Ok(()),
    }
}

/// `>=1,<2` and `<2, >=1` are the same.
fn sorted(specifiers: &str) -> BTreeSet<String> {
    let parsed = VersionSpecifiers::from_str(specifiers);
    parsed.map(|parsed| parsed.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// Checks a `pylock.toml` and returns its `requires-python`.
pub(super) fn check_pylock(file: &TextFile) -> Result<Option<Spanned<String>>, RequirementsError> {
    let lock: Pylock = file.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    let version = lock.lock_version.get_ref();
    if version != "1" && !version.starts_with("1.") {
        let problem = RequirementsProblem::LockVersion {
            name: "pylock.toml",
            version: version.clone(),
            known: "1.x",
            hint: "write it again with a tool that knows lock-version 1.0 (PEP 751)",
        };
        return Err(RequirementsError::new(problem, file.place(lock.lock_version.span())));
    }
    for package in &lock.packages {
        if let Some(location) = package.local() {
            return Err(local_package(file, &package.name, &location));
        }
    }
    Ok(lock.requires_python)
}

impl PylockPackage {
    /// The path of what is taken from this machine, if something is.
    fn local(&self) -> Option<String> {
        let path = |table: &toml::Table| table.get("path").map(|path| path.as_str().unwrap_or_default().to_owned());
        let local = |table: &toml::Table| path(table).filter(|_| !table.contains_key("url"));
        let tables = self.archive.iter().chain(&self.vcs).chain(&self.sdist).chain(&self.wheels);
        self.directory.as_ref().and_then(path).or_else(|| tables.into_iter().find_map(local))
    }
}

fn local_package(file: &TextFile, name: &Spanned<String>, location: &str) -> RequirementsError {
    let problem = RequirementsProblem::LocalPackage { package: name.get_ref().clone(), location: location.to_owned() };
    RequirementsError::new(problem, file.place(name.span()))
}
