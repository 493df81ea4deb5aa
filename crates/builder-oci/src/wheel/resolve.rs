//! From requirements to a lock file: uv's resolver, run for the image's platform and Python.
//!
//! uv is taken from PATH if it is new enough, else its wheel is fetched once, by pinned version and digest. It runs
//! with a cleared environment but for what it needs to reach the network, and keeps what it fetches in our cache.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagespec_core::digest::Digest;
use imagespec_core::uv::PinnedUv;
use pep440_rs::Version;
use url::Url;

use super::archive::Wheel;
use super::download::{DownloadError, Downloads, Observer, Wanted};
use super::environment::Environment;
use super::error::WheelError;
use super::message::{UvMessage, secrets_in};
use super::name::{InvalidWheelName, Libc, Target, WheelName};
use super::process;
use crate::cache::{Cache, CacheError, Key};

/// The oldest uv that writes `pylock.toml`, by its minor version.
const OLDEST: [u64; 2] = [0, 7];
/// glibc versions, after `2.`, that uv has a platform for.
const GLIBC_MINORS: [u16; 12] = [17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];
/// The program uv.
#[derive(Debug, Clone)]
pub struct Uv {
    program: PathBuf,
    /// What stands before it, so that it ends with this process.
    tie: Vec<OsString>,
}

/// What is to be resolved.
#[derive(Debug, Clone)]
pub struct Resolution<'a> {
    /// Requirements, one a line, as in `requirements.txt`.
    pub requirements: &'a str,
    /// Constraints, one a line.
    pub constraints: &'a str,
    /// Where the packages are to run.
    pub target: &'a Target,
    /// Folders and pages with wheels.
    pub find_links: &'a [String],
    /// Further arguments.
    pub extra_args: &'a [String],
    /// Whether what the requirements require is wanted too.
    pub dependencies: Dependencies,
    /// The variables that uv sees, indexes among them.
    pub environment: &'a Environment,
}

/// Whether what requirements require is resolved too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// It is.
    Followed,
    /// The list is complete as it stands: it came from a lock file.
    Listed,
}

