//! Pushes a blob: found, mounted or uploaded, and an upload that broke goes on where the registry has got to.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imagespec_core::reference::Reference;
use reqwest::Method;
use reqwest::blocking::{Body, Response};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use url::Url;

use crate::blob::{Blob, BlobSource};
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::exchange::{Call, Content, Target, answer_error, location};
use crate::scope::Scopes;

/// Up to here, one request is better than two that could be resumed.
const WHOLE_SIZE_BYTES_MAX: u64 = 5 * 1024 * 1024;

/// How often an upload that the registry lost is started again.
const RESTARTS_MAX: u32 = 3;

/// How long an upload may take besides what its length asks for, and the slowest pace that is still waited for.
const UPLOAD_TIMEOUT_BASE: Duration = Duration::from_secs(120);
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// How a blob came into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// It was in another repository of the registry.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// How an upload sends its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// All with the request that ends the upload.
    Whole,
    /// In a request of its own, which can be taken up again.
    Resumable,
}

/// An upload in progress: where it goes on, and how much the registry has.
struct Position {
    url: Url,
    offset_bytes: u64,
}

/// What a registry made of the wish to start an upload.
enum Started {
    Mounted,
    Upload(Position),
}

/// What to do after an attempt failed.
enum Next {
    Continue(Position),
    Restart(Manner),
    Done,
}

struct Upload<'u> {
    client: &'u Client<'u>,
    endpoint: &'u Endpoint,
    repository: &'u Reference,
    blob: Blob,
    source: &'u dyn BlobSource,
    progress: &'u mut dyn FnMut(u64),
}

impl Client<'_> {
    /// Puts `blob` into a repository, and tells `progress` how many bytes were sent so far.
    ///
    /// If it is not there yet, it is mounted from the repository `mount_from`, if that is in the same registry and has
    /// it; only if that fails too, `source` is opened and sent.
    ///
    /// # Errors
    /// When the registry does not take it or `source` does not have what `blob` says.
    pub fn push_blob(
        &self,
        repository: &Reference,
        blob: Blob,
        mount_from: Option<&Reference>,
        source: &dyn BlobSource,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pushed, Error> {
        let name = repository.repository();
        let mount_from = mount_from
            .filter(|from| from.registry() == repository.registry() && from.repository() != name)
            .map(Reference::repository);
        if self.has_blob_for(repository, blob.digest, Scopes::push(name))? {
            return Ok(Pushed::Existed);
        }
        let endpoint = self.endpoint(repository.registry())?;
        let mut upload = Upload { client: self, endpoint: &endpoint, repository, blob, source, progress };
        match upload.start(mount_from)? {
            Started::Mounted => Ok(Pushed::Mounted),
            Started::Upload(position) => upload.run(position).map(|()| Pushed::Uploaded),
        }
    }
}

impl<'u> Upload<'u> {
    fn start(&self, mount_from: Option<&str>) -> Result<Started, Error> {
        let name = self.repository.repository();
        let path = format!("{name}/blobs/uploads/");
        let call = match mount_from {
            None => self.call(Method::POST, Target::Api(path)),
            Some(from) => {
                // A digest and a repository's name need no escaping in a query.
                let target = Target::Api(format!("{path}?mount={}&from={from}", self.blob.digest));
                Call { scopes: Scopes::push(name).and_pull(from), ..self.call(Method::POST, target) }
            }
        };
        let response = self.client.request(self.endpoint, &call, self.client.retry)?;
        match response.status().as_u16() {
            201 if mount_from.is_some() => Ok(Started::Mounted),
            202 => Ok(Started::Upload(Position { url: location(self.endpoint, &response)?, offset_bytes: 0 })),
            // Whatever forbids the mount need not forbid an upload.
            400..=499 if mount_from.is_some() => self.start(None),
            _ => Err(answer_error(self.endpoint, &call.method, response)),
        }
    }

    fn run(&mut self, position: Position) -> Result<(), Error> {
        let mut manner = if self.blob.size_bytes <= WHOLE_SIZE_BYTES_MAX { Manner::Whole } else { Manner::Resumable };
        let mut attempts = self.client.retry.attempts();
        let mut restarts = 0;
        let mut progressed = 0;
        let mut position = position;
        loop {
            let failure = match self.advance(&mut position, manner) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let next = if failure.deserves_retry() {
                attempts.pause(failure, self.client.cancelled)?;
                self.take_up(&position, manner)?
            } else {
                restarts += 1;
                if restarts > RESTARTS_MAX {
                    return Err(failure);
                }
                Next::Restart(restart_after(failure, manner, position.offset_bytes)?)
            };
            match next {
                Next::Done => return Ok(()),
                Next::Continue(further) => {
                    if further.offset_bytes > progressed {
                        progressed = further.offset_bytes;
                        attempts.forget_failures();
                    }
                    position = further;
                }
                Next::Restart(next_manner) => {
                    manner = next_manner;
                    position = match self.start(None)? {
                        Started::Upload(position) => position,
                        Started::Mounted => return Ok(()),
                    };
                }
            }
        }
    }

    /// Sends what is missing and ends the upload. `position` is kept up to date.
    fn advance(&mut self, position: &mut Position, manner: Manner) -> Result<(), Error> {
        while manner == Manner::Resumable && position.offset_bytes < self.blob.size_bytes {
            self.send_rest(position)?;
        }
        let mut url = position.url.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let response = match manner {
            Manner::Whole => self.send(Method::PUT, url, 0)?,
            // A blob of no bytes is always sent whole, so here all were sent before.
            Manner::Resumable => {
                let call = self.call(Method::PUT, Target::Location(url));
                self.client.exchange(self.endpoint, &call, &mut || {})?
            }
        };
        if response.status().is_success() {
            return Ok(());
        }
        Err(answer_error(self.endpoint, &Method::PUT, response))
    }

