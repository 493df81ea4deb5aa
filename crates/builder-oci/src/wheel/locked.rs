//! Python packages in the lock of a spec: from the resolver's lock file, and back to one. Pure.
//!
//! Format: PEP 751 (`pylock.toml`). Of each package the lock has the archive that was chosen and nothing else, so that
//! whoever builds of it chooses the same.

use imagespec_core::digest::Digest;
use imagespec_core::lock::{LockedArchive, LockedPackage, LockedRepository};
use serde::{Deserialize, Serialize};
use url::Url;

use super::name::normalize;
use super::pylock::PylockError;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    created_by: String,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
struct Package {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vcs: Option<LockedRepository>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdist: Option<Archive>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wheels: Vec<Archive>,
}

#[derive(Serialize, Deserialize)]
struct Archive {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subdirectory: Option<String>,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Serialize, Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

/// What of the lock file `text` was chosen: each package by its normalised name, and the digest of its archive if it has
/// one.
///
/// # Errors
/// When the text is no lock file.
pub fn packages(text: &str, chosen: &[(String, Option<Digest>)]) -> Result<Vec<LockedPackage>, PylockError> {
    let lock: Pylock = toml::from_str(text).map_err(|source| PylockError::Syntax { source })?;
    let mut packages: Vec<_> = lock
        .packages
        .into_iter()
        .filter_map(|package| {
            let name = normalize(&package.name);
            let (_, digest) = chosen.iter().find(|(chosen, _)| *chosen == name)?;
            let is_chosen = |archive: &LockedArchive| digest.is_none_or(|digest| archive.sha256 == digest);
            let one = |archive: Option<Archive>| archive.and_then(Archive::lock).filter(is_chosen);
            let wheels = package.wheels.into_iter().filter_map(Archive::lock).filter(is_chosen).collect();
            let (archive, sdist) = (one(package.archive), one(package.sdist));
            let vcs = package.vcs.filter(|_| digest.is_none());
            let locked = LockedPackage { name, version: package.version, vcs, archive, sdist, wheels };
            let LockedPackage { vcs, archive, sdist, wheels, .. } = &locked;
            // A lock file for many machines has a package several times, of which another one was chosen.
            let is_another = vcs.is_none() && archive.is_none() && sdist.is_none() && wheels.is_empty();
            (!is_another).then_some(locked)
        })
        .collect();
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(packages)
}

/// The text of a lock file with `packages` alone.
pub fn pylock(packages: &[LockedPackage]) -> String {
    let packages = packages.iter().cloned().map(|package| Package {
        name: package.name,
        version: package.version,
        vcs: package.vcs,
        archive: package.archive.map(Archive::of),
        sdist: package.sdist.map(Archive::of),
        wheels: package.wheels.into_iter().map(Archive::of).collect(),
    });
    let lock =
        Pylock { lock_version: "1.0".to_owned(), created_by: "imagespec".to_owned(), packages: packages.collect() };
    toml::to_string(&lock).expect("a lock file has string keys and no empty values")
}

impl Archive {
    /// The same for a lock; nothing if it has no address or digest. Who somebody is to a server is no part of a lock.
    fn lock(self) -> Option<LockedArchive> {
        let mut url = Url::parse(self.url.as_deref()?).ok()?;
        // Both fail for an address that can have none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let sha256 = Digest::from_hex(self.hashes.sha256.as_deref()?).ok()?;
        let Self { name, size, subdirectory, .. } = self;
        Some(LockedArchive { name, url: url.into(), size, subdirectory, sha256 })
    }

    fn of(locked: LockedArchive) -> Self {
        let LockedArchive { name, url, size, subdirectory, sha256 } = locked;
        Self { name, url: Some(url), size, subdirectory, hashes: Hashes { sha256: Some(sha256.to_hex()) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
lock-version = "1.0"
created-by = "uv"
[[packages]]
name = "Py_Yaml"
version = "6.0.2"
upload-time = 2024-08-06T20:31:42Z
sdist = { url = "https://x.test/a.tar.gz", hashes = { sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" } }
wheels = [
  { url = "https://joe:pw@x.test/py_yaml-6.0.2-py3-none-any.whl", size = 3, hashes = { sha256 = "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7" } },
  { url = "https://x.test/py_yaml-6.0.2-cp39-cp39-win32.whl", hashes = { sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" } },
]
[[packages]]
name = "for-windows"
version = "1"
"#;

    #[test]
    fn a_lock_has_the_archives_that_were_chosen_and_nothing_of_who_asked() {
        let chosen = Digest::from_hex("486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7").unwrap();
        let packages = packages(LOCK, &[("py-yaml".to_owned(), Some(chosen))]).unwrap();
        insta::assert_snapshot!(pylock(&packages), @r#"
        lock-version = "1.0"
        created-by = "imagespec"

        [[packages]]
        name = "py-yaml"
        version = "6.0.2"

        [[packages.wheels]]
        url = "https://x.test/py_yaml-6.0.2-py3-none-any.whl"
        size = 3

        [packages.wheels.hashes]
        sha256 = "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"
        "#);
    }

    #[test]
    fn of_a_package_that_stands_several_times_the_chosen_one_is_locked() {
        let entry = |version: &str, digit: &str| {
            let sha256 = digit.repeat(64);
            format!(
                "[[packages]]\nname = 'idna'\nversion = '{version}'\nwheels = [{{ url = 'https://x.test/idna-{version}-py3-none-any.whl', hashes = {{ sha256 = '{sha256}' }} }}]\n"
            )
        };
        let text = format!("lock-version = '1.0'\ncreated-by = 'uv'\n{}{}", entry("3.6", "a"), entry("3.7", "b"));
        let chosen = Digest::from_hex(&"b".repeat(64)).unwrap();
        let packages = packages(&text, &[("idna".to_owned(), Some(chosen))]).unwrap();
        let versions: Vec<_> = packages.iter().map(|package| package.version.as_deref()).collect();
        assert_eq!(versions, [Some("3.7")]);
    }
}
