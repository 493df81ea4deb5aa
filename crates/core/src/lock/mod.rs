//! The lock of a spec: the exact parts that its image is made of, for each platform. Pure: what the parts are is found
//! out by a builder, and files are the caller's affair.
//!
//! A lock pins what a plan leaves open: the image behind a base's tag, the versions of Debian's, conda's and Python's
//! packages. Copied files, commands and the image's config are in the plan itself, so a lock stays good when they change.

mod inputs;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::digest::Digest;
use crate::place::Place;
use crate::plan::{Base, Plan};
use crate::platform::Platform;

pub use inputs::{Change, ChangeKind};

/// How many bytes a lock file may have.
pub const SIZE_BYTES_MAX: u64 = 16 << 20;

/// What is pinned for a plan and for the plans that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The part of the plan that the lock was made for, by field; of the spec beneath as `base_image.FIELD`.
    inputs: BTreeMap<String, Vec<String>>,
    /// The parts of the plan itself first, then of the one beneath, and so on.
    levels: Vec<BTreeMap<Platform, LockedImage>>,
}

/// The exact parts of one image for one platform.
///
/// It stands in plans and in lock files alike; the version of either is that of these types, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LockedImage {
    /// The exact version of Python, `3.11.2`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "python_version")]
    pub python: Option<String>,
    /// Digest of the archive that Python was unpacked from, where it is neither the base's nor a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_archive: Option<Digest>,
    /// What the image stands on, if the plan does not say it exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<LockedBase>,
    /// Debian packages that `apt_packages` bring, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apt: Vec<LockedDeb>,
    /// Debian packages that Python comes with where the base has none, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub python_apt: Vec<LockedDeb>,
    /// Conda packages, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conda: Vec<LockedCondaPackage>,
    /// Python packages, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<LockedPackage>,
}

/// What an image stands on, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LockedBase {
    /// An image in a registry.
    Registry {
        /// Digest of its manifest for the platform.
        digest: Digest,
    },
    /// A Debian made of packages.
    Bootstrap {
        /// When the newest of its suites was made, as snapshot.debian.org writes it: `20261122T020905Z`.
        #[serde(deserialize_with = "snapshot")]
        snapshot: String,
        /// The suites that its apt is told of, each `ADDRESS SUITE`: `http://deb.debian.org/debian bookworm-updates`.
        #[serde(deserialize_with = "suites")]
        suites: Vec<String>,
        /// Its packages, sorted by name.
        packages: Vec<LockedDeb>,
    },
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedDeb {
    /// Its name (Debian policy, 5.6.1).
    #[serde(deserialize_with = "deb_name")]
    pub name: String,
    /// Its version: `1:2.3-4+deb12u1`.
    #[serde(deserialize_with = "deb_word")]
    pub version: String,
    /// Its architecture in Debian's name: `amd64`, `all`.
    #[serde(deserialize_with = "deb_word")]
    pub architecture: String,
    /// Where it lies: an address, or of a base's package the archive and the path in it, `debian/pool/main/…`.
    #[serde(deserialize_with = "deb_location")]
    pub location: String,
    /// Digest of the file.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A conda package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedCondaPackage {
    /// Its name.
    #[serde(deserialize_with = "conda_word")]
    pub name: String,
    /// Its version.
    #[serde(deserialize_with = "conda_word")]
    pub version: String,
    /// Its build: `h5eee18b_0`.
    #[serde(deserialize_with = "conda_word")]
    pub build: String,
    /// Its platform in conda's name: `linux-64`, `noarch`.
    #[serde(deserialize_with = "conda_word")]
    pub subdir: String,
    /// Where it lies.
    pub url: String,
    /// Digest of the file.
    pub sha256: Digest,
    /// Its length in bytes, if its channel says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A Python package with the archives that it may be installed from, in the terms of PEP 751 (`[[packages]]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version, if it is known without looking into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A repository that it is built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcs: Option<LockedRepository>,
    /// A file that the requirement names by its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<LockedArchive>,
    /// Its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdist: Option<LockedArchive>,
    /// Its wheels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<LockedArchive>,
}

/// A file of a Python package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedArchive {
    /// Its file name, if that is not the end of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it lies.
    pub url: String,
    /// Its length in bytes, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The folder in it that is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
    /// Its digest.
    pub sha256: Digest,
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockedRepository {
    /// What kind of repository: `git`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its address.
    pub url: String,
    /// The branch or tag that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_revision: Option<String>,
    /// The commit.
    pub commit_id: String,
    /// The folder in it that is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is not UTF-8.
    #[error("lock file `{name}` is not UTF-8")]
    NotText {
        /// How the user calls the file.
        name: String,
    },
    /// It is no TOML, or lacks something, or has something that is not what it must be.
    #[error("cannot read lock file `{name}`: {problem}")]
    Syntax {
        /// How the user calls the file.
        name: String,
        /// What the parser says.
        problem: String,
        /// Where.
        place: Place,
    },
    /// A newer program wrote it.
    #[error("lock file `{name}` has version {version}, and this program reads version 1")]
    Version {
        /// How the user calls the file.
        name: String,
        /// Its version.
        version: u32,
    },
    /// Two entries are for the same image.
    #[error("lock file `{name}` has two entries for {platform}")]
    Twice {
        /// How the user calls the file.
        name: String,
        /// The platform.
        platform: Platform,
    },
    /// Nothing is locked for a platform, or for a spec beneath.
    #[error("lock file `{name}` is not whole: an image for {platform} is missing")]
    Incomplete {
        /// How the user calls the file.
        name: String,
        /// The platform.
        platform: Platform,
    },
    /// The spec is not the one that was locked.
    #[error("the spec moved away from lock file `{name}`")]
    Moved {
        /// How the user calls the file.
        name: String,
        /// What is different.
        changes: Vec<Change>,
    },
}

