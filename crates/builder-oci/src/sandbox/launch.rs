//! The builder's side of a sandbox: starts it, maps its ids, gives it its orders, pumps data and ends it.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::builder::Restart;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wire::{Channel, Operation, Place, Reply, Session, Setup};
use super::{
    ARGUMENT, ArchiveOptions, ExitStatus, Line, Mode, Network, Output, Run, SandboxError, Stream, UnpackOptions,
    identity,
};

/// How long a cancelled program may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// How often `cancelled` is asked.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Longer lines are handed over in parts.
const LINE_SIZE_BYTES_MAX: u64 = 64 << 10;

/// A started sandbox. Dropping it ends it with everything inside.
struct Running {
    child: Child,
    channel: Channel,
}

/// The first mode that works.
pub(super) fn probe(restart: &Restart) -> Result<Mode, SandboxError> {
    let mut last = None;
    for mode in Mode::candidates() {
        let tried = Running::start(restart, mode, Place::Init(Network::Host), Session::New)
            .and_then(|running| running.order(&Operation::Probe, &[]).and_then(|()| running.finish()));
        match tried {
            Ok(_) => return Ok(mode),
            // No other mode helps against a launcher that does not start.
            Err(error @ SandboxError::Launch { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    let source = last.expect("there is at least one candidate");
    Err(SandboxError::Unavailable { source: Box::new(source) })
}

/// See [`super::Sandbox::run`].
pub(super) fn run(
    restart: &Restart,
    mode: Mode,
    run: &Run,
    output: Output<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<ExitStatus, SandboxError> {
    let place = Place::Init(run.network);
    match output {
        Output::Inherit => {
            let running = Running::start(restart, mode, place, Session::Same)?;
            let order = Operation::Run { run: run.clone(), session: Session::Same, mode };
            running.order(&order, &[io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()])?;
            running.supervise(None, &mut |_| (), cancelled)
        }
        Output::Lines(on_line) => {
            let running = Running::start(restart, mode, place, Session::New)?;
            let conversation = |source| SandboxError::Conversation { source };
            let input = std::fs::File::open("/dev/null").map_err(conversation)?;
            let (output_reader, output_writer) = io::pipe().map_err(conversation)?;
            let (error_reader, error_writer) = io::pipe().map_err(conversation)?;
            let order = Operation::Run { run: run.clone(), session: Session::New, mode };
            running.order(&order, &[input.as_fd(), output_writer.as_fd(), error_writer.as_fd()])?;
            // The sandbox has its own handles now; with ours open, the readers would never see the end.
            drop((output_writer, error_writer));
            running.supervise(Some((output_reader, error_reader)), on_line, cancelled)
        }
    }
}

/// See [`super::Sandbox::unpack`].
pub(super) fn unpack(
    restart: &Restart,
    mode: Mode,
    root: &Path,
    layer: &mut dyn Read,
    options: UnpackOptions,
) -> Result<(), SandboxError> {
    let running = Running::start(restart, mode, Place::Here, Session::New)?;
    let (reader, mut writer) = io::pipe().map_err(|source| SandboxError::Conversation { source })?;
    running.order(&Operation::Unpack { root: root.to_owned(), options }, &[reader.as_fd()])?;
    drop(reader);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match layer.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(SandboxError::Read { root: root.to_owned(), source }),
        };
        if writer.write_all(&buffer[..length]).is_err() {
            // The sandbox stopped reading; why, is in its reply.
            break;
        }
    }
    drop(writer);
    running.finish().map(drop)
}

/// See [`super::Sandbox::archive`].
pub(super) fn archive(
    restart: &Restart,
    mode: Mode,
    root: &Path,
    options: &ArchiveOptions,
    layer: &mut dyn Write,
) -> Result<(), SandboxError> {
    let running = Running::start(restart, mode, Place::Here, Session::New)?;
    let (mut reader, writer) = io::pipe().map_err(|source| SandboxError::Conversation { source })?;
    let order = Operation::Archive { root: root.to_owned(), options: options.clone() };
    running.order(&order, &[writer.as_fd()])?;
    drop(writer);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = reader.read(&mut buffer).map_err(|source| SandboxError::Conversation { source })?;
        if length == 0 {
            break;
        }
        layer.write_all(&buffer[..length]).map_err(|source| SandboxError::Write { root: root.to_owned(), source })?;
    }
    running.finish().map(drop)
}

/// See [`super::Sandbox::remove`].
pub(super) fn remove(restart: &Restart, mode: Mode, path: &Path) -> Result<(), SandboxError> {
    let running = Running::start(restart, mode, Place::Here, Session::New)?;
    running.order(&Operation::Remove { path: path.to_owned() }, &[])?;
    running.finish().map(drop)
}

impl Running {
    /// Starts a sandbox and brings it to where it waits for its orders.
    fn start(restart: &Restart, mode: Mode, place: Place, session: Session) -> Result<Self, SandboxError> {
        let launch = |source| SandboxError::Launch { launcher: restart.program.clone(), source };
        let (channel, theirs) = Channel::pair().map_err(launch)?;
        let mut command = Command::new(&restart.program);
        command.args(&restart.arguments).arg(ARGUMENT).env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null());
        if session == Session::New {
            command.process_group(0);
        }
        let running = Self { child: command.spawn().map_err(launch)?, channel };
        // The command holds the other end of the conversation; while it lives, a dead sandbox looks like a silent one.
        drop(command);
        running.tell(&Setup { parent: std::process::id(), mode, place }, &[])?;
        running.expect_reply(|reply| matches!(reply, Reply::Unshared))?;
        identity::map(running.child.id(), mode).map_err(|source| SandboxError::Mapping { mode, source })?;
        // Any frame says that the ids are mapped.
        running.tell(&(), &[])?;
        running.expect_reply(|reply| matches!(reply, Reply::Ready))?;
        Ok(running)
    }

    /// Says what to do.
    fn order(&self, operation: &Operation, descriptors: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        self.tell(operation, descriptors)
    }

    fn tell<T: serde::Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        match self.channel.send_with(message, descriptors) {
            Ok(()) => Ok(()),
            // It failed before it listened; its reply says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(source) => Err(SandboxError::Conversation { source }),
        }
    }

    /// Waits for a reply of one kind.
    fn expect_reply(&self, expected: fn(&Reply) -> bool) -> Result<(), SandboxError> {
        match self.channel.receive().map_err(|source| SandboxError::Conversation { source })? {
            Some(Reply::Failed(failure)) => Err(failure.into()),
            Some(reply) if expected(&reply) => Ok(()),
            Some(reply) => Err(SandboxError::Died { status: format!("it said {reply:?}") }),
            None => Err(SandboxError::Died { status: "it hung up".to_owned() }),
        }
    }

    /// Waits for the last reply and for the end.
    fn finish(mut self) -> Result<ExitStatus, SandboxError> {
        let reply = self.channel.receive::<Reply>().map_err(|source| SandboxError::Conversation { source })?;
        if reply.is_none() {
            let status = self.child.wait().map_err(|source| SandboxError::Conversation { source })?;
            return Err(SandboxError::Died { status: status.to_string() });
        }
        let status = outcome(reply);
        // All handles to the other end are closed only when every process that holds one is gone.
        while let Ok(Some(())) = self.channel.receive() {}
        self.child.wait().map_err(|source| SandboxError::Conversation { source })?;
        status
    }

    /// Hands lines over and watches for cancellation until the program has ended.
    fn supervise(
        mut self,
        pipes: Option<(PipeReader, PipeReader)>,
        on_line: &mut dyn FnMut(Line),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<ExitStatus, SandboxError> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        let channel = &self.channel;
        let (reply, was_cancelled) = thread::scope(|scope| {
            let (sender, messages) = mpsc::channel();
            if let Some((output, error)) = pipes {
                let (output_sender, error_sender) = (sender.clone(), sender.clone());
                scope.spawn(move || read_lines(output, Stream::Output, &output_sender));
                scope.spawn(move || read_lines(error, Stream::Error, &error_sender));
            }
            scope.spawn(move || {
                let _ = sender.send(Message::Reply(channel.receive::<Reply>()));
                while let Ok(Some(())) = channel.receive() {}
            });
            let mut reply = Ok(None);
            let mut cancelled_at: Option<Instant> = None;
            let mut killed = false;
            // The loop ends when every sender is gone: the pipes and the conversation are at their ends, and so no
            // process of the sandbox is left.
            loop {
                match messages.recv_timeout(CANCEL_POLL) {
                    Ok(Message::Line(line)) => on_line(line),
                    Ok(Message::Reply(said)) => reply = said,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                match cancelled_at {
                    None if cancelled() => {
                        cancelled_at = Some(Instant::now());
                        // It may have ended by itself, which is as good.
                        let _ = kill(pid, Signal::SIGTERM);
                    }
                    Some(at) if !killed && at.elapsed() >= GRACE => {
                        killed = true;
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    _ => {}
                }
            }
            (reply, cancelled_at.is_some())
        });
        let status = self.child.wait().map_err(|source| SandboxError::Conversation { source })?;
        if was_cancelled {
            return Err(SandboxError::Cancelled);
        }
        match reply.map_err(|source| SandboxError::Conversation { source })? {
            None => Err(SandboxError::Died { status: status.to_string() }),
            reply => outcome(reply),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.channel.hang_up();
        // Both fail only when the process has ended and been waited for.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the sandbox's last reply means.
fn outcome(reply: Option<Reply>) -> Result<ExitStatus, SandboxError> {
    match reply {
        Some(Reply::Exited(code)) => Ok(ExitStatus { code }),
        Some(Reply::Done) => Ok(ExitStatus { code: 0 }),
        Some(Reply::Failed(failure)) => Err(failure.into()),
        other => Err(SandboxError::Died { status: format!("it said {other:?}") }),
    }
}

/// What the threads that read from a sandbox tell the one that supervises it.
enum Message {
    Line(Line),
    Reply(io::Result<Option<Reply>>),
}

/// Sends each line of `pipe`.
fn read_lines(pipe: PipeReader, stream: Stream, lines: &mpsc::Sender<Message>) {
    let mut reader = BufReader::with_capacity(64 << 10, pipe);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        // The other end is a pipe of a sandbox: an error reading it is its end.
        match (&mut reader).take(LINE_SIZE_BYTES_MAX).read_until(b'\n', &mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = Line { stream, text: String::from_utf8_lossy(line).into_owned() };
        if lines.send(Message::Line(line)).is_err() {
            return;
        }
    }
}
