//! A registry on this machine with one image in it, for as long as a build takes: for a base that is in no registry, where
//! the image goes to none, either. It is read only, listens to this machine alone, and knows nothing but the base.
//!
//! Format: OCI distribution-spec, "Pulling manifests" and "Pulling blobs".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_layout::{Image, MANIFEST, blob_path};
use serde_json::Value;

/// What the image is called.
const REPOSITORY: &str = "imagespec-base";
/// A head that is longer is none of a client of registries.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Somebody who says nothing for so long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The registry. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    digest: Digest,
}

struct Content {
    image: Image,
    folder: PathBuf,
}

/// A part of a request that counts.
struct Asked {
    method: String,
    path: String,
    /// The first byte of a blob that is wanted.
    offset_bytes: u64,
}

impl Served {
    /// Serves `image`, whose layers lie in `folder` as in an OCI image layout.
    ///
    /// # Errors
    /// When this machine does not let us listen.
    pub(crate) fn start(image: Image, folder: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, digest) = (listener.local_addr()?, image.digest());
        let is_over = Arc::<AtomicBool>::default();
        let content = Arc::new(Content { image, folder: folder.to_owned() });
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let content = Arc::clone(&content);
                // One that broke off is the affair of whoever asked.
                thread::spawn(move || content.answer_all(stream).unwrap_or_default());
            }
        });
        Ok(Self { address, is_over, digest })
    }

    /// The name of the image.
    pub(crate) fn reference(&self) -> Reference {
        let name = format!("{}/{REPOSITORY}@{}", self.address, self.digest);
        name.parse().expect("an address, a name and a digest are a reference")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes it up; when nobody listens any more, it has ended already.
        drop(TcpStream::connect(self.address));
    }
}

impl Content {
    /// Answers requests until the connection is closed.
    fn answer_all(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        if reader.fill_buf()?.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            // Clients try TLS first, and plain HTTP after an answer that is none of TLS. Without reading on, it would be lost.
            head(&mut writer, "400 Bad Request", "text/plain", 0, None)?;
            writer.shutdown(Shutdown::Write)?;
            return io::copy(&mut reader.take(HEAD_BYTES_MAX), &mut io::sink()).map(drop);
        }
        while let Some(asked) = read(&mut reader)? {
            self.answer(&asked, &mut writer)?;
        }
        Ok(())
    }

    fn answer(&self, asked: &Asked, writer: &mut impl Write) -> io::Result<()> {
        if !matches!(asked.method.as_str(), "GET" | "HEAD") {
            return head(writer, "405 Method Not Allowed", "text/plain", 0, None);
        }
        let wants_body = asked.method == "GET";
        let path = asked.path.split('?').next().unwrap_or_default();
        let Some(rest) = path.strip_prefix(&format!("/v2/{REPOSITORY}/")) else {
            let status = if path.trim_end_matches('/') == "/v2" { "200 OK" } else { "404 Not Found" };
            return head(writer, status, "application/json", 0, None);
        };
        let digest = rest.rsplit('/').next().and_then(|digest| digest.parse::<Digest>().ok());
        if rest.starts_with("manifests/") && digest == Some(self.image.digest()) {
            return bytes(writer, &self.image.manifest, &media_type(&self.image.manifest), wants_body);
        }
        if rest.starts_with("blobs/") && digest == Some(self.image.config_digest()) {
            return bytes(writer, &self.image.config, "application/octet-stream", wants_body);
        }
        let layer = self.image.layers.iter().find(|layer| rest.starts_with("blobs/") && digest == Some(layer.digest));
        let Some(layer) = layer else { return head(writer, "404 Not Found", "application/json", 0, None) };
        let mut file = File::open(blob_path(&self.folder, layer.digest))?;
        let offset_bytes = asked.offset_bytes.min(layer.size_bytes);
        file.seek(SeekFrom::Start(offset_bytes))?;
        let left_bytes = layer.size_bytes - offset_bytes;
        let range = (offset_bytes > 0)
            .then(|| format!("bytes {offset_bytes}-{}/{}", layer.size_bytes.saturating_sub(1), layer.size_bytes));
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        head(writer, status, "application/octet-stream", left_bytes, Some((layer.digest, range)))?;
        if wants_body {
            // Whoever reads compares it with its digest.
            io::copy(&mut file.take(left_bytes), writer)?;
        }
        writer.flush()
    }
}

