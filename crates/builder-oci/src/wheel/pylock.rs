//! Which wheels a lock file asks for on a target, and of which packages there are sources alone. Pure.
//!
//! Format: PEP 751 (`pylock.toml`). Markers are those of PEP 508, for the target and without extras or groups.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use imagespec_core::digest::Digest;
use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree, VerbatimUrl};
use serde::Deserialize;
use url::Url;

use super::allowed::AllowedDigests;
use super::name::{Target, WheelName, best, normalize};
use super::source::{LockedRepository, SelectedSource};

/// More packages than this are refused.
const PACKAGES_MAX: usize = 10_000;

/// A wheel that must be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedWheel {
    /// The package's normalised name.
    pub name: String,
    /// Its version; the file name's where the lock has none.
    pub version: String,
    /// The wheel's file name.
    pub file_name: WheelName,
    /// Where it lies: `https`, `http` or `file`.
    pub url: Url,
    /// Digest of the file.
    pub sha256: Digest,
    /// Length in bytes, if the lock says so.
    pub size_bytes: Option<u64>,
}

/// What a lock file asks for on a target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Wheels, sorted by name.
    pub wheels: Vec<SelectedWheel>,
    /// What a wheel must be built of, sorted by name.
    pub sources: Vec<SelectedSource>,
}

enum Selected {
    Wheel(SelectedWheel),
    Source(SelectedSource),
}

/// Why a lock file cannot be installed on a target.
#[derive(Debug, thiserror::Error)]
pub enum PylockError {
    /// It is no TOML, or not of the shape of PEP 751.
    #[error("cannot read the lock file")]
    Syntax {
        /// Where, and what was expected.
        source: toml::de::Error,
    },
    /// A version of the format that nobody knew when this was written.
    #[error("lock files of version `{version}` cannot be read; 1.0 can")]
    Version {
        /// The version.
        version: String,
    },
    /// More packages than anybody installs.
    #[error("the lock file has {count} packages; 10000 are the most")]
    TooMany {
        /// How many it has.
        count: usize,
    },
    /// It is for other versions of Python.
    #[error("the lock file is for Python {required}, and the image has {found}")]
    OtherPython {
        /// Its `requires-python`.
        required: String,
        /// The image's version.
        found: String,
    },
    /// Its `requires-python` is none.
    #[error("`requires-python` of the lock file is no version specifier: `{required}`")]
    RequiresPython {
        /// The text.
        required: String,
    },
    /// A marker cannot be evaluated.
    #[error("cannot read marker `{marker}` of package `{package}`: {problem}")]
    Marker {
        /// The package.
        package: String,
        /// The marker.
        marker: String,
        /// What the parser said.
        problem: String,
    },
    /// The target's Python version is none.
    #[error("markers cannot be evaluated for Python `{version}`")]
    Python {
        /// The version.
        version: String,
    },
    /// No wheel of the package runs on the target.
    #[error("package `{package}` has no wheel for {target}{}", wheels(.found))]
    NoWheel {
        /// The package.
        package: String,
        /// The target.
        target: String,
        /// The wheels that it has.
        found: Vec<String>,
    },
    /// A wheel has no file name, address or digest that can be used.
    #[error("a wheel of package `{package}` cannot be used: {problem}")]
    Wheel {
        /// The package.
        package: String,
        /// What is wrong.
        problem: String,
    },
    /// An archive or a repository cannot be used.
    #[error("the sources of package `{package}` cannot be used: {problem}")]
    Source {
        /// The package.
        package: String,
        /// What is wrong.
        problem: String,
    },
    /// None of the wheels that run on the target has a digest that the requirements allow.
    #[error("`{file}` of package `{package}` has digest {found}, which is none of those that the requirements allow")]
    NotAllowed {
        /// The package.
        package: String,
        /// The wheel that would have been taken.
        file: String,
        /// The digest that the index gives for it.
        found: Digest,
    },
    /// Digests that cannot be compared with those of an index.
    #[error("the hashes of `{package}` are of other kinds than sha256")]
    OtherHashes {
        /// The package.
        package: String,
    },
    /// Two entries of one package are for the same target.
    #[error("package `{package}` stands twice in the lock file for {target}")]
    Twice {
        /// The package.
        package: String,
        /// The target.
        target: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    requires_python: Option<String>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    #[serde(default)]
    wheels: Vec<LockedFile>,
    sdist: Option<LockedFile>,
    /// A file that a requirement names by its URL: a wheel, or sources.
    archive: Option<LockedFile>,
    vcs: Option<LockedRepository>,
}

/// A wheel, or an archive of sources.
#[derive(Deserialize)]
pub(super) struct LockedFile {
    name: Option<String>,
    url: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) subdirectory: Option<String>,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

impl LockedFile {
    /// Where it lies.
    pub(super) fn url(&self) -> Result<Url, String> {
        let url = self.url.as_deref().ok_or("it has no `url`")?;
        let url = Url::parse(url).map_err(|error| format!("`url` is none: {error}"))?;
        if !matches!(url.scheme(), "https" | "http" | "file") {
            return Err(format!("`{}` is no scheme to fetch from", url.scheme()));
        }
        Ok(url)
    }

