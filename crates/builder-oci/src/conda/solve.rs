//! Which packages an environment has: what the channels offer, and resolvo's choice among it.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use imagespec_core::digest::Digest;
use imagespec_core::suggestion;
use rattler_conda_types::{
    GenericVirtualPackage, MatchSpec, PackageName, ParseMatchSpecOptions, RepoDataRecord, Subdir, Version,
};
use rattler_repodata_gateway::fetch::{CacheAction, FetchRepoDataError, RepoDataNotFoundError};
use rattler_repodata_gateway::{ChannelConfig, ChannelRelationsMode, Gateway, GatewayError, RepoData, SourceConfig};
use rattler_solve::{CancellationToken, ChannelPriority, SolveError, SolverImpl as _, SolverTask, resolvo};

use super::channel::{Channel, listed, portable};
use super::error::CondaError;
use super::network::{Network, wait};
use super::solution::{Solution, SolvedPackage};
use crate::cache::Cache;
use crate::network::innermost;

/// How often one who wants to stop the solver is asked.
const STEP: Duration = Duration::from_millis(50);
/// The Linux that packages are told of. Images run on kernels that nobody knows; none of today is older.
const LINUX: &str = "5.10";

/// What an environment is to have.
pub(super) struct Asked<'a> {
    /// Match specs.
    pub(super) packages: &'a BTreeSet<String>,
    /// The channels, the most important first.
    pub(super) channels: &'a [Channel],
    /// `linux-64` or `linux-aarch64`.
    pub(super) subdir: Subdir,
    /// The number after `2.` of the base's glibc.
    pub(super) glibc_minor: u16,
}

/// Conda's name of a processor.
pub(super) fn subdir(machine: &str) -> Option<Subdir> {
    match machine {
        "x86_64" => Some(Subdir::Linux64),
        "aarch64" => Some(Subdir::LinuxAarch64),
        _ => None,
    }
}

/// Chooses the packages.
///
/// # Errors
/// When a channel cannot be read, has no package of a name, or nothing fits together; or when `cancelled` says so.
pub(super) fn solve(
    cache: &Cache,
    asked: &Asked<'_>,
    network: &Network,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Solution, CondaError> {
    let specs = asked.packages.iter().map(|text| spec(text)).collect::<Result<Vec<_>, _>>()?;
    let cache_action = if cache.is_offline() { CacheAction::ForceCacheOnly } else { CacheAction::default() };
    let source = SourceConfig { cache_action, ..SourceConfig::default() };
    let gateway = Gateway::builder()
        .with_cache_dir(cache.conda_folder())
        .with_channel_config(ChannelConfig { default: source, ..ChannelConfig::default() })
        .with_client(network.client.clone())
        .with_max_concurrent_requests(16)
        .finish();
    let offered = wait(offered(&gateway, asked, &specs), cancelled, &|| ())?;
    let is_remote = asked.channels.iter().any(|channel| channel.folder.is_none());
    let offered = offered.map_err(|error| match error {
        error @ (CondaError::Cancelled | CondaError::Unknown { .. }) => error,
        _ if cache.is_offline() && is_remote => {
            CondaError::Offline { what: format!("what {} says of these packages", listed(asked.channels)) }
        }
        error => error,
    })?;
    let records = offered.iter().map(sorted).collect();
    let chosen = choose(asked, specs, records, cancelled)?;
    let mut packages = chosen.iter().map(|record| solved(record, asked.channels)).collect::<Result<Vec<_>, _>>()?;
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Solution { packages })
}

fn spec(text: &str) -> Result<MatchSpec, CondaError> {
    let spec = MatchSpec::from_str(text, ParseMatchSpecOptions::lenient())
        .map_err(|source| CondaError::Spec { spec: text.to_owned(), source })?;
    let is_local = spec.channel.as_ref().is_some_and(|channel| channel.base_url.url().scheme() == "file");
    if spec.url.is_some() || is_local {
        return Err(CondaError::SpecUrl { spec: text.to_owned() });
    }
    Ok(spec)
}

/// What the channels have of the packages, and of what they depend on.
async fn offered(gateway: &Gateway, asked: &Asked<'_>, specs: &[MatchSpec]) -> Result<Vec<RepoData>, CondaError> {
    let addresses = || asked.channels.iter().map(|channel| channel.address.clone());
    let subdirs = [asked.subdir, Subdir::NoArch];
    let told = |error| told(&error, asked.channels);
    // Whatever version is wanted, all are offered: the solver says why none of them fits.
    let any_version = |spec: &MatchSpec| MatchSpec { version: None, build: None, build_number: None, ..spec.clone() };
    let found = gateway
        .query(addresses(), subdirs, specs.iter().map(any_version).collect::<Vec<_>>())
        .recursive(true)
        // Another channel than the named ones would be one that nobody chose.
        .channel_relations(ChannelRelationsMode::Disabled)
        .execute()
        .await
        .map_err(told)?;
    let names: BTreeSet<_> =
        found.iter().flat_map(RepoData::iter).map(|record| record.package_record.name.as_normalized()).collect();
    let wanted = specs.iter().filter_map(|spec| spec.name.as_exact()).map(PackageName::as_normalized);
    // Virtual packages are the image's.
    let mut absent = wanted.filter(|name| !name.starts_with("__") && !names.contains(name));
    if let Some(name) = absent.next() {
        let known = gateway.names(addresses(), subdirs).channel_relations(ChannelRelationsMode::Disabled);
        let known = known.execute().await.map_err(told)?;
        let likely = suggestion::closest(name, known.iter().map(PackageName::as_normalized));
        return Err(CondaError::Unknown {
            name: name.to_owned(),
            channels: listed(asked.channels),
            subdir: asked.subdir.to_string(),
            likely: likely.map(str::to_owned),
        });
    }
    Ok(found.into_iter().collect())
}

