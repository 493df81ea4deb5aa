//! Runs a program to its end: both streams are read as they come, to the end, and Ctrl-C ends it with all that it started.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often somebody looks whether the user asked to stop.
const STEP: Duration = Duration::from_millis(50);
/// How long a program has to end by itself after it was told to.
const PATIENCE: Duration = Duration::from_millis(1000);
/// A longer line is cut: a program that prints no line ends should not fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines that wait for who takes them. A program that says more waits.
const LINES_MAX: usize = 1024;

/// Which of its streams a program said something on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// stdout
    Out,
    /// stderr
    Error,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, or by a signal.
    Status(ExitStatus),
    /// Because the user asked to stop.
    Cancelled,
}

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{program}`")]
pub(crate) struct ProcessError {
    pub(crate) program: String,
    #[source]
    pub(crate) source: io::Error,
}

/// A program to run: no shell reads the words, and it sees these variables and no others.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) path: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) folder: &'a Path,
}

/// How a program ended, for people: `exit code 1`, `signal 9`.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

impl Program<'_> {
    /// Runs it, and gives each line that it prints to `take`.
    ///
    /// # Errors
    /// When it cannot be started, or waited for.
    pub(crate) fn run(
        &self,
        is_cancelled: &dyn Fn() -> bool,
        take: &mut dyn FnMut(Stream, String),
    ) -> Result<End, ProcessError> {
        let failed = |source| ProcessError { program: self.path.display().to_string(), source };
        let mut child = Command::new(self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder)
            // Ctrl-C in a terminal is for us: it is told when it is time.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        let out = child.stdout.take().expect("it is piped");
        let error = child.stderr.take().expect("it is piped");
        // They are not joined: something that it started and left behind may hold its streams for ever.
        let for_out = sender.clone();
        thread::spawn(move || read(out, Stream::Out, &for_out));
        thread::spawn(move || read(error, Stream::Error, &sender));
        let end = follow(&mut child, &lines, is_cancelled, take).map_err(failed);
        if end.is_err() {
            kill(&child, Signal::KILL);
            // It was killed, and nobody else waits for it.
            let _ = child.wait();
        }
        end
    }
}

/// Takes lines until both streams have ended and the program, too.
fn follow(
    child: &mut Child,
    lines: &Receiver<(Stream, String)>,
    is_cancelled: &dyn Fn() -> bool,
    take: &mut dyn FnMut(Stream, String),
) -> io::Result<End> {
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(STEP) {
            Ok((stream, line)) => take(stream, line),
            Err(RecvTimeoutError::Disconnected) => {
                let status = match ended {
                    Some((status, _)) => status,
                    None => match wait(child, is_cancelled)? {
                        Some(status) => status,
                        None => return stop(child),
                    },
                };
                return Ok(End::Status(status));
            }
            Err(RecvTimeoutError::Timeout) => {
                if ended.is_none() {
                    ended = child.try_wait()?.map(|status| (status, Instant::now()));
                }
                // What it left behind holds its streams, and is no part of it.
                if let Some((status, since)) = ended
                    && since.elapsed() > PATIENCE
                {
                    kill(child, Signal::KILL);
                    return Ok(End::Status(status));
                }
            }
        }
        if ended.is_none() && is_cancelled() {
            return stop(child);
        }
    }
}

/// Waits for a program that has closed its streams; nothing if the user asks to stop.
fn wait(child: &mut Child, is_cancelled: &dyn Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if is_cancelled() {
            return Ok(None);
        }
        thread::sleep(STEP);
    }
}

/// Ends the program and all that it started: it is asked to, and when it does not, it is made to.
fn stop(child: &mut Child) -> io::Result<End> {
    kill(child, Signal::INT);
    let since = Instant::now();
    while child.try_wait()?.is_none() && since.elapsed() < PATIENCE {
        thread::sleep(STEP);
    }
    kill(child, Signal::KILL);
    child.wait()?;
    Ok(End::Cancelled)
}

fn kill(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // All of them may be gone already.
        let _ = kill_process_group(pid, signal);
    }
}

/// Sends what comes from `source` line by line, until it ends or nobody takes it.
fn read(mut source: impl Read, stream: Stream, lines: &SyncSender<(Stream, String)>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut rest: Vec<u8> = Vec::new();
    let send = |line: &[u8]| {
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        // Nobody takes it any more, and it is read on, so that the program does not wait.
        let _ = lines.send((stream, line));
    };
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut pieces = buffer[..count].split(|byte| *byte == b'\n');
        let mut piece = pieces.next().unwrap_or_default();
        for next in pieces {
            append(&mut rest, piece);
            send(&rest);
            rest.clear();
            piece = next;
        }
        append(&mut rest, piece);
    }
    if !rest.is_empty() {
        send(&rest);
    }
}

fn append(rest: &mut Vec<u8>, piece: &[u8]) {
    let room = LINE_BYTES_MAX.saturating_sub(rest.len());
    rest.extend_from_slice(&piece[..piece.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Runs a shell script, and returns its end, what it said on each stream, and how long it took.
    fn run(script: &str, cancelled: &AtomicBool) -> (End, Vec<String>, Vec<String>, Duration) {
        let folder = tempfile::Builder::new().prefix("a folder ").tempdir().unwrap();
        let environment = [("PATH".into(), "/usr/bin:/bin".into()), ("OWN".into(), "a value".into())];
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: ["-c", script, "name", "two  words", "$HOME"].map(Into::into).to_vec(),
            environment: &environment,
            folder: folder.path(),
        };
        let (mut out, mut error) = (Vec::new(), Vec::new());
        let start = Instant::now();
        let end = program.run(&|| cancelled.load(Ordering::Relaxed), &mut |stream, line| {
            if line == "cancel me" {
                cancelled.store(true, Ordering::Relaxed);
            }
            match stream {
                Stream::Out => out.push(line),
                Stream::Error => error.push(line),
            }
        });
        (end.unwrap(), out, error, start.elapsed())
    }

    fn code(end: &End) -> Option<i32> {
        match end {
            End::Status(status) => status.code(),
            End::Cancelled => None,
        }
    }

    #[test]
    fn megabytes_on_both_streams_are_read_to_the_end() {
        // Each stream is filled far beyond what a pipe holds while nobody would read the other.
        let script = "seq 1 200000 >&2; seq 1 200000; seq 200001 400000 >&2; printf 'last word' >&2; exit 3";
        let (end, out, error, _) = run(script, &AtomicBool::default());
        assert_eq!(code(&end), Some(3));
        assert_eq!((out.len(), error.len()), (200_000, 400_001));
        assert_eq!((out.last().unwrap().as_str(), error.last().unwrap().as_str()), ("200000", "last word"));
    }

    #[test]
    fn words_and_variables_are_handed_over_as_they_are() {
        let script = r#"printf '%s\n' "$1" "$2" "$OWN" "${HOME-none}" "${PWD##*/}""#;
        let (end, out, ..) = run(script, &AtomicBool::default());
        assert_eq!(code(&end), Some(0));
        assert_eq!(out[..4], ["two  words", "$HOME", "a value", "none"]);
        assert!(out[4].starts_with("a folder "), "{out:?}");
    }

    #[test]
    fn whoever_cancels_ends_all_that_was_started() {
        let script = "trap '' INT; sleep 300 & echo $!; echo 'cancel me'; wait";
        let (end, out, _, took) = run(script, &AtomicBool::default());
        assert!(matches!(end, End::Cancelled), "{end:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", out[0])).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        // It was killed, and the kernel takes a moment.
        let start = Instant::now();
        while lives() {
            assert!(start.elapsed() < Duration::from_secs(10), "what it started lives");
            thread::yield_now();
        }
    }

    #[test]
    fn what_is_left_behind_with_the_streams_is_not_waited_for() {
        let (end, out, _, took) = run("sleep 300 & echo done", &AtomicBool::default());
        assert_eq!((code(&end), out), (Some(0), vec!["done".to_owned()]));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (_, out, ..) = run("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo next", &AtomicBool::default());
        assert_eq!((out[0].len(), out[1].as_str()), (LINE_BYTES_MAX, "next"));
    }
}
