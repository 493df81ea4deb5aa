//! A registry inside the test process, in memory, that can be told to fail. For tests only: it trusts what it is sent.
//!
//! It listens on a free port of 127.0.0.1 and stops when it is dropped.

mod http;
mod registry;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;

pub use http::{Answer, Request};

/// Who may use a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who sends this user name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// Who sends a token, which the registry's own `/token` gives for this user name and password, or for this
    /// password as an identity token. Without them it gives tokens for reading.
    Bearer {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request is answered so, and not looked at.
    Answer(Answer),
    /// The answer gets this header, in place of one with the same name.
    Header(&'static str, String),
    /// The answer gets this body.
    Body(Vec<u8>),
    /// The connection is closed after so many bytes of the answer's body.
    BreakAnswer(usize),
    /// Only so many bytes of the request's body arrive, then the connection is closed.
    BreakRequest(usize),
    /// The request is done, and the connection closed without an answer.
    LoseAnswer,
    /// The request's `Range` is passed over.
    IgnoreRange,
}

/// A registry on 127.0.0.1.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    is_stopped: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    host: String,
    access: Option<Access>,
    /// Manifests and their media types by repository and digest.
    manifests: BTreeMap<(String, Digest), (String, Vec<u8>)>,
    tags: BTreeMap<(String, String), Digest>,
    blobs: BTreeMap<(String, Digest), Vec<u8>>,
    uploads: BTreeMap<u64, Vec<u8>>,
    uploads_started: u64,
    /// Scopes by token.
    tokens: BTreeMap<String, Vec<String>>,
    tokens_given: u64,
    faults: Vec<(String, String, Fault)>,
    requests: Vec<Request>,
}

impl Registry {
    /// Starts a registry for `access`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(access: Access) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = State { host: address.to_string(), access: Some(access), ..State::default() };
        let registry = Self { address, state: Arc::new(Mutex::new(state)), is_stopped: Arc::default() };
        let (state, is_stopped) = (Arc::clone(&registry.state), Arc::clone(&registry.is_stopped));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&state);
                // A connection that breaks is what many tests are about.
                thread::spawn(move || converse(&stream, &state).ok());
            }
        });
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The reference of `name` in this registry.
    ///
    /// # Panics
    /// When `name` is none.
    pub fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host()).parse().expect("the name of an image")
    }

    /// Stores a blob.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state().blobs.insert((repository.to_owned(), digest), bytes.to_vec());
        digest
    }

    /// Stores a manifest with a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        state.manifests.insert((repository.to_owned(), digest), (media_type.to_owned(), bytes.to_vec()));
        state.tags.insert((repository.to_owned(), tag.to_owned()), digest);
        digest
    }

    /// The blob with `digest`.
    pub fn blob(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        self.state().blobs.get(&(repository.to_owned(), digest)).cloned()
    }

    /// The digest that `tag` has.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.state().tags.get(&(repository.to_owned(), tag.to_owned())).copied()
    }

    /// Lets `fault` happen to the next request with `method` whose path contains `path_part`. Several such happen one
    /// after the other.
    pub fn inject(&self, method: &str, path_part: &str, fault: Fault) {
        self.state().faults.push((method.to_owned(), path_part.to_owned(), fault));
    }

    /// Makes all tokens invalid.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// All requests so far as `METHOD /path`.
    pub fn lines(&self) -> Vec<String> {
        self.state().requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the requests of one connection.
fn converse(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let pending = RefCell::new(None);
    let limit = |request: &Request| {
        let fault = registry::fault(state, request);
        let limit = match fault {
            Some(Fault::BreakRequest(length)) => Some(length),
            _ => None,
        };
        pending.replace(fault);
        limit
    };
    http::serve(stream, &limit, &|request| registry::take(state, request, pending.take()))
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}
