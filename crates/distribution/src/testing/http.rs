//! As much of an HTTP/1.1 server as the in-process registry needs (RFC 9112).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use url::Url;

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its path, without query.
    pub path: String,
    /// The parameters of its query, decoded.
    pub query: Vec<(String, String)>,
    /// Its headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers without the body's length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is done with a request.
pub(super) enum Step {
    /// Answer, and go on or close the connection after so many bytes of the body.
    Answer(Answer, Option<usize>),
    /// Close the connection without an answer.
    Close,
}

impl Request {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Answer {
    /// An answer without body.
    pub fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// An answer with an error document.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let document = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::of(status).header("Content-Type", "application/json").body(document.to_string())
    }
}

/// Answers the requests of one connection. When a head has come, `limit` says how many bytes of its body arrive if not
/// all; then `handle` says what is done.
pub(super) fn serve(
    stream: &TcpStream,
    limit: &dyn Fn(&Request) -> Option<usize>,
    handle: &dyn Fn(&mut Request) -> Step,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut reader)? {
        let limit = limit(&request);
        read_body(&mut reader, &mut request, limit)?;
        match handle(&mut request) {
            Step::Answer(answer, None) => write_answer(stream, &request.method, &answer, None)?,
            Step::Answer(answer, limit) => {
                write_answer(stream, &request.method, &answer, limit)?;
                return close(stream);
            }
            Step::Close => return close(stream),
        }
    }
    Ok(())
}

fn close(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Both)
}

fn read_head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(invalid()) };
    let url = Url::parse("http://registry.invalid").and_then(|base| base.join(target)).map_err(|_| invalid())?;
    let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let (method, path) = (method.to_owned(), url.path().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(Request { method, path, query, headers, body: Vec::new() }));
        }
        let (name, value) = line.split_once(':').ok_or_else(invalid)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn read_body(reader: &mut BufReader<&TcpStream>, request: &mut Request, limit: Option<usize>) -> io::Result<()> {
    let length = request.header("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    let wanted = limit.unwrap_or(length).min(length);
    reader.take(wanted as u64).read_to_end(&mut request.body)?;
    Ok(())
}

fn write_answer(mut stream: &TcpStream, method: &str, answer: &Answer, limit: Option<usize>) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(&answer.body[..limit.unwrap_or(usize::MAX).min(answer.body.len())])?;
    }
    stream.flush()
}