/// Why requirements could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No uv is here, and there is none to fetch for this machine.
    #[error("uv 0.7 or newer is not on PATH, and there is none to fetch for {machine}")]
    NoUv {
        /// The processor.
        machine: String,
    },
    /// uv has no platform for the image.
    #[error("uv cannot resolve for {target}")]
    Unsupported {
        /// The target.
        target: String,
    },
    /// uv could not be started.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The requirements could not be handed over.
    #[error("cannot write requirements for uv")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// uv found no solution, or failed otherwise.
    #[error("the requirements cannot be resolved")]
    Failed {
        /// What uv said.
        source: UvMessage,
    },
    /// Somebody wanted to stop.
    #[error("uv was stopped")]
    Cancelled,
    /// uv wrote something that is no text.
    #[error("uv's lock file is not UTF-8")]
    NotText,
    /// The pinned wheel's name is none. A bug of ours.
    #[error(transparent)]
    Name(#[from] InvalidWheelName),
    /// uv could not be fetched.
    #[error("cannot fetch uv")]
    Download(#[from] DownloadError),
    /// uv's wheel could not be opened.
    #[error("cannot unpack uv")]
    Wheel(#[from] WheelError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Resolution<'_> {
    /// Arguments of uv, beside those that say for which Python and where the lock file goes.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let fixed =
            ["pip", "compile", "requirements.txt", "--constraints", "constraints.txt", "--format", "pylock.toml"];
        let quiet = ["--no-header", "--no-annotate", "--no-config", "--no-progress", "--quiet", "--color", "never"];
        let mut arguments: Vec<_> = fixed.into_iter().chain(quiet).map(str::to_owned).collect();
        for links in self.find_links {
            arguments.extend(["--find-links".to_owned(), links.clone()]);
        }
        if self.dependencies == Dependencies::Listed {
            arguments.push("--no-deps".to_owned());
        }
        arguments.extend_from_slice(self.extra_args);
        arguments
    }

    /// Writes the files that the arguments name.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("requirements.txt"), self.requirements)?;
        fs::write(folder.join("constraints.txt"), self.constraints)
    }

    /// Passwords that uv is given, and that nobody may see in what it says.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let lists = [self.find_links, self.extra_args].into_iter().flatten().map(String::as_str);
        let texts = [self.requirements, self.constraints].into_iter().chain(lists);
        let mut secrets = self.environment.secrets();
        secrets.extend(texts.flat_map(secrets_in));
        // A longer one may hold a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

impl Uv {
    /// The uv on PATH, if it is new enough; else one in the cache, fetched if it is not there yet.
    ///
    /// # Errors
    /// When it must be fetched and cannot.
    pub fn find(cache: &Cache, observer: Observer<'_>) -> Result<Self, ResolveError> {
        match on_path("uv").find(|program| is_new_enough(program)) {
            Some(program) => Ok(Self { program, tie: Vec::new() }),
            None => Self::fetched(cache, observer),
        }
    }

    /// The pinned uv of the cache, fetched if it is not there yet.
    ///
    /// # Errors
    /// When it cannot be fetched or unpacked.
    pub fn fetched(cache: &Cache, observer: Observer<'_>) -> Result<Self, ResolveError> {
        let (program, _) = Self::pinned(cache, std::env::consts::ARCH, observer)?;
        Ok(Self { program, tie: Vec::new() })
    }

    /// The pinned uv for `machine`, fetched into the cache if it is not there yet: the program, and the digest of its
    /// wheel.
    ///
    /// # Errors
    /// When there is none for `machine`, or it cannot be fetched or unpacked.
    pub(crate) fn pinned(
        cache: &Cache,
        machine: &str,
        observer: Observer<'_>,
    ) -> Result<(PathBuf, Digest), ResolveError> {
        let no_uv = || ResolveError::NoUv { machine: machine.to_owned() };
        let pinned = PinnedUv::of(machine).ok_or_else(no_uv)?;
        let sha256 = pinned.digest();
        let key = Key::new("uv", [pinned.sha256.as_bytes()]);
        if let Some(program) = unpacked(cache, key)? {
            return Ok((program, sha256));
        }
        let _lock = cache.lock(&key.to_string())?;
        if let Some(program) = unpacked(cache, key)? {
            return Ok((program, sha256));
        }
        let url = Url::parse(&pinned.url()).expect("the pinned address is one");
        let size_bytes = Some(pinned.size_bytes);
        let wanted = Wanted { url: &url, file: pinned.file_name, digest: sha256, size_bytes };
        // The index of a build has no say in where uv comes from.
        Downloads::new(cache, &Environment::default(), observer)?.fetch(&wanted)?;
        Ok((unpack(cache, key, &WheelName::new(pinned.file_name)?, sha256)?, sha256))
    }

    /// The same behind `tie`, as [`crate::sandbox::Sandbox::tie`] gives it.
    #[must_use]
    pub fn tied(self, tie: Vec<OsString>) -> Self {
        Self { tie, ..self }
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Resolves, and returns the text of a `pylock.toml`.
    ///
    /// # Errors
    /// When uv has no platform for the target, cannot be run, or finds no solution, or when `observer` wants to stop.
    pub fn resolve(
        &self,
        cache: &Cache,
        resolution: &Resolution<'_>,
        observer: Observer<'_>,
    ) -> Result<String, ResolveError> {
        let platform = platform(resolution.target)
            .ok_or_else(|| ResolveError::Unsupported { target: resolution.target.to_string() })?;
        let write_error = |source| ResolveError::Write { source };
        let folder = tempfile::tempdir_in(cache.temporary_folder()).map_err(write_error)?;
        resolution.write(folder.path()).map_err(write_error)?;
        let target = resolution.target;
        let mut command = self.command(cache, resolution.environment);
        command.current_dir(folder.path());
        command.args(resolution.arguments());
        command.args(["--python-platform", &platform]);
        command.args(["--python-version", &format!("3.{}.{}", target.python_minor, target.python_patch)]);
        // Nothing is built, and still uv would fetch an interpreter of that version if this machine's is another one.
        if on_path("python3").next().is_some() {
            command.arg("--no-python-downloads");
        }
        // Last, so that nothing takes it back: to build a package is to execute it on this machine.
        command.args(["--only-binary", ":all:"]);
        self.lock_file(command, &resolution.secrets(), observer)
    }

    /// Writes a `uv.lock` as a `pylock.toml`, without the project itself and its development dependencies. Nothing is
    /// resolved, and nothing but the two files is read.
    ///
    /// # Errors
    /// When uv cannot be run, or cannot read the lock file, or when `observer` wants to stop.
    pub fn export(
        &self,
        cache: &Cache,
        lock: &[u8],
        pyproject: &[u8],
        observer: Observer<'_>,
    ) -> Result<String, ResolveError> {
        let write_error = |source| ResolveError::Write { source };
        let folder = tempfile::tempdir_in(cache.temporary_folder()).map_err(write_error)?;
        fs::write(folder.path().join("uv.lock"), lock).map_err(write_error)?;
        fs::write(folder.path().join("pyproject.toml"), pyproject).map_err(write_error)?;
        let mut command = self.command(cache, &Environment::of_machine());
        command.current_dir(folder.path());
        command.args(["export", "--frozen", "--no-emit-project", "--no-dev", "--format", "pylock.toml"]);
        command.args(["--no-header", "--no-annotate", "--no-config", "--no-progress", "--quiet", "--color", "never"]);
        let secrets = secrets_in(&String::from_utf8_lossy(lock));
        self.lock_file(command, &secrets, observer)
    }

    /// Runs uv and returns the lock file that it prints. None of `secrets` stands in an error.
    fn lock_file(
        &self,
        mut command: Command,
        secrets: &[String],
        observer: Observer<'_>,
    ) -> Result<String, ResolveError> {
        let output = process::output(&mut command, observer.cancelled)
            .map_err(|source| ResolveError::Run { program: self.program.clone(), source })?
            .ok_or(ResolveError::Cancelled)?;
        if !output.status.success() {
            let source = UvMessage::new(&output, secrets);
            return Err(ResolveError::Failed { source });
        }
        String::from_utf8(output.stdout).map_err(|_| ResolveError::NotText)
    }

    /// uv with these variables; what it keeps lies in the cache.
    pub(super) fn command(&self, cache: &Cache, environment: &Environment) -> Command {
        let mut words = self.tie.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the program itself is one"));
        command.args(words);
        command.env_clear().envs(environment.variables());
        command.env("UV_CACHE_DIR", cache.resolver_folder());
        command.env("UV_PYTHON_INSTALL_DIR", cache.resolver_folder().join("python"));
        if cache.is_offline() {
            command.env("UV_OFFLINE", "1");
        }
        command
    }
}

/// The programs of a name in the folders of PATH.
fn on_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    folders.into_iter().map(move |folder| folder.join(name)).filter(|program| program.is_file())
}

fn is_new_enough(program: &Path) -> bool {
    let output =
        Command::new(program).arg("--version").env_clear().envs(Environment::of_machine().variables()).output();
    let Ok(output) = output else { return false };
    // `uv 0.13.9 (x86_64-unknown-linux-gnu)`
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1).and_then(|version| version.parse::<Version>().ok());
    version.is_some_and(|version| version >= Version::new(OLDEST))
}

