//! Fetches packages into the cache, several at once, each verified against the digest that its channel says.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imagespec_core::event::{self, Outcome, Unit};
use url::Url;

use super::channel::{Channel, LOCAL};
use super::error::CondaError;
use super::network::{Network, wait};
use super::solution::{Solution, SolvedPackage};
use crate::builder::{Building, Failure};
use crate::cache::{Cache, CacheError};
use crate::network::innermost;
use crate::point::{self, Point};
use crate::progress;

/// Connections at once.
const CONNECTIONS: usize = 8;
/// Attempts for one file.
const ATTEMPTS: u32 = 4;
/// How long to wait before the second attempt; twice as long before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(400);
/// A longer file is refused when the channel does not say how long it is.
const SIZE_BYTES_MAX: u64 = 16 << 30;
/// Length in bytes of what is read at once.
const PIECE_BYTES: usize = 128 * 1024;

/// Fetches those of the packages that are not in the cache.
pub(super) fn fetch(
    building: &Building<'_>,
    solution: &Solution,
    channels: &[Channel],
    network: &Network,
) -> Result<(), Failure> {
    let cache = &building.cache;
    let missing: Vec<_> = solution.packages.iter().filter(|package| !cache.has_blob(package.sha256)).collect();
    let size_bytes: Option<u64> = missing.iter().map(|package| package.size_bytes).sum();
    building.progress.counted(
        &format!("fetch {}", progress::count(solution.packages.len(), "conda package")),
        Unit::Bytes,
        size_bytes,
        |step| {
            let cancelled = || building.progress.is_cancelled();
            let (local, remote): (Vec<&SolvedPackage>, Vec<&SolvedPackage>) =
                missing.iter().partition(|package| package.url.as_str().starts_with(LOCAL));
            if let Some(package) = remote.first().filter(|_| cache.is_offline()) {
                return Err(CondaError::Offline { what: format!("`{}`", package.file_name()) }.into());
            }
            for package in local {
                building.check_cancelled()?;
                cache.fetch_once(package.sha256, || {
                    step.add(take(cache, package, channels)?);
                    Ok::<_, CondaError>(())
                })?;
            }
            let received = Arc::new(AtomicU64::new(0));
            let files = remote.into_iter().map(|package| Wanted::new(package, cache, network, &received)).collect();
            let tick = || step.reach(received.load(Ordering::Relaxed));
            wait(all(files), &cancelled, &tick)??;
            Ok::<_, Failure>(())
        },
        |()| match (missing.len(), size_bytes) {
            (0, _) => (Outcome::Cached, String::new()),
            (_, Some(size_bytes)) => (Outcome::Done, event::size(size_bytes)),
            (_, None) => (Outcome::Done, String::new()),
        },
    )
}

/// Takes a package from the first channel on this machine that has it, and returns its length in bytes.
fn take(cache: &Cache, package: &SolvedPackage, channels: &[Channel]) -> Result<u64, CondaError> {
    let file = package.file_name().to_owned();
    let folders = channels.iter().filter_map(|channel| channel.folder.as_ref());
    let paths: Vec<PathBuf> = folders.map(|folder| folder.join(&package.subdir).join(&file)).collect();
    let size_bytes_max = package.size_bytes.unwrap_or(SIZE_BYTES_MAX);
    let mut result = Err(CondaError::Transfer {
        file: file.clone(),
        host: "the channels on this machine".to_owned(),
        source: io::ErrorKind::NotFound.into(),
    });
    for path in paths {
        let failed = |source| CondaError::Transfer { file: file.clone(), host: path.display().to_string(), source };
        let mut content = match File::open(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        if !content.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let mut writer = cache.blob_writer()?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = content.read(&mut piece).map_err(failed)?;
            if count == 0 {
                break;
            }
            if writer.size_bytes() + count as u64 > size_bytes_max {
                return Err(CondaError::TooLong { file, size_bytes_max });
            }
            writer.write_all(&piece[..count]).map_err(|source| writer.io_error(source))?;
        }
        // Of two channels with a file of this name, one may have another file.
        match writer.commit_as(package.sha256, &file) {
            Ok(stored) => return Ok(stored.size_bytes),
            Err(error @ CacheError::WrongDigest { .. }) => result = Err(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    result
}

/// A package to fetch, and all that is needed for it.
struct Wanted {
    package: SolvedPackage,
    cache: Cache,
    network: Network,
    received: Arc<AtomicU64>,
}

/// Fetches `files`, some at once; the first that fails stops the others.
async fn all(files: VecDeque<Wanted>) -> Result<(), CondaError> {
    let workers = CONNECTIONS.min(files.len());
    let queue = Arc::new(Mutex::new(files));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let queue = Arc::clone(&queue);
        running.spawn(async move {
            let next = || queue.lock().expect("no task panics while it takes from the queue").pop_front();
            while let Some(wanted) = next() {
                wanted.fetch().await?;
            }
            Ok::<_, CondaError>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| CondaError::Setup { source: error.into() })??;
    }
    Ok(())
}

impl Wanted {
    fn new(package: &SolvedPackage, cache: &Cache, network: &Network, received: &Arc<AtomicU64>) -> Self {
        Self {
            package: package.clone(),
            cache: cache.clone(),
            network: network.clone(),
            received: Arc::clone(received),
        }
    }

    async fn fetch(&self) -> Result<(), CondaError> {
        let (cache, digest) = (self.cache.clone(), self.package.sha256);
        // Another build may fetch it, too; waiting for that must not stop the other downloads.
        let lock = tokio::task::spawn_blocking(move || cache.lock_blob(digest)).await;
        let _lock = lock.map_err(|error| CondaError::Setup { source: error.into() })??;
        if self.cache.has_blob(digest) {
            return Ok(());
        }
        let mut delay = RETRY_DELAY;
        for _ in 1..ATTEMPTS {
            match self.fetch_once().await {
                Err(error) if error.is_temporary() => {
                    tracing::debug!(%error, "a download is tried again");
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                result => return result,
            }
        }
        self.fetch_once().await
    }

    async fn fetch_once(&self) -> Result<(), CondaError> {
        let SolvedPackage { url, sha256, size_bytes, .. } = &self.package;
        let (file, host) = (self.package.file_name().to_owned(), host(url));
        let failed = |error: reqwest::Error| CondaError::Transfer {
            file: file.clone(),
            host: host.clone(),
            source: innermost(&error),
        };
        let answer = self.network.client.get(url.clone()).send().await.map_err(|error| match error {
            reqwest_middleware::Error::Reqwest(error) => failed(error),
            reqwest_middleware::Error::Middleware(_) => {
                let source = io::Error::other("the request could not be prepared");
                CondaError::Transfer { file: file.clone(), host: host.clone(), source }
            }
        })?;
        if !answer.status().is_success() {
            let host = answer.url().host_str().unwrap_or(&host).to_owned();
            return Err(CondaError::PackageStatus { file, host, status: answer.status() });
        }
        let size_bytes_max = size_bytes.unwrap_or(SIZE_BYTES_MAX);
        let mut writer = self.cache.blob_writer()?;
        let mut answer = answer;
        while let Some(piece) = answer.chunk().await.map_err(&failed)? {
            if writer.size_bytes() + piece.len() as u64 > size_bytes_max {
                return Err(CondaError::TooLong { file, size_bytes_max });
            }
            writer.write_all(&piece).map_err(|source| writer.io_error(source))?;
            self.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
            point::reached(Point::HalfFetched);
        }
        writer.commit_as(*sha256, &file)?;
        Ok(())
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
