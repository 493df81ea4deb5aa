//! What an image stands on, and what is known of it before it is built on. Pure.

use imagespec_core::digest::Digest;
use imagespec_core::plan::Base;

use super::error::LowerError;

/// The name under which a base that no engine can fetch is loaded into it, by its digest.
pub fn loaded_base(digest: Digest) -> String {
    format!("imagespec-base:sha256-{}", digest.to_hex())
}

/// What a base is called in a folder, that must be loaded before anything is built on it.
pub const BASE_ARCHIVE: &str = "base.tar";

/// What the config of a base says, for a Dockerfile that has no words for `as it is in the base`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownBase {
    /// Digest of its manifest, for the label that tells it.
    pub digest: Option<Digest>,
    /// The user that its programs run as; none or empty is root.
    pub user: Option<String>,
    /// PATH of its programs.
    pub path: Option<String>,
    /// Its entry point.
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    pub cmd: Vec<String>,
}

/// The name of `base` behind FROM; none for another plan, which is a stage.
///
/// # Errors
/// For a base that another builder must make first.
pub(super) fn name(base: &Base) -> Result<Option<String>, LowerError> {
    match base {
        Base::Scratch => Ok(Some("scratch".to_owned())),
        Base::Registry(reference) => Ok(Some(reference.familiar())),
        Base::OciLayout { digest } | Base::DockerArchive { digest } => Ok(Some(loaded_base(*digest))),
        Base::Bootstrap(bootstrap) => Err(LowerError::Bootstrap { suite: bootstrap.suite.clone() }),
        Base::Plan(_) => Ok(None),
    }
}
