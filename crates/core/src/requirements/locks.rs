//! Lock files that are handed to the resolver as they are: uv.lock and pylock.toml (PEP 751). Checked, not interpreted.

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
}

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
        let local = ["editable", "directory", "path", "virtual"]
            .iter()
            .find_map(|kind| package.source.get(*kind)?.as_str())
            .filter(|location| *location != ".");
        if let Some(location) = local {
            return Err(local_package(file, &package.name, location));
        }
    }
    Ok(lock.requires_python)
}

/// Checks a `pylock.toml` and returns its `requires-python`.
pub(super) fn check_pylock(file: &TextFile) -> Result<Option<Spanned<String>>, RequirementsError> {
    let lock: Pylock = file.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    let version = lock.lock_version.get_ref();
    if version != "1" && !version.starts_with("1.") {
        let problem = RequirementsProblem::LockVersion {
            name: "pylock.toml",
            version: version.clone(),
            known: "version 1.x",
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
    let problem =
        RequirementsProblem::LocalPackage { package: name.get_ref().clone(), location: location.to_owned() };
    RequirementsError::new(problem, file.place(name.span()))
}
