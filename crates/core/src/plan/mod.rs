//! The plan: what an image consists of, whoever builds it. Pure data, nothing of this machine in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::builder::Feature;
use crate::digest::Digest;
use crate::lock::LockedImage;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::requirements;

pub mod wire;

/// What to build, in words that every builder understands.
///
/// A plan holds no absolute path, no secret's value and no name of a builder; files stand in it by digest. Two plans
/// that are equal make the same image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The platforms to build for, at least one; more than one make an image index.
    pub platforms: BTreeSet<Platform>,
    /// What the image stands on.
    pub base: Base,
    /// What is added to the base, in this order. Each kind stands at most once.
    pub steps: Vec<Step>,
    /// What a program finds when the image is run.
    pub config: ImageConfig,
    /// The exact parts that the image is made of, if they are pinned, for each of `platforms`; empty if they are not.
    pub lock: BTreeMap<Platform, LockedImage>,
}

/// What an image stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing at all.
    Scratch,
    /// An image in a registry.
    Registry(Reference),
    /// An image in an OCI image layout on disk, by the digest of the manifest or index that was found in it.
    OciLayout {
        /// Digest of the manifest or index.
        digest: Digest,
    },
    /// An archive made by `docker save`, by its digest.
    DockerArchive {
        /// Digest of the whole file.
        digest: Digest,
    },
    /// A small Debian, made from its signed package archive.
    Bootstrap(Bootstrap),
    /// Another plan, built first.
    Plan(Box<Plan>),
}

/// A Debian system made from packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The release's code name: `bookworm`.
    pub suite: String,
    /// Packages beside the essential ones: `ca-certificates`, `python3`.
    pub packages: BTreeSet<String>,
}

/// One kind of change to the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Debian packages, installed by the base's own apt.
    Apt(AptStep),
    /// The Python environment at `/opt/venv`.
    Python(PythonStep),
    /// Conda packages.
    Conda(CondaStep),
    /// Python packages in `/opt/venv`.
    Pip(PipStep),
    /// Files under `/root`.
    Copy(CopyStep),
    /// Commands, run by a shell.
    Run(RunStep),
}

/// Debian packages to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptStep {
    /// Package names, each optionally followed by `=version` or `/suite`, sorted.
    pub packages: BTreeSet<String>,
}

/// The Python environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonStep {
    /// The version that was asked for, `3.11` or `3.11.2`; none takes what the base has.
    pub version: Option<String>,
    /// The interpreter that was asked for, an absolute path inside the image.
    pub executable: Option<String>,
}

/// Conda packages to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondaStep {
    /// Match specs, sorted.
    pub packages: BTreeSet<String>,
    /// Channels in the order of their priority: names, URLs, and of those on this machine the digest of their repodata, as
    /// [`crate::conda::channel_digest`] takes it.
    pub channels: Vec<String>,
}

/// Python packages to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipStep {
    /// What is wanted.
    pub input: PipInput,
    /// The index to look in, instead of the user's default.
    pub index: Option<String>,
    /// Further indexes, looked in before `index`, in order.
    pub extra_indexes: Vec<String>,
    /// Directories or pages with wheels, in order.
    pub find_links: Vec<String>,
    /// Further arguments of the resolver, in order.
    pub extra_args: Vec<String>,
    /// The secrets that the resolver may read, sorted. Never their values.
    pub secrets: Vec<SecretMount>,
}

/// Where the list of Python packages comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipInput {
    /// Requirements to resolve.
    Requirements {
        /// What must be installed.
        requirements: BTreeSet<Requirement>,
        /// What restricts versions without asking for an installation.
        constraints: BTreeSet<Requirement>,
    },
    /// Exactly these packages, already resolved (poetry.lock): markers are evaluated, nothing is resolved.
    Locked {
        /// Pinned requirements with their hashes.
        requirements: BTreeSet<Requirement>,
        /// Digest of the `pyproject.toml` that the lock was made from.
        pyproject: Digest,
    },
    /// A `uv.lock` with the `pyproject.toml` beside it.
    UvLock {
        /// Digest of `uv.lock`.
        lock: Digest,
        /// Digest of `pyproject.toml`.
        pyproject: Digest,
    },
    /// A `pylock.toml` (PEP 751).
    Pylock {
        /// Digest of the file.
        lock: Digest,
    },
}

/// One line of requirements: PEP 508 and the digests that its archives may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The requirement in its normal form: `requests[socks]>=2 ; python_version > "3.8"`.
    pub text: String,
    /// `sha256:…` and other digests, as pip's `--hash` takes them, sorted.
    pub hashes: BTreeSet<String>,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// By path in the image, relative to [`FILES_ROOT`], with `/` between components and never `..`.
    pub files: BTreeMap<String, CopiedFile>,
}

/// One file or link to copy. Its directories are implied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopiedFile {
    /// A regular file.
    File {
        /// Digest of the content.
        digest: Digest,
        /// Length in bytes.
        size_bytes: u64,
        /// Whether it may be executed: mode 0755 instead of 0644.
        executable: bool,
    },
    /// A symbolic link that stays inside of what is copied.
    Link {
        /// Relative target, as it stands in the link.
        target: String,
    },
    /// A directory that would otherwise be absent, because it is empty.
    Directory,
}

/// Commands to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Each is run by `/bin/sh -c`, in order.
    pub commands: Vec<String>,
    /// The secrets that the commands may read. Never their values.
    pub secrets: Vec<SecretMount>,
}

