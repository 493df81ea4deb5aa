//! The pinned uv for a processor, fetched once into the cache folder of imagespec, verified, and unpacked. It goes into the
//! contexts of recipes; nothing here runs it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use imagespec_core::builder::{BuildError, FailureKind, NetworkPolicy};
use imagespec_core::digest::{Digest, Hasher};
use imagespec_core::uv::{PinnedUv, UV_VERSION};
use reqwest::blocking::Client;
use tempfile::NamedTempFile;

use crate::dockerfile::UvProgram;

/// Folder of what the builders on BuildKit keep, and the one for what is being written, which is whose build was killed.
const FOLDER: &str = "builders/buildkit";
const ASIDE: &str = "tmp";
/// A server that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// How long somebody who fetches the same is waited for.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long it takes at most until somebody who wants to stop is heard.
const STEP: Duration = Duration::from_millis(50);
/// Attempts to fetch it.
const ATTEMPTS: u32 = 4;
/// Length in bytes of what is read at once.
const PIECE_BYTES: usize = 128 * 1024;
/// An unpacked uv is shorter.
const PROGRAM_BYTES_MAX: u64 = 256 << 20;

/// Why there is no uv.
#[derive(Debug, thiserror::Error)]
pub enum UvError {
    /// It is not in the cache, and nothing may be fetched.
    #[error("uv {UV_VERSION} for {machine} is not in the cache, and the build is offline")]
    Offline {
        /// The processor.
        machine: String,
    },
    /// No answer, or one that breaks off.
    #[error("cannot fetch uv from {host}")]
    Transport {
        /// The server.
        host: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server refused.
    #[error("{host} answered {status} for uv")]
    Status {
        /// The server.
        host: String,
        /// The answer.
        status: u16,
    },
    /// The server sent something else.
    #[error("what {host} sent is not uv {UV_VERSION}: its sha256 is another one")]
    Other {
        /// The server.
        host: String,
    },
    /// The wheel has no program.
    #[error("the wheel of uv cannot be unpacked: {problem}")]
    Wheel {
        /// What is wrong.
        problem: String,
    },
    /// The cache folder cannot be used.
    #[error("cannot {action} `{path}`")]
    Io {
        /// `write`
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has been at it for too long.
    #[error("another process has been fetching uv for 15 minutes")]
    Busy,
    /// Somebody wanted to stop.
    #[error("fetching uv was stopped")]
    Cancelled,
}

impl UvError {
    /// The same for the one who asked for a build.
    pub fn tell(&self) -> BuildError {
        let kind = match self {
            Self::Offline { .. } | Self::Io { .. } | Self::Wheel { .. } => FailureKind::Machine,
            Self::Transport { .. } | Self::Status { .. } | Self::Busy => FailureKind::Temporary,
            Self::Other { .. } => FailureKind::Denied,
            Self::Cancelled => FailureKind::Cancelled,
        };
        let error = BuildError::new(kind, self);
        match self {
            Self::Offline { .. } => error.hint("build once without `--offline`"),
            Self::Transport { .. } => error.hint("check the network, HTTPS_PROXY and SSL_CERT_FILE"),
            Self::Other { .. } => error.hint("something between this machine and the package index changes files"),
            _ => error,
        }
    }
}

/// The uv for `machine` (`x86_64`, `aarch64`) in the cache folder of imagespec, fetched if it is not there yet. None where
/// there is none. `received` is told how much came.
///
/// # Errors
/// When it must be fetched and cannot, or is not what it should be, or `cancelled` says so.
pub fn pinned_uv(
    cache_dir: &Path,
    machine: &str,
    network: NetworkPolicy,
    received: &dyn Fn(u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<UvProgram>, UvError> {
    let Some(pinned) = PinnedUv::of(machine) else { return Ok(None) };
    let folder = cache_dir.join(FOLDER);
    // A file beside it holds the digest of the program.
    let program = folder.join(format!("uv-{UV_VERSION}-{machine}"));
    if let Some(found) = unpacked(&program) {
        return Ok(Some(found));
    }
    let aside = cache_dir.join(ASIDE);
    for folder in [&folder, &aside] {
        fs::create_dir_all(folder).map_err(|source| failed("make", folder, source))?;
    }
    let _lock = lock(&folder.join(format!("uv-{machine}.lock")), cancelled)?;
    if let Some(found) = unpacked(&program) {
        return Ok(Some(found));
    }
    if network == NetworkPolicy::Offline {
        return Err(UvError::Offline { machine: machine.to_owned() });
    }
    let wheel = fetch_patiently(pinned, &aside, received, cancelled)?;
    unpack(pinned, wheel, &program, &aside).map(Some)
}

/// The program, if it is there and as it was written. That it is used keeps it from being removed.
fn unpacked(program: &Path) -> Option<UvProgram> {
    let note = note_of(program);
    let digest: Digest = fs::read_to_string(&note).ok()?.parse().ok()?;
    let (found, size_bytes) = Digest::of_reader(&mut File::open(program).ok()?).ok()?;
    if found != digest {
        return None;
    }
    for path in [program, &note] {
        // Of a file of somebody else the time cannot be set; then it is that of when it was written.
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }
    Some(UvProgram { path: program.to_owned(), digest, size_bytes })
}

/// The file with the digest of the program.
fn note_of(program: &Path) -> PathBuf {
    let mut path = program.as_os_str().to_owned();
    path.push(".digest");
    path.into()
}

fn lock(path: &Path, cancelled: &dyn Fn() -> bool) -> Result<File, UvError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|source| failed("open", path, source))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed("lock", path, source)),
            Err(TryLockError::WouldBlock) if cancelled() => return Err(UvError::Cancelled),
            Err(TryLockError::WouldBlock) if start.elapsed() > WAIT_MAX => return Err(UvError::Busy),
            Err(TryLockError::WouldBlock) => thread::sleep(STEP),
        }
    }
}

