//! Opens connections to a daemon: a socket, a port with or without TLS, or the streams of a program, which may be on another
//! machine. Who answers there, and what is spoken, is the business of whoever asks for one.

mod program;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection as HyperConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

pub use program::{Ended, ssh_arguments};

/// How long a daemon may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How a daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A port.
    Tcp {
        /// Name or address, an IPv6 one with or without the brackets of a URL.
        host: String,
        /// Port.
        port: u16,
        /// How TLS is spoken; none is plain TCP.
        tls: Option<Tls>,
    },
    /// The streams of a program that this machine starts, which leads to the daemon.
    Program {
        /// Its name, which is looked up in PATH.
        name: &'static str,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

/// How TLS is spoken. Files are in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that the daemon's certificate may come from; none are those of the system.
    pub authorities: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that stands in the daemon's certificate, if it is not that of the host.
    pub server_name: Option<String>,
    /// Whether only HTTP/2 will do (RFC 7301, protocol `h2`).
    pub protocol: Protocol,
}

/// What is spoken inside of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing is said of it.
    #[default]
    Unsaid,
    /// HTTP/2, as gRPC wants it.
    Http2,
}

/// What is wrong with TLS, as far as the user can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProblem {
    /// The daemon's certificate comes from an authority that is not trusted.
    UnknownAuthority,
    /// It is of another name.
    OtherName,
    /// Its time is over, or has not come.
    Expired,
    /// The daemon wants another certificate of ours, or one at all.
    Unwelcome,
    /// What is spoken there is no TLS.
    NotSpoken,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens, or not to us.
    #[error("nobody answers")]
    Connect(#[source] io::Error),
    /// It takes too long.
    #[error("nobody answers within 30 seconds")]
    Timeout,
    /// A file of TLS cannot be used.
    #[error("`{path}` is no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate`, `key`
        what: &'static str,
    },
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The files do not make a configuration of TLS.
    #[error("the certificate and the key do not fit together")]
    Identity(#[source] tokio_rustls::rustls::Error),
    /// The program cannot be started.
    #[error("cannot run `{name}`")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended before the daemon said a word.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// An open connection to a daemon. Ends what it was made with when it is dropped.
pub struct Connection {
    stream: Box<dyn Stream>,
    problem: Problem,
    /// Why nothing can be written any more.
    broken: Option<io::Error>,
}

/// Why a connection broke, if that was a matter of the connection itself. Libraries above it do not pass that on.
#[derive(Debug, Clone, Default)]
pub struct Problem(Arc<Mutex<Option<DialError>>>);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl DialError {
    /// What an error over a connection is in truth, if the connection was none: a program that ended, or an end that does
    /// not take our certificate, which it says after its part of the handshake.
    pub fn beneath(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(one) = error {
            if let Some(inner) = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                if let Some(ended) = inner.downcast_ref::<Ended>() {
                    return Some(Self::Ended(ended.clone()));
                }
                if let Some(tls) = inner.downcast_ref::<TlsError>() {
                    return Some(Self::Tls(io::Error::new(io::ErrorKind::InvalidData, tls.clone())));
                }
            }
            error = one.source();
        }
        None
    }

    /// What is wrong with TLS, if it is that and something can be done.
    pub fn tls_problem(&self) -> Option<TlsProblem> {
        let Self::Tls(error) = self else { return None };
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Some(TlsProblem::NotSpoken);
        }
        match error.get_ref()?.downcast_ref::<TlsError>()? {
            TlsError::InvalidCertificate(problem) => match problem {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(TlsProblem::UnknownAuthority),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Some(TlsProblem::OtherName)
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Some(TlsProblem::Expired),
                _ => None,
            },
            TlsError::AlertReceived(_) => Some(TlsProblem::Unwelcome),
            TlsError::InvalidMessage(_) => Some(TlsProblem::NotSpoken),
            _ => None,
        }
    }
}

/// Opens a connection.
///
/// # Errors
/// When nobody answers there, or not as TLS asks for.
pub async fn dial(way: &Way) -> Result<Connection, DialError> {
    timeout(CONNECT_TIMEOUT, connect(way)).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect(way: &Way) -> Result<Connection, DialError> {
    match way {
        Way::Unix(socket) => Ok(Connection::new(UnixStream::connect(socket).await.map_err(DialError::Connect)?)),
        Way::Tcp { host, port, tls } => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, *port)).await.map_err(DialError::Connect)?;
            stream.set_nodelay(true).map_err(DialError::Connect)?;
            let Some(tls) = tls else { return Ok(Connection::new(stream)) };
            let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
            let name = ServerName::try_from(name).map_err(|error| DialError::Tls(io::Error::other(error)))?;
            let connector = TlsConnector::from(Arc::new(configuration(tls)?));
            Ok(Connection::new(connector.connect(name, stream).await.map_err(DialError::Tls)?))
        }
        Way::Program { name, arguments } => {
            let stream = program::start(name, arguments);
            Ok(Connection::new(stream.map_err(|source| DialError::Program { name, source })?))
        }
    }
}

fn configuration(tls: &Tls) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    if let Some(authorities) = &tls.authorities {
        for certificate in certificates(authorities)? {
            let pem = |_| DialError::Pem { path: authorities.clone(), what: "certificate" };
            roots.add(certificate).map_err(pem)?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs().certs;
        roots.add_parsable_certificates(system);
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(DialError::Identity)?.with_root_certificates(roots);
    let mut configuration = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let pem = |_| DialError::Pem { path: key.clone(), what: "key" };
            let secret = PrivateKeyDer::from_pem_slice(&read(key, "key")?).map_err(pem)?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(DialError::Identity)?
        }
    };
    if tls.protocol == Protocol::Http2 {
        configuration.alpn_protocols.push(b"h2".to_vec());
    }
    Ok(configuration)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let pem = || DialError::Pem { path: path.to_owned(), what: "certificate" };
    let content = read(path, "certificate")?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(pem)
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, DialError> {
    fs::read(path).map_err(|_| DialError::Pem { path: path.to_owned(), what })
}

impl Connection {
    /// A connection over `stream`.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), problem: Problem::default(), broken: None }
    }

    /// Waits for what the other end said last, after nothing could be written to it any more: whoever hangs up in the middle of
    /// our words may have said why before.
    fn poll_last_words<T>(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Result<T>> {
        let mut space = [0; 256];
        let mut buffer = ReadBuf::new(&mut space);
        let heard = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        self.problem.note(&error);
        match heard {
            Poll::Pending => {
                self.broken = Some(error);
                return Poll::Pending;
            }
            Poll::Ready(Err(said)) => self.problem.note(&said),
            Poll::Ready(Ok(())) => {}
        }
        Poll::Ready(Err(error))
    }

    /// Why it broke, once it did.
    pub fn problem(&self) -> Problem {
        self.problem.clone()
    }
}

impl Problem {
    /// It, if there was one.
    pub fn take(&self) -> Option<DialError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, error: &io::Error) {
        if let Some(problem) = DialError::beneath(error) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.problem.note(error);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.broken.take() {
            return self.poll_last_words(context, error);
        }
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(Err(error)) => self.poll_last_words(context, error),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return self.poll_last_words(context, error);
        }
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Err(error)) => self.poll_last_words(context, error),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl HyperConnection for Connection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}
