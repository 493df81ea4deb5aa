//! Fetches wheels into the cache, several at once, each verified against its digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use imagespec_core::digest::Digest;
use rayon::prelude::*;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder};
use url::Url;

use super::environment::{Environment, Login};
use super::pylock::SelectedWheel;
use crate::cache::{Cache, CacheError};
use crate::network::innermost;
use crate::point::{self, Point};

/// Connections at once.
const CONNECTIONS: usize = 8;
/// Attempts for one file.
const ATTEMPTS: u32 = 4;
/// How long to wait before the second attempt; twice as long before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(400);
/// A server that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// How long it takes at most until somebody who wants to stop is heard.
const STEP: Duration = Duration::from_millis(50);
/// Length in bytes of what is read at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that wait to be written.
const PIECES: usize = 8;
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
    /// It is not in the cache, and nothing may be fetched.
    #[error("`{file}` is not in the cache, and the build is offline")]
    Offline {
        /// The file's name.
        file: String,
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
    /// Somebody wanted to stop.
    #[error("downloads were stopped")]
    Cancelled,
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

    /// Whether the server wants to know who asks, or does not believe it.
    pub(crate) fn is_denied(&self) -> bool {
        let denied = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        matches!(self, Self::Status { status, .. } if denied.contains(status))
    }
}

/// The one who waits for it: told how much came, and asked whether to stop. Both from several threads.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// Takes the length in bytes of every piece that comes.
    pub received: &'a (dyn Fn(u64) + Sync),
    /// Whether to stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Observer<'static> {
    /// Nobody: nothing is told, and nothing stops it.
    pub const NOBODY: Self = Self { received: &|_| {}, cancelled: &|| false };
}

/// Fetches those of `files` that are not in the cache, with the logins that `environment` has for their servers.
///
/// # Errors
/// When one of them cannot be fetched or has another digest, or when `observer` wants to stop.
pub fn download<'a>(
    cache: &Cache,
    files: impl IntoIterator<Item = impl Into<Wanted<'a>>>,
    environment: &Environment,
    observer: Observer<'_>,
) -> Result<(), DownloadError> {
    let files = files.into_iter().map(Into::into);
    let missing: Vec<Wanted<'_>> = files.filter(|wanted| !cache.has_blob(wanted.digest)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let downloads = Downloads::new(cache, environment, observer)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(CONNECTIONS.min(missing.len()))
        .build()
        .map_err(|error| DownloadError::Setup { source: error.into() })?;
    pool.install(|| missing.par_iter().try_for_each(|wanted| downloads.fetch(wanted)))
}

/// A file to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where it lies.
    pub url: &'a Url,
    /// Its name.
    pub file: &'a str,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, if that is known.
    pub size_bytes: Option<u64>,
}

impl<'a> From<&'a SelectedWheel> for Wanted<'a> {
    fn from(wheel: &'a SelectedWheel) -> Self {
        let SelectedWheel { url, file_name, sha256, size_bytes, .. } = wheel;
        Self { url, file: file_name.as_str(), digest: *sha256, size_bytes: *size_bytes }
    }
}

