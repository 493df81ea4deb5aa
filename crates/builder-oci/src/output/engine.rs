//! Loads images into a Docker or Podman engine on this machine, over its socket. Protocol: Docker Engine API, "Ping",
//! "Import images" and "Inspect an image", in whatever version the engine speaks by default: these have not changed since
//! 1.24.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use imagespec_layout::Archive;
use reqwest::StatusCode;
use reqwest::blocking::{Body, Client, Request};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::Value;

use super::{OutputError, on_disk, open};
use crate::builder::{Building, Failure};
use crate::image::Image;
use crate::network::innermost;

/// How long an engine may take to say that it is there, or what it has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often cancellation is looked at while an engine works.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// What an engine says about an image that it loads or has; real answers have a few thousand bytes.
const ANSWER_SIZE_BYTES_MAX: u64 = 4 << 20;
/// Characters of an engine's complaint that are shown.
const PROBLEM_LENGTH_MAX: usize = 300;

/// An engine that answers.
pub(super) struct Engine<'a> {
    building: &'a Building<'a>,
    socket: &'a Path,
    client: Client,
}

/// What an engine answered.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// One line of the answer to "Import images".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    error: Option<String>,
    error_detail: Option<ErrorDetail>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

/// The archive on its way to the engine, until the user asks to stop.
struct Upload {
    archive: Archive,
    given_up: Arc<AtomicBool>,
}

impl<'a> Engine<'a> {
    /// Connects to the engine at `socket` and asks whether it is one.
    pub(super) fn connect(socket: &'a Path, building: &'a Building<'a>) -> Result<Self, Failure> {
        // The HTTP client would not say so clearly why nobody answers.
        UnixStream::connect(socket).map_err(|source| OutputError::NoEngine { socket: socket.to_owned(), source })?;
        let client = Client::builder().unix_socket(socket).redirect(Policy::none()).no_proxy().timeout(None);
        // There is no TLS on a socket, so the system's certificates need not be read.
        let client = client.tls_certs_only([]).build();
        let broken = |error: reqwest::Error| failed(socket, "answer", &cause(&error));
        let engine = Self { building, socket, client: client.map_err(broken)? };
        let answer = engine.ask("answer", "_ping")?;
        if answer.status == StatusCode::OK { Ok(engine) } else { Err(engine.refused("answer", &answer).into()) }
    }

    /// Whether the engine has `image` under the name that it is to have.
    pub(super) fn has(&self, image: &Image) -> Result<bool, Failure> {
        let found = self.image_id()?;
        Ok(found.is_some_and(|found| is_id_of(&found, image)))
    }

    /// Loads `image`, whose layers are in the cache, and verifies that the engine then has it.
    pub(super) fn load(&self, image: &Image) -> Result<(), Failure> {
        const ACTION: &str = "load the image";
        let archive = Archive::of(&self.building.request.name, &on_disk(image), &|digest| open(self.building, digest))?;
        let size_bytes = archive.size_bytes();
        let given_up = Arc::new(AtomicBool::new(false));
        let upload = Upload { archive, given_up: Arc::clone(&given_up) };
        let request = self
            .client
            .post(url("images/load?quiet=1"))
            .header("Content-Type", "application/x-tar")
            .body(Body::sized(upload, size_bytes))
            .build()
            .map_err(|error| failed(self.socket, ACTION, &cause(&error)))?;
        let answer = self.send(ACTION, request).inspect_err(|_| given_up.store(true, Ordering::Relaxed))?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(ACTION, &answer).into());
        }
        if let Some(problem) = complaint(&answer.body) {
            return Err(failed(self.socket, ACTION, &problem).into());
        }
        match self.image_id()? {
            Some(found) if is_id_of(&found, image) => Ok(()),
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), |found| one_line(&found));
                let socket = self.socket.to_owned();
                Err(OutputError::OtherImage { socket, expected: image.config_digest, found }.into())
            }
        }
    }

    /// The id of the image that has the name of the one that is built.
    fn image_id(&self) -> Result<Option<String>, Failure> {
        const ACTION: &str = "say what it has";
        let answer = self.ask(ACTION, &format!("images/{}/json", self.building.request.name.familiar()))?;
        match answer.status {
            StatusCode::OK => {
                let image: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let id = image.get("Id").and_then(Value::as_str).map(str::to_owned);
                id.map(Some).ok_or_else(|| failed(self.socket, ACTION, "its answer has no `Id`").into())
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(ACTION, &answer).into()),
        }
    }

    /// Asks for `path`, which the engine answers at once.
    fn ask(&self, action: &'static str, path: &str) -> Result<Answer, Failure> {
        let request = self.client.get(url(path)).timeout(ANSWER_TIMEOUT).build();
        self.send(action, request.map_err(|error| failed(self.socket, action, &cause(&error)))?)
    }

    /// Sends `request` on a thread of its own, so that the user need not wait for it after cancelling.
    fn send(&self, action: &'static str, request: Request) -> Result<Answer, Failure> {
        let failed = |problem: &str| Failure::from(failed(self.socket, action, problem));
        let (sender, receiver) = mpsc::channel();
        let client = self.client.clone();
        thread::Builder::new()
            .name("engine request".to_owned())
            .spawn(move || drop(sender.send(answer(&client, request))))
            .map_err(|error| failed(&error.to_string()))?;
        loop {
            match receiver.recv_timeout(WATCH_INTERVAL) {
                Ok(answer) => return answer.map_err(|problem| failed(&problem)),
                Err(RecvTimeoutError::Timeout) => self.building.check_cancelled()?,
                Err(RecvTimeoutError::Disconnected) => return Err(failed("the request was given up")),
            }
        }
    }

    fn refused(&self, action: &'static str, answer: &Answer) -> OutputError {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = body.get("message").and_then(Value::as_str).map(one_line).filter(|said| !said.is_empty());
        failed(self.socket, action, &said.unwrap_or_else(|| format!("HTTP status {}", answer.status)))
    }
}

