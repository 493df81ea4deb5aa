//! Builds of Python from python-build-standalone, as uv knows, fetches and verifies them.
//!
//! uv says which there are (`uv python list`), from a list of its own or that of UV_PYTHON_DOWNLOADS_JSON_URL, with the
//! digest of each; it fetches one from where UV_PYTHON_INSTALL_MIRROR says and compares it. Only the archive is of
//! interest here: uv keeps it in UV_PYTHON_CACHE_DIR, and what it unpacks is thrown away, since this machine's paths
//! are in it. Nothing is executed, so that it may be for another processor.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use imagespec_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::download::Observer;
use super::environment::Environment;
use super::message::UvMessage;
use super::name::Libc;
use super::process;
use super::resolve::{ResolveError, Uv};
use crate::cache::{Cache, CacheError, Key};

/// The variable that names uv's list.
const LIST_VARIABLE: &str = "UV_PYTHON_DOWNLOADS_JSON_URL";

/// A build of Python that uv knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonBuild {
    /// uv's name of it: `cpython-3.12.8-linux-x86_64-gnu`.
    pub key: String,
    /// The number after `3.` of its version.
    pub minor: u16,
    /// The number after that.
    pub patch: u16,
    /// Where it comes from, if there is no mirror.
    url: String,
}