/// In an order that does not depend on what came first.
fn sorted(offered: &RepoData) -> Vec<&RepoDataRecord> {
    let mut records: Vec<_> = offered.iter().collect();
    records.sort_by(|left, right| left.url.as_str().cmp(right.url.as_str()));
    records
}

fn choose(
    asked: &Asked<'_>,
    specs: Vec<MatchSpec>,
    records: Vec<Vec<&RepoDataRecord>>,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<RepoDataRecord>, CondaError> {
    let (token, is_done) = (CancellationToken::new(), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                if cancelled() {
                    token.cancel();
                }
                thread::park_timeout(STEP);
            }
        });
        let task = SolverTask {
            specs,
            virtual_packages: virtual_packages(asked),
            channel_priority: ChannelPriority::Strict,
            cancellation_token: Some(token.clone()),
            ..records.into_iter().collect::<SolverTask<'_, _>>()
        };
        let result = resolvo::Solver.solve(task);
        is_done.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        result
    });
    match result {
        Ok(result) => Ok(result.records),
        Err(SolveError::Cancelled) => Err(CondaError::Cancelled),
        Err(SolveError::Unsolvable(explanation)) => {
            Err(CondaError::Unsolvable { explanation: explanation.join("\n").trim_end().to_owned() })
        }
        Err(source) => Err(CondaError::Solve { source }),
    }
}

/// What the image is, in words of packages. Nothing of this machine.
fn virtual_packages(asked: &Asked<'_>) -> Vec<GenericVirtualPackage> {
    let machine = if asked.subdir == Subdir::LinuxAarch64 { "aarch64" } else { "x86_64" };
    let glibc = format!("2.{}", asked.glibc_minor);
    [("__unix", "0", "0"), ("__linux", LINUX, "0"), ("__glibc", glibc.as_str(), "0"), ("__archspec", "1", machine)]
        .into_iter()
        .map(|(name, version, build)| GenericVirtualPackage {
            name: PackageName::new_unchecked(name),
            version: version.parse::<Version>().expect("numbers and dots are a version"),
            build_string: build.parse().expect("the name of a processor is a build"),
        })
        .collect()
}

fn solved(record: &RepoDataRecord, channels: &[Channel]) -> Result<SolvedPackage, CondaError> {
    let package = &record.package_record;
    let url = portable(&record.url, channels);
    let file = url.path().rsplit('/').next().unwrap_or_default().to_owned();
    let sha256 = package.sha256.ok_or_else(|| CondaError::NoDigest { file: file.clone() })?;
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    if !file.ends_with(".conda") && !file.ends_with(".tar.bz2") {
        return Err(CondaError::Format { file });
    }
    Ok(SolvedPackage {
        name: package.name.as_normalized().to_owned(),
        version: package.version.to_string(),
        build: package.build.to_string(),
        subdir: package.subdir.clone(),
        url,
        sha256: Digest::from_hex(&hex).expect("32 bytes as hexadecimal digits are a digest"),
        size_bytes: package.size,
        site_packages: package.python_site_packages_path.clone().filter(|_| package.name.as_normalized() == "python"),
    })
}

/// What went wrong with a channel, without what may be secret in its address.
fn told(error: &GatewayError, channels: &[Channel]) -> CondaError {
    if let GatewayError::SubdirNotFoundError(absent) = error {
        let known = channels.iter().find(|channel| channel.address.base_url == absent.channel.base_url);
        let channel = known.map_or_else(|| absent.channel.canonical_name(), |channel| channel.name.clone());
        return CondaError::NotAChannel { channel, subdir: absent.subdir.clone() };
    }
    let Some(http) = http(error) else {
        let mut problem = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            problem = format!("{problem}: {deeper}");
            cause = deeper.source();
        }
        return CondaError::Malformed { problem };
    };
    let host = http.url().and_then(|url| url.host_str()).unwrap_or("server").to_owned();
    match http.status() {
        Some(status) => CondaError::Status { host, status },
        None => CondaError::Unreachable { host, source: innermost(http) },
    }
}

fn http(error: &GatewayError) -> Option<&reqwest::Error> {
    match error {
        GatewayError::ReqwestError(error)
        | GatewayError::FetchRepoDataError(
            FetchRepoDataError::HttpError(reqwest_middleware::Error::Reqwest(error))
            | FetchRepoDataError::NotFound(RepoDataNotFoundError::HttpError(error)),
        ) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_address_is_no_package_of_a_channel() {
        for text in ["numpy[url='https://x.example/numpy-1-0.conda']", "file:///x::numpy"] {
            assert!(spec(text).is_err(), "{text}");
        }
        for text in ["numpy", "numpy>=1.26,<2", "numpy=1.26=py311_0", "conda-forge::numpy 1.26.*", "python 3.11.*"] {
            assert!(spec(text).is_ok(), "{text}");
        }
    }
}