    /// Its name, or the last part of its address.
    pub(super) fn file_name(&self) -> String {
        let address = || {
            let url = self.url.as_deref().unwrap_or_default();
            url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned()
        };
        // A local version is `1.0%2Bcpu` in an address.
        self.name.clone().unwrap_or_else(address).replace("%2B", "+").replace("%2b", "+")
    }

    /// Its digest.
    pub(super) fn sha256(&self) -> Result<Digest, String> {
        let sha256 = self.hashes.sha256.as_deref().ok_or_else(|| format!("`{}` has no sha256", self.file_name()))?;
        Digest::from_hex(sha256).map_err(|error| error.to_string())
    }

    fn is_wheel(&self) -> bool {
        self.file_name().ends_with(".whl")
    }
}

/// What the lock file `text` asks for on `target`, each file with a digest that is `allowed`: of every package the wheel
/// that fits best; only where none fits, its sources.
///
/// # Errors
/// When it cannot be read, or a package that the target needs has nothing for it, or nothing that is allowed.
pub fn select(text: &str, target: &Target, allowed: &AllowedDigests) -> Result<Selection, PylockError> {
    let lock: Pylock = toml::from_str(text).map_err(|source| PylockError::Syntax { source })?;
    if lock.lock_version != "1.0" && !lock.lock_version.starts_with("1.") {
        return Err(PylockError::Version { version: lock.lock_version });
    }
    if lock.packages.len() > PACKAGES_MAX {
        return Err(PylockError::TooMany { count: lock.packages.len() });
    }
    if let Some(required) = &lock.requires_python {
        check_python(required, target)?;
    }
    let environment = environment(target)?;
    let mut selection = Selection::default();
    let mut names = BTreeSet::new();
    for package in &lock.packages {
        if !is_wanted(package, &environment)? {
            continue;
        }
        if !names.insert(normalize(&package.name)) {
            return Err(PylockError::Twice { package: normalize(&package.name), target: target.to_string() });
        }
        match select_one(package, target, allowed)? {
            Selected::Wheel(wheel) => selection.wheels.push(wheel),
            Selected::Source(source) => selection.sources.push(source),
        }
    }
    selection.wheels.sort_by(|left, right| left.name.cmp(&right.name));
    selection.sources.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(selection)
}

/// PEP 751 has installers refuse a lock file whose `requires-python` does not fit.
fn check_python(required: &str, target: &Target) -> Result<(), PylockError> {
    let specifiers: VersionSpecifiers =
        required.parse().map_err(|_| PylockError::RequiresPython { required: required.to_owned() })?;
    let found = Version::new([3, u64::from(target.python_minor), u64::from(target.python_patch)]);
    if specifiers.contains(&found) {
        return Ok(());
    }
    Err(PylockError::OtherPython { required: required.to_owned(), found: found.to_string() })
}

pub(super) fn environment(target: &Target) -> Result<MarkerEnvironment, PylockError> {
    let short = format!("3.{}", target.python_minor);
    let full = format!("{short}.{}", target.python_patch);
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: &full,
        os_name: "posix",
        platform_machine: &target.machine,
        platform_python_implementation: "CPython",
        // The kernel is that of the machine where the image runs, which is not known.
        platform_release: "",
        platform_system: "Linux",
        platform_version: "",
        python_full_version: &full,
        python_version: &short,
        sys_platform: "linux",
    })
    .map_err(|_| PylockError::Python { version: full.clone() })
}

