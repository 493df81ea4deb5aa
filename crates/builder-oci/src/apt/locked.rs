//! Debian packages by a lock: what apt would install now, and exactly that installed later, whatever the mirror has then.
//!
//! apt says what it would install, with digests from indexes that it verified. Later the files are fetched by these, and
//! apt gets them as files: it needs neither lists nor the network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome, Unit};
use imagespec_core::lock::LockedDeb;
use imagespec_core::plan::AptStep;
use tempfile::TempDir;

use super::{AptError, execution, told};
use crate::bootstrap::{Fetcher, side_by_side};
use crate::builder::{Building, Failure, Position};
use crate::cache::CacheError;
use crate::execute;
use crate::layer::Layer;
use crate::progress;
use crate::sandbox::{Access, Mount, Network};

const LIST: &str = include_str!("list.sh");
const INSTALL: &str = include_str!("install-locked.sh");
/// Where the script finds the files.
const FOLDER: &str = "/run/imagespec/debs";
/// A longer package is refused.
const SIZE_BYTES_MAX: u64 = 4 << 30;

/// Everything that apt would install now for `apt`, sorted by name.
pub(crate) fn closure(
    building: &Building<'_>,
    apt: &AptStep,
    position: &Position<'_>,
) -> Result<Vec<LockedDeb>, Failure> {
    let mut execution = execution(building, apt, position, LIST)?;
    execution.title = format!("resolve {}", progress::count(apt.packages.len(), "Debian package"));
    let lines = execute::ask(building, &execution).map_err(told)?;
    let addresses = lines.iter().filter(|line| line.starts_with('\''));
    let mut debs = addresses.map(|line| deb(line)).collect::<Result<Vec<_>, AptError>>()?;
    debs.sort_by(|left, right| (&left.name, &left.architecture).cmp(&(&right.name, &right.architecture)));
    Ok(debs)
}

/// Reads `'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:DIGEST` (apt-get(8), `--print-uris`).
fn deb(line: &str) -> Result<LockedDeb, AptError> {
    let refused = |problem| AptError::NotLockable { package: line.to_owned(), problem };
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [address, file, size, digest] = words.as_slice() else {
        return Err(refused("apt says no digest of it"));
    };
    let location = address.trim_matches('\'').to_owned();
    let file = file.replace("%3a", ":").replace("%3A", ":");
    let parts: Vec<_> = file.strip_suffix(".deb").unwrap_or_default().split('_').collect();
    let [name, version, architecture] = parts.as_slice() else { return Err(refused("apt says no version of it")) };
    if !location.starts_with("http://") && !location.starts_with("https://") {
        return Err(AptError::NotLockable { package: (*name).to_owned(), problem: "its address is not on the web" });
    }
    let digest = digest.strip_prefix("SHA256:").and_then(|digest| Digest::from_hex(digest).ok());
    Ok(LockedDeb {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        architecture: (*architecture).to_owned(),
        location,
        sha256: digest.ok_or_else(|| refused("apt says no sha256 of it"))?,
        size: size
            .parse()
            .ok()
            .filter(|size| *size <= SIZE_BYTES_MAX)
            .ok_or_else(|| refused("apt says no proper length of it"))?,
    })
}

/// Finds or makes the layer of exactly the packages `locked`, which are those of `apt` and what they depend on.
pub(super) fn layer(
    building: &Building<'_>,
    apt: &AptStep,
    position: &Position<'_>,
    locked: &[LockedDeb],
) -> Result<(Layer, Outcome), Failure> {
    let asked: BTreeSet<_> = apt.packages.iter().filter_map(|package| package.split(['=', '/', ':']).next()).collect();
    let automatic = locked.iter().map(|deb| deb.name.as_str()).filter(|name| !asked.contains(name));
    let sums: Vec<_> =
        locked.iter().map(|deb| format!("{}  {FOLDER}/{}", deb.sha256.to_hex(), file_name(deb))).collect();
    let mut argv: Vec<String> =
        ["/bin/sh", "-eu", "-c", INSTALL, "install", &sums.join("\n")].map(str::to_owned).into();
    argv.extend(automatic.map(str::to_owned));
    let mut execution = execution(building, apt, position, INSTALL)?;
    execution.title = format!("install {} as locked", progress::count(locked.len(), "Debian package"));
    execution.programs[0].argv = argv;
    execution.network = Network::None;
    let folder = if execute::is_made(building, &execution)? { None } else { Some(files(building, locked)?) };
    if let Some(folder) = &folder {
        let mount = |name: &str, target: &str, access| Mount {
            source: folder.path().join(name),
            target: PathBuf::from(target),
            access,
        };
        // apt's own caches must have no say.
        execution.mounts.retain(|mount| !mount.target.starts_with("/var"));
        execution.mounts.extend([
            mount("debs", FOLDER, Access::ReadOnly),
            mount("archives", "/var/cache/apt/archives", Access::ReadWrite),
            mount("lists", "/var/lib/apt/lists", Access::ReadWrite),
        ]);
    }
    execute::layer(building, &execution).map_err(told)
}

