//! Why conda packages could not be chosen, fetched or laid out.

use std::io;
use std::path::PathBuf;

use imagespec_core::digest::Digest;
use reqwest::StatusCode;

use crate::cache::CacheError;
use crate::layer::{InvalidLayerPath, LayerError};

/// Why there is no conda environment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CondaError {
    /// The base has no glibc, which conda packages are made for.
    #[error("the base has no glibc, which conda packages are made for")]
    NoGlibc,
    /// The base has an environment already.
    #[error("the base has something at `/{path}`, where the conda environment is to lie")]
    Occupied {
        /// The place, without a leading `/`.
        path: String,
    },
    /// Conda has no packages for the platform.
    #[error("conda has no packages for {platform}")]
    Platform {
        /// The platform that is built for.
        platform: String,
    },
    /// A package spec that conda's grammar does not know.
    #[error("`{spec}` is no conda package")]
    Spec {
        /// What was written.
        spec: String,
        /// What is wrong with it.
        source: rattler_conda_types::ParseMatchSpecError,
    },
    /// A package spec that names an address.
    #[error("`{spec}` names an address, which is no channel's")]
    SpecUrl {
        /// What was written.
        spec: String,
    },
    /// A channel that is neither a name nor a URL.
    #[error("`{channel}` is no conda channel")]
    Channel {
        /// What was written.
        channel: String,
    },
    /// A channel on this machine was not handed over.
    #[error("the path of conda channel {digest} was not handed over")]
    NotHandedOver {
        /// What the plan calls it.
        digest: Digest,
    },
    /// A channel on this machine is another one than it was when the plan was made.
    #[error("the conda channel in `{path}` changed while it was read")]
    Changed {
        /// The folder.
        path: PathBuf,
    },
    /// `conda_mirrors` is no table of URLs.
    #[error("`{value}` in `conda_mirrors` is no URL that begins with `https://` or `http://`")]
    Mirror {
        /// What was written.
        value: String,
    },
    /// The file with logins cannot be read.
    #[error("cannot read the conda logins in `{path}`")]
    Credentials {
        /// The file.
        path: PathBuf,
    },
    /// The client could not be set up.
    #[error("cannot set up the client for conda channels")]
    Setup {
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is at the address is no channel.
    #[error("`{channel}` is no conda channel: it has no `{subdir}/repodata.json`")]
    NotAChannel {
        /// The channel.
        channel: String,
        /// The subdirectory that every channel has.
        subdir: String,
    },
    /// No answer from a channel.
    #[error("cannot reach conda channel {host}")]
    Unreachable {
        /// The server.
        host: String,
        /// What went wrong, without the address, which may hold a token.
        source: io::Error,
    },
    /// The channel's server refused.
    #[error("conda channel {host} answered {status}")]
    Status {
        /// The server.
        host: String,
        /// The answer.
        status: StatusCode,
    },
    /// What a channel says cannot be read.
    #[error("what the conda channels say cannot be read: {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// No channel has a package of the name.
    #[error("no conda channel of {channels} has a package `{name}` for {subdir}")]
    Unknown {
        /// The package.
        name: String,
        /// Where it was looked for.
        channels: String,
        /// What for: `linux-64`.
        subdir: String,
        /// A name that was probably meant.
        likely: Option<String>,
    },
    /// The packages do not fit together.
    #[error("the conda packages do not fit together:\n{explanation}")]
    Unsolvable {
        /// The solver's words, several lines.
        explanation: String,
    },
    /// The solver failed otherwise.
    #[error("the conda packages cannot be solved")]
    Solve {
        /// What it said.
        source: rattler_solve::SolveError,
    },
    /// Without a sha256, nobody knows what a package is.
    #[error("the channel of conda package `{file}` does not say its sha256")]
    NoDigest {
        /// The package's file name.
        file: String,
    },
    /// Only archives of conda can be laid out.
    #[error("conda package `{file}` is neither a .conda nor a .tar.bz2 archive")]
    Format {
        /// The package's file name.
        file: String,
    },
    /// A package is longer than its channel says.
    #[error("conda package `{file}` is longer than the {size_bytes_max} bytes that it may have")]
    TooLong {
        /// The package's file name.
        file: String,
        /// The most that it may have.
        size_bytes_max: u64,
    },
    /// A package cannot be fetched, or not be read.
    #[error("cannot read conda package `{file}` from {host}")]
    Transfer {
        /// The package's file name.
        file: String,
        /// The server, or the folder.
        host: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server of a package refused.
    #[error("{host} answered {status} for conda package `{file}`")]
    PackageStatus {
        /// The package's file name.
        file: String,
        /// The server.
        host: String,
        /// The answer.
        status: StatusCode,
    },
    /// The archive cannot be read.
    #[error("conda package `{package}` is no readable archive")]
    Archive {
        /// The package's file name.
        package: String,
        /// What the reader said.
        source: io::Error,
    },
    /// The package as a whole is not as it must be.
    #[error("conda package `{package}` cannot be installed: {problem}")]
    Package {
        /// The package's file name.
        package: String,
        /// What is wrong.
        problem: String,
    },
    /// One of its files is not as it must be.
    #[error("`{}` in conda package `{package}` cannot be installed: {problem}", .member.escape_debug())]
    Member {
        /// The package's file name.
        package: String,
        /// The file.
        member: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A path that must not stand in an image.
    #[error("conda package `{package}` has a path that leads astray")]
    Path {
        /// The package's file name.
        package: String,
        /// Which, and why.
        source: InvalidLayerPath,
    },
    /// A file here, a folder there.
    #[error("`{path}` is a file in conda package `{one}` and a folder in `{other}`")]
    Conflict {
        /// The path below the environment.
        path: String,
        /// The package with the file.
        one: String,
        /// The package with the folder.
        other: String,
    },
    /// The package was not fetched before.
    #[error("conda package `{package}` with digest {digest} is not in the cache")]
    Absent {
        /// The package's file name.
        package: String,
        /// Its digest.
        digest: Digest,
    },
    /// It was not fetched before, and nothing is fetched.
    #[error("{what} is not in the cache, and the build is offline")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// What is locked is no longer there.
    #[error("version {version} of conda package `{package}` is locked, and no longer at `{address}`")]
    Lost {
        /// The package.
        package: String,
        /// The version that is locked.
        version: String,
        /// Where it was.
        address: String,
    },
    /// The Python that was solved cannot be used.
    #[error("conda's Python {version} cannot be used: {problem}")]
    Python {
        /// Its version.
        version: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A lock file of Python packages asks for another version of what conda installs.
    #[error("`packages` has {name} {wanted}, and conda installs {name} {installed}")]
    OtherVersion {
        /// The distribution.
        name: String,
        /// The version that was locked.
        wanted: String,
        /// The version that conda brings.
        installed: String,
    },
    /// Somebody wanted to stop.
    #[error("conda was stopped")]
    Cancelled,
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The cache failed, or a digest is wrong.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl CondaError {
    /// Whether the same may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        let may_pass = |status: &StatusCode| status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS;
        match self {
            Self::Unreachable { .. } | Self::Transfer { .. } => true,
            Self::Status { status, .. } | Self::PackageStatus { status, .. } => may_pass(status),
            Self::Cache(error) => error.is_temporary(),
            _ => false,
        }
    }

    /// Whether a server wants to know who asks, or does not believe it.
    pub(crate) fn is_denied(&self) -> bool {
        let denied = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        match self {
            Self::Status { status, .. } | Self::PackageStatus { status, .. } => denied.contains(status),
            _ => false,
        }
    }
}