fn is_wanted(package: &Package, environment: &MarkerEnvironment) -> Result<bool, PylockError> {
    let Some(marker) = &package.marker else { return Ok(true) };
    MarkerTree::parse_str::<VerbatimUrl>(marker).map(|tree| tree.evaluate(environment, &[])).map_err(|error| {
        PylockError::Marker {
            package: package.name.clone(),
            marker: marker.clone(),
            problem: error.message.to_string(),
        }
    })
}

fn select_one(package: &Package, target: &Target, allowed: &AllowedDigests) -> Result<Selected, PylockError> {
    let unusable = |problem: String| PylockError::Wheel { package: package.name.clone(), problem };
    let unusable_source = |problem: String| PylockError::Source { package: package.name.clone(), problem };
    let (name, version) = (normalize(&package.name), package.version.clone());
    if let Some(repository) = &package.vcs {
        return repository.select(name, version).map(Selected::Source).map_err(unusable_source);
    }
    let mut candidates = Vec::with_capacity(package.wheels.len());
    for file in package.wheels.iter().chain(package.archive.iter().filter(|file| file.is_wheel())) {
        let file_name = WheelName::new(&file.file_name()).map_err(|error| unusable(error.to_string()))?;
        candidates.push((file_name, file));
    }
    // One without a proper digest is refused below, if it is the one that fits.
    let is_allowed = |file: &LockedFile| file.sha256().map_or(true, |digest| allowed.contains(&package.name, digest));
    let candidates: Vec<_> = candidates.iter().collect();
    let considered: Vec<_> = candidates.iter().copied().filter(|(_, file)| is_allowed(file)).collect();
    let Some((file_name, file)) = best(&considered, |candidate| &candidate.0, target).copied() else {
        let sources = package.sdist.as_ref().or(package.archive.as_ref().filter(|file| !file.is_wheel()));
        let refused = best(&candidates, |candidate| &candidate.0, target).map(|(_, file)| *file);
        if let Some(file) = sources.filter(|file| is_allowed(file)) {
            let source = SelectedSource::of_archive(name, version, file).map_err(unusable_source)?;
            return allowed.check_at(&source).map(|()| Selected::Source(source));
        }
        if let Some(file) = refused.or(sources) {
            return Err(PylockError::NotAllowed {
                package: package.name.clone(),
                file: file.file_name(),
                found: file.sha256().map_err(unusable)?,
            });
        }
        return Err(PylockError::NoWheel {
            package: package.name.clone(),
            target: target.to_string(),
            found: candidates.iter().map(|candidate| candidate.0.to_string()).collect(),
        });
    };
    if file_name.normalized() != name {
        return Err(unusable(format!("`{file_name}` is another package's")));
    }
    Ok(Selected::Wheel(SelectedWheel {
        name,
        version: version.unwrap_or_else(|| file_name.version().to_owned()),
        file_name: file_name.clone(),
        url: file.url().map_err(unusable)?,
        sha256: file.sha256().map_err(unusable)?,
        size_bytes: file.size,
    }))
}