impl LockError {
    /// Where in the file it went wrong.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax { place, .. } => Some(place),
            _ => None,
        }
    }

    /// What is different in the spec, each in a line.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Moved { changes, .. } => changes,
            _ => &[],
        }
    }
}

impl Lock {
    /// The lock that is in `plan` and in the plans beneath it.
    pub fn of(plan: &Plan) -> Self {
        let levels = std::iter::successors(Some(plan), |plan| beneath(plan)).map(|plan| plan.lock.clone()).collect();
        Self { inputs: inputs::of(plan), levels }
    }

    /// Reads the text of the lock file `name`.
    ///
    /// # Errors
    /// When it is none, with the place where it goes wrong.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, LockError> {
        text::parse(name, text)
    }

    /// The text of a lock file: TOML, sorted, the same for the same lock. Every line ends in a newline.
    pub fn to_toml(&self) -> String {
        text::to_toml(self)
    }

    /// Puts what is pinned into `plan` and the plans beneath it. `name` is how the user calls the lock file. A plan for
    /// fewer platforms than were locked is fine.
    ///
    /// # Errors
    /// When the plan is not the one that was locked, with everything that is different; or when the lock lacks a part.
    pub fn apply(&self, plan: &mut Plan, name: &str) -> Result<(), LockError> {
        let changes = inputs::changes(&self.inputs, &inputs::of(plan));
        if !changes.is_empty() {
            return Err(LockError::Moved { name: name.to_owned(), changes });
        }
        let mut levels = self.levels.iter();
        let mut current = Some(plan);
        while let Some(plan) = current.take() {
            let level = levels.next();
            for platform in &plan.platforms {
                let image = level
                    .and_then(|level| level.get(platform))
                    .ok_or_else(|| LockError::Incomplete { name: name.to_owned(), platform: platform.clone() })?;
                plan.lock.insert(platform.clone(), image.clone());
            }
            current = match &mut plan.base {
                Base::Plan(nested) => Some(nested),
                _ => None,
            };
        }
        Ok(())
    }
}

/// The plan that `plan` stands on.
fn beneath(plan: &Plan) -> Option<&Plan> {
    match &plan.base {
        Base::Plan(nested) => Some(nested),
        _ => None,
    }
}

/// Reads a text that `is_proper`; `what` names what it must be.
fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    is_proper: impl Fn(&str) -> bool,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_proper(&text) { Ok(text) } else { Err(de::Error::custom(format!("`{}` is not {what}", text.escape_debug()))) }
}

/// Names, versions and architectures become names of files and arguments of programs.
fn is_word(text: &str, further: &[u8]) -> bool {
    text.len() <= 255
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || further.contains(&byte))
}

fn deb_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "the name of a Debian package", |text| is_word(text, b"+-."))
}

fn deb_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "a version or an architecture of Debian", |text| is_word(text, b"+-.:~"))
}

fn python_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    checked(deserializer, "a version of Python", |text| is_word(text, b".")).map(Some)
}

/// Names may begin with `_`, and a build may be empty.
fn conda_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "a name or a version of conda", |text| {
        text.is_empty() || is_word(text.trim_start_matches('_'), b"_-.+!~*") && text.len() <= 255
    })
}

fn snapshot<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "the name of a snapshot", |text| is_word(text, b""))
}

fn suites<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let suites = Vec::<String>::deserialize(deserializer)?;
    let is_suite = |text: &String| match text.split_once(' ') {
        Some((address, suite)) => {
            let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic());
            is_plain && is_word(suite, b"-") && ["http://", "https://"].iter().any(|start| address.starts_with(start))
        }
        None => false,
    };
    match suites.iter().find(|suite| !is_suite(suite)) {
        None => Ok(suites),
        Some(suite) => Err(de::Error::custom(format!("`{}` is not an address and a suite", suite.escape_debug()))),
    }
}

fn deb_location<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "an address or a path in Debian's archive", |text| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-~%:@[]".contains(&byte));
        let is_address = ["http://", "https://"].iter().any(|start| text.starts_with(start));
        // What follows the archive is a path in it, which must not lead out.
        let path = ["debian/", "debian-security/"].iter().find_map(|start| text.strip_prefix(start));
        let is_path = path.is_some_and(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        is_plain && (is_address || is_path)
    })
}
