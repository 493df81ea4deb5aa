//! Packages of which there is no wheel: resolved and built in the sandbox, on the layers so far, by the image's own Python
//! and what its apt installed. Code of packages (build backends, their metadata, `setup.py`) never runs on the host.
//!
//! ```text
//! requirements ── uv on the host, wheels alone ──────────────────────────────┐
//!      │ names sources, or there are no wheels                               ├→ pylock → wheels ──────────────┐
//!      └── uv in the sandbox ── remembered by key ───────────────────────────┘        → sources ─ build.py ───┴→ layers
//!                                                                                        remembered by key
//! ```
//!
//! The wheel of a source is a function of the source's digest or commit, of the layers beneath and of the spec's indexes
//! and variables; what it finds in the network counts for nothing, as with `commands`. What foreign code may write to is
//! made anew for every run, uv's cache too: what one package's build left in a cache would be executed by the build of
//! another package, in another image.

mod build;
mod error;
mod hint;
mod output;
mod resolve;

use std::fs;
use std::path::{Path, PathBuf};

use imagespec_core::plan::{PipStep, VENV};
use imagespec_core::uv::UV_VERSION;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::builder::{Building, Failure, Position};
use crate::execute::{self, ExecuteError, Execution, Program};
use crate::progress::Step;
use crate::sandbox::{Access, Mount, Network};
use crate::secret::{Masked, Secrets};
use crate::wheel::{Environment, Observer, Uv};

pub(crate) use error::SourceError;
pub(crate) use hint::{NO_FOLDER, NO_GIT, hint, is_denied};

/// Raised whenever the same sources would make another wheel, or the same requirements another lock file.
const SOURCE_VERSION: &str = "1";
/// Where the sandbox finds what it needs.
const INPUT: &str = "/run/imagespec/in";
/// Where it writes what comes of it.
const OUTPUT: &str = "/run/imagespec/out";
const UV: &str = "/run/imagespec/uv";
const AUTHORITIES: &str = "/run/imagespec/authorities.pem";
const NETRC: &str = "/root/.netrc";
/// The earliest time that an archive of the kind of wheels can hold (APPNOTE.TXT, 4.4.6): 1980-01-01.
const EPOCH: &str = "315532800";

/// What every build sees, so that it does the same wherever and whenever it runs.
const FIXED: [(&str, &str); 19] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("NO_COLOR", "1"),
    ("PYTHONHASHSEED", "0"),
    ("SOURCE_DATE_EPOCH", EPOCH),
    ("TMPDIR", "/tmp"),
    ("TZ", "UTC"),
    // uv clones from its own cache by `file`, which is the sandbox's. `ext`, which runs programs, stays out.
    ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git:file"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("UV_CACHE_DIR", "/tmp/imagespec/cache"),
    ("UV_LINK_MODE", "copy"),
    ("UV_NO_CONFIG", "1"),
    ("UV_NO_MANAGED_PYTHON", "1"),
    ("UV_NO_PROGRESS", "1"),
    ("UV_PYTHON_DOWNLOADS", "never"),
    ("PIP_NO_INPUT", "1"),
];
/// Variables of the image that are for its programs and not for how its packages are built.
const NOT_FOR_BUILDS: [&str; 3] = ["PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"];

/// Where packages of one step are resolved and built.
pub(crate) struct Workshop<'a> {
    pub(crate) building: &'a Building<'a>,
    pub(crate) step: &'a PipStep,
    pub(crate) position: &'a Position<'a>,
    /// What this machine says of the network, and the spec of indexes.
    pub(crate) environment: &'a Environment,
    pub(crate) secrets: &'a Secrets,
}

/// What one run in the sandbox is given, and what it writes.
struct Exchange {
    folder: TempDir,
}

