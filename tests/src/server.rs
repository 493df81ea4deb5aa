//! A web server on 127.0.0.1 that answers everything alike.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
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

fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(answer.as_bytes())
}
