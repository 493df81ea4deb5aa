//! Why a wheel could not become layer content.

use std::io;
use std::path::PathBuf;

use imagespec_core::digest::Digest;
use zip::result::ZipError;

use crate::cache::CacheError;
use crate::layer::{InvalidLayerPath, LayerError};

/// Why a wheel could not be read or laid out.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// The file could not be opened.
    #[error("cannot read wheel `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive, or one of its members, could not be read.
    #[error("wheel `{wheel}` is no readable archive")]
    Archive {
        /// The wheel's file name.
        wheel: String,
        /// What the reader said.
        source: ZipError,
    },
    /// The wheel as a whole is not as PEP 427 wants it, or too big.
    #[error("wheel `{wheel}` cannot be installed: {problem}")]
    Malformed {
        /// The wheel's file name.
        wheel: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// One member is not as it must be.
    #[error("`{}` in wheel `{wheel}` cannot be installed: {problem}", .member.escape_debug())]
    Member {
        /// The wheel's file name.
        wheel: String,
        /// The member.
        member: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A member has a path that must not stand in an image.
    #[error("wheel `{wheel}` has a path that leads astray")]
    Path {
        /// The wheel's file name.
        wheel: String,
        /// Which, and why.
        source: InvalidLayerPath,
    },
    /// RECORD is no csv.
    #[error("RECORD of wheel `{wheel}` cannot be read")]
    Record {
        /// The wheel's file name.
        wheel: String,
        /// What the parser said.
        source: csv::Error,
    },
    /// A line of `entry_points.txt` names no function.
    #[error("entry point `{}` of wheel `{wheel}` is not `name = module:function`", .line.escape_debug())]
    EntryPoint {
        /// The wheel's file name.
        wheel: String,
        /// The line.
        line: String,
    },
    /// One wheel has a file where another one has a folder.
    #[error("`{path}` is a file in one package and a folder in another")]
    Conflict {
        /// The path in the image.
        path: String,
    },
    /// The wheel was not fetched before.
    #[error("wheel `{wheel}` with digest {digest} is not in the cache")]
    Absent {
        /// The wheel's file name.
        wheel: String,
        /// Its digest.
        digest: Digest,
    },
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
