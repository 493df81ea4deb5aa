//! What a base needs of Debian's archive: the indexes of its suites, the choice of packages, and the packages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::prelude::*;

use super::build::{Bootstrap, BootstrapError, Observer, Progress};
use super::date::Date;
use super::mirror::{Fetcher, Mirror, ValidUntil};
use super::packages::{Archive, Index, Package, PackageTable};
use super::release::{ByHash, Release};
use super::solve::solve;
use crate::sandbox::SandboxError;

/// Connections at once.
const CONNECTIONS: usize = 8;

/// The suites that were found, each with the archive that has it, and when it was made.
pub(super) type Suites = Vec<(Archive, String, Date)>;

/// The indexes of a suite, its updates and its security updates; and the suites that exist, with their archive.
pub(super) fn indexes(
    fetcher: &Fetcher<'_>,
    mirror: &Mirror,
    wanted: &Bootstrap,
    observer: Observer<'_>,
) -> Result<(Vec<Index>, Suites), BootstrapError> {
    let suite = &wanted.suite;
    let suites = [
        (Archive::Main, suite.clone(), ""),
        (Archive::Main, format!("{suite}-updates"), "urgent updates between point releases"),
        (Archive::Security, format!("{suite}-security"), "security updates"),
    ];
    let read = |(archive, name, what): &(Archive, String, &str)| {
        let index = index(fetcher, mirror, wanted, *archive, name, observer)?;
        if index.is_none() {
            let message = format!("the mirror has no suite `{name}`, so the base lacks Debian's {what}");
            (observer.progress)(Progress::Warning(message));
        }
        Ok(index.map(|(index, date)| (index, (*archive, name.clone(), date))))
    };
    let found: Vec<_> = suites.par_iter().map(read).collect();
    // Of several errors that of the suite itself is told, whichever came first.
    let found = found.into_iter().collect::<Result<Vec<_>, BootstrapError>>()?;
    Ok(found.into_iter().flatten().unzip())
}

/// The index of one suite; nothing if the mirror has not that suite, and it is not the one that was asked for.
fn index(
    fetcher: &Fetcher<'_>,
    mirror: &Mirror,
    wanted: &Bootstrap,
    archive: Archive,
    name: &str,
    observer: Observer<'_>,
) -> Result<Option<(Index, Date)>, BootstrapError> {
    let folder = format!("{}/dists/{name}", mirror.url(archive));
    let in_release = match fetcher.release(&format!("{folder}/InRelease")) {
        Err(error) if error.is_absent() && name != wanted.suite => return Ok(None),
        Err(error) if error.is_absent() => {
            return Err(BootstrapError::NoSuite { suite: name.to_owned(), mirror: mirror.url(archive).to_owned() });
        }
        result => result?,
    };
    let release = Release::verify(&in_release, name, Date(observer.now))?;
    // What is in the cache was in force when it was fetched.
    if mirror.valid_until == ValidUntil::Checked && !fetcher.cache.is_offline() {
        release.check_dates(name, Date(observer.now))?;
    }
    let architecture = wanted.platform.debian_architecture();
    let component = format!("main/binary-{architecture}");
    let Some(file) = release.file(&format!("{component}/Packages.xz")) else {
        let (suite, architecture) = (name.to_owned(), architecture.to_owned());
        return Err(BootstrapError::Architecture { suite, architecture });
    };
    let plain = format!("{folder}/{component}/Packages.xz");
    let by_hash = format!("{folder}/{component}/by-hash/SHA256/{}", file.digest.to_hex());
    let fetch = |url: &str| fetcher.blob(url, file.digest, file.size_bytes, &|_| {});
    match release.by_hash {
        ByHash::Offered => match fetch(&by_hash) {
            Err(error) if error.is_absent() => fetch(&plain)?,
            result => result?,
        },
        ByHash::Absent => fetch(&plain)?,
    }
    let bytes = fetcher.cache.read_blob(file.digest)?.ok_or(BootstrapError::Gone { package: plain })?;
    Ok(Some((Index::read(&bytes, archive, name)?, release.date)))
}

/// The packages of the base.
pub(super) fn choose(indexes: &[Index], wanted: &Bootstrap) -> Result<Vec<Package>, BootstrapError> {
    let table = PackageTable::new(indexes);
    let mut asked = vec!["apt".to_owned()];
    // The tree is merged from the start, so the package that merges old ones is not needed.
    asked.extend(table.get("usr-is-merged").map(|_| "usr-is-merged".to_owned()));
    asked.extend(wanted.packages.iter().cloned());
    Ok(solve(&table, &asked, &wanted.suite)?)
}

/// Fetches those of `packages` that are not in the cache. A mirror that lacks one of them, where they were chosen earlier,
/// has newer versions by now.
pub(super) fn fetch(
    fetcher: &Fetcher<'_>,
    mirror: &Mirror,
    packages: &[Package],
    snapshot: Option<&str>,
    observer: Observer<'_>,
) -> Result<(), BootstrapError> {
    let missing: Vec<_> = packages.iter().filter(|package| !fetcher.cache.has_blob(package.digest)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let size_bytes = missing.iter().map(|package| package.size_bytes).sum();
    (observer.progress)(Progress::Fetching { packages: missing.len(), size_bytes });
    side_by_side(&missing, |package| {
        if (observer.cancelled)() {
            return Err(BootstrapError::Sandbox(SandboxError::Cancelled));
        }
        let url = format!("{}/{}", mirror.url(package.archive), package.path);
        let received = |count| (observer.progress)(Progress::Received(count));
        fetcher.blob(&url, package.digest, package.size_bytes, &received).map_err(|error| match snapshot {
            Some(snapshot) if error.is_absent() => BootstrapError::Lost {
                package: package.name.clone(),
                version: package.version.clone(),
                mirror: mirror.url(package.archive).to_owned(),
                snapshot: snapshot.to_owned(),
            },
            _ => error.into(),
        })
    })?;
    (observer.progress)(Progress::Fetched);
    Ok(())
}

/// Does `fetch` for each of `items`, several at once, until one fails.
pub(crate) fn side_by_side<T: Sync, E: Send>(items: &[T], fetch: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let fetch_some = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Lets the others end soon.
            fetch(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(fetch_some)).collect();
        connections.into_iter().try_for_each(|connection| connection.join().expect("fetching does not panic"))
    })
}
