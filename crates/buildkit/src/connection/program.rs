//! A program whose streams are the connection, as `ssh` that runs `docker system dial-stdio` on another machine. What it says
//! where it fails is the error.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::one_line;

/// Bytes of what it says that are kept, the last ones.
const SAID_SIZE_BYTES_MAX: usize = 4096;

/// The program ended before the other end said a word.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name}: {said}")]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// The last line that it said, or how it ended.
    pub said: String,
}

/// A running program, which is killed when it is dropped.
pub(super) struct ProgramStream {
    name: &'static str,
    program: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
    said: Vec<u8>,
    has_answered: bool,
}

/// What `ssh` is told before the command that it is to run on `host`. It asks nobody anything.
pub fn ssh_arguments(user: Option<&str>, host: &str, port: Option<u16>) -> Vec<String> {
    let mut arguments = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"].map(str::to_owned).to_vec();
    // A machine that is gone without a word is noticed.
    arguments.extend(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"].map(str::to_owned));
    arguments.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    arguments.extend(user.iter().flat_map(|user| ["-l".to_owned(), (*user).to_owned()]));
    // The brackets of an IPv6 address belong to URLs.
    arguments.extend(["--", host.trim_start_matches('[').trim_end_matches(']')].map(str::to_owned));
    arguments
}

/// Starts it.
pub(super) fn start(name: &'static str, arguments: &[String]) -> io::Result<ProgramStream> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C in a terminal is for us, and whoever drops the connection ends the program.
    command.process_group(0);
    let mut program = command.spawn()?;
    let (input, output, errors) = (program.stdin.take(), program.stdout.take(), program.stderr.take());
    Ok(ProgramStream {
        name,
        input: input.expect("it was asked for"),
        output: output.expect("it was asked for"),
        errors: errors.expect("it was asked for"),
        program,
        said: Vec::new(),
        has_answered: false,
    })
}

impl ProgramStream {
    /// Takes what it says, so that it never waits for somebody to read it.
    fn listen(&mut self, context: &mut Context<'_>) {
        let mut space = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.errors).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.said.extend_from_slice(buffer.filled()),
                _ => break,
            }
        }
        let excess = self.said.len().saturating_sub(SAID_SIZE_BYTES_MAX);
        self.said.drain(..excess);
    }

    /// Waits for its end, and tells why it came.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let status = ready!(pin!(self.program.wait()).poll(context));
        self.listen(context);
        let text = String::from_utf8_lossy(&self.said);
        let last = text.lines().map(one_line).rfind(|line| !line.is_empty());
        let said = last.unwrap_or_else(|| match status {
            Ok(status) => format!("it ended with {status} and said nothing"),
            Err(error) => error.to_string(),
        });
        Poll::Ready(io::Error::other(Ended { name: self.name, said }))
    }
}

impl AsyncRead for ProgramStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.listen(context);
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.has_answered = true;
        }
        match self.has_answered {
            true => Poll::Ready(Ok(())),
            false => self.poll_end(context).map(Err),
        }
    }
}

impl AsyncWrite for ProgramStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.input).poll_write(context, bytes)) {
            // Why it does not listen says more than that.
            Err(_) if !self.has_answered => self.poll_end(context).map(Err),
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}
