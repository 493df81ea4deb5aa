//! The program's side: starts a worker, talks to it, and says how it ended.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use imagespec_core::boundary::{self, CallError, Door};
use imagespec_core::builder::{BuildError, FailureKind};

use super::frame::{Frame, Kind};
use super::process::Process;
use super::{ARGUMENT, WORKER};
use crate::sealed::Sealed;
use crate::trace;

/// How long a plugin may take to be loaded and to describe itself.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker may take to end after its conversation has.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// So many of the last lines that a worker printed are told when it dies.
const LINES_MAX: usize = 20;
/// The longest line that is kept, in bytes.
const LINE_SIZE_BYTES_MAX: u64 = 4096;
/// Events that wait for the program; a worker that sends more waits, too.
const EVENTS_MAX: usize = 1024;

/// How long is waited for what a worker printed before it ended.
const LINES_TIMEOUT: Duration = Duration::from_millis(200);

/// A plugin in a process of its own.
pub struct Worker {
    name: String,
    description: String,
    speaking: Mutex<UnixStream>,
    shared: Arc<Shared>,
    process: Arc<Process>,
    /// Hangs up when all that the worker printed has been read.
    printed: Mutex<Receiver<()>>,
}

#[derive(Default)]
struct Shared {
    /// Who waits for what an operation says. Nobody can any more when it is `None`.
    waiting: Mutex<Option<HashMap<u64, SyncSender<Frame>>>>,
    /// What it printed last, on its standard error.
    lines: Mutex<VecDeque<String>>,
    /// Why it was ended, if it was.
    verdict: Mutex<Option<BuildError>>,
}

impl Worker {
    /// Starts `program`, which calls [`super::main`] for [`ARGUMENT`], and has it load `file`, the plugin of the builder
    /// `name`.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn start(program: &Path, name: &str, file: &Sealed) -> Result<Self, CallError> {
        let failed = |error: io::Error| {
            let message = format!("cannot start a worker process for builder `{name}`");
            gone(FailureKind::Machine, message, vec![error.to_string()])
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        // A worker reads at once; one that does not is stuck.
        ours.set_write_timeout(Some(END_TIMEOUT)).map_err(failed)?;
        let (hearing, ending) = (ours.try_clone().map_err(failed)?, ours.try_clone().map_err(failed)?);
        let mut command = Command::new(program);
        command.arg(ARGUMENT).arg(WORKER).arg(file.path_for_others());
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for this program, which then asks the builder to stop. And whatever it leaves behind ends with it.
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        drop(command);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Something that it started may hold the other end of the conversation.
        let process = Process::watch(child, move || drop(ending.shutdown(Shutdown::Read)));
        let shared = Arc::new(Shared { waiting: Mutex::new(Some(HashMap::new())), ..Shared::default() });
        let (ready, first) = channel();
        let (printing, printed) = channel();
        listen(hearing, Arc::clone(&shared), ready);
        if let Some(stdout) = stdout {
            watch_stdout(stdout, Arc::clone(&shared), Arc::clone(&process), name.to_owned(), printing.clone());
        }
        if let Some(stderr) = stderr {
            keep_lines(stderr, Arc::clone(&shared), name.to_owned(), printing.clone());
        }
        let mut worker = Self {
            name: name.to_owned(),
            description: String::new(),
            speaking: Mutex::new(ours),
            shared,
            process,
            printed: Mutex::new(printed),
        };
        match first.recv_timeout(READY_TIMEOUT) {
            Ok(Frame { kind: Kind::Ready, text, .. }) => {
                worker.description = text;
                Ok(worker)
            }
            Ok(Frame { kind: Kind::RefusedByBuilder, text, .. }) => Err(CallError::Answered(text)),
            Ok(Frame { kind: Kind::Refused, text, .. }) => Err(CallError::Gone(Box::new(
                boundary::error_from_json(&text).unwrap_or_else(|invalid| invalid.into_build_error(name)),
            ))),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = READY_TIMEOUT.as_secs();
                worker.end(&format!("builder `{name}` was not ready after {seconds} seconds, and was ended"));
                Err(worker.epitaph())
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(worker.epitaph()),
        }
    }

    /// Ends the worker and all that it started, because of `message`, which its calls then answer.
    pub(crate) fn end(&self, message: &str) {
        sentence(&self.shared, &self.process, internal(message.to_owned()).hint("tell the builder's author"));
    }

    /// How it ended. Waits for that.
    fn epitaph(&self) -> CallError {
        let status = self.process.wait(END_TIMEOUT);
        // Nothing is ever sent. Something that left the group may still hold a pipe.
        let _ = self.printed.lock().expect("nobody panics while it is held").recv_timeout(LINES_TIMEOUT);
        if let Some(error) = self.shared.verdict.lock().expect("nobody panics while it is held").clone() {
            return CallError::Gone(Box::new(error));
        }
        let lines = self.shared.lines.lock().expect("nobody panics while it is held").iter().cloned().collect();
        let how = status.map_or_else(|| "hung up".to_owned(), ending);
        let error = BuildError { causes: lines, ..internal(format!("builder `{}` {how}", self.name)) };
        CallError::Gone(Box::new(error.hint("tell the builder's author; the image was not made")))
    }

    fn say(&self, kind: Kind, operation: u64, text: &str) -> io::Result<()> {
        let mut stream = self.speaking.lock().expect("nobody panics while it is held");
        Frame::write(kind, operation, text, &mut *stream)
    }
}

