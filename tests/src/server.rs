//! Web servers on 127.0.0.1: one that answers everything alike, and one for the files of a folder.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running server, which stops when it is dropped.
pub struct FixedServer {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl FixedServer {
    /// Answers every request with `status`, which may have header lines behind it, and `body`.
    pub fn start(status: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let server = Self { address, is_stopped: Arc::default() };
        let is_stopped = Arc::clone(&server.is_stopped);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up is no concern of the server.
                serve(stream, &answer).ok();
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for FixedServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(answer.as_bytes())
}

/// A web server on 127.0.0.1 for the files of a folder, which may ask who somebody is. It stops when it is dropped.
pub struct FolderServer {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FolderServer {
    /// Serves `folder`, where a folder is its `index.html`, to those who send the header `Authorization: LOGIN`, or to everybody.
    pub fn start(folder: &Path, login: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let server = Self { address, is_stopped: Arc::default(), asked: Arc::default() };
        let (is_stopped, asked) = (Arc::clone(&server.is_stopped), Arc::clone(&server.asked));
        let (folder, login) = (folder.to_owned(), login.map(str::to_owned));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (folder, login, asked) = (folder.clone(), login.clone(), Arc::clone(&asked));
                // A client that hangs up is no concern of the server.
                thread::spawn(move || serve_file(stream, &folder, login.as_deref(), &asked).ok());
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics while it notes a path").clone()
    }
}

impl Drop for FolderServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve_file(
    mut stream: TcpStream,
    folder: &Path,
    login: Option<&str>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut is_known = login.is_none();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let said = line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        is_known |= login.is_some() && said.map(|(_, value)| value) == login;
    }
    asked.lock().expect("no thread panics while it notes a path").push(path.clone());
    let name = path.split('?').next().unwrap_or_default();
    let mut file = folder.join(name.trim_start_matches('/'));
    let is_folder = file.is_dir();
    if is_folder {
        file.push("index.html");
    }
    // As the package index of Python says it of its files, which never change.
    let kind = match is_folder {
        true => "Content-Type: text/html\r\n",
        false if name.ends_with(".whl") => "Cache-Control: max-age=365000000, immutable, public\r\n",
        false => "",
    };
    let content = fs::read(file);
    let (status, content) = match content {
        _ if !is_known => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"", Vec::new()),
        Ok(content) => ("200 OK", content),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\n{kind}Content-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    // Whoever asks only for the head gets no body.
    if request.starts_with("GET ") { stream.write_all(&content) } else { Ok(()) }
}
