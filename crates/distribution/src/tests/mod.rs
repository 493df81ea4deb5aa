//! The client against the in-process registry, with everything that can go wrong on the way.

mod access;
mod existence;
mod pull;
mod push;

use std::fs;
use std::time::Duration;

use crate::testing::{Access, Registry};
use crate::{Blob, Client, ClientOptions, CredentialStore, Error, RetryPolicy};

const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Attempts as usual, and no pauses between them.
const IMPATIENT: RetryPolicy = RetryPolicy {
    attempts_max: 5,
    delay_base: Duration::ZERO,
    delay_max: Duration::ZERO,
    wait_max: Duration::from_secs(1),
};

fn registry() -> Registry {
    Registry::start(Access::Open).expect("a port")
}

fn client() -> Client<'static> {
    Client::new(ClientOptions { retry: IMPATIENT, ..ClientOptions::default() }, &|| false)
}

/// A client whose Docker configuration has `auth`, a JSON object, for `registry`.
fn client_with(registry: &Registry, auth: &serde_json::Value) -> (Client<'static>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    let document = serde_json::json!({"auths": {registry.host(): auth}});
    fs::write(&path, document.to_string()).expect("written");
    let credentials = CredentialStore::from_files(vec![path]);
    (Client::new(ClientOptions { retry: IMPATIENT, credentials, ..ClientOptions::default() }, &|| false), folder)
}

fn manifest(config: Blob) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.size_bytes,
        },
        "layers": [],
    })
    .to_string()
    .into_bytes()
}

/// Content of a length that no attempt sends at once.
fn content(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|index| (index / 251 + index % 251) as u8).collect()
}

/// An error's text without the port, which differs from run to run.
fn text(error: &Error, registry: &Registry) -> String {
    error.to_string().replace(&registry.host(), "HOST")
}
