//! What the bundled builder's store and sandbox fail with, for the user.

use imagespec_builder_oci::OpenError;
use imagespec_builder_oci::cache::{CacheError, PruneError};

use crate::failure::{FAILED, Failure, TRY_AGAIN};

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        (&error).into()
    }
}

impl From<&CacheError> for Failure {
    fn from(error: &CacheError) -> Self {
        let mut failure = Self::of(error);
        match error {
            CacheError::Locked { .. } => failure.code = TRY_AGAIN,
            CacheError::InUse { .. } => {
                failure.code = TRY_AGAIN;
                failure.diagnostics[0].hints.push("try again when it has ended".to_owned());
            }
            CacheError::Io { .. } | CacheError::WrongDigest { .. } | CacheError::Cancelled => {}
        }
        failure
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match &error {
            PruneError::Cache(error) => error.into(),
            PruneError::Sandbox(sandbox) => {
                let mut failure = Self::of(sandbox);
                failure.diagnostics[0].hints.extend(sandbox.hint().map(str::to_owned));
                failure
            }
            PruneError::Remove { .. } => Self::of(&error),
        }
    }
}

impl From<&OpenError> for Failure {
    fn from(error: &OpenError) -> Self {
        let mut failure = Self::of(error);
        let hint = match error {
            OpenError::Registry(error) => {
                failure.code = if error.is_temporary() { TRY_AGAIN } else { FAILED };
                error.hint()
            }
            OpenError::Cache(error) => return error.into(),
            OpenError::CannotExecute(error) => Some(error.hint()),
            OpenError::Platform(error) => {
                error.available.first().map(|platform| format!("`--platform {platform}` takes that one"))
            }
            OpenError::LayerType { .. } => {
                Some("only archives of Linux files are unpacked, plain or compressed by gzip or zstd".to_owned())
            }
            OpenError::Absent { .. } | OpenError::Malformed { .. } | OpenError::Read { .. } | OpenError::Cancelled => {
                None
            }
        };
        failure.diagnostics[0].hints.extend(hint);
        failure
    }
}
