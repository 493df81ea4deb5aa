//! The program's side: starts a worker, talks to it, and says how it ended.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::boundary::{self, CallError, Door};
use imagespec_core::builder::{BuildError, FailureKind};
use rustix::process::{Pid, Signal, kill_process_group};

use super::frame::{Frame, Kind};
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

/// A plugin in a process of its own.
pub struct Worker {
    name: String,
    description: String,
    speaking: Mutex<UnixStream>,
    shared: Arc<Shared>,
    process: Mutex<Child>,
    group: Pid,
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
        let failed = |error: std::io::Error| {
            gone(
                FailureKind::Machine,
                format!("cannot start a worker process for builder `{name}`"),
                vec![error.to_string()],
            )
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(ARGUMENT).arg(WORKER).arg(file.path_for_others());
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for this program, which then asks the builder to stop. And whatever it leaves behind ends with it.
        let mut process = command.process_group(0).spawn().map_err(failed)?;
        drop(command);
        let group = Pid::from_child(&process);
        let shared = Arc::new(Shared { waiting: Mutex::new(Some(HashMap::new())), ..Shared::default() });
        let (ready, first) = channel();
        let hearing = ours.try_clone().map_err(failed)?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        listen(hearing, Arc::clone(&shared), ready);
        stdout.into_iter().for_each(|stdout| watch_stdout(stdout, Arc::clone(&shared), group, name.to_owned()));
        stderr.into_iter().for_each(|stderr| keep_lines(stderr, Arc::clone(&shared), name.to_owned()));
        let mut worker = Self {
            name: name.to_owned(),
            description: String::new(),
            speaking: Mutex::new(ours),
            shared,
            process: Mutex::new(process),
            group,
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
        let error = internal(message.to_owned()).hint("tell the builder's author");
        sentence(&self.shared, self.group, error);
    }

    /// How it ended. Waits for that.
    fn epitaph(&self) -> CallError {
        let status = self.wait();
        if let Some(error) = self.shared.verdict.lock().expect("nobody panics while it is held").clone() {
            return CallError::Gone(Box::new(error));
        }
        let lines = self.shared.lines.lock().expect("nobody panics while it is held").iter().cloned().collect();
        let how = match status {
            Some(status) => ending(status),
            None => "hung up".to_owned(),
        };
        let error = BuildError { causes: lines, ..internal(format!("builder `{}` {how}", self.name)) };
        CallError::Gone(Box::new(error.hint("tell the builder's author; the image was not made")))
    }

    /// Waits for the end of a worker that has hung up, and helps it if it takes long.
    fn wait(&self) -> Option<ExitStatus> {
        let mut process = self.process.lock().expect("nobody panics while it is held");
        let start = Instant::now();
        while start.elapsed() < END_TIMEOUT {
            if let Ok(Some(status)) = process.try_wait() {
                // Its own children, if it left any.
                let _ = kill_process_group(self.group, Signal::KILL);
                return Some(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        process.wait().ok()
    }

    fn say(&self, kind: Kind, operation: u64, text: &str) -> bool {
        let mut stream = self.speaking.lock().expect("nobody panics while it is held");
        Frame::write(kind, operation, text, &mut *stream).is_ok()
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
        // If it is gone, the receiver hangs up, too.
        self.say(Kind::Call, operation, &format!("{method}\n{request}"));
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
        self.say(Kind::Cancel, operation, "");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let stream = self.speaking.get_mut().expect("nobody panics while it is held");
        let _ = stream.shutdown(std::net::Shutdown::Both);
        self.wait();
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
fn watch_stdout(mut stdout: impl Read + Send + 'static, shared: Arc<Shared>, group: Pid, name: String) {
    thread::spawn(move || {
        let mut bytes = [0; 200];
        if let Ok(length @ 1..) = stdout.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let said = text.lines().next().unwrap_or_default().escape_debug();
            let error = internal(format!("builder `{name}` wrote to standard output, and was ended"));
            let error = BuildError { causes: vec![format!("it wrote `{said}`")], ..error };
            sentence(&shared, group, error.hint("tell the builder's author: what it has to say goes into events"));
        }
    });
}

fn keep_lines(stderr: impl Read + Send + 'static, shared: Arc<Shared>, name: String) {
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
    });
}

/// Ends a worker, and remembers why; the first reason counts.
fn sentence(shared: &Shared, group: Pid, error: BuildError) {
    shared.verdict.lock().expect("nobody panics while it is held").get_or_insert(error);
    // It may be gone already.
    let _ = kill_process_group(group, Signal::KILL);
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
    BuildError { kind: FailureKind::Internal, message, causes: Vec::new(), hints: Vec::new(), field: None }
}

fn gone(kind: FailureKind, message: String, causes: Vec<String>) -> CallError {
    CallError::Gone(Box::new(BuildError { kind, message, causes, hints: Vec::new(), field: None }))
}