/// The URL of `path`. The host is for the form: all goes through the socket.
fn url(path: &str) -> String {
    format!("http://localhost/{path}")
}

fn answer(client: &Client, request: Request) -> Result<Answer, String> {
    let response = client.execute(request).map_err(|error| cause(&error))?;
    let status = response.status();
    let mut body = Vec::new();
    let read = response.take(ANSWER_SIZE_BYTES_MAX).read_to_end(&mut body);
    read.map_err(|error| one_line(&error.to_string()))?;
    Ok(Answer { status, body })
}

fn failed(socket: &Path, action: &'static str, problem: &str) -> OutputError {
    OutputError::Engine { socket: socket.to_owned(), action, problem: problem.to_owned() }
}

/// The first error in the stream of messages by which an engine tells how a load goes.
fn complaint(body: &[u8]) -> Option<String> {
    for message in serde_json::Deserializer::from_slice(body).into_iter::<Message>() {
        let Ok(message) = message else { return Some("its answer is no stream of JSON messages".to_owned()) };
        let detail = message.error_detail.map(|detail| detail.message.unwrap_or_default());
        if let Some(problem) = detail.filter(|detail| !detail.is_empty()).or(message.error) {
            return Some(one_line(&problem));
        }
    }
    None
}

/// An image's id is the digest of its config; for an engine that keeps images in containerd, that of its manifest.
fn is_id_of(found: &str, image: &Image) -> bool {
    [image.config_digest, image.digest].iter().any(|digest| found == digest.to_string())
}

/// What lies at the bottom of a failed request, which names no URL.
fn cause(error: &reqwest::Error) -> String {
    one_line(&innermost(error).to_string())
}

/// Words of an engine on one line of bounded length.
fn one_line(text: &str) -> String {
    let text = text.chars().take(PROBLEM_LENGTH_MAX);
    let text: String = text.map(|character| if character.is_control() { ' ' } else { character }).collect();
    text.trim().to_owned()
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up"));
        }
        self.archive.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_among_the_messages_of_an_engine_is_found() {
        let loaded = "{\"stream\":\"Loaded image: app:1\\n\"}\r\n";
        assert_eq!(complaint(loaded.as_bytes()), None);
        assert_eq!(complaint(b""), None);
        let refused =
            format!("{loaded}{{\"errorDetail\":{{\"message\":\"no space\\nleft\"}},\"error\":\"short\"}}\r\n");
        assert_eq!(complaint(refused.as_bytes()).as_deref(), Some("no space left"));
        assert_eq!(complaint(br#"{"error":"short"}"#).as_deref(), Some("short"));
        assert_eq!(complaint(b"<html>").as_deref(), Some("its answer is no stream of JSON messages"));
    }
}
