//! A web server on 127.0.0.1 that answers as a test wants it to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Status and body.
pub(super) type Answer = (u16, Vec<u8>);

pub(super) struct Server {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request with what `answer` makes of its path.
    pub(super) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with_logins(move |path, _| answer(path))
    }

    /// The same with what stands behind `Authorization:`, if anything does.
    pub(super) fn start_with_logins(answer: impl Fn(&str, Option<&str>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), is_stopped: Arc::default() };
        let is_stopped = Arc::clone(&server.is_stopped);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                // A client that hangs up is no concern of the server.
                thread::spawn(move || serve(stream, answer.as_ref()).ok());
            }
        });
        server
    }

    /// `127.0.0.1:PORT`
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&str, Option<&str>) -> Answer) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut login = None;
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => login = Some(value.to_owned()),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let (status, body) = answer(first.split(' ').nth(1).unwrap_or_default(), login.as_deref());
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}
