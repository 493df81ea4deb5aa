//! The step that installs Debian packages: the image's own apt, in the sandbox.
//!
//! Packages and lists that apt fetches are kept in the cache for later builds and never reach the layer; neither do
//! its logs, backups and caches, nor anything else that says when or how often it ran.

mod locked;

use std::fs;
use std::path::PathBuf;

use imagespec_core::event::Outcome;
use imagespec_core::lock::LockedDeb;
use imagespec_core::plan::AptStep;
use imagespec_core::resolve::is_unknown_debian_package;

use crate::bootstrap::{MirrorError, script_environment};
use crate::builder::{Building, Failure, Position};
use crate::cache::{CacheError, Key};
use crate::emulation::CannotExecute;
use crate::execute::{self, ExecuteError, Execution, Program};
use crate::layer::Layer;
use crate::progress;
use crate::sandbox::{Access, Mount, Network};
use crate::secret::Masked;

const INSTALL: &str = include_str!("install.sh");
/// The script's exit code on a base that is not Debian's.
const NO_APT: i32 = 90;
/// Keeps services from being started while packages are installed (Debian's invoke-rc.d).
const POLICY: &str = "#!/bin/sh\nexit 101\n";

pub(crate) use locked::closure;

/// What says when, how often or where apt and the packages' scripts ran.
const EXCLUDE: [&str; 36] = [
    "dev",
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/hosts",
    "etc/machine-id",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/fontconfig",
    "var/cache/ldconfig/aux-cache",
    "var/cache/man",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    "var/log/alternatives.log",
    "var/log/apt",
    "var/log/dpkg.log",
    "var/log/fontconfig.log",
    "var/tmp",
];

/// Why Debian packages could not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AptError {
    /// It is no Debian or Ubuntu.
    #[error("the base has no apt-get: `apt_packages` needs a Debian or an Ubuntu")]
    NotDebian,
    /// It is for a processor whose programs this machine cannot run.
    #[error("Debian packages are installed by the image's own apt-get, which this machine cannot run")]
    CannotExecute {
        /// Why not.
        source: CannotExecute,
    },
    /// A locked package cannot be had.
    #[error(transparent)]
    Fetch(#[from] MirrorError),
    /// The server has another version of a locked package by now.
    #[error("version {version} of Debian package `{package}` is locked, and no longer at `{address}`")]
    Lost {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// Where it was.
        address: String,
    },
    /// apt would install a package that cannot be locked.
    #[error("Debian package `{package}` cannot be locked: {problem}")]
    NotLockable {
        /// The package or its address.
        package: String,
        /// Why.
        problem: &'static str,
    },
    /// apt failed.
    #[error("apt-get cannot install the packages (exit code {code}):\n{}", .lines.join("\n"))]
    Failed {
        /// Its exit code.
        code: i32,
        /// Its last lines.
        lines: Vec<String>,
    },
}

impl AptError {
    /// Whether apt knows no package of a name, and knows all that its mirrors have.
    pub(crate) fn is_unknown_package(&self) -> bool {
        let Self::Failed { lines, .. } = self else { return false };
        is_unknown_debian_package(&lines.join("\n"))
    }
}

/// Finds or makes the layer of `apt`: of exactly the packages that are `locked`, if they are. Who wants to learn which
/// they are now is told.
pub(crate) fn layer(
    building: &Building<'_>,
    apt: &AptStep,
    position: &Position<'_>,
    locked: Option<&[LockedDeb]>,
) -> Result<(Layer, Outcome), Failure> {
    if let Some(learned) = position.learned {
        let debs = locked::closure(building, apt, position)?;
        let made = locked::layer(building, apt, position, &debs);
        learned.replace(debs);
        return made;
    }
    match locked {
        Some(locked) => locked::layer(building, apt, position, locked),
        None => execute::layer(building, &execution(building, apt, position, INSTALL)?).map_err(told),
    }
}

/// `script` with the packages of `apt` on the layers so far, with the caches of apt.
fn execution<'a>(
    building: &Building<'_>,
    apt: &AptStep,
    position: &Position<'a>,
    script: &str,
) -> Result<Execution<'a>, Failure> {
    let cache = &building.cache;
    let architecture = position.platform.debian_architecture();
    let mut argv: Vec<String> = ["/bin/sh", "-eu", "-c", script, "install"].map(str::to_owned).into();
    argv.extend(apt.packages.iter().cloned());
    let policy = cache.store_program(POLICY.as_bytes())?;
    let mount = |source, target: &str, access| Mount { source, target: PathBuf::from(target), access };
    let below: Vec<_> = position.below.iter().map(|layer| layer.layer.diff_id.to_string()).collect();
    // Programs of the image write there, and apt believes what it finds. So no other image's apt finds it.
    let own = |kind| format!("apt/{architecture}/{}", Key::new(kind, below.iter().map(String::as_bytes)));
    let mut mounts = vec![
        mount(folder(building, &own("apt-archives"))?, "/var/cache/apt/archives", Access::ReadWrite),
        mount(folder(building, &own("apt-lists"))?, "/var/lib/apt/lists", Access::ReadWrite),
        mount(policy, "/usr/sbin/policy-rc.d", Access::ReadOnly),
    ];
    if cache.is_offline() {
        // A mark that is not in the layer's key: the lists are taken as they are.
        let mark = cache.blob_path(cache.store_bytes(b"")?.digest);
        mounts.push(mount(mark, "/run/imagespec/offline", Access::ReadOnly));
    }
    Ok(Execution {
        title: format!("install {}", progress::count(apt.packages.len(), "Debian package")),
        below: position.below,
        platform: position.platform,
        programs: vec![Program { name: "apt-get".to_owned(), argv }],
        after: None,
        env: script_environment(building.request.timestamp),
        secret_env: Vec::new(),
        cwd: PathBuf::from("/"),
        mounts,
        masked: Masked::default(),
        network: Network::Host,
        // apt's own locks make the second of two builds fail instead of wait.
        lock: Some(format!("apt-{architecture}")),
        exclude: &EXCLUDE,
    })
}

/// What a failure of apt's execution means.
fn told(failure: Failure) -> Failure {
    match failure {
        Failure::Execute(ExecuteError::Failed { code: NO_APT, .. } | ExecuteError::NoProgram { .. }) => {
            AptError::NotDebian.into()
        }
        Failure::Execute(ExecuteError::CannotExecute { source, .. }) => AptError::CannotExecute { source }.into(),
        Failure::Execute(ExecuteError::Failed { code, lines, .. }) => AptError::Failed { code, lines }.into(),
        failure => failure,
    }
}

fn folder(building: &Building<'_>, name: &str) -> Result<PathBuf, Failure> {
    let path = building.cache.root().join(name);
    match fs::create_dir_all(path.join("partial")) {
        Ok(()) => Ok(path),
        Err(source) => Err(CacheError::Io { action: "make", path, source }.into()),
    }
}
