//! Fetches wheels into the cache, several at once, each verified against its digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use imagespec_core::digest::Digest;
use rayon::prelude::*;
use reqwest::StatusCode;
use reqwest::blocking::Client;
use url::Url;

use super::pylock::SelectedWheel;
use crate::cache::{Cache, CacheError};
use crate::network::innermost;

/// Connections at once.
const CONNECTIONS: usize = 8;
/// Attempts for one file.
const ATTEMPTS: u32 = 4;
/// How long to wait before the second attempt; twice as long before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(400);
/// A server that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// A longer file is refused when the lock does not say how long it is.
const SIZE_BYTES_MAX: u64 = 16 << 30;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The client or its threads could not be set up.
    #[error("cannot set up downloads")]
    Setup {
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer, or one that breaks off.
    #[error("cannot fetch `{file}` from {host}")]
    Transport {
        /// The file's name.
        file: String,
        /// The server.
        host: String,
        /// What went wrong, without the address, which may hold a password.
        source: io::Error,
    },
    /// The server refused.
    #[error("{host} answered {status} for `{file}`")]
    Status {
        /// The file's name.
        file: String,
        /// The server.
        host: String,
        /// The answer.
        status: StatusCode,
    },
    /// The content broke off or could not be stored, or the local file not be read.
    #[error("cannot read `{file}` from {host}")]
    Io {
        /// The file's name.
        file: String,
        /// The server, or the local path.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than the lock says.
    #[error("`{file}` is longer than the {size_bytes_max} bytes that it may have")]
    TooLong {
        /// The file's name.
        file: String,
        /// The most that it may have.
        size_bytes_max: u64,
    },
    /// The cache failed, or the digest is wrong.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl DownloadError {
    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Cache(error) => error.is_temporary(),
            error => may_pass(error),
        }
    }
}

/// Fetches those of `wheels` that are not in the cache. `progress` is told of every piece's length in bytes, from
/// several threads.
///
/// # Errors
/// When one of them cannot be fetched or has another digest.
pub fn download(cache: &Cache, wheels: &[SelectedWheel], progress: &(dyn Fn(u64) + Sync)) -> Result<(), DownloadError> {
    let missing: Vec<&SelectedWheel> = wheels.iter().filter(|wheel| !cache.has_blob(wheel.sha256)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let client = client()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(CONNECTIONS.min(missing.len()))
        .build()
        .map_err(|error| DownloadError::Setup { source: error.into() })?;
    pool.install(|| {
        missing.par_iter().try_for_each(|wheel| {
            fetch(cache, &client, &wheel.url, wheel.file_name.as_str(), wheel.sha256, wheel.size_bytes, progress)
        })
    })
}

pub(super) fn client() -> Result<Client, DownloadError> {
    Client::builder()
        .user_agent(concat!("imagespec/", env!("CARGO_PKG_VERSION")))
        // Digests are of the bytes as they are stored.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(Duration::from_secs(30))
        .timeout(SILENCE_MAX)
        .build()
        .map_err(|error| DownloadError::Setup { source: error.into() })
}

/// Fetches one file into the cache, and tries again when the server may have been busy.
pub(super) fn fetch(
    cache: &Cache,
    client: &Client,
    url: &Url,
    file: &str,
    digest: Digest,
    size_bytes: Option<u64>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), DownloadError> {
    let mut delay = RETRY_DELAY;
    let mut attempt = 1;
    loop {
        match fetch_once(cache, client, url, file, digest, size_bytes, progress) {
            Err(error) if attempt < ATTEMPTS && may_pass(&error) => {
                tracing::debug!(%error, attempt, "a download is tried again");
                thread::sleep(delay);
                delay *= 2;
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn may_pass(error: &DownloadError) -> bool {
    match error {
        DownloadError::Transport { .. } => true,
        DownloadError::Io { host, .. } => !host.starts_with('/'),
        DownloadError::Status { status, .. } => {
            status.is_server_error() || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        }
        DownloadError::Setup { .. } | DownloadError::TooLong { .. } | DownloadError::Cache(_) => false,
    }
}

fn fetch_once(
    cache: &Cache,
    client: &Client,
    url: &Url,
    file: &str,
    digest: Digest,
    size_bytes: Option<u64>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), DownloadError> {
    let file_name = || file.to_owned();
    let local: Option<PathBuf> = if url.scheme() == "file" { url.to_file_path().ok() } else { None };
    let host = match &local {
        Some(path) => path.display().to_string(),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let io_error = |source| DownloadError::Io { file: file_name(), host: host.clone(), source };
    let mut reader: Box<dyn Read> = match &local {
        Some(path) => Box::new(File::open(path).map_err(io_error)?),
        None => {
            let answer = client.get(url.clone()).send().map_err(|error| DownloadError::Transport {
                file: file_name(),
                host: host.clone(),
                source: innermost(&error),
            })?;
            if answer.status() != StatusCode::OK {
                return Err(DownloadError::Status { file: file_name(), host, status: answer.status() });
            }
            Box::new(answer)
        }
    };
    let size_bytes_max = size_bytes.unwrap_or(SIZE_BYTES_MAX);
    let mut writer = cache.blob_writer()?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error(error)),
        };
        if writer.size_bytes() + count as u64 > size_bytes_max {
            return Err(DownloadError::TooLong { file: file_name(), size_bytes_max });
        }
        writer.write_all(&buffer[..count]).map_err(|source| writer.io_error(source))?;
        progress(count as u64);
    }
    writer.commit_as(digest, file)?;
    Ok(())
}
