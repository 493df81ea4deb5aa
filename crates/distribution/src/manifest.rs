//! Manifests and indexes: whether there is one, what it is, and how it gets into a registry.

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use oci_spec::image::{ImageIndex, ImageManifest};
use reqwest::Method;
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::blob::Blob;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{Error, sanitized, shown};
use crate::exchange::{Call, Content, Target, answer_error, read_bounded};
use crate::index::choose;
use crate::retry::RetryPolicy;
use crate::scope::Scopes;

/// What registries take at most (distribution-spec, "Pushing Manifests").
const SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Attempts at finding out whether an image exists: somebody waits for it.
const EXISTS_ATTEMPTS_MAX: u32 = 2;

const IMAGE_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Whether an image is in a registry.
#[derive(Debug)]
pub enum Existence {
    /// It is.
    Yes {
        /// Digest of its manifest or index, as the registry says.
        digest: Digest,
    },
    /// It is not.
    No,
    /// The registry did not say.
    Unknown(Error),
}

/// A manifest or an index, as it was stored, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledManifest {
    /// Digest of `bytes`; the one of the reference if that has one.
    pub digest: Digest,
    /// What `bytes` are.
    pub media_type: String,
    /// The document.
    pub bytes: Vec<u8>,
}

/// What a pulled document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// Images by platform.
    Index(Box<ImageIndex>),
}

/// What tells the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u64>,
    media_type: Option<String>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl PulledManifest {
    /// Reads the document.
    ///
    /// # Errors
    /// When it is none that its media type says.
    pub fn document(&self) -> Result<Document, Error> {
        let invalid = |source| Error::InvalidManifest { reference: self.digest.to_string(), source };
        if INDEX_TYPES.contains(&self.media_type.as_str()) {
            serde_json::from_slice(&self.bytes).map(|index| Document::Index(Box::new(index))).map_err(invalid)
        } else {
            serde_json::from_slice(&self.bytes).map(|image| Document::Image(Box::new(image))).map_err(invalid)
        }
    }
}

