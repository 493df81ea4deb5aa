//! A package index on 127.0.0.1 that asks for a password (PEP 503, "Simple Repository API"; RFC 7617, "Basic").

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::registry::{PASSWORD, USER};

/// A running index with one package, which stops when it is dropped.
pub struct GuardedIndex {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    refused: Arc<Mutex<u32>>,
}

impl GuardedIndex {
    /// Serves the pure package `name` in each of `versions` to [`USER`] with [`PASSWORD`].
    pub fn start(name: &str, versions: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let index = Self { address, is_stopped: Arc::default(), refused: Arc::default() };
        let mut pages = BTreeMap::new();
        let mut list = String::new();
        for version in versions {
            let (file, content) = (format!("{name}-{version}-py3-none-any.whl"), wheel(name, version));
            list.push_str(&format!("<a href=\"/files/{file}#sha256={}\">{file}</a>\n", hex(&content)));
            pages.insert(format!("/files/{file}"), content);
        }
        pages.insert(format!("/simple/{name}/"), list.into_bytes());
        let (is_stopped, refused) = (Arc::clone(&index.is_stopped), Arc::clone(&index.refused));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up is no concern of the server.
                serve(stream, &pages, &refused).ok();
            }
        });
        index
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many requests came without the password.
    pub fn refused_count(&self) -> u32 {
        *self.refused.lock().expect("nobody panics with it")
    }
}

impl Drop for GuardedIndex {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, pages: &BTreeMap<String, Vec<u8>>, refused: &Mutex<u32>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let login = format!("authorization: basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes())).to_lowercase();
    let mut is_known = false;
    for line in lines {
        let line = line?;
        is_known |= line.to_lowercase() == login;
        if line.is_empty() {
            break;
        }
    }
    let page = request.split(' ').nth(1).and_then(|path| pages.get(path));
    let (status, page) = match page {
        _ if !is_known => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"index\"", [].as_slice()),
        Some(page) => ("200 OK", page.as_slice()),
        None => ("404 Not Found", [].as_slice()),
    };
    if !is_known {
        *refused.lock().expect("nobody panics with it") += 1;
    }
    let kind = if page.starts_with(b"PK") { "application/octet-stream" } else { "text/html" };
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if request.starts_with("HEAD ") {
        return Ok(());
    }
    stream.write_all(page)
}

/// A wheel with the module `name`, which says its version (PEP 427).
fn wheel(name: &str, version: &str) -> Vec<u8> {
    let info = |file: &str| format!("{name}-{version}.dist-info/{file}");
    let members = [
        (format!("{name}.py"), format!("VERSION = '{version}'\n")),
        (info("METADATA"), format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")),
        (info("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned()),
    ];
    let rows = members.iter().map(|(path, text)| {
        let hash = base64(&Sha256::digest(text.as_bytes())).replace('+', "-").replace('/', "_").replace('=', "");
        format!("{path},sha256={hash},{}\n", text.len())
    });
    let record = rows.collect::<String>() + &format!("{},,\n", info("RECORD"));
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, text) in members.into_iter().chain([(info("RECORD"), record)]) {
        archive.start_file(path, SimpleFileOptions::default()).expect("a member can be added");
        archive.write_all(text.as_bytes()).expect("a member can be written");
    }
    archive.finish().expect("a wheel can be finished").into_inner()
}

fn hex(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        let letters = (0..=group.len()).map(|place| char::from(ALPHABET[bits >> (18 - 6 * place) & 63]));
        text.extend(letters.chain(std::iter::repeat_n('=', 3 - group.len())));
    }
    text
}
