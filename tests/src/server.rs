//! Web servers on 127.0.0.1: one that answers everything alike, and one that has the files of a folder.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// A running server of the files of a folder, which stops when it is dropped. A folder is its `index.html`.
pub struct FolderServer {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl FolderServer {
    /// Serves what lies in `folder` at the time of each request.
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let server = Self { address, is_stopped: Arc::default() };
        let (is_stopped, folder) = (Arc::clone(&server.is_stopped), folder.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let folder = folder.clone();
                // A client that hangs up is no concern of the server.
                thread::spawn(move || serve_file(stream, &folder).ok());
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for FolderServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve_file(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let mut file: PathBuf = folder.join(path);
    if file.is_dir() {
        file.push("index.html");
    }
    let (status, body) = match fs::read(file) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let kind = "Content-Type: text/html\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(&body)
}

fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(answer.as_bytes())
}