fn unpacked(cache: &Cache, key: Key) -> Result<Option<PathBuf>, CacheError> {
    match cache.record::<Digest>(key)? {
        Some(digest) => cache.verified_blob_path(digest),
        None => Ok(None),
    }
}

fn unpack(cache: &Cache, key: Key, name: &WheelName, sha256: Digest) -> Result<PathBuf, ResolveError> {
    let absent = || WheelError::Absent { wheel: name.to_string(), digest: sha256 };
    let path = cache.verified_blob_path(sha256)?.ok_or_else(absent)?;
    let mut wheel = Wheel::open(&path, name)?;
    let position = wheel.member(&format!("{}.data/scripts/uv", wheel.stem)).ok_or_else(absent)?;
    let content = wheel.read(position)?;
    let path = cache.store_program(&content)?;
    cache.remember(key, &Digest::of(&content))?;
    Ok(path)
}

/// uv's name of a target: the newest of its platforms that the target's C library has.
fn platform(target: &Target) -> Option<String> {
    let machine = target.machine.as_str();
    match (machine, target.libc) {
        ("x86_64" | "aarch64", Libc::Glibc { minor }) => {
            let minor = GLIBC_MINORS.into_iter().rev().find(|known| *known <= minor)?;
            Some(format!("{machine}-manylinux_2_{minor}"))
        }
        ("x86_64" | "aarch64", Libc::Musl { .. }) => Some(format!("{machine}-unknown-linux-musl")),
        ("riscv64", Libc::Glibc { .. }) => Some("riscv64-unknown-linux".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_platform_that_the_base_has_is_asked_for() {
        let target =
            |machine: &str, libc| Target { python_minor: 11, python_patch: 2, machine: machine.to_owned(), libc };
        let name = |machine, libc| platform(&target(machine, libc)).unwrap_or_default();
        assert_eq!(name("x86_64", Libc::Glibc { minor: 36 }), "x86_64-manylinux_2_36");
        assert_eq!(name("aarch64", Libc::Glibc { minor: 41 }), "aarch64-manylinux_2_40");
        assert_eq!(name("x86_64", Libc::Glibc { minor: 27 }), "x86_64-manylinux_2_17");
        assert_eq!(name("x86_64", Libc::Musl { minor: 2 }), "x86_64-unknown-linux-musl");
        assert_eq!(name("x86_64", Libc::Glibc { minor: 12 }), "");
        assert_eq!(name("s390x", Libc::Glibc { minor: 36 }), "");
    }
}
