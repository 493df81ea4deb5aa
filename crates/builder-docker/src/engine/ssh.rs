//! An engine on another machine: `docker system dial-stdio` there, by this machine's `ssh`, whose streams are the
//! connection. What ssh says where it fails is the error.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::one_line;

/// Bytes of what ssh says that are kept, the last ones.
const SAID_SIZE_BYTES_MAX: usize = 4096;

/// `ssh` ended before the other end said a word.
#[derive(Debug, Clone, thiserror::Error)]
#[error("ssh: {said}")]
pub struct SshEnded {
    /// The last line that it said, or how it ended.
    pub said: String,
}

/// A running ssh, which is killed when it is dropped.
pub(super) struct SshStream {
    program: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
    said: Vec<u8>,
    has_answered: bool,
}

/// Starts ssh.
pub(super) fn start(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> io::Result<SshStream> {
    let mut command = Command::new("ssh");
    command.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]);
    command.args(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    command.args(user.iter().flat_map(|user| ["-l", user]));
    // The brackets of an IPv6 address belong to URLs.
    command.args(["--", host.trim_start_matches('[').trim_end_matches(']'), "docker"]);
    command.args(socket.iter().map(|socket| format!("--host=unix://{socket}")));
    command.args(["system", "dial-stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut program = command.spawn()?;
    let (input, output, errors) = (program.stdin.take(), program.stdout.take(), program.stderr.take());
    Ok(SshStream {
        input: input.expect("it was asked for"),
        output: output.expect("it was asked for"),
        errors: errors.expect("it was asked for"),
        program,
        said: Vec::new(),
        has_answered: false,
    })
}

impl SshStream {
    /// Takes what ssh says, so that it never waits for somebody to read it.
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
        Poll::Ready(io::Error::other(SshEnded { said }))
    }
}

impl AsyncRead for SshStream {
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

impl AsyncWrite for SshStream {
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