/// The wheels that a package has, for the end of an error.
fn wheels(found: &[String]) -> String {
    if found.is_empty() {
        return "; it has none at all".to_owned();
    }
    let mut text = "; it has".to_owned();
    for (number, name) in found.iter().take(8).enumerate() {
        let _ = write!(text, "{} `{name}`", if number == 0 { "" } else { "," });
    }
    match found.len().saturating_sub(8) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheel::Libc;

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn target() -> Target {
        Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } }
    }

    fn lock(packages: &str) -> String {
        format!("lock-version = \"1.0\"\ncreated-by = \"uv\"\n{}", packages.replace("HASH", HASH))
    }

    #[test]
    fn markers_decide_what_is_wanted_and_tags_which_wheel() {
        let text = lock(
            r#"
            [[packages]]
            name = "Win"
            marker = "sys_platform == 'win32'"
            [[packages]]
            name = "Torch"
            version = "2.0+cpu"
            marker = "python_full_version >= '3.9' and platform_machine == 'x86_64'"
            wheels = [
                { url = "https://x.test/torch-2.0%2Bcpu-cp312-cp312-linux_x86_64.whl", hashes = { sha256 = "HASH" } },
                { url = "https://x.test/torch-2.0%2Bcpu-cp311-cp311-linux_x86_64.whl", size = 5, hashes = { sha256 = "HASH" } },
            ]
            "#,
        );
        let selected = select(&text, &target(), &AllowedDigests::default()).unwrap().wheels;
        assert_eq!(selected.len(), 1);
        assert_eq!((selected[0].name.as_str(), selected[0].size_bytes), ("torch", Some(5)));
        assert_eq!(selected[0].file_name.as_str(), "torch-2.0+cpu-cp311-cp311-linux_x86_64.whl");
    }

    #[test]
    fn a_lock_file_for_another_python_is_refused() {
        let error = |required: &str| {
            let text = format!("lock-version = \"1.0\"\ncreated-by = \"uv\"\nrequires-python = \"{required}\"\n");
            select(&text, &target(), &AllowedDigests::default()).unwrap_err()
        };
        insta::assert_snapshot!(error(">=3.12"), @"the lock file is for Python >=3.12, and the image has 3.11.2");
        insta::assert_snapshot!(error("3.x"), @"`requires-python` of the lock file is no version specifier: `3.x`");
        assert_eq!(
            select("lock-version = \"1.0\"\nrequires-python = \">=3.11.2\"\n", &target(), &AllowedDigests::default())
                .unwrap(),
            Selection::default()
        );
    }

    #[test]
    fn a_package_without_a_fitting_wheel_is_named_with_what_it_has() {
        let text = lock(
            r#"
            [[packages]]
            name = "a"
            wheels = [{ url = "https://x.test/a-1-cp312-cp312-win_amd64.whl", hashes = { sha256 = "HASH" } }]
            "#,
        );
        insta::assert_snapshot!(select(&text, &target(), &AllowedDigests::default()).unwrap_err(), @"package `a` has no wheel for Python 3.11 on x86_64 with glibc 2.36; it has `a-1-cp312-cp312-win_amd64.whl`");
        let text = lock("[[packages]]\nname = \"a\"\n");
        insta::assert_snapshot!(select(&text, &target(), &AllowedDigests::default()).unwrap_err(), @"package `a` has no wheel for Python 3.11 on x86_64 with glibc 2.36; it has none at all");
    }

    #[test]
    fn a_wheel_without_digest_of_another_package_or_scheme_is_refused() {
        for (url, hashes) in [
            ("https://x.test/a-1-py3-none-any.whl", "{}"),
            ("https://x.test/a-1-py3-none-any.whl", "{ sha256 = \"00\" }"),
            ("https://x.test/b-1-py3-none-any.whl", "{ sha256 = \"HASH\" }"),
            ("ftp://x.test/a-1-py3-none-any.whl", "{ sha256 = \"HASH\" }"),
            ("https://x.test/", "{ sha256 = \"HASH\" }"),
        ] {
            let text = format!("[[packages]]\nname = \"a\"\nwheels = [{{ url = \"{url}\", hashes = {hashes} }}]");
            assert!(
                matches!(select(&lock(&text), &target(), &AllowedDigests::default()), Err(PylockError::Wheel { .. })),
                "{url} {hashes}"
            );
        }
    }
}