/// What downloads share.
pub(super) struct Downloads<'a> {
    cache: &'a Cache,
    client: Client,
    environment: &'a Environment,
    observer: Observer<'a>,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(
        cache: &'a Cache,
        environment: &'a Environment,
        observer: Observer<'a>,
    ) -> Result<Self, DownloadError> {
        let client = Client::builder()
            .user_agent(concat!("imagespec/", env!("CARGO_PKG_VERSION")))
            // Digests are of the bytes as they are stored.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connect_timeout(Duration::from_secs(30))
            .timeout(SILENCE_MAX)
            .build()
            .map_err(|error| DownloadError::Setup { source: error.into() })?;
        Ok(Self { cache, client, environment, observer })
    }

    /// Fetches one file into the cache, and tries again when the server may have been busy.
    pub(super) fn fetch(&self, wanted: &Wanted<'_>) -> Result<(), DownloadError> {
        self.cache.fetch_once(wanted.digest, || self.fetch_patiently(wanted))
    }

    fn fetch_patiently(&self, wanted: &Wanted<'_>) -> Result<(), DownloadError> {
        let mut delay = RETRY_DELAY;
        let mut attempt = 1;
        loop {
            match self.fetch_once(wanted) {
                Err(error) if attempt < ATTEMPTS && may_pass(&error) => {
                    tracing::debug!(%error, attempt, "a download is tried again");
                    self.wait(delay)?;
                    delay *= 2;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn wait(&self, delay: Duration) -> Result<(), DownloadError> {
        let mut left = delay;
        while !left.is_zero() {
            self.check_cancelled()?;
            let step = left.min(STEP);
            thread::sleep(step);
            left -= step;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), DownloadError> {
        if (self.observer.cancelled)() { Err(DownloadError::Cancelled) } else { Ok(()) }
    }

    fn fetch_once(&self, wanted: &Wanted<'_>) -> Result<(), DownloadError> {
        let file_name = || wanted.file.to_owned();
        let local = if wanted.url.scheme() == "file" { wanted.url.to_file_path().ok() } else { None };
        let host = match &local {
            Some(path) => path.display().to_string(),
            None => wanted.url.host_str().unwrap_or_default().to_owned(),
        };
        let io_error = |source| DownloadError::Io { file: file_name(), host: host.clone(), source };
        let (sender, receiver) = mpsc::sync_channel(PIECES);
        match local {
            Some(path) => {
                let opened = File::open(&path).map_err(io_error)?;
                thread::spawn(move || pass_on(opened, &sender));
            }
            None if self.cache.is_offline() => return Err(DownloadError::Offline { file: file_name() }),
            None => {
                let request = self.request(wanted.url);
                thread::spawn(move || answer(request, &sender));
            }
        }
        let size_bytes_max = wanted.size_bytes.unwrap_or(SIZE_BYTES_MAX);
        let mut writer = self.cache.blob_writer()?;
        while let Some(news) = self.next(&receiver)? {
            let piece = match news {
                News::Piece(piece) => piece,
                News::Broken(source) => return Err(io_error(source)),
                News::NoAnswer(source) => return Err(DownloadError::Transport { file: file_name(), host, source }),
                News::Status(status) => return Err(DownloadError::Status { file: file_name(), host, status }),
            };
            if writer.size_bytes() + piece.len() as u64 > size_bytes_max {
                return Err(DownloadError::TooLong { file: file_name(), size_bytes_max });
            }
            writer.write_all(&piece).map_err(|source| writer.io_error(source))?;
            (self.observer.received)(piece.len() as u64);
            point::reached(Point::HalfFetched);
        }
        writer.commit_as(wanted.digest, wanted.file)?;
        Ok(())
    }

    /// What the server says next; `None` at the end.
    fn next(&self, receiver: &Receiver<News>) -> Result<Option<News>, DownloadError> {
        loop {
            self.check_cancelled()?;
            match receiver.recv_timeout(STEP) {
                Ok(news) => return Ok(Some(news)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// The client takes a login out of the URL itself, and tells a login to no other server that it is sent to.
    fn request(&self, url: &Url) -> RequestBuilder {
        let request = self.client.get(url.clone());
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        match self.environment.login(url).filter(|_| is_anonymous) {
            Some(Login { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }
}

/// What a server says.
enum News {
    Piece(Vec<u8>),
    /// The content broke off.
    Broken(io::Error),
    NoAnswer(io::Error),
    Status(StatusCode),
}

/// Reads the answer to `request` in a thread of its own, so that a silent server keeps nobody from stopping.
fn answer(request: RequestBuilder, sender: &SyncSender<News>) {
    let news = match request.send() {
        Ok(answer) if answer.status() == StatusCode::OK => return pass_on(answer, sender),
        Ok(answer) => News::Status(answer.status()),
        Err(error) => News::NoAnswer(innermost(&error)),
    };
    // Whoever does not listen any more has stopped.
    let _ = sender.send(news);
}

fn pass_on(mut reader: impl Read, sender: &SyncSender<News>) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let news = match reader.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                News::Piece(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => News::Broken(error),
        };
        let is_last = matches!(news, News::Broken(_));
        if sender.send(news).is_err() || is_last {
            return;
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
        DownloadError::Setup { .. }
        | DownloadError::Offline { .. }
        | DownloadError::TooLong { .. }
        | DownloadError::Cancelled
        | DownloadError::Cache(_) => false,
    }
}
