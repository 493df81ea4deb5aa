//! poetry.lock of Poetry 2: its main packages as pinned requirements with hashes.
//!
//! Locks of Poetry 1 do not say which group a package belongs to, so they are refused with the command that writes
//! a new one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::error::{RequirementsError, RequirementsProblem};
use super::pip_file::normal_hash;
use super::requirement::{check_url, normalize, refuse_unknown_archives};
use super::text::TextFile;
use crate::plan::Requirement;

/// The group whose packages are installed.
const MAIN: &str = "main";

/// What a poetry.lock says.
pub(super) struct PoetryLock {
    pub(super) requirements: BTreeSet<Requirement>,
    /// Indexes that packages come from beside PyPI, in the order of the file.
    pub(super) extra_indexes: Vec<String>,
    pub(super) requires_python: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "lock-version")]
    lock_version: Spanned<String>,
    #[serde(rename = "python-versions")]
    python_versions: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct Package {
    name: Spanned<String>,
    version: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    groups: Vec<String>,
    markers: Option<Markers>,
    #[serde(default)]
    files: Vec<File>,
    source: Option<Source>,
}

/// One marker for all groups, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum Markers {
    All(String),
    ByGroup(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct File {
    hash: String,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    resolved_reference: Option<String>,
    subdirectory: Option<String>,
}

/// Reads a poetry.lock.
pub(super) fn read(file: &TextFile) -> Result<PoetryLock, RequirementsError> {
    let lock: Lock = file.toml().map_err(|(problem, place)| RequirementsError::new(problem, place))?;
    let version = lock.metadata.lock_version.get_ref();
    let numbers: Vec<u64> = version.split('.').filter_map(|number| number.parse().ok()).collect();
    if !matches!(numbers[..], [2, minor] if minor >= 1) {
        let problem = RequirementsProblem::LockVersion {
            name: "poetry.lock",
            version: version.clone(),
            known: "2.1 and later 2.x",
            hint: "run `poetry lock` with Poetry 2",
        };
        return Err(RequirementsError::new(problem, file.place(lock.metadata.lock_version.span())));
    }
    let mut requirements = BTreeSet::new();
    let mut extra_indexes = Vec::new();
    // An optional package is installed for an extra of the project, and none can be asked for.
    for package in lock.package.iter().filter(|package| !package.optional && package.groups.iter().any(|g| g == MAIN)) {
        let at = |problem| RequirementsError::new(problem, file.place(package.name.span()));
        requirements.insert(package.requirement().map_err(at)?);
        if let Some(source) = package.source.as_ref().filter(|source| source.kind == "legacy") {
            check_url(&source.url).map_err(|problem| at(RequirementsProblem::Requirement(problem)))?;
            if !extra_indexes.contains(&source.url) {
                extra_indexes.push(source.url.clone());
            }
        }
    }
    let requires_python = lock.metadata.python_versions.filter(|versions| is_pep440(versions.get_ref()));
    Ok(PoetryLock { requirements, extra_indexes, requires_python })
}

/// Poetry may write `^3.9` or `>=3.9 || <4`, which PEP 440 does not know. Then its own check when locking must do.
fn is_pep440(versions: &str) -> bool {
    versions.parse::<pep440_rs::VersionSpecifiers>().is_ok()
}

impl Package {
    fn requirement(&self) -> Result<Requirement, RequirementsProblem> {
        let name = self.name.get_ref();
        let mut text = match &self.source {
            None => format!("{name}=={}", self.version),
            Some(source) => match source.kind.as_str() {
                "legacy" => format!("{name}=={}", self.version),
                "url" => format!("{name} @ {}", source.url),
                "git" => source.git(name),
                "directory" | "file" => {
                    return Err(RequirementsProblem::LocalPackage {
                        package: name.clone(),
                        location: source.url.clone(),
                    });
                }
                kind => {
                    return Err(RequirementsProblem::UnknownSource { package: name.clone(), kind: kind.to_owned() });
                }
            },
        };
        let marker = match &self.markers {
            None => None,
            Some(Markers::All(marker)) => Some(marker),
            Some(Markers::ByGroup(markers)) => markers.get(MAIN),
        };
        if let Some(marker) = marker {
            text = format!("{text} ; {marker}");
        }
        let text = normalize(&text).map_err(|bad| RequirementsProblem::Requirement(bad.problem))?;
        refuse_unknown_archives(&text).map_err(RequirementsProblem::Requirement)?;
        let is_git = self.source.as_ref().is_some_and(|source| source.kind == "git");
        if self.files.is_empty() && !is_git {
            let hint = "run `poetry lock --regenerate`";
            return Err(RequirementsProblem::NoFiles { package: name.clone(), hint });
        }
        let mut hashes = BTreeSet::new();
        for file in &self.files {
            let hash = normal_hash(&file.hash).ok_or_else(|| RequirementsProblem::Hash { text: file.hash.clone() })?;
            hashes.insert(hash);
        }
        Ok(Requirement { text, hashes })
    }
}

impl Source {
    fn git(&self, name: &str) -> String {
        let url = &self.url;
        // Poetry writes what git takes: `git@host:path` is ssh, and an address without a scheme is none that pip knows.
        let url = match url.split_once("://") {
            Some(_) => url.clone(),
            None => format!("ssh://{}", url.replacen(':', "/", 1)),
        };
        let mut text = format!("{name} @ git+{url}");
        if let Some(revision) = &self.resolved_reference {
            text = format!("{text}@{revision}");
        }
        if let Some(subdirectory) = &self.subdirectory {
            text = format!("{text}#subdirectory={subdirectory}");
        }
        text
    }
}