/// A secret that a step may read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretMount {
    /// Name under which the user hands it to the build.
    pub id: String,
    /// Where the step finds it.
    pub target: SecretTarget,
}

/// Where a step finds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretTarget {
    /// A file at this absolute path.
    File(String),
    /// An environment variable of this name.
    Environment(String),
}

/// What a program finds when the image is run (OCI image-spec, "Image Configuration", property `config`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Variables on top of the base's. A plan with a Python step has `PYTHONPATH` here unless the user set it; what needs
    /// the base's own value is the builder's part: `/opt/venv/bin` goes before the base's (or the user's) `PATH`.
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub workdir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; none keeps the base's.
    pub user: Option<String>,
    /// Entry point; none keeps the base's, an empty list removes it.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments; none keeps the base's unless an entry point is set, an empty list removes them.
    pub cmd: Option<Vec<String>>,
    /// Labels beside those that imagespec sets itself.
    pub labels: BTreeMap<String, String>,
    /// Packages that are installed when a container starts, sorted.
    pub runtime_packages: BTreeSet<String>,
}

impl Requirement {
    /// Whether it names a repository or an archive of sources, which must be built to be installed. What it does not
    /// say is whether a package that is taken from an index has a wheel.
    pub fn is_source(&self) -> bool {
        let url = requirements::url(&self.text);
        self.is_git() || url.is_some_and(|url| !url.split(['#', '?']).next().unwrap_or_default().ends_with(".whl"))
    }

    /// Whether it names a git repository.
    pub fn is_git(&self) -> bool {
        requirements::url(&self.text).is_some_and(|url| url.starts_with("git+"))
    }
}

/// Where the Python environment of every image lies.
pub const VENV: &str = "/opt/venv";
/// Where copied and source files lie, the working directory and PYTHONPATH of every image.
pub const FILES_ROOT: &str = "/root";
/// The environment variable that holds the id of the spec, set last.
pub const ID_VARIABLE: &str = "IMAGESPEC_ID";

impl Step {
    /// The step's kind in one lower-case word, as events and reports show it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Apt(_) => "apt",
            Self::Python(_) => "python",
            Self::Conda(_) => "conda",
            Self::Pip(_) => "pip",
            Self::Copy(_) => "copy",
            Self::Run(_) => "run",
        }
    }
}

impl Plan {
    /// The Python step, if the plan has one.
    pub fn python(&self) -> Option<&PythonStep> {
        self.steps.iter().find_map(|step| match step {
            Step::Python(step) => Some(step),
            _ => None,
        })
    }

    /// Every feature that a builder must have for this plan, each with the field of the spec that asks for it.
    ///
    /// The features of a nested plan are included.
    pub fn required_features(&self) -> Vec<(Feature, &'static str)> {
        let mut required = Vec::new();
        let base = match &self.base {
            Base::Scratch => Feature::BaseScratch,
            Base::Registry(_) => Feature::BaseRegistry,
            Base::OciLayout { .. } => Feature::BaseOciLayout,
            Base::DockerArchive { .. } => Feature::BaseDockerArchive,
            Base::Bootstrap(_) => Feature::BaseBootstrap,
            Base::Plan(nested) => {
                required.extend(nested.required_features());
                Feature::BaseNested
            }
        };
        required.push((base, "base_image"));
        if self.platforms.len() > 1 {
            required.push((Feature::MultiplePlatforms, "platform"));
        }
        for step in &self.steps {
            match step {
                Step::Apt(_) => required.push((Feature::Apt, "apt_packages")),
                Step::Python(python) => {
                    required.push((Feature::Python, "python_version"));
                    if python.executable.is_some() {
                        required.push((Feature::PythonExecutable, "python_exec"));
                    }
                }
                Step::Conda(_) => required.push((Feature::Conda, "conda_packages")),
                Step::Pip(pip) => {
                    let field = match pip.input {
                        PipInput::Requirements { .. } => "packages",
                        _ => "requirements",
                    };
                    required.push((Feature::Pip, field));
                    if !matches!(pip.input, PipInput::Requirements { .. }) {
                        required.push((Feature::LockFiles, field));
                    }
                    if !pip.secrets.is_empty() {
                        required.push((Feature::PipSecrets, "pip_secret_mounts"));
                    }
                }
                Step::Copy(_) => required.push((Feature::Copy, "copy")),
                Step::Run(run) => {
                    required.push((Feature::Run, "commands"));
                    if !run.secrets.is_empty() {
                        required.push((Feature::RunSecrets, "secrets"));
                    }
                }
            }
        }
        if !self.lock.is_empty() {
            required.push((Feature::Lock, "lock"));
        }
        let config = &self.config;
        let has_workdir = config.workdir != FILES_ROOT;
        // A Python environment brings PYTHONPATH, for which nobody asked.
        let has_env = config.env.keys().any(|name| name != "PYTHONPATH");
        let configured = [
            (has_env, Feature::Env, "env"),
            (has_workdir, Feature::Workdir, "workdir"),
            (config.user.is_some(), Feature::User, "user"),
            (config.entrypoint.is_some(), Feature::Entrypoint, "entrypoint"),
            (config.cmd.is_some(), Feature::Cmd, "cmd"),
            (!config.labels.is_empty(), Feature::Labels, "labels"),
            (!config.runtime_packages.is_empty(), Feature::RuntimePackages, "runtime_packages"),
        ];
        required.extend(configured.iter().filter(|(asked, ..)| *asked).map(|(_, feature, field)| (*feature, *field)));
        required
    }
}
