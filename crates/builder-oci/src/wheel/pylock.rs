//! Which wheels a lock file asks for on a target. Pure.
//!
//! Format: PEP 751 (`pylock.toml`). Markers are those of PEP 508, for the target and without extras or groups.

use std::fmt::Write as _;

use imagespec_core::digest::Digest;
use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree, VerbatimUrl};
use serde::Deserialize;
use url::Url;

use super::allowed::AllowedDigests;
use super::name::{Target, WheelName, best, normalize};

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
    wheels: Vec<LockedWheel>,
    /// A file that a requirement names by its URL.
    archive: Option<LockedWheel>,
}

#[derive(Deserialize)]
struct LockedWheel {
    name: Option<String>,
    url: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

/// The wheels that the lock file `text` asks for on `target`, sorted by name, each with a digest that is `allowed`.
///
/// # Errors
/// When it cannot be read, or a package that the target needs has no wheel for it, or none that is allowed.
pub fn select(text: &str, target: &Target, allowed: &AllowedDigests) -> Result<Vec<SelectedWheel>, PylockError> {
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
    let mut selected: Vec<SelectedWheel> = Vec::new();
    for package in &lock.packages {
        if is_wanted(package, &environment)? {
            selected.push(select_one(package, target, allowed)?);
        }
    }
    selected.sort_by(|left, right| left.name.cmp(&right.name));
    match selected.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(PylockError::Twice { package: pair[0].name.clone(), target: target.to_string() }),
        None => Ok(selected),
    }
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

fn select_one(package: &Package, target: &Target, allowed: &AllowedDigests) -> Result<SelectedWheel, PylockError> {
    let unusable = |problem: &dyn std::fmt::Display| PylockError::Wheel {
        package: package.name.clone(),
        problem: problem.to_string(),
    };
    let mut candidates = Vec::with_capacity(package.wheels.len());
    for wheel in package.wheels.iter().chain(&package.archive) {
        let url = wheel.url.as_deref().ok_or_else(|| unusable(&"it has no `url`"))?;
        let url = Url::parse(url).map_err(|error| unusable(&format!("`url` is none: {error}")))?;
        let name = match &wheel.name {
            Some(name) => name.clone(),
            None => url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default().to_owned(),
        };
        // A local version is `1.0%2Bcpu` in an address.
        let name = name.replace("%2B", "+").replace("%2b", "+");
        let name = WheelName::new(&name).map_err(|error| unusable(&error))?;
        candidates.push((name, url, wheel));
    }
    let digest = |file_name: &WheelName, wheel: &LockedWheel| {
        let sha256 = wheel.hashes.sha256.as_deref().ok_or_else(|| unusable(&format!("`{file_name}` has no sha256")))?;
        Digest::from_hex(sha256).map_err(|error| unusable(&error))
    };
    let is_allowed = |candidate: &&(WheelName, Url, &LockedWheel)| {
        let (file_name, _, wheel) = *candidate;
        // One without a proper digest is refused below, if it is the one that fits.
        digest(file_name, wheel).map_or(true, |digest| allowed.contains(&package.name, digest))
    };
    let candidates: Vec<_> = candidates.iter().collect();
    let considered: Vec<_> = candidates.iter().copied().filter(is_allowed).collect();
    let Some((file_name, url, wheel)) = best(&considered, |candidate| &candidate.0, target).copied() else {
        if let Some((file_name, _, wheel)) = best(&candidates, |candidate| &candidate.0, target) {
            return Err(PylockError::NotAllowed {
                package: package.name.clone(),
                file: file_name.to_string(),
                found: digest(file_name, wheel)?,
            });
        }
        return Err(PylockError::NoWheel {
            package: package.name.clone(),
            target: target.to_string(),
            found: candidates.iter().map(|candidate| candidate.0.to_string()).collect(),
        });
    };
    if file_name.normalized() != normalize(&package.name) {
        return Err(unusable(&format!("`{file_name}` is another package's")));
    }
    if !matches!(url.scheme(), "https" | "http" | "file") {
        return Err(unusable(&format!("`{}` is no scheme to fetch from", url.scheme())));
    }
    Ok(SelectedWheel {
        name: normalize(&package.name),
        version: package.version.clone().unwrap_or_else(|| file_name.version().to_owned()),
        file_name: file_name.clone(),
        url: url.clone(),
        sha256: digest(file_name, wheel)?,
        size_bytes: wheel.size,
    })
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
        let selected = select(&text, &target(), &AllowedDigests::default()).unwrap();
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
            []
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
