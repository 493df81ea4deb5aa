//! The engine that envd's `moby-worker` builds in, and that keeps images for the others: asked by its API to hand an image
//! over, to take one, to push it. Requests are of HTTP 1.0, so that an answer ends with its connection.

use std::env;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use imagespec_buildkit::one_line;
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_distribution::Login;
use serde_json::{Value, json};

/// The API of Docker 20.10.
const VERSION: &str = "v1.41";
const SOCKET: &str = "/var/run/docker.sock";
/// How often somebody looks whether the user asked to stop, while the engine says nothing.
const STEP: Duration = Duration::from_millis(100);
/// A line of an answer is shorter.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Answers that are read as a whole are shorter.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Why the engine did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(
        "DOCKER_HOST is `{address}`, and this builder speaks to engines at `unix://` and, without TLS, at `tcp://` alone"
    )]
    Address { address: String },
    #[error("cannot reach a Docker engine at `{place}`")]
    Unreachable { place: String, source: io::Error },
    #[error("the engine at `{place}` did not {action}: {problem}")]
    Refused { place: String, action: &'static str, problem: String, status: Option<u16> },
    #[error("the build was cancelled")]
    Cancelled,
}

/// An engine, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Engine {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

/// A connection in both directions.
trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// One request.
struct Request<'a> {
    method: &'static str,
    path: &'a str,
    headers: &'a [(&'static str, &'a str)],
    /// What is sent, and its length in bytes.
    body: Option<(&'a mut dyn Read, u64)>,
    /// `push the image`
    action: &'static str,
}

impl Engine {
    /// The engine of this process, where envd looks for it, too.
    ///
    /// # Errors
    /// When its address is of another kind.
    pub(crate) fn of_process() -> Result<Self, EngineError> {
        let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let has_tls = env::var("DOCKER_TLS_VERIFY").is_ok_and(|verify| !verify.is_empty());
        Self::of(host.as_deref(), has_tls)
    }