impl Exchange {
    fn input(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

impl Workshop<'_> {
    /// Runs a program in the sandbox with what `prepare` writes to its input, and hands over the folder that it wrote.
    fn run<T>(
        &self,
        step: &Step<'_>,
        program: Program,
        further: Vec<Mount>,
        prepare: impl FnOnce(&Path) -> std::io::Result<()>,
        take: impl FnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let failed = |source| SourceError::Exchange { source };
        let folder = tempfile::Builder::new().prefix("source-").tempdir_in(self.building.cache.temporary_folder());
        let exchange = Exchange { folder: folder.map_err(failed)? };
        let (input, output) = (exchange.input(), exchange.output());
        fs::create_dir(&input).and_then(|()| fs::create_dir(&output)).and_then(|()| prepare(&input)).map_err(failed)?;
        let mut mounts = vec![
            mount(input, INPUT, Access::ReadOnly),
            mount(output.clone(), OUTPUT, Access::ReadWrite),
            mount(self.uv(step)?, UV, Access::ReadOnly),
        ];
        mounts.extend(further);
        let execution = self.execution(program, mounts);
        let taken = execute::run(self.building, &execution, step).and_then(|()| take(&output));
        // What lies there may belong to ids that only the sandbox can act for.
        let removed = self.building.sandbox.remove(&output);
        let taken = taken?;
        removed.map_err(ExecuteError::from)?;
        Ok(taken)
    }

    fn execution(&self, program: Program, mut mounts: Vec<Mount>) -> Execution<'_> {
        let mut secret_env = self.environment.for_sandbox();
        secret_env.retain(|(name, _)| !self.secrets.env.iter().any(|(secret, _)| secret == name));
        secret_env.extend(self.secrets.env.iter().cloned());
        if let Some(path) = self.environment.authorities() {
            mounts.push(mount(path, AUTHORITIES, Access::ReadOnly));
            secret_env
                .extend(["SSL_CERT_FILE", "GIT_SSL_CAINFO"].map(|name| (name.to_owned(), AUTHORITIES.to_owned())));
        }
        mounts.extend(self.secrets.mounts.iter().cloned());
        // uv is told where it lies, and git knows one place alone.
        let netrc = self.secrets.mounts.iter().find(|mount| mount.target.to_string_lossy().ends_with("netrc"));
        if let Some(netrc) = netrc {
            secret_env.push(("NETRC".to_owned(), netrc.target.display().to_string()));
            if !self.secrets.mounts.iter().any(|mount| mount.target == Path::new(NETRC)) {
                mounts.push(mount(netrc.source.clone(), NETRC, Access::ReadOnly));
            }
        }
        Execution {
            title: program.name.clone(),
            below: self.position.below,
            platform: self.position.platform,
            programs: vec![program],
            after: None,
            env: self.env(),
            secret_env,
            cwd: PathBuf::from(INPUT),
            mounts,
            masked: self.masked(),
            network: Network::Host,
            lock: None,
            exclude: &[],
        }
    }

    /// The variables that a build sees, and that its result is a function of.
    fn env(&self) -> Vec<(String, String)> {
        let is_fixed = |name: &str| FIXED.iter().any(|(fixed, _)| *fixed == name) || NOT_FOR_BUILDS.contains(&name);
        let own = self.position.env.iter().filter(|(name, _)| !is_fixed(name)).cloned();
        own.chain(FIXED.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }

    fn masked(&self) -> Masked {
        let mut masked = self.secrets.masked.clone();
        for secret in self.environment.secrets() {
            masked.add(&secret);
        }
        masked
    }

    /// What the results of everything in the sandbox are functions of. No secrets, and nothing of this machine.
    fn described(&self) -> Value {
        let below: Vec<_> = self.position.below.iter().map(|layer| layer.layer.diff_id.to_string()).collect();
        json!({
            "version": SOURCE_VERSION,
            "uv": UV_VERSION,
            "platform": self.position.platform.to_string(),
            "below": below,
            "env": self.env(),
            "index": self.step.index,
            "extra_indexes": self.step.extra_indexes,
            "find_links": self.step.find_links,
        })
    }

    /// The uv that runs in any image: it is linked statically.
    fn uv(&self, step: &Step<'_>) -> Result<PathBuf, Failure> {
        let cancelled = || self.building.progress.is_cancelled();
        let observer = Observer { received: &|count| step.add(count), cancelled: &cancelled };
        let uv = Uv::fetched(&self.building.cache, observer).map_err(crate::python::PythonError::from)?;
        Ok(uv.program().to_owned())
    }
}

fn mount(source: PathBuf, target: &str, access: Access) -> Mount {
    Mount { source, target: PathBuf::from(target), access }
}

/// The interpreter of the environment.
fn interpreter() -> String {
    format!("{VENV}/bin/python")
}
