//! Which caches outside of BuildKit can be used from here. Pure.

use imagespec_core::builder::{BuildError, BuildRequest, FailureKind};

/// A cache in a folder of this machine, which BuildKit would have to reach through us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{flag} type=local` names a folder of this machine, and BuildKit works where it cannot reach it")]
pub struct LocalCache {
    flag: &'static str,
}

impl LocalCache {
    /// The error that crosses to the program.
    pub fn tell(&self) -> BuildError {
        BuildError::new(FailureKind::Spec, self).hint("keep it in a registry: `type=registry,ref=NAME`")
    }
}

/// Refuses caches that cannot be reached.
///
/// # Errors
/// The first of them.
pub fn check_caches(request: &BuildRequest) -> Result<(), LocalCache> {
    for (flag, caches) in [("--cache-from", &request.cache_from), ("--cache-to", &request.cache_to)] {
        if caches.iter().any(|cache| cache.kind == "local") {
            return Err(LocalCache { flag });
        }
    }
    Ok(())
}
