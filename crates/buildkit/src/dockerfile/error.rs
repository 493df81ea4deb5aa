//! Why a plan has no Dockerfile.

use std::io;
use std::path::PathBuf;

use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_core::digest::Digest;

/// Variables of an image that are asked for. For each instruction BuildKit reads each variable once for each other one:
/// a thousand take a moment, ten thousand more than a minute.
pub(super) const VARIABLES_MAX: usize = 1000;
/// The longest line that BuildKit's scanner of Dockerfiles takes.
pub(super) const LINE_BYTES_MAX: usize = 65_535;

/// Why a plan has no Dockerfile.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// A base that is made of packages, and must be made before.
    #[error("base `bootstrap:debian/{suite}` was not made before")]
    Bootstrap {
        /// The release.
        suite: String,
    },
    /// No uv for a platform.
    #[error("Python packages are installed by uv, which has no build for {platform}")]
    NoUv {
        /// The platform.
        platform: String,
    },
    /// An argument that only `uv pip compile` has.
    #[error("`{argument}` is for lock files, and this builder installs without one")]
    Argument {
        /// The argument.
        argument: String,
    },
    /// A file that the resolver does not read.
    #[error("secret `{id}` is to lie at `{path}`, where the resolver reads no file")]
    SecretFile {
        /// Its name.
        id: String,
        /// Its target.
        path: String,
    },
    /// A program must stand before an entry point that nobody knows.
    #[error("the entry point of base `{base}` is not known, and `runtime_packages` are installed before it")]
    UnknownEntrypoint {
        /// The base.
        base: String,
    },
    /// The request does not say where a file of its plan lies.
    #[error("the plan's file {digest} was not handed over")]
    Missing {
        /// The digest in the plan.
        digest: Digest,
    },
    /// A lock file cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what the plan says any more.
    #[error("`{path}` changed while the image was built")]
    Changed {
        /// The file on this machine.
        path: PathBuf,
    },
    /// More variables than BuildKit is for.
    #[error("the image has {count} variables, and BuildKit takes minutes for more than {VARIABLES_MAX}")]
    ManyVariables {
        /// How many.
        count: usize,
    },
    /// An instruction that BuildKit would not read.
    #[error("`{field}` makes a line of {size_bytes} bytes in a Dockerfile, and BuildKit reads {LINE_BYTES_MAX}")]
    LongLine {
        /// The field that asks for it.
        field: &'static str,
        /// Length of the line.
        size_bytes: usize,
    },
    /// The plan names exact parts.
    #[error("this builder does not build of locked parts")]
    Locked,
    /// Conda has no packages for a platform.
    #[error("conda packages cannot be installed on {platform}")]
    CondaPlatform {
        /// The platform.
        platform: String,
    },
    /// A file of a conda channel on this machine.
    #[error("cannot read conda channel `{path}`")]
    Channel {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LowerError {
    /// The field of the spec that asks for what cannot be said.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Bootstrap { .. } => "base_image",
            Self::NoUv { .. } | Self::CondaPlatform { .. } => "platform",
            Self::Argument { .. } => "pip_extra_args",
            Self::SecretFile { .. } => "pip_secret_mounts",
            Self::UnknownEntrypoint { .. } => "runtime_packages",
            Self::Missing { .. } | Self::Unreadable { .. } | Self::Changed { .. } => "requirements",
            Self::ManyVariables { .. } => "env",
            Self::LongLine { field, .. } => field,
            Self::Locked => "lock",
            Self::Channel { .. } => "conda_channels",
        }
    }

    /// The same for the one who asked for a build.
    pub fn tell(&self) -> BuildError {
        let kind = match self {
            Self::Bootstrap { .. } | Self::Missing { .. } => FailureKind::Internal,
            Self::Unreadable { .. } | Self::Changed { .. } | Self::Channel { .. } => FailureKind::Machine,
            _ => FailureKind::Spec,
        };
        let error = BuildError::new(kind, self).field(self.field());
        match self {
            Self::ManyVariables { .. } => {
                error.hint("copy a file with them into the image, or build with `--builder oci`")
            }
            Self::Argument { .. } => error.hint("leave it out, or build with `--builder oci`"),
            Self::UnknownEntrypoint { .. } => error.hint("name an `entrypoint`"),
            Self::SecretFile { .. } => error.hint("end the target in `netrc`, or hand it over as a variable by `env`"),
            Self::LongLine { .. } => error.hint("put it into a file, and copy that: `copy`"),
            Self::NoUv { .. } => error.hint("uv has builds for linux/amd64 and linux/arm64"),
            Self::Changed { .. } => error.hint("build again when nothing writes to it"),
            _ => error,
        }
    }
}
