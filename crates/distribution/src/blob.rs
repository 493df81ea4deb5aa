//! What a blob is, where its bytes come from, and whether a registry has it.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

use imagespec_core::digest::{Digest, InvalidDigest};
use imagespec_core::reference::Reference;
use oci_spec::image::Descriptor;
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::client::Client;
use crate::error::Error;
use crate::exchange::{Call, Content, Target, answer_error};
use crate::scope::Scopes;

/// Digest and length of some content: what of a descriptor is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blob {
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size_bytes: u64,
}

/// A descriptor whose digest is none that is supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a descriptor has an unsupported digest")]
pub struct InvalidDescriptor {
    #[source]
    source: InvalidDigest,
}

impl Blob {
    /// The blob that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 }
    }
}

impl TryFrom<&Descriptor> for Blob {
    type Error = InvalidDescriptor;

    fn try_from(descriptor: &Descriptor) -> Result<Self, InvalidDescriptor> {
        let digest = descriptor.digest().to_string().parse().map_err(|source| InvalidDescriptor { source })?;
        Ok(Self { digest, size_bytes: descriptor.size() })
    }
}

/// Content that can be read as often as attempts to push it need.
pub trait BlobSource {
    /// A reader of the content from `offset_bytes` to its end.
    ///
    /// # Errors
    /// When the content cannot be opened, or is shorter.
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>>;
}

impl BlobSource for Vec<u8> {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = usize::try_from(offset_bytes).ok().filter(|start| *start <= self.len());
        let start = start.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Box::new(Cursor::new(self[start..].to_vec())))
    }
}

impl BlobSource for PathBuf {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }
}

impl Client<'_> {
    /// Whether the repository has the blob `digest`.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn has_blob(&self, repository: &Reference, digest: Digest) -> Result<bool, Error> {
        self.has_blob_for(repository, digest, Scopes::pull(repository.repository()))
    }

    /// The same with a token for `scopes`, so that one who is about to push needs no second one.
    pub(crate) fn has_blob_for(&self, repository: &Reference, digest: Digest, scopes: Scopes) -> Result<bool, Error> {
        let endpoint = self.endpoint(repository.registry())?;
        let call = Call {
            method: Method::HEAD,
            target: Target::Api(format!("{}/blobs/{digest}", repository.repository())),
            repository: repository.repository(),
            scopes,
            headers: HeaderMap::new(),
            content: Content::Nothing,
        };
        let response = self.request(&endpoint, &call, self.retry)?;
        match response.status().as_u16() {
            200..=299 => Ok(true),
            404 => Ok(false),
            _ => Err(answer_error(&endpoint, &call.method, response)),
        }
    }
}
