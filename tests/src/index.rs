//! A package index on 127.0.0.1, with wheels that tests write (PEP 503, "Simple Repository API").

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A wheel that a test wrote.
#[derive(Debug, Clone)]
pub struct WrittenWheel {
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The sha256 of the file, in hexadecimal.
    pub sha256: String,
}

impl WrittenWheel {
    /// Writes a pure wheel with these files, path and text, to `folder`. `requires` are lines of `Requires-Dist`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(folder: &Path, name: &str, version: &str, requires: &[&str], files: &[(&str, &str)]) -> Self {
        let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        requires.iter().for_each(|line| metadata.push_str(&format!("Requires-Dist: {line}\n")));
        let info = |file: &str| format!("{name}-{version}.dist-info/{file}");
        let mut members: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        members.push((info("METADATA"), metadata));
        members.push((info("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned()));
        let mut record = String::new();
        for (path, text) in &members {
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
            record.push_str(&format!("{path},sha256={hash},{}\n", text.len()));
        }
        members.push((info("RECORD"), format!("{record}{},,\n", info("RECORD"))));
        let path = folder.join(format!("{name}-{version}-py3-none-any.whl"));
        let mut archive = ZipWriter::new(fs::File::create(&path).expect("a file can be made"));
        for (path, text) in members {
            archive.start_file(path, SimpleFileOptions::default()).expect("a member can be added");
            archive.write_all(text.as_bytes()).expect("a member can be written");
        }
        archive.finish().expect("a wheel can be finished");
        let sha256 = hex::encode(Sha256::digest(fs::read(&path).expect("a wheel can be read")));
        Self { name: name.to_owned(), version: version.to_owned(), path, sha256 }
    }

    fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("a wheel has a name")
    }
}

/// A running index, which stops when it is dropped.
pub struct PackageIndex {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl PackageIndex {
    /// Serves `wheels`.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(wheels: &[WrittenWheel]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let mut pages: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for wheel in wheels {
            let (file, sha256) = (wheel.file_name(), &wheel.sha256);
            let line = format!("<a href=\"/files/{file}#sha256={sha256}\">{file}</a><br>\n");
            pages.entry(format!("/simple/{}/", wheel.name)).or_default().extend(line.into_bytes());
            pages.insert(format!("/files/{file}"), fs::read(&wheel.path).expect("a wheel can be read"));
        }
        let index = Self { address, is_stopped: Arc::default() };
        let is_stopped = Arc::clone(&index.is_stopped);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up is no concern of the server.
                serve(stream, &pages).ok();
            }
        });
        index
    }

    /// The address for `pip_index`.
    pub fn url(&self) -> String {
        format!("http://{}/simple", self.address)
    }
}

impl Drop for PackageIndex {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, pages: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match pages.get(path) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", b"".as_slice()),
    };
    let kind = if path.starts_with("/simple/") { "text/html" } else { "application/octet-stream" };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if request.starts_with("GET ") { stream.write_all(body) } else { Ok(()) }
}