    fn send_rest(&mut self, position: &mut Position) -> Result<(), Error> {
        let response = self.send(Method::PATCH, position.url.clone(), position.offset_bytes)?;
        if !response.status().is_success() {
            return Err(answer_error(self.endpoint, &Method::PATCH, response));
        }
        position.url = location(self.endpoint, &response)?;
        let reached = reached(&response).unwrap_or(self.blob.size_bytes);
        if reached <= position.offset_bytes || reached > self.blob.size_bytes {
            let url = crate::error::shown(response.url());
            return Err(Error::Protocol { url, problem: "the registry took none, or more, of what was sent" });
        }
        position.offset_bytes = reached;
        Ok(())
    }

    /// Sends the content from `offset_bytes` on.
    fn send(&mut self, method: Method, url: Url, offset_bytes: u64) -> Result<Response, Error> {
        let length = self.blob.size_bytes - offset_bytes;
        let state = Arc::new(Sending::default());
        let open = || {
            let reader = self.source.open(offset_bytes);
            let reader = reader.map_err(|source| Error::Source { digest: self.blob.digest, source })?;
            state.sent_bytes.store(0, Ordering::Relaxed);
            let reader = Observed { reader, left_bytes: length, state: Arc::clone(&state) };
            let seconds = Duration::from_secs(length / UPLOAD_BYTES_PER_SECOND_MIN);
            Ok((Body::sized(reader, length), UPLOAD_TIMEOUT_BASE + seconds))
        };
        let mut call = self.call(method, Target::Location(url));
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if offset_bytes > 0 {
            let range = format!("{offset_bytes}-{}", self.blob.size_bytes - 1);
            call.headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("a range is a valid header"));
        }
        if length > 0 {
            call.content = Content::Stream(&open);
        }
        let progress = &mut self.progress;
        let mut tick = || progress(offset_bytes + state.sent_bytes.load(Ordering::Relaxed));
        let outcome = self.client.exchange(self.endpoint, &call, &mut tick);
        // Whoever still sends for a request that was given up, stops.
        state.is_given_up.store(true, Ordering::Relaxed);
        match state.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(source) if outcome.is_err() => Err(Error::Source { digest: self.blob.digest, source }),
            _ => outcome,
        }
    }

    /// Finds out how an upload goes on that broke.
    fn take_up(&self, position: &Position, manner: Manner) -> Result<Next, Error> {
        // The answer to the last request may be all that was lost.
        let is_complete = manner == Manner::Whole || position.offset_bytes == self.blob.size_bytes;
        let scopes = Scopes::push(self.repository.repository());
        if is_complete && self.client.has_blob_for(self.repository, self.blob.digest, scopes)? {
            return Ok(Next::Done);
        }
        if manner == Manner::Whole {
            return Ok(Next::Restart(manner));
        }
        let call = self.call(Method::GET, Target::Location(position.url.clone()));
        let response = self.client.request(self.endpoint, &call, self.client.retry)?;
        let reached = reached(&response).filter(|reached| *reached <= self.blob.size_bytes);
        match (response.status().is_success(), reached, location(self.endpoint, &response)) {
            (true, Some(offset_bytes), Ok(url)) => Ok(Next::Continue(Position { url, offset_bytes })),
            _ => Ok(Next::Restart(manner)),
        }
    }

    fn call(&self, method: Method, target: Target) -> Call<'u> {
        let repository = self.repository.repository();
        let scopes = Scopes::push(repository);
        Call { method, target, repository, scopes, headers: HeaderMap::new(), content: Content::Nothing }
    }
}

/// In which manner to start again after a failure that waiting does not cure; the failure itself if in none.
fn restart_after(failure: Error, manner: Manner, offset_bytes: u64) -> Result<Manner, Error> {
    let Error::Answer(answer) = &failure else { return Err(failure) };
    match (manner, answer.method.as_str(), answer.status) {
        // This registry takes a blob only at once.
        (Manner::Resumable, "PATCH", 400 | 405 | 415 | 501) if offset_bytes == 0 => Ok(Manner::Whole),
        // The registry lost the upload, or is at another place than it said.
        (_, _, 404 | 416) => Ok(manner),
        // What it put together of more than one piece is not what was sent.
        (Manner::Resumable, "PATCH" | "PUT", 400) => Ok(Manner::Whole),
        _ => Err(failure),
    }
}

/// How many bytes of an upload the registry has: `Range: 0-99`. Registries write `0-0` for none.
fn reached(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let end = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse::<u64>().ok()?;
    if end == 0 { Some(0) } else { end.checked_add(1) }
}

/// What the one who sends and the one who waits know of each other.
#[derive(Default)]
struct Sending {
    sent_bytes: AtomicU64,
    is_given_up: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

/// A reader that counts, and that fails where its content ends too soon.
struct Observed {
    reader: Box<dyn Read + Send>,
    left_bytes: u64,
    state: Arc<Sending>,
}

impl Observed {
    fn fail(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        *self.state.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        kind.into()
    }
}

impl Read for Observed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state.is_given_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let wanted = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.reader.read(&mut buffer[..wanted]) {
            Ok(0) => Err(self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it should be"))),
            Ok(count) => {
                self.left_bytes -= count as u64;
                self.state.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(buffer),
            Err(error) => Err(self.fail(error)),
        }
    }
}
