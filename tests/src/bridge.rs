//! The BuildKit inside of an engine as an endpoint of its own, as `buildkitd` serves it: by a socket, a port, or a port with
//! TLS on both sides. Docker has it behind `POST /grpc` with `Upgrade: h2c` only.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::authority::{Authority, Certificate};
use crate::engine::Engine;
use calls::Builds;

mod calls;
#[cfg(test)]
mod tests;

const REQUEST: &[u8] = b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
const ANSWER_SIZE_BYTES_MAX: usize = 4096;
const BUFFER_SIZE_BYTES: usize = 64 * 1024;

/// A running endpoint, which ends when it is dropped, and with it all of its connections.
pub struct Bridge {
    address: Address,
    counts: Arc<Mutex<Counts>>,
    failures: Arc<Mutex<Vec<String>>>,
    commands: Option<UnboundedSender<(Command, mpsc::Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
    _folder: Option<TempDir>,
}

/// What goes and went through an endpoint. A build is a call of `Solve` that has no answer yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that there were, those that are open included.
    pub connections_total: usize,
    /// Builds that run.
    pub builds: usize,
    /// Most builds that ran at the same time.
    pub builds_most: usize,
    /// Builds that were begun.
    pub builds_total: usize,
}

#[derive(Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

enum Command {
    Sever,
    Serve,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Bridge {
    /// Serves the BuildKit of `engine` at a socket.
    pub fn unix(engine: &Engine) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = Address::Unix(folder.path().join("buildkitd.sock"));
        Self::start(engine, address, None, Some(folder))
    }

    /// Serves it at a port of 127.0.0.1.
    pub fn tcp(engine: &Engine) -> Self {
        Self::start(engine, Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), None, None)
    }

    /// Serves it at a port of 127.0.0.1 to those who show a certificate of `authority`, with `certificate` for its own.
    pub fn tls(engine: &Engine, authority: &Authority, certificate: &Certificate) -> Self {
        let acceptor = acceptor(authority, certificate);
        Self::start(engine, Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), Some(acceptor), None)
    }

    fn start(engine: &Engine, address: Address, tls: Option<TlsAcceptor>, folder: Option<TempDir>) -> Self {
        let (commands, received) = unbounded_channel();
        let (said, bound) = mpsc::channel();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let failures = Arc::default();
        let end = End { engine: engine.socket(), tls, counts: Arc::clone(&counts), failures: Arc::clone(&failures) };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (listener, address) = listen(&address).await.expect("a free port or socket");
                said.send(address.clone()).expect("somebody waits for it");
                serve(Arc::new(end), listener, address, received).await;
            });
        });
        let address = bound.recv().expect("it listens");
        Self { address, counts, failures, commands: Some(commands), thread: Some(thread), _folder: folder }
    }

    /// The endpoint: `unix:///PATH` or `tcp://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{}", path.display()),
            Address::Tcp(address) => format!("tcp://{address}"),
        }
    }

    /// What goes and went through it.
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Why connections did not come about, as this end sees it, in the order of their ends.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts all connections and refuses others, as a node does that is gone.
    pub fn sever(&self) {
        self.command(Command::Sever);
    }

    /// Serves again after [`Bridge::sever`], at the same address.
    pub fn serve_again(&self) {
        self.command(Command::Serve);
    }

    fn command(&self, command: Command) {
        let (done, is_done) = mpsc::channel();
        let commands = self.commands.as_ref().expect("it is there until the bridge is dropped");
        commands.send((command, done)).expect("the bridge runs until it is dropped");
        is_done.recv().expect("the bridge does what it is told");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.commands.take());
        let ended = self.thread.take().expect("it is there until now").join();
        assert!(ended.is_ok() || thread::panicking(), "the bridge failed");
    }
}

/// What every connection needs.
struct End {
    engine: PathBuf,
    tls: Option<TlsAcceptor>,
    counts: Arc<Mutex<Counts>>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// The part of one connection in the counts.
struct Counted<'a> {
    counts: &'a Mutex<Counts>,
    builds: usize,
}

impl<'a> Counted<'a> {
    fn new(counts: &'a Mutex<Counts>) -> Self {
        let mut now = lock(counts);
        now.connections += 1;
        now.connections_total += 1;
        Self { counts, builds: 0 }
    }

