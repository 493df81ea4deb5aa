//! Opens connections to an engine: a socket, a port with or without TLS, or a program on another machine by ssh.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
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

use super::address::{Place, TlsFiles};
use super::ssh::{self, SshEnded};

/// How long an engine may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// `ssh` cannot be started.
    #[error("cannot run `ssh`")]
    Ssh(#[source] io::Error),
    /// `ssh` ended before the engine said a word.
    #[error(transparent)]
    SshEnded(#[from] SshEnded),
}

/// An open connection to an engine. Ends what it was made with when it is dropped.
pub struct Connection {
    stream: Box<dyn Stream>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl DialError {
    /// What an error of HTTP over a connection is in truth, if the connection was none: ssh that ended, or an end that
    /// does not take our certificate, which it says after its part of the handshake.
    pub(super) fn beneath(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(one) = error {
            if let Some(io) = one.downcast_ref::<io::Error>() {
                let inner = io.get_ref()?;
                if let Some(ended) = inner.downcast_ref::<SshEnded>() {
                    return Some(Self::SshEnded(ended.clone()));
                }
                let tls = inner.downcast_ref::<TlsError>()?;
                return Some(Self::Tls(io::Error::new(io.kind(), tls.clone())));
            }
            error = one.source();
        }
        None
    }

    /// What the user may do about TLS that failed.
    pub(crate) fn tls_hint(&self) -> Option<&'static str> {
        let Self::Tls(error) = self else { return None };
        match error.get_ref()?.downcast_ref::<TlsError>()? {
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => Some(
                "put the authority of the engine's certificate into `ca.pem`, in the folder of DOCKER_CERT_PATH or the context's",
            ),
            TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Some("call the engine by a name that stands in its certificate"),
            TlsError::AlertReceived(_) => Some(
                "the engine wants another certificate: put `cert.pem` and `key.pem` into the folder of DOCKER_CERT_PATH or the context's",
            ),
            TlsError::InvalidMessage(_) => Some("if the engine speaks without TLS, unset DOCKER_TLS_VERIFY"),
            _ => None,
        }
    }
}

/// Opens a connection.
///
/// # Errors
/// When nobody answers there, or not as TLS asks for.
pub async fn dial(place: &Place) -> Result<Connection, DialError> {
    timeout(CONNECT_TIMEOUT, connect(place)).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect(place: &Place) -> Result<Connection, DialError> {
    match place {
        Place::Unix(socket) => Ok(Connection::new(UnixStream::connect(socket).await.map_err(DialError::Connect)?)),
        Place::Tcp { host, port, tls } => {
            // The brackets of an IPv6 address belong to URLs.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, *port)).await.map_err(DialError::Connect)?;
            stream.set_nodelay(true).map_err(DialError::Connect)?;
            let Some(files) = tls else { return Ok(Connection::new(stream)) };
            let name =
                ServerName::try_from(host.to_owned()).map_err(|error| DialError::Tls(io::Error::other(error)))?;
            let connector = TlsConnector::from(Arc::new(configuration(files)?));
            Ok(Connection::new(connector.connect(name, stream).await.map_err(DialError::Tls)?))
        }
        Place::Ssh { user, host, port, socket } => {
            let stream = ssh::start(user.as_deref(), host, *port, socket.as_deref()).map_err(DialError::Ssh)?;
            Ok(Connection::new(stream))
        }
    }
}

fn configuration(files: &TlsFiles) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = files.ca() {
        for certificate in certificates(&ca)? {
            let pem = |_| DialError::Pem { path: ca.clone(), what: "certificate" };
            roots.add(certificate).map_err(pem)?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs().certs;
        roots.add_parsable_certificates(system);
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(DialError::Identity)?.with_root_certificates(roots);
    let Some((cert, key)) = files.identity() else { return Ok(builder.with_no_client_auth()) };
    let pem = |_| DialError::Pem { path: key.clone(), what: "key" };
    let secret = PrivateKeyDer::from_pem_slice(&read(&key, "key")?).map_err(pem)?;
    builder.with_client_auth_cert(certificates(&cert)?, secret).map_err(DialError::Identity)
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
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
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
