//! The OCI distribution client: asks a registry whether an image exists, pulls, mounts and pushes.
//!
//! A client of its own on `reqwest::blocking`, because the usual one (`oci-client`) is async and never retries, while a
//! build needs what this one does: it is sync, resumes broken transfers, and hands out no byte that was not verified.
//!
//! The crate reads neither the environment nor the user's home: the caller says where credentials are stored. (The
//! system's certificates are found by `rustls-native-certs`, which honours `SSL_CERT_FILE` and `SSL_CERT_DIR`; a proxy
//! is found by reqwest, which honours `HTTPS_PROXY` and its relatives.) It renders nothing and keeps nothing on disk.
//!
//! Protocol: OCI distribution-spec 1.1, and the token authentication of the CNCF distribution project.

mod authentication;
mod blob;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod exchange;
mod index;
mod manifest;
mod pull;
mod push;
mod retry;
mod scope;
mod secret;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transport;

pub use blob::{Blob, BlobSource, InvalidDescriptor};
pub use client::{Client, ClientOptions};
pub use credentials::{CredentialError, CredentialStore, Login};
pub use error::{Asker, ConnectionProblem, Error, RegistryAnswer};
pub use index::{NoPlatform, choose};
pub use manifest::{Document, Existence, PulledManifest};
pub use push::Pushed;
pub use retry::RetryPolicy;