/// The next request; nothing at the end.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut lines = reader.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut asked = Asked { method, path, offset_bytes: 0 };
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(asked));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            let first = value.trim().strip_prefix("bytes=").and_then(|range| range.split('-').next());
            asked.offset_bytes = first.and_then(|first| first.parse().ok()).unwrap_or(0);
        }
    }
}

fn bytes(writer: &mut impl Write, content: &[u8], media_type: &str, wants_body: bool) -> io::Result<()> {
    let size_bytes = u64::try_from(content.len()).expect("a document has a length");
    head(writer, "200 OK", media_type, size_bytes, Some((Digest::of(content), None)))?;
    if wants_body {
        writer.write_all(content)?;
    }
    writer.flush()
}

/// The head of an answer with so many bytes of content, of this digest and, as a part of it, of this range.
fn head(
    writer: &mut impl Write,
    status: &str,
    media_type: &str,
    size_bytes: u64,
    content: Option<(Digest, Option<String>)>,
) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {size_bytes}\r\nAccept-Ranges: bytes\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\n"
    );
    if let Some((digest, range)) = content {
        text.push_str(&format!("Docker-Content-Digest: {digest}\r\n"));
        text.extend(range.map(|range| format!("Content-Range: {range}\r\n")));
    }
    text.push_str("\r\n");
    writer.write_all(text.as_bytes())
}

/// The media type that a manifest says of itself, or the one that it has if it says none and the other does not fit.
fn media_type(manifest: &[u8]) -> String {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let said = document["mediaType"].as_str().filter(|said| said.bytes().all(|byte| byte.is_ascii_graphic()));
    said.unwrap_or(MANIFEST).to_owned()
}

#[cfg(test)]
mod tests {
    use imagespec_distribution::Blob;

    use super::*;

    fn asked(served: &Served, method: &str, path: &str, more: &str) -> String {
        let mut stream = TcpStream::connect(served.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_has_the_base_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let layer = Blob::of(b"a layer");
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        std::fs::write(blob_path(folder.path(), layer.digest), "a layer").unwrap();
        let image = Image { manifest: b"{}".to_vec(), config: b"{\"config\":1}".to_vec(), layers: vec![layer] };
        let (digest, config_digest) = (image.digest(), image.config_digest());
        let served = Served::start(image, folder.path()).unwrap();
        let base = format!("/v2/{REPOSITORY}");
        assert!(served.reference().to_string().ends_with(&format!("/{REPOSITORY}@{digest}")));
        for (method, path, more, expected) in [
            ("GET", "/v2/".to_owned(), "", ("200", "")),
            ("GET", format!("{base}/manifests/{digest}"), "", ("200", "{}")),
            ("HEAD", format!("{base}/manifests/{digest}"), "", ("200", "")),
            ("GET", format!("{base}/blobs/{config_digest}"), "", ("200", "{\"config\":1}")),
            ("GET", format!("{base}/blobs/{}", layer.digest), "", ("200", "a layer")),
            ("GET", format!("{base}/blobs/{}", layer.digest), "Range: bytes=2-\r\n", ("206", "layer")),
            ("GET", format!("{base}/manifests/latest"), "", ("404", "")),
            ("GET", format!("{base}/blobs/../../../etc/passwd"), "", ("404", "")),
            ("\x16\x03\x01", "a handshake of TLS".to_owned(), "", ("400", "")),
            ("GET", "/etc/passwd".to_owned(), "", ("404", "")),
            ("PUT", format!("{base}/manifests/latest"), "", ("405", "")),
        ] {
            let answer = asked(&served, method, &path, more);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!((&head[9..12], body), expected, "{method} {path}");
        }
        let address = served.address;
        drop(served);
        let mut rest = String::new();
        // Somebody else may have the port by now, and say nothing.
        let gone = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(stream, "GET {base}/manifests/{digest} HTTP/1.1\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut rest)
        });
        assert!(gone.is_err() || rest.is_empty());
    }
}
