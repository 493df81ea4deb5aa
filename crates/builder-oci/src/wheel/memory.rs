//! What was resolved before, for those who cannot ask an index again.

use imagespec_core::digest::Digest;
use serde_json::json;

use super::resolve::{Dependencies, Resolution};
use crate::cache::{Cache, CacheError, Key};

/// The answer that was given to the same question with the same `indexes` of the spec last.
///
/// # Errors
/// When the cache cannot be read.
pub fn recall(cache: &Cache, resolution: &Resolution<'_>, indexes: &[&str]) -> Result<Option<String>, CacheError> {
    let Some(digest) = cache.record::<Digest>(key(resolution, indexes))? else { return Ok(None) };
    Ok(cache.read_blob(digest)?.and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// Keeps an answer for [`recall`].
///
/// # Errors
/// When the cache cannot be written.
pub fn keep(cache: &Cache, resolution: &Resolution<'_>, indexes: &[&str], answer: &str) -> Result<(), CacheError> {
    // An address with a password in it must not stay.
    if resolution.secrets().iter().any(|secret| answer.contains(secret)) {
        return Ok(());
    }
    let stored = cache.store_bytes(answer.as_bytes())?;
    cache.remember(key(resolution, indexes), &stored.digest)
}

/// What the answer depends on but this machine and secrets.
fn key(resolution: &Resolution<'_>, indexes: &[&str]) -> Key {
    let Resolution { requirements, constraints, target, find_links, extra_args, dependencies, .. } = resolution;
    let dependencies = match dependencies {
        Dependencies::Followed => "followed",
        Dependencies::Listed => "listed",
    };
    let target = target.to_string();
    let described = json!([requirements, constraints, target, find_links, extra_args, dependencies, indexes]);
    Key::new("resolution", [described.to_string().as_bytes()])
}