impl Client<'_> {
    /// Whether `reference` is in its registry. One round trip if the registry is known to want no token.
    pub fn exists(&self, reference: &Reference) -> Existence {
        match self.look_up(reference) {
            Ok(Some(digest)) => Existence::Yes { digest },
            Ok(None) => Existence::No,
            Err(error) => Existence::Unknown(error),
        }
    }

    /// Pulls the manifest or index of `reference`.
    ///
    /// # Errors
    /// When there is none ([`Error::is_not_found`]), it has another digest, or is no OCI or Docker schema 2 document.
    pub fn pull_manifest(&self, reference: &Reference) -> Result<PulledManifest, Error> {
        let endpoint = self.endpoint(reference.registry())?;
        let call = manifest_call(Method::GET, reference);
        self.pull_by(&endpoint, &call, reference, self.retry)
    }

    /// Pulls the manifest of the image of `reference` for `platform`: of the one that an index has for it, or of the
    /// only one, whose platform its config says.
    ///
    /// # Errors
    /// As [`Client::pull_manifest`], and when an index has no image for `platform`.
    pub fn pull_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(PulledManifest, ImageManifest), Error> {
        let mut pulled = self.pull_manifest(reference)?;
        if let Document::Index(index) = pulled.document()? {
            let descriptor = choose(&index, platform)?;
            let chosen = Blob::try_from(descriptor).map_err(|_| Error::UnsupportedManifest {
                reference: reference.to_string(),
                media_type: descriptor.media_type().to_string(),
            })?;
            pulled = self.pull_manifest(&reference.with_digest(chosen.digest))?;
        }
        match pulled.document()? {
            Document::Image(image) => Ok((pulled, *image)),
            // The specification allows an index in an index, and nobody makes one for images.
            Document::Index(_) => {
                Err(Error::UnsupportedManifest { reference: reference.to_string(), media_type: pulled.media_type })
            }
        }
    }

    /// Stores a manifest or index under the digest of `reference`, else under its tag. Returns the digest of `bytes`.
    ///
    /// # Errors
    /// When `reference` has another digest, or the registry does not take it: all that it names must be there before.
    pub fn push_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if let Some(expected) = reference.digest() {
            verify(reference, expected, digest)?;
        }
        let endpoint = self.endpoint(reference.registry())?;
        let mut headers = HeaderMap::new();
        let media_type = HeaderValue::try_from(media_type).map_err(|_| Error::UnsupportedManifest {
            reference: reference.to_string(),
            media_type: sanitized(media_type).unwrap_or_default(),
        })?;
        headers.insert(CONTENT_TYPE, media_type);
        let scopes = Scopes::push(reference.repository());
        let content = Content::Bytes(bytes);
        let call = Call { headers, scopes, content, ..manifest_call(Method::PUT, reference) };
        let response = self.request(&endpoint, &call, self.retry)?;
        if !response.status().is_success() {
            return Err(answer_error(&endpoint, &call.method, response));
        }
        if let Some(stored) = content_digest(&response)? {
            verify(reference, digest, stored)?;
        }
        Ok(digest)
    }

    fn look_up(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let endpoint = self.endpoint(reference.registry())?;
        let retry = RetryPolicy { attempts_max: self.retry.attempts_max.min(EXISTS_ATTEMPTS_MAX), ..self.retry };
        let call = manifest_call(Method::HEAD, reference);
        let response = self.request(&endpoint, &call, retry)?;
        match response.status().as_u16() {
            200..=299 => {
                let stored = content_digest(&response)?;
                if let (Some(expected), Some(stored)) = (reference.digest(), stored) {
                    verify(reference, expected, stored)?;
                }
                if let Some(digest) = reference.digest().or(stored) {
                    return Ok(Some(digest));
                }
            }
            404 => return Ok(None),
            // Some registries answer HEAD in no useful way.
            400 | 405 | 501 => {}
            _ => return Err(answer_error(&endpoint, &call.method, response)),
        }
        let call = manifest_call(Method::GET, reference);
        match self.pull_by(&endpoint, &call, reference, retry) {
            Ok(pulled) => Ok(Some(pulled.digest)),
            Err(Error::Answer(answer)) if answer.status == 404 && is_absence(answer.code.as_deref()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pull_by(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        reference: &Reference,
        retry: RetryPolicy,
    ) -> Result<PulledManifest, Error> {
        let mut attempts = retry.attempts();
        loop {
            let response = self.request(endpoint, call, retry)?;
            if !response.status().is_success() {
                return Err(answer_error(endpoint, &call.method, response));
            }
            let stored = content_digest(&response)?;
            let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let media_type = media_type.unwrap_or_default().to_owned();
            match read_bounded(endpoint, response, SIZE_BYTES_MAX) {
                Ok(bytes) => return verified(reference, stored, &media_type, bytes),
                Err(broken) => attempts.pause(broken, self.cancelled)?,
            }
        }
    }
}

/// A code of a 404 that says that the image or its repository is not there, and not that this is no registry.
fn is_absence(code: Option<&str>) -> bool {
    matches!(code, Some("NAME_UNKNOWN" | "MANIFEST_UNKNOWN" | "NOT_FOUND"))
}

fn manifest_call(method: Method, reference: &Reference) -> Call<'_> {
    let accept = [IMAGE_TYPES, INDEX_TYPES].concat().join(", ");
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::try_from(accept).expect("media types are valid headers"));
    Call {
        method,
        target: Target::Api(format!("{}/manifests/{}", reference.repository(), reference.manifest_name())),
        repository: reference.repository(),
        scopes: Scopes::pull(reference.repository()),
        headers,
        content: Content::Nothing,
    }
}

/// The digest that a registry says its answer has. One of another algorithm counts as none.
fn content_digest(response: &Response) -> Result<Option<Digest>, Error> {
    match response.headers().get(CONTENT_DIGEST).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) if text.starts_with("sha512:") => Ok(None),
        Some(text) => text.ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| Error::Protocol {
            url: shown(response.url()),
            problem: "`Docker-Content-Digest` is no digest",
        }),
    }
}

fn verify(reference: &Reference, expected: Digest, actual: Digest) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Digest { name: reference.to_string(), expected, actual })
}

fn verified(
    reference: &Reference,
    stored: Option<Digest>,
    content_type: &str,
    bytes: Vec<u8>,
) -> Result<PulledManifest, Error> {
    let digest = Digest::of(&bytes);
    for expected in [reference.digest(), stored].into_iter().flatten() {
        verify(reference, expected, digest)?;
    }
    let kind: Kind = serde_json::from_slice(&bytes)
        .map_err(|source| Error::InvalidManifest { reference: reference.to_string(), source })?;
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    // The header is not covered by the digest, so what the document says of itself counts.
    let media_type = match (&kind.media_type, kind.schema_version) {
        (Some(media_type), _) => media_type.clone(),
        (None, Some(1)) => "application/vnd.docker.distribution.manifest.v1+json".to_owned(),
        (None, _) => content_type.to_owned(),
    };
    // One document must not be an image to one reader and an index to another (CVE-2021-41190).
    let is_consistent = match (kind.layers.is_some(), kind.manifests.is_some()) {
        (false, true) => INDEX_TYPES.contains(&media_type.as_str()),
        (true, false) => IMAGE_TYPES.contains(&media_type.as_str()),
        _ => false,
    };
    if !is_consistent || kind.schema_version != Some(2) {
        let media_type = sanitized(&media_type).unwrap_or_default();
        return Err(Error::UnsupportedManifest { reference: reference.to_string(), media_type });
    }
    Ok(PulledManifest { digest, media_type, bytes })
}