/// dpkg's name of a package's file.
fn file_name(deb: &LockedDeb) -> String {
    format!("{}_{}_{}.deb", deb.name, deb.version.replace(':', "%3a"), deb.architecture)
}

/// A folder with the files of `locked` and with empty caches of apt.
fn files(building: &Building<'_>, locked: &[LockedDeb]) -> Result<TempDir, Failure> {
    fetch(building, locked)?;
    let root = building.cache.temporary_folder();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CacheError::Io { action: "make", path, source }
    };
    let folder = tempfile::Builder::new().prefix("apt-").tempdir_in(&root).map_err(failed(&root))?;
    for name in ["debs", "archives/partial", "lists/partial"] {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).map_err(failed(&path))?;
    }
    for deb in locked {
        let path = folder.path().join("debs").join(file_name(deb));
        let blob = building.cache.verified_blob_path(deb.sha256)?.ok_or_else(|| AptError::NotLockable {
            package: deb.name.clone(),
            problem: "its file is no longer in the cache",
        })?;
        fs::copy(&blob, &path).map_err(failed(&path))?;
    }
    Ok(folder)
}

/// Fetches what of `locked` is not in the cache.
fn fetch(building: &Building<'_>, locked: &[LockedDeb]) -> Result<(), Failure> {
    let missing: Vec<_> = locked.iter().filter(|deb| !building.cache.has_blob(deb.sha256)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let total = missing.iter().map(|deb| deb.size.min(SIZE_BYTES_MAX)).sum();
    let cancelled = || building.progress.is_cancelled();
    building.progress.counted(
        &format!("fetch {}", progress::count(missing.len(), "Debian package")),
        Unit::Bytes,
        Some(total),
        |step| {
            let fetcher = Fetcher::new(&building.cache, &cancelled).map_err(AptError::from)?;
            side_by_side(&missing, |deb| {
                building.check_cancelled()?;
                let size_bytes_max = deb.size.min(SIZE_BYTES_MAX);
                fetcher.blob(&deb.location, deb.sha256, size_bytes_max, &|count| step.add(count)).map_err(|error| {
                    match error.is_absent() {
                        true => AptError::Lost {
                            package: deb.name.clone(),
                            version: deb.version.clone(),
                            address: deb.location.clone(),
                        },
                        false => error.into(),
                    }
                    .into()
                })
            })
        },
        |()| (Outcome::Done, event::size(total)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn what_apt_prints_is_read() {
        let line = format!(
            "'http://x.test/debian/pool/main/o/onig/libonig5_6.9.8-1%2bb1_amd64.deb' libonig5_1%3a6.9.8-1+b1_amd64.deb 188 SHA256:{SHA256}"
        );
        let deb = deb(&line).unwrap();
        assert_eq!((deb.name.as_str(), deb.version.as_str()), ("libonig5", "1:6.9.8-1+b1"));
        assert_eq!((deb.architecture.as_str(), deb.size), ("amd64", 188));
        assert_eq!(deb.location, "http://x.test/debian/pool/main/o/onig/libonig5_6.9.8-1%2bb1_amd64.deb");
        assert_eq!(file_name(&deb), "libonig5_1%3a6.9.8-1+b1_amd64.deb");
    }

    #[test]
    fn what_cannot_be_locked_is_told() {
        let error = |line: &str| deb(line).unwrap_err().to_string();
        insta::assert_snapshot!(error("'file:/srv/a_1_all.deb' a_1_all.deb 1 SHA256:00"), @"Debian package `a` cannot be locked: its address is not on the web");
        insta::assert_snapshot!(error("'http://x/a_1_all.deb' a_1_all.deb 1 MD5Sum:00"), @"Debian package `'http://x/a_1_all.deb' a_1_all.deb 1 MD5Sum:00` cannot be locked: apt says no sha256 of it");
        insta::assert_snapshot!(error("'http://x/a_1_all.deb' a_1_all.deb 1"), @"Debian package `'http://x/a_1_all.deb' a_1_all.deb 1` cannot be locked: apt says no digest of it");
    }
}