    fn of(host: Option<&str>, has_tls: bool) -> Result<Self, EngineError> {
        let Some(host) = host else { return Ok(Self::Unix(SOCKET.into())) };
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) if !has_tls => Ok(Self::Tcp(address.trim_end_matches('/').to_owned())),
            _ => Err(EngineError::Address { address: one_line(host) }),
        }
    }

    /// The engine with this socket.
    pub(crate) fn at(socket: &Path) -> Self {
        Self::Unix(socket.to_owned())
    }

    /// Whether it answers.
    pub(crate) fn ping(&self, is_cancelled: &dyn Fn() -> bool) -> Result<(), EngineError> {
        self.ask("GET", "/_ping", "answer", is_cancelled).map(drop)
    }

    /// What it says of the image `name`, if it has it.
    pub(crate) fn inspect(&self, name: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Option<Value>, EngineError> {
        let path = format!("/images/{}/json", escaped(name));
        match self.ask("GET", &path, "say which images it has", is_cancelled) {
            Ok(text) => Ok(serde_json::from_str(&text).ok()),
            Err(EngineError::Refused { status: Some(404), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands the archive of the image `name` to `take`, as `docker save` writes it.
    pub(crate) fn save<T>(
        &self,
        name: &str,
        is_cancelled: &dyn Fn() -> bool,
        take: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, EngineError> {
        let path = format!("/images/{}/get", escaped(name));
        let request = Request { method: "GET", path: &path, headers: &[], body: None, action: "hand the image over" };
        let mut answer = self.send(request, is_cancelled)?;
        Ok(take(&mut answer))
    }

    /// Has it take the archive of an image.
    pub(crate) fn load(
        &self,
        archive: &mut dyn Read,
        size_bytes: u64,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let request = Request {
            method: "POST",
            path: "/images/load?quiet=1",
            headers: &[("Content-Type", "application/x-tar")],
            body: Some((archive, size_bytes)),
            action: "take the image",
        };
        let mut answer = self.send(request, is_cancelled)?;
        self.events(&mut answer, "take the image", is_cancelled, &mut |_| {})
    }

    /// Has it push the image under its name, and returns the digest that it says.
    pub(crate) fn push(
        &self,
        name: &Reference,
        login: Option<Login>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Digest>, EngineError> {
        let login = login.map_or_else(
            || json!({}),
            |login| {
                let server = name.registry();
                match (login.is_identity_token(), login.username.is_empty()) {
                    (true, _) => json!({ "serveraddress": server, "identitytoken": login.password() }),
                    (_, true) => json!({ "serveraddress": server, "registrytoken": login.password() }),
                    _ => json!({ "serveraddress": server, "username": login.username, "password": login.password() }),
                }
            },
        );
        let login = URL_SAFE.encode(login.to_string());
        let repository = format!("{}/{}", name.registry(), name.repository());
        let path = format!("/images/{}/push?tag={}", escaped(&repository), escaped(name.tag().unwrap_or("latest")));
        let headers = [("X-Registry-Auth", login.as_str())];
        let request = Request { method: "POST", path: &path, headers: &headers, body: None, action: "push the image" };
        let mut answer = self.send(request, is_cancelled)?;
        let mut digest = None;
        self.events(&mut answer, "push the image", is_cancelled, &mut |event| {
            let said = event["aux"]["Digest"].as_str().or_else(|| event["aux"]["digest"].as_str());
            digest = said.and_then(|digest| digest.parse().ok()).or(digest);
        })?;
        Ok(digest)
    }

    /// Takes a name away from an image. One that is not there is no error.
    pub(crate) fn forget(&self, name: &str) {
        let path = format!("/images/{}", escaped(name));
        if let Err(error) = self.ask("DELETE", &path, "forget the image", &|| false) {
            tracing::debug!(%error, "a name stays in the engine");
        }
    }

    fn ask(
        &self,
        method: &'static str,
        path: &str,
        action: &'static str,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<String, EngineError> {
        let request = Request { method, path, headers: &[], body: None, action };
        let answer = self.send(request, is_cancelled)?;
        let mut text = String::new();
        let read = answer.take(ANSWER_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.refused(action, &error, is_cancelled))?;
        Ok(text)
    }

    /// Reads the events of an answer, one object a line.
    fn events(
        &self,
        answer: &mut dyn Read,
        action: &'static str,
        is_cancelled: &dyn Fn() -> bool,
        take: &mut dyn FnMut(&Value),
    ) -> Result<(), EngineError> {
        let mut lines = BufReader::new(answer);
        loop {
            let mut line = Vec::new();
            let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| self.refused(action, &error, is_cancelled))? == 0 {
                return Ok(());
            }
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            if let Some(problem) = event["error"].as_str() {
                return Err(EngineError::Refused {
                    place: self.to_string(),
                    action,
                    problem: one_line(problem),
                    status: None,
                });
            }
            take(&event);
        }
    }

    /// Sends a request, and returns what follows the head of a good answer.
    fn send<'c>(&self, request: Request<'_>, is_cancelled: &'c dyn Fn() -> bool) -> Result<Patient<'c>, EngineError> {
        let action = request.action;
        let unreachable = |source| EngineError::Unreachable { place: self.to_string(), source };
        let wire: Box<dyn Wire> = match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(unreachable)?;
                stream
                    .set_read_timeout(Some(STEP))
                    .and_then(|()| stream.set_write_timeout(Some(STEP)))
                    .map_err(unreachable)?;
                Box::new(stream)
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).map_err(unreachable)?;
                stream
                    .set_read_timeout(Some(STEP))
                    .and_then(|()| stream.set_write_timeout(Some(STEP)))
                    .map_err(unreachable)?;
                Box::new(stream)
            }
        };
        let mut wire = Patient { wire: BufReader::new(wire), is_cancelled };
        let failed = |error: io::Error| self.refused(action, &error, is_cancelled);
        wire.request(request).map_err(failed)?;
        let status = wire.head().map_err(failed)?;
        if (200..300).contains(&status) {
            return Ok(wire);
        }
        let mut text = String::new();
        wire.take(LINE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let problem = one_line(document["message"].as_str().unwrap_or(&text));
        Err(EngineError::Refused { place: self.to_string(), action, problem, status: Some(status) })
    }

    fn refused(&self, action: &'static str, error: &io::Error, is_cancelled: &dyn Fn() -> bool) -> EngineError {
        if is_cancelled() {
            return EngineError::Cancelled;
        }
        EngineError::Refused { place: self.to_string(), action, problem: one_line(&error.to_string()), status: None }
    }
}

/// A connection that is waited for until the user asks to stop.
struct Patient<'c> {
    wire: BufReader<Box<dyn Wire>>,
    is_cancelled: &'c dyn Fn() -> bool,
}

impl Patient<'_> {
    fn request(&mut self, request: Request<'_>) -> io::Result<()> {
        let Request { method, path, headers, body, .. } = request;
        let mut head = format!("{method} /{VERSION}{path} HTTP/1.0\r\nHost: engine\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = body.as_ref().map_or(0, |(_, length)| *length);
        head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        self.write_all(head.as_bytes())?;
        if let Some((source, length)) = body {
            let sent = io::copy(&mut source.take(length), self)?;
            if sent != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush()
    }

    /// Reads the head of the answer, and returns its status.
    fn head(&mut self) -> io::Result<u16> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("it does not speak HTTP"))?;
        for _ in 0..1000 {
            if self.line()?.is_empty() {
                return Ok(status);
            }
        }
        Err(io::Error::other("its answer does not begin"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            if byte[0] == b'\n' {
                break;
            }
            line.push(byte[0]);
            if u64::try_from(line.len()).is_ok_and(|length| length > LINE_BYTES_MAX) {
                return Err(io::Error::other("its answer has an endless line"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn patiently<T>(&mut self, mut work: impl FnMut(&mut BufReader<Box<dyn Wire>>) -> io::Result<T>) -> io::Result<T> {
        loop {
            if (self.is_cancelled)() {
                return Err(io::Error::other("cancelled"));
            }
            match work(&mut self.wire) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                result => return result,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|wire| wire.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|wire| wire.get_mut().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.patiently(|wire| wire.get_mut().flush())
    }
}

/// A name of an image as a part of a path; the engine's router takes slashes and colons as they are.
fn escaped(name: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/:@._-".contains(character);
    name.chars().filter(|character| is_plain(*character)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_where_docker_host_says() {
        let told = |host, has_tls| {
            Engine::of(host, has_tls).map_or_else(|error| error.to_string(), |engine| engine.to_string())
        };
        assert_eq!(told(None, false), "unix:///var/run/docker.sock");
        assert_eq!(told(Some("unix:///run/own.sock"), true), "unix:///run/own.sock");
        assert_eq!(told(Some("tcp://127.0.0.1:2375/"), false), "tcp://127.0.0.1:2375");
        insta::assert_snapshot!(told(Some("ssh://host"), false), @"DOCKER_HOST is `ssh://host`, and this builder speaks to engines at `unix://` and, without TLS, at `tcp://` alone");
        assert!(told(Some("tcp://127.0.0.1:2376"), true).starts_with("DOCKER_HOST is"));
    }
}