    fn has(&mut self, builds: usize) {
        let mut now = lock(self.counts);
        now.builds = now.builds - self.builds + builds;
        now.builds_total += builds.saturating_sub(self.builds);
        now.builds_most = now.builds_most.max(now.builds);
        self.builds = builds;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.has(0);
        lock(self.counts).connections -= 1;
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whom a server with `certificate` lets in.
fn acceptor(authority: &Authority, certificate: &Certificate) -> TlsAcceptor {
    let read = |path: &Path| -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_file_iter(path).expect("there is a certificate");
        certificates.collect::<Result<_, _>>().expect("it is in PEM")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read(&authority.certificate()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("there is a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_client_cert_verifier(verifier.build().expect("there is an authority"))
        .with_single_cert(read(&certificate.certificate), key)
        .expect("the key is that of the certificate");
    // Clients of gRPC refuse a server that does not say so.
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(address: &Address) -> io::Result<(Listener, Address)> {
    match address {
        Address::Unix(path) => {
            // The one from before `sever`.
            let _ = std::fs::remove_file(path);
            Ok((Listener::Unix(UnixListener::bind(path)?), address.clone()))
        }
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            let address = Address::Tcp(listener.local_addr()?);
            Ok((Listener::Tcp(listener), address))
        }
    }
}

/// Takes connections until nobody is left who could say otherwise.
async fn serve(
    end: Arc<End>,
    listener: Listener,
    address: Address,
    mut commands: UnboundedReceiver<(Command, mpsc::Sender<()>)>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some((command, done)) = command else { break };
                match command {
                    Command::Sever => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Command::Serve => listener = Some(listen(&address).await.expect("the address is still free").0),
                }
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            stream = accept(listener.as_ref()) => {
                let end = Arc::clone(&end);
                connections.spawn(async move {
                    if let Ok(stream) = stream && let Err(error) = connect(&end, stream).await {
                        end.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

async fn accept(listener: Option<&Listener>) -> io::Result<Box<dyn Stream>> {
    match listener {
        Some(Listener::Unix(listener)) => {
            listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
        }
        Some(Listener::Tcp(listener)) => {
            let stream: TcpStream = listener.accept().await?.0;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        None => std::future::pending().await,
    }
}

/// Passes on what both sides say until one of them has no more to say. An error says why it never came to that.
async fn connect(end: &End, stream: Box<dyn Stream>) -> io::Result<()> {
    let counted = Counted::new(&end.counts);
    let client: Box<dyn Stream> = match &end.tls {
        Some(tls) => Box::new(tls.accept(stream).await?),
        None => stream,
    };
    let mut engine = UnixStream::connect(&end.engine).await?;
    engine.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < ANSWER_SIZE_BYTES_MAX {
        answer.push(engine.read_u8().await?);
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
    }
    let (from_client, mut to_client) = split(client);
    let (mut from_engine, to_engine) = split(engine);
    let counted = Mutex::new((counted, Builds::new()));
    let there = pump(from_client, to_engine, |bytes| {
        let (counted, builds) = &mut *counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.has(builds.client_sends(bytes));
    });
    let back = async {
        // The first frame, by which every call is written out.
        let mut settings = vec![0; calls::HEAD_SIZE_BYTES];
        from_engine.read_exact(&mut settings).await?;
        settings.resize(settings.len() + calls::payload_size_bytes(&settings), 0);
        from_engine.read_exact(&mut settings[calls::HEAD_SIZE_BYTES..]).await?;
        to_client.write_all(&calls::without_table(settings)).await?;
        let look = |bytes: &[u8]| {
            let (counted, builds) = &mut *counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.has(builds.daemon_sends(bytes));
        };
        pump(from_engine, to_client, look).await
    };
    // A connection of gRPC is of no use without its other half. How it ends is its owner's business: many a client just hangs up.
    tokio::select! {
        _ = there => {}
        _ = back => {}
    }
    Ok(())
}

/// Passes on what one side says, after it was looked at.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    look: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE_BYTES];
    loop {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        look(&buffer[..size]);
        to.write_all(&buffer[..size]).await?;
        to.flush().await?;
    }
}