impl Door for Worker {
    fn describe(&self) -> Result<String, CallError> {
        Ok(self.description.clone())
    }

    fn call(
        &self,
        operation: u64,
        method: &str,
        request: &str,
        events: &(dyn Fn(&str) + Sync),
    ) -> Result<String, CallError> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        match self.shared.waiting.lock().expect("nobody panics while it is held").as_mut() {
            Some(waiting) => drop(waiting.insert(operation, sender)),
            None => return Err(self.epitaph()),
        }
        match self.say(Kind::Call, operation, &format!("{method}\n{request}")) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let mut waiting = self.shared.waiting.lock().expect("nobody panics while it is held");
                waiting.as_mut().and_then(|waiting| waiting.remove(&operation));
                let message = format!("the request of {} bytes is too long for builder `{}`", request.len(), self.name);
                return Err(gone(FailureKind::Spec, message, Vec::new()));
            }
            // It is gone, and its end says why; or half of the request was said, and nothing can be said any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => self.end(&format!("builder `{}` did not take its request, and was ended", self.name)),
        }
        for frame in &receiver {
            match frame.kind {
                Kind::Event => events(&frame.text),
                Kind::Answer => return Ok(frame.text),
                _ => return Err(CallError::Answered(frame.text)),
            }
        }
        Err(self.epitaph())
    }

    fn cancel(&self, operation: u64) {
        // If it cannot be told, it ends in other ways.
        let _ = self.say(Kind::Cancel, operation, "");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let stream = self.speaking.get_mut().expect("nobody panics while it is held");
        let _ = stream.shutdown(Shutdown::Both);
        self.process.wait(END_TIMEOUT);
    }
}

/// Hands what the worker says to whoever waits for it.
fn listen(hearing: UnixStream, shared: Arc<Shared>, ready: Sender<Frame>) {
    thread::spawn(move || {
        let mut hearing = BufReader::new(hearing);
        let mut ready = Some(ready);
        while let Ok(Some(frame)) = Frame::read(&mut hearing) {
            match frame.kind {
                Kind::Ready | Kind::Refused | Kind::RefusedByBuilder => {
                    ready.take().into_iter().for_each(|ready| drop(ready.send(frame.clone())));
                }
                Kind::Trace => trace::emit(&frame.text),
                Kind::Event | Kind::Answer | Kind::Failure => {
                    let mut waiting = shared.waiting.lock().expect("nobody panics while it is held");
                    let sender = match frame.kind {
                        Kind::Event => waiting.as_ref().and_then(|all| all.get(&frame.operation).cloned()),
                        _ => waiting.as_mut().and_then(|all| all.remove(&frame.operation)),
                    };
                    drop(waiting);
                    sender.into_iter().for_each(|sender| drop(sender.send(frame.clone())));
                }
                Kind::Call | Kind::Cancel => break,
            }
        }
        *shared.waiting.lock().expect("nobody panics while it is held") = None;
    });
}

/// Nothing may come there: standard output is the program's, and holds the name of the image alone.
fn watch_stdout(
    mut stdout: impl Read + Send + 'static,
    shared: Arc<Shared>,
    process: Arc<Process>,
    name: String,
    printing: Sender<()>,
) {
    thread::spawn(move || {
        let mut bytes = [0; 200];
        if let Ok(length @ 1..) = stdout.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let said = text.lines().next().unwrap_or_default().escape_debug();
            let error = internal(format!("builder `{name}` wrote to standard output, and was ended"));
            let error = BuildError { causes: vec![format!("it wrote `{said}`")], ..error };
            sentence(&shared, &process, error.hint("tell the builder's author: what it has to say goes into events"));
        }
        drop(printing);
    });
}

fn keep_lines(stderr: impl Read + Send + 'static, shared: Arc<Shared>, name: String, printing: Sender<()>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while let Ok(1..) = reader.by_ref().take(LINE_SIZE_BYTES_MAX).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let text = text.replace(|character: char| character.is_control() && character != '\t', "\u{fffd}");
            line.clear();
            if text.is_empty() {
                continue;
            }
            tracing::info!(builder = name, "{text}");
            let mut lines = shared.lines.lock().expect("nobody panics while it is held");
            lines.push_back(text);
            if lines.len() > LINES_MAX {
                lines.pop_front();
            }
        }
        drop(printing);
    });
}

/// Ends a worker, and remembers why; the first reason counts.
fn sentence(shared: &Shared, process: &Process, error: BuildError) {
    shared.verdict.lock().expect("nobody panics while it is held").get_or_insert(error);
    process.kill();
}

/// How a process ended that should not have, as the end of a sentence: `crashed: a segmentation fault`.
pub fn ending(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 5] =
        [(4, "an illegal instruction"), (6, "abort"), (7, "a bus error"), (9, "SIGKILL"), (11, "a segmentation fault")];
    match (status.code(), status.signal()) {
        (_, Some(signal)) => match NAMES.into_iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("crashed: {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (Some(code), _) => format!("ended its process with code {code} in the middle of the work"),
        _ => "hung up".to_owned(),
    }
}

fn internal(message: String) -> BuildError {
    BuildError::of(FailureKind::Internal, message)
}

fn gone(kind: FailureKind, message: String, causes: Vec<String>) -> CallError {
    CallError::Gone(Box::new(BuildError { kind, message, causes, hints: Vec::new(), field: None }))
}
