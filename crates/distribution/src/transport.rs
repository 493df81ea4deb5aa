//! Sends one HTTP request and gives its answer or a typed problem. Knows nothing of registries.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use reqwest::blocking::{Client, Request, Response};
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;

use crate::error::{ConnectionProblem, Error, sanitized, shown};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of an answer and each piece of its body may take. No limit for a body as a whole: blobs are big.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer without a body may take: somebody waits for what it says.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the other side may take to acknowledge what is sent.
#[cfg(target_os = "linux")]
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often cancellation is looked at and progress is told while waiting.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Whose certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// None: for plain `http`, which then need not read the system's certificates.
    Nobody,
    /// Those that the system's authorities signed.
    System,
    /// Those, and what the authorities in a PEM file signed.
    SystemAnd(PathBuf),
    /// Any.
    Anybody,
}

/// Whether a proxy is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proxy {
    /// As the system says.
    System,
    /// For this machine itself.
    Never,
}

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setup {
    pub(crate) trust: Trust,
    pub(crate) proxy: Proxy,
}

/// What is done while a request waits.
pub(crate) struct Watch<'w> {
    pub(crate) cancelled: &'w dyn Fn() -> bool,
    /// Called now and then.
    pub(crate) tick: &'w mut dyn FnMut(),
}

/// HTTP clients, one for each way to connect, made when first needed.
#[derive(Debug)]
pub(crate) struct Transport {
    user_agent: String,
    clients: Mutex<BTreeMap<Setup, Client>>,
}

impl Transport {
    pub(crate) fn new(user_agent: String) -> Self {
        Self { user_agent, clients: Mutex::default() }
    }

    /// The client for `setup`.
    ///
    /// # Errors
    /// When its certificates cannot be read.
    pub(crate) fn client(&self, setup: &Setup) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(setup) {
            return Ok(client.clone());
        }
        let client = self.build(setup)?;
        clients.insert(setup.clone(), client.clone());
        Ok(client)
    }

    fn build(&self, setup: &Setup) -> Result<Client, Error> {
        let builder = Client::builder()
            .user_agent(&self.user_agent)
            .redirect(Policy::none())
            .referer(false)
            // Digests are of the bytes as they are stored, whatever another crate turns on in reqwest.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(ACKNOWLEDGE_TIMEOUT);
        let builder = match setup.proxy {
            Proxy::System => builder,
            Proxy::Never => builder.no_proxy(),
        };
        let builder = match &setup.trust {
            Trust::Nobody => builder.tls_certs_only([]),
            Trust::System => builder,
            Trust::SystemAnd(path) => builder.tls_certs_merge(certificates(path)?),
            Trust::Anybody => builder.tls_danger_accept_invalid_certs(true),
        };
        builder.build().map_err(|error| Error::Setup { problem: innermost(&error) })
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    let unusable = |source| Error::CaBundle { path: path.to_owned(), source };
    let pem = fs::read(path).map_err(unusable)?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| unusable(io::Error::other(innermost(&error))))?;
    if certificates.is_empty() {
        return Err(unusable(io::Error::other("no PEM certificate is in it")));
    }
    Ok(certificates)
}

/// Sends `request` on a thread of its own, so that the user need not wait for it after cancelling.
///
/// # Errors
/// [`Error::Connection`] when no answer came, [`Error::Cancelled`] when the user did not want to wait for it. A request
/// that is given up so ends with its time-out.
pub(crate) fn send(
    client: &Client,
    registry: &str,
    request: Request,
    watch: &mut Watch<'_>,
) -> Result<Response, Error> {
    let url = request.url().clone();
    let connection = |problem| Error::Connection { url: shown(&url), registry: registry.to_owned(), problem };
    if (watch.cancelled)() {
        return Err(Error::Cancelled);
    }
    let (sender, receiver) = mpsc::channel();
    let client = client.clone();
    thread::Builder::new()
        .name("registry request".to_owned())
        .spawn(move || drop(sender.send(client.execute(request))))
        .map_err(|error| connection(ConnectionProblem::Broken(error.to_string())))?;
    loop {
        match receiver.recv_timeout(WATCH_INTERVAL) {
            Ok(answer) => {
                (watch.tick)();
                return answer.map_err(|error| connection(problem_of(&error)));
            }
            Err(RecvTimeoutError::Timeout) => (watch.tick)(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(connection(ConnectionProblem::Broken("the request was given up".to_owned())));
            }
        }
        if (watch.cancelled)() {
            return Err(Error::Cancelled);
        }
    }
}

/// What a failure of reqwest is, by the innermost cause that says so.
fn problem_of(error: &reqwest::Error) -> ConnectionProblem {
    if error.is_dns() {
        return ConnectionProblem::UnknownHost;
    }
    if error.is_timeout() {
        return ConnectionProblem::TimedOut;
    }
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    for kind in kinds {
        match kind {
            io::ErrorKind::ConnectionRefused => return ConnectionProblem::Refused,
            io::ErrorKind::TimedOut => return ConnectionProblem::TimedOut,
            // What rustls complains about during the handshake comes as invalid data.
            io::ErrorKind::InvalidData if error.is_connect() => {
                let text = innermost(error);
                // The first bytes of an answer in plain HTTP are no TLS record.
                let is_plain = text.contains("InvalidContentType");
                return if is_plain { ConnectionProblem::NoTls } else { ConnectionProblem::Tls(text) };
            }
            _ => {}
        }
    }
    ConnectionProblem::Broken(innermost(error))
}

/// What a failure while a body is read is.
pub(crate) fn problem_of_read(error: &io::Error) -> ConnectionProblem {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>()) {
        Some(error) => problem_of(error),
        None if error.kind() == io::ErrorKind::TimedOut => ConnectionProblem::TimedOut,
        None => ConnectionProblem::Broken(sanitized(&error.to_string()).unwrap_or_default()),
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| match cause.downcast_ref::<io::Error>() {
        // `source` of such an error passes over what it wraps.
        Some(error) => error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => (**cause).source(),
    })
}

/// The text of the innermost cause, which names no URL.
fn innermost(error: &reqwest::Error) -> String {
    let text = causes(error).last().map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    sanitized(&text).unwrap_or_default()
}
