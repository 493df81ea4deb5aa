//! Pulls a blob: verified as it arrives, and resumed where a connection broke.

use std::io::{self, Read, Write};

use imagespec_core::digest::Hasher;
use imagespec_core::reference::Reference;
use reqwest::Method;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};

use crate::blob::Blob;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{Error, is_temporary_status, shown};
use crate::exchange::{Call, Content, Target, answer_error};
use crate::scope::Scopes;
use crate::transport::problem_of_read;

const BUFFER_SIZE_BYTES: usize = 128 * 1024;

/// After how much progress earlier failures are forgotten.
const PROGRESS_SIZE_BYTES_MIN: u64 = 1024 * 1024;

/// A blob on its way into a sink.
struct Download<'d> {
    blob: Blob,
    hasher: Hasher,
    sink: &'d mut dyn Write,
    progress: &'d mut dyn FnMut(u64),
}

impl Client<'_> {
    /// Pulls `blob` from a repository into `sink`, and tells `progress` how many bytes have come so far.
    ///
    /// No more bytes are read than the blob has. Until this returns well, what `sink` got is not verified.
    ///
    /// # Errors
    /// When the blob is not there, or has another digest or length.
    pub fn pull_blob(
        &self,
        repository: &Reference,
        blob: Blob,
        sink: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let endpoint = self.endpoint(repository.registry())?;
        let mut download = Download { blob, hasher: Hasher::default(), sink, progress };
        let mut attempts = self.retry.attempts();
        let mut progressed = 0;
        loop {
            let failure = match self.pull_rest(&endpoint, repository, &mut download) {
                Ok(()) => return download.finish(),
                Err(failure) => failure,
            };
            if download.hasher.size_bytes() >= progressed + PROGRESS_SIZE_BYTES_MIN {
                progressed = download.hasher.size_bytes();
                attempts.forget_failures();
            }
            attempts.pause(failure, self.cancelled)?;
        }
    }

    /// Makes one attempt at what is missing.
    fn pull_rest(&self, endpoint: &Endpoint, repository: &Reference, download: &mut Download<'_>) -> Result<(), Error> {
        let offset = download.hasher.size_bytes();
        if offset == download.blob.size_bytes && offset > 0 {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-")).expect("a range is a valid header");
            headers.insert(RANGE, range);
        }
        let call = Call {
            method: Method::GET,
            target: Target::Api(format!("{}/blobs/{}", repository.repository(), download.blob.digest)),
            repository: repository.repository(),
            scopes: Scopes::pull(repository.repository()),
            headers,
            content: Content::Nothing,
        };
        let response = self.exchange(endpoint, &call, &mut || {})?;
        let skip = match response.status().as_u16() {
            206 if offset > 0 => {
                let start = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                if start.and_then(range_start) != Some(offset) {
                    return Err(Error::Protocol { url: shown(response.url()), problem: "another range was sent" });
                }
                0
            }
            // Ranges are not known here, so the blob comes from its beginning.
            200 => offset,
            status if is_temporary_status(status) || !response.status().is_success() => {
                return Err(answer_error(endpoint, &call.method, response));
            }
            _ => return Err(Error::Protocol { url: shown(response.url()), problem: "no blob was sent" }),
        };
        if let Some(length) = response.content_length() {
            let sent = offset - skip + length;
            if sent != download.blob.size_bytes {
                return Err(download.wrong_size(sent));
            }
        }
        self.receive(endpoint, response, skip, download)
    }

    fn receive(
        &self,
        endpoint: &Endpoint,
        mut response: Response,
        mut skip: u64,
        download: &mut Download<'_>,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER_SIZE_BYTES];
        loop {
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            let count = match response.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::Connection {
                        url: shown(response.url()),
                        registry: endpoint.registry().to_owned(),
                        problem: problem_of_read(&error),
                    });
                }
            };
            if count == 0 {
                return Ok(());
            }
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
            skip -= skipped as u64;
            download.take(&buffer[skipped..count])?;
        }
    }
}

impl Download<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let size_bytes = self.hasher.size_bytes() + bytes.len() as u64;
        if size_bytes > self.blob.size_bytes {
            return Err(self.wrong_size(size_bytes));
        }
        self.sink.write_all(bytes).map_err(|source| Error::Sink { digest: self.blob.digest, source })?;
        self.hasher.update(bytes);
        (self.progress)(size_bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        if self.hasher.size_bytes() != self.blob.size_bytes {
            return Err(self.wrong_size(self.hasher.size_bytes()));
        }
        let (actual, _) = self.hasher.finish();
        let expected = self.blob.digest;
        if actual == expected {
            return Ok(());
        }
        Err(Error::Digest { name: expected.to_string(), expected, actual })
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let problem = if actual > self.blob.size_bytes { "longer" } else { "shorter" };
        Error::Size { name: self.blob.digest.to_string(), problem, size_bytes: self.blob.size_bytes }
    }
}

/// Where a `Content-Range` begins, `bytes 100-199/200` (RFC 9110, section 14.4).
fn range_start(text: &str) -> Option<u64> {
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