fn fetch_patiently(
    pinned: &PinnedUv,
    folder: &Path,
    received: &dyn Fn(u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<NamedTempFile, UvError> {
    let mut attempt = 1;
    loop {
        match fetch(pinned, folder, received, cancelled) {
            Err(error @ (UvError::Transport { .. } | UvError::Status { status: 408 | 429 | 500.., .. }))
                if attempt < ATTEMPTS =>
            {
                tracing::debug!(%error, attempt, "fetching uv is tried again");
                attempt += 1;
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(400) * attempt {
                    if cancelled() {
                        return Err(UvError::Cancelled);
                    }
                    thread::sleep(STEP);
                }
            }
            result => return result,
        }
    }
}

fn fetch(
    pinned: &PinnedUv,
    folder: &Path,
    received: &dyn Fn(u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<NamedTempFile, UvError> {
    let url = pinned.url();
    let host = url.split('/').nth(2).unwrap_or_default().to_owned();
    let (sender, receiver) = mpsc::sync_channel(8);
    // In a thread of its own, so that a silent server keeps nobody from stopping.
    thread::spawn(move || answer(&url, &sender));
    let mut file = NamedTempFile::new_in(folder).map_err(|source| failed("write", folder, source))?;
    let (mut hasher, mut size_bytes) = (Hasher::default(), 0);
    while let Some(news) = next(&receiver, cancelled)? {
        let piece = match news {
            News::Piece(piece) => piece,
            News::Status(status) => return Err(UvError::Status { host, status }),
            News::Broken(source) => return Err(UvError::Transport { host, source }),
        };
        size_bytes += piece.len() as u64;
        if size_bytes > pinned.size_bytes {
            return Err(UvError::Other { host });
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(|source| failed("write", file.path(), source))?;
        received(piece.len() as u64);
    }
    if size_bytes < pinned.size_bytes {
        return Err(UvError::Transport { host, source: io::ErrorKind::UnexpectedEof.into() });
    }
    if hasher.finish().0 != pinned.digest() {
        return Err(UvError::Other { host });
    }
    Ok(file)
}

/// What a server says.
enum News {
    Piece(Vec<u8>),
    Status(u16),
    Broken(io::Error),
}

fn next(receiver: &Receiver<News>, cancelled: &dyn Fn() -> bool) -> Result<Option<News>, UvError> {
    loop {
        if cancelled() {
            return Err(UvError::Cancelled);
        }
        match receiver.recv_timeout(STEP) {
            Ok(news) => return Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

fn answer(url: &str, sender: &SyncSender<News>) {
    let client = Client::builder()
        .user_agent(concat!("imagespec/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(30))
        .timeout(SILENCE_MAX)
        .build();
    let mut answer = match client.and_then(|client| client.get(url).send()) {
        Ok(answer) if answer.status().is_success() => answer,
        // Whoever does not listen any more has stopped; so below.
        Ok(answer) => return drop(sender.send(News::Status(answer.status().as_u16()))),
        Err(error) => return drop(sender.send(News::Broken(innermost(&error)))),
    };
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let news = match answer.read(&mut piece) {
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

/// What lies beneath a client's error, which repeats the address.
fn innermost(error: &dyn std::error::Error) -> io::Error {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    io::Error::other(deepest.to_string())
}

/// Takes the program out of its wheel in the folder `aside` and puts it where it belongs, at once.
fn unpack(pinned: &PinnedUv, wheel: NamedTempFile, program: &Path, aside: &Path) -> Result<UvProgram, UvError> {
    let wrong = |problem: String| UvError::Wheel { problem };
    let mut file = wheel.into_file();
    file.seek(SeekFrom::Start(0)).map_err(|source| failed("read", program, source))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let member = archive.by_name(&pinned.member()).map_err(|error| wrong(error.to_string()))?;
    let io_failed = |source| failed("write", program, source);
    let mut unpacked = NamedTempFile::new_in(aside).map_err(io_failed)?;
    let mut content = member.take(PROGRAM_BYTES_MAX);
    let size_bytes = io::copy(&mut content, &mut unpacked).map_err(|error| wrong(error.to_string()))?;
    unpacked.seek(SeekFrom::Start(0)).map_err(io_failed)?;
    let (digest, _) = Digest::of_reader(unpacked.as_file_mut()).map_err(io_failed)?;
    fs::set_permissions(unpacked.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(io_failed)?;
    unpacked.as_file().sync_all().map_err(io_failed)?;
    let mut note = NamedTempFile::new_in(aside).map_err(io_failed)?;
    note.write_all(digest.to_string().as_bytes()).map_err(io_failed)?;
    unpacked.persist(program).map_err(|error| io_failed(error.error))?;
    note.persist(note_of(program)).map_err(|error| io_failed(error.error))?;
    Ok(UvProgram { path: program.to_owned(), digest, size_bytes })
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> UvError {
    UvError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_taken_only_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(FOLDER);
        fs::create_dir_all(&place).unwrap();
        let program = place.join(format!("uv-{UV_VERSION}-x86_64"));
        let find = || pinned_uv(folder.path(), "x86_64", NetworkPolicy::Offline, &|_| {}, &|| false);
        insta::assert_snapshot!(find().unwrap_err(), @"uv 0.13.9 for x86_64 is not in the cache, and the build is offline");
        fs::write(&program, "uv").unwrap();
        fs::write(note_of(&program), Digest::of(b"uv").to_string()).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH;
        File::open(&program).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(find().unwrap().unwrap().size_bytes, 2);
        assert!(fs::metadata(&program).unwrap().modified().unwrap() > long_ago, "it is used");
        // That of another processor is another program.
        let other = place.join(format!("uv-{UV_VERSION}-aarch64"));
        fs::write(&other, "other").unwrap();
        fs::write(note_of(&other), Digest::of(b"other").to_string()).unwrap();
        assert_eq!(find().unwrap().unwrap().size_bytes, 2);
        fs::write(&program, "vu").unwrap();
        assert!(find().is_err());
        let none = pinned_uv(folder.path(), "s390x", NetworkPolicy::Offline, &|_| {}, &|| false);
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn whoever_waits_for_another_process_may_stop() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(FOLDER);
        fs::create_dir_all(&place).unwrap();
        let _held = lock(&place.join("uv-x86_64.lock"), &|| false).unwrap();
        let stopped = pinned_uv(folder.path(), "x86_64", NetworkPolicy::Online, &|_| {}, &|| true);
        assert!(matches!(stopped, Err(UvError::Cancelled)), "{stopped:?}");
    }
}
