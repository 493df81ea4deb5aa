//! Why packages could not be built from source.

use std::io;

use crate::builder::Failure;
use crate::emulation::CannotExecute;
use crate::python::PythonError;

/// Why packages could not be built from source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The image's programs do not run here, and one package must be built.
    #[error("`{package}` has no wheel for the image and must be built, and this machine cannot run the image's Python")]
    CannotBuild {
        /// The package, with its version if that is known.
        package: String,
        /// Why not.
        source: CannotExecute,
    },
    /// It was not built before, and no build can fetch what it needs.
    #[error("`{package}` must be built, which was not done before, and the build is offline")]
    Offline {
        /// The package, with its version if that is known.
        package: String,
    },
    /// Sources must be looked into for what they require, and cannot be fetched.
    #[error(
        "packages without a wheel must be looked into, which was not done before, and the build is offline:\n{why}"
    )]
    OfflineResolve {
        /// Which packages.
        why: String,
    },
    /// The image's programs do not run here, and requirements can be resolved by them alone.
    #[error("packages without a wheel must be built, and this machine cannot run the image's Python:\n{why}")]
    CannotResolve {
        /// Which packages.
        why: String,
        /// Why not.
        source: CannotExecute,
    },
    /// Sources are in a repository that nobody can fetch.
    #[error("`{package}` comes from a git repository, and the image has no `git`")]
    NoGit {
        /// The package.
        package: String,
    },
    /// The repository was not fetched.
    #[error("the repository of `{package}` cannot be fetched:\n{}", .lines.join("\n"))]
    NotFetched {
        /// The package.
        package: String,
        /// git's last lines.
        lines: Vec<String>,
    },
    /// The repository lacks the commit.
    #[error("the repository of `{package}` has no commit `{commit}`:\n{}", .lines.join("\n"))]
    NoCommit {
        /// The package.
        package: String,
        /// The commit.
        commit: String,
        /// git's last lines.
        lines: Vec<String>,
    },
    /// The sources lack the folder.
    #[error("`{subdirectory}` is no folder in the sources of `{package}`")]
    NoFolder {
        /// The package.
        package: String,
        /// The folder.
        subdirectory: String,
    },
    /// The archive is broken.
    #[error("the archive of `{package}` cannot be unpacked:\n{}", .lines.join("\n"))]
    NotUnpacked {
        /// The package.
        package: String,
        /// What is wrong.
        lines: Vec<String>,
    },
    /// The build failed.
    #[error("`{package}` cannot be built (exit code {code}):\n{}", .lines.join("\n"))]
    Failed {
        /// The package.
        package: String,
        /// The exit code of uv or of the backend.
        code: i32,
        /// The last lines.
        lines: Vec<String>,
    },
    /// The build made something else than was wanted.
    #[error("the build of `{package}` made {found}")]
    OtherWheel {
        /// The package.
        package: String,
        /// What it made.
        found: String,
    },
    /// What was written in the sandbox cannot be read.
    #[error("cannot read what the sandbox wrote for `{package}`")]
    Output {
        /// The package, or the lock file.
        package: String,
        /// What the system said.
        source: io::Error,
    },
    /// What the sandbox needs cannot be written.
    #[error("cannot hand over sources to the sandbox")]
    Exchange {
        /// What the system said.
        source: io::Error,
    },
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        PythonError::from(error).into()
    }
}

impl SourceError {
    /// The normalised name of the package that could not be built.
    pub(crate) fn package(&self) -> Option<&str> {
        match self {
            Self::CannotBuild { package, .. }
            | Self::Offline { package }
            | Self::NoGit { package }
            | Self::NotFetched { package, .. }
            | Self::NoCommit { package, .. }
            | Self::NoFolder { package, .. }
            | Self::NotUnpacked { package, .. }
            | Self::Failed { package, .. }
            | Self::OtherWheel { package, .. } => package.split(' ').next(),
            Self::CannotResolve { .. } | Self::OfflineResolve { .. } | Self::Output { .. } | Self::Exchange { .. } => {
                None
            }
        }
    }

    /// The last lines that a program printed.
    pub(crate) fn lines(&self) -> &[String] {
        match self {
            Self::NotFetched { lines, .. }
            | Self::NoCommit { lines, .. }
            | Self::NotUnpacked { lines, .. }
            | Self::Failed { lines, .. } => lines,
            _ => &[],
        }
    }
}