/// Why a build of Python cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PythonBuildError {
    /// uv cannot be had or run.
    #[error(transparent)]
    Uv(#[from] ResolveError),
    /// uv cannot say which there are.
    #[error("uv cannot list the builds of Python {wanted}")]
    List {
        /// The version that was asked for.
        wanted: String,
        /// What uv said.
        source: UvMessage,
    },
    /// There is none of the version for the platform.
    #[error("uv knows no build of Python {wanted} for {machine} with {libc}")]
    None {
        /// The version that was asked for.
        wanted: String,
        /// The processor.
        machine: String,
        /// The C library.
        libc: &'static str,
    },
    /// It cannot be fetched, or is not what uv knows it to be.
    #[error("Python {version} cannot be fetched")]
    Fetch {
        /// The whole version.
        version: String,
        /// What uv said.
        source: UvMessage,
    },
    /// It was not fetched before, and nothing is fetched.
    #[error("the archive of Python {version} is not in the cache, and the build is offline")]
    Offline {
        /// The version.
        version: String,
    },
    /// uv is too old to keep archives.
    #[error("`{program}` did not hand over the archive of Python {version}")]
    NoArchive {
        /// uv.
        program: PathBuf,
        /// The whole version.
        version: String,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot keep the archive of Python {version}")]
    Io {
        /// The whole version.
        version: String,
        /// What the system said.
        source: io::Error,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl PythonBuild {
    /// `3.12.8`
    pub fn version(&self) -> String {
        format!("3.{}.{}", self.minor, self.patch)
    }
}

/// A line of uv's list. What is not read here, uv may change.
#[derive(Deserialize)]
struct Listed {
    key: String,
    version: String,
    url: Option<String>,
    os: String,
    /// Older ones say it in the key alone.
    variant: Option<String>,
    implementation: String,
    arch: String,
    libc: String,
}

impl Uv {
    /// The newest build of CPython `wanted`, `3.12` or `3.12.8`, for `machine` and `libc`.
    ///
    /// # Errors
    /// When there is none, or uv cannot say.
    pub fn python_build(
        &self,
        cache: &Cache,
        wanted: &str,
        machine: &str,
        libc: Libc,
        observer: Observer<'_>,
    ) -> Result<PythonBuild, PythonBuildError> {
        let list = std::env::var_os(LIST_VARIABLE).unwrap_or_default();
        let libc_name = match libc {
            Libc::Glibc { .. } => "glibc",
            Libc::Musl { .. } => "musl",
        };
        let parts = [wanted, machine, libc_name].map(str::as_bytes);
        let key = Key::new("python-build", parts.into_iter().chain([list.as_encoded_bytes()]));
        // A list that cannot be asked for has nothing new.
        if cache.is_offline()
            && let Some(build) = cache.record(key)?
        {
            return Ok(build);
        }
        let environment = Environment::of_machine();
        let mut command = self.command(cache, &environment);
        command.args([
            "python",
            "list",
            wanted,
            "--only-downloads",
            "--all-versions",
            "--all-platforms",
            "--all-arches",
        ]);
        // `--quiet` would silence the list.
        command.args(["--output-format", "json", "--no-config", "--no-progress", "--color", "never"]);
        let output = process::output(&mut command, observer.cancelled)
            .map_err(|source| ResolveError::Run { program: self.program().to_owned(), source })?
            .ok_or(ResolveError::Cancelled)?;
        if !output.status.success() {
            let source = UvMessage::new(&output, &environment.secrets());
            return Err(PythonBuildError::List { wanted: wanted.to_owned(), source });
        }
        let listed: Vec<Listed> = serde_json::from_slice(&output.stdout).map_err(|_| {
            let source = UvMessage::new(&output, &environment.secrets());
            PythonBuildError::List { wanted: wanted.to_owned(), source }
        })?;
        let build = newest(listed, wanted, machine, libc).ok_or_else(|| PythonBuildError::None {
            wanted: wanted.to_owned(),
            machine: machine.to_owned(),
            libc: libc_name,
        })?;
        cache.remember(key, &build)?;
        Ok(build)
    }

    /// The archive of `build` in the cache, fetched if it is not there yet; with its digest, which uv has compared.
    ///
    /// # Errors
    /// When it cannot be fetched, has another digest than uv knows, or cannot be kept.
    pub fn python_archive(
        &self,
        cache: &Cache,
        build: &PythonBuild,
        observer: Observer<'_>,
    ) -> Result<Digest, PythonBuildError> {
        let list = std::env::var_os(LIST_VARIABLE).unwrap_or_default();
        let parts = [build.key.as_bytes(), build.url.as_bytes(), list.as_encoded_bytes()];
        let key = Key::new("python-archive", parts);
        if let Some(digest) = kept(cache, key)? {
            return Ok(digest);
        }
        let version = build.version();
        if cache.is_offline() {
            return Err(PythonBuildError::Offline { version });
        }
        let _lock = cache.lock(&key.to_string())?;
        if let Some(digest) = kept(cache, key)? {
            return Ok(digest);
        }
        let io_error = |source| PythonBuildError::Io { version: version.clone(), source };
        let folder = tempfile::tempdir_in(cache.temporary_folder()).map_err(io_error)?;
        let archives = folder.path().join("archives");
        let environment = Environment::of_machine();
        let mut command = self.command(cache, &environment);
        command.args(["python", "install", &build.key, "--no-bin"]);
        // `--quiet` would silence why it fails.
        command.args(["--no-config", "--no-progress", "--color", "never"]);
        let variables: [(&str, OsString); 3] = [
            ("UV_PYTHON_CACHE_DIR", archives.clone().into()),
            ("UV_PYTHON_INSTALL_DIR", folder.path().join("unpacked").into()),
            ("UV_PYTHON_BIN_DIR", folder.path().join("bin").into()),
        ];
        command.envs(variables);
        let output = process::output(&mut command, observer.cancelled)
            .map_err(|source| ResolveError::Run { program: self.program().to_owned(), source })?
            .ok_or(ResolveError::Cancelled)?;
        if !output.status.success() {
            let source = UvMessage::new(&output, &environment.secrets());
            return Err(PythonBuildError::Fetch { version, source });
        }
        let entries = fs::read_dir(&archives).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let archive = entries.filter(|path| path.is_file()).max();
        let archive = archive.ok_or_else(|| PythonBuildError::NoArchive {
            program: self.program().to_owned(),
            version: version.clone(),
        })?;
        let mut writer = cache.blob_writer()?;
        File::open(archive).and_then(|mut file| io::copy(&mut file, &mut writer)).map_err(io_error)?;
        let digest = writer.commit()?.digest;
        cache.remember(key, &digest)?;
        Ok(digest)
    }
}

fn kept(cache: &Cache, key: Key) -> Result<Option<Digest>, CacheError> {
    match cache.record::<Digest>(key)? {
        Some(digest) if cache.has_blob(digest) => Ok(Some(digest)),
        _ => Ok(None),
    }
}

/// The newest of the builds that fit. Those before a release, and of other variants than the usual one, do not.
fn newest(listed: Vec<Listed>, wanted: &str, machine: &str, libc: Libc) -> Option<PythonBuild> {
    let architecture = match machine {
        "ppc64le" => "powerpc64le",
        "armv7l" => "armv7",
        machine => machine,
    };
    let is_libc = |name: &str| match libc {
        Libc::Glibc { .. } if architecture == "armv7" => name == "gnueabihf",
        Libc::Glibc { .. } => name == "gnu",
        Libc::Musl { .. } => name == "musl",
    };
    let builds = listed.into_iter().filter_map(|listed| {
        let Listed { key, version, url, os, variant, implementation, arch, libc } = listed;
        let is_usual = variant.is_none_or(|variant| variant == "default") && !key.contains('+');
        let is_known = os == "linux" && implementation == "cpython";
        let (minor, patch) = version.strip_prefix("3.")?.split_once('.')?;
        let build = PythonBuild { key, minor: minor.parse().ok()?, patch: patch.parse().ok()?, url: url? };
        let is_wanted = wanted == build.version() || wanted == format!("3.{}", build.minor);
        (is_usual && is_known && is_wanted && arch == architecture && is_libc(&libc)).then_some(build)
    });
    builds.max_by_key(|build| build.patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(version: &str, arch: &str, libc: &str, variant: &str) -> Listed {
        Listed {
            key: format!("cpython-{version}-linux-{arch}-{libc}"),
            version: version.to_owned(),
            url: Some("https://x.test/python.tar.gz".to_owned()),
            os: "linux".to_owned(),
            variant: Some(variant.to_owned()),
            implementation: "cpython".to_owned(),
            arch: arch.to_owned(),
            libc: libc.to_owned(),
        }
    }

    #[test]
    fn the_newest_release_for_the_processor_and_the_c_library_is_taken() {
        let list = || {
            vec![
                listed("3.12.9", "x86_64", "gnu", "default"),
                listed("3.12.10", "x86_64", "gnu", "default"),
                listed("3.12.11", "x86_64", "gnu", "freethreaded"),
                listed("3.12.11rc1", "x86_64", "gnu", "default"),
                listed("3.12.12", "x86_64", "musl", "default"),
                listed("3.12.13", "aarch64", "gnu", "default"),
                listed("3.12.14", "powerpc64le", "gnu", "default"),
                listed("3.12.15", "armv7", "gnueabi", "default"),
                listed("3.12.14", "armv7", "gnueabihf", "default"),
            ]
        };
        let key = |wanted, machine, libc| newest(list(), wanted, machine, libc).map(|build| build.key);
        let glibc = Libc::Glibc { minor: 36 };
        for (wanted, machine, libc, expected) in [
            ("3.12", "x86_64", glibc, Some("cpython-3.12.10-linux-x86_64-gnu")),
            ("3.12.9", "x86_64", glibc, Some("cpython-3.12.9-linux-x86_64-gnu")),
            ("3.12", "x86_64", Libc::Musl { minor: 2 }, Some("cpython-3.12.12-linux-x86_64-musl")),
            ("3.12", "aarch64", glibc, Some("cpython-3.12.13-linux-aarch64-gnu")),
            ("3.12", "ppc64le", glibc, Some("cpython-3.12.14-linux-powerpc64le-gnu")),
            ("3.12", "armv7l", glibc, Some("cpython-3.12.14-linux-armv7-gnueabihf")),
            ("3.1", "x86_64", glibc, None),
            ("3.13", "x86_64", glibc, None),
        ] {
            assert_eq!(key(wanted, machine, libc).as_deref(), expected, "{wanted} {machine}");
        }
    }
}
