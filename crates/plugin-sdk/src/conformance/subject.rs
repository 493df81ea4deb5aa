//! The builder that is examined: asks it, waits for it, and reads what it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::boundary::{self, CallError, Door};
use imagespec_core::builder::{BuildError, Description, FailureKind};

use crate::speaker::PANICKED;

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Fault {
    /// The builder does not do what it must.
    Failed(String),
    /// This builder, or this machine, leaves nothing to try.
    Skipped(String),
    /// A call does not end, so that nothing more can be said.
    Hung(String),
}

impl Fault {
    /// The same, that was seen when `what` was done.
    pub(super) fn when(self, what: &str) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{what}: {why}")),
            Self::Hung(why) => Self::Hung(format!("{what}: {why}")),
            Self::Skipped(why) => Self::Skipped(why),
        }
    }
}

/// How long the kit waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the end of a build of next to nothing.
    pub(super) answer: Duration,
    /// For the end of a build that was cancelled.
    pub(super) cancel: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(60), cancel: Duration::from_secs(2) }
    }
}

/// When a call is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    Never,
    Before,
    /// At the first event, or a moment after the beginning if there is none.
    Meanwhile,
}

/// The builder that is examined.
pub(super) struct Subject {
    door: Arc<dyn Door>,
    pub(super) limits: Limits,
    pub(super) description: Description,
    text: String,
}

/// A call that was begun.
pub(super) struct Running {
    answer: Receiver<Result<String, CallError>>,
    events: Arc<Mutex<Vec<String>>>,
    cancelled: Arc<OnceLock<Instant>>,
    limits: Limits,
    door: Arc<dyn Door>,
    operation: u64,
    cancel: Cancel,
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) answer: Result<String, BuildError>,
    pub(super) events: Vec<String>,
}

impl Subject {
    /// Asks what is behind `door` what it is.
    pub(super) fn new(door: Arc<dyn Door>, limits: Limits) -> Result<Self, Fault> {
        let text = describe(&door, limits)?;
        let description = boundary::description_from_json(&text).map_err(|invalid| {
            let cause = std::error::Error::source(&invalid).map(|source| format!(": {source}")).unwrap_or_default();
            Fault::Failed(format!("what it says of itself cannot be used: {invalid}{cause}"))
        })?;
        let subject = Self { door, limits, description, text };
        subject.is_unchanged()?;
        Ok(subject)
    }

    /// Asks it again what it is.
    pub(super) fn is_unchanged(&self) -> Result<(), Fault> {
        let again = describe(&self.door, self.limits)?;
        if again == self.text {
            return Ok(());
        }
        let (first, second) = difference(&self.text, &again);
        let why = format!(
            "it said `{first}`, and when it was asked again `{second}`: `describe` must not depend on anything that changes"
        );
        Err(Fault::Failed(why))
    }

    /// Begins a call.
    pub(super) fn begin(&self, method: &str, request: &str, cancel: Cancel) -> Running {
        // Far from the numbers of whoever else may use the door.
        static OPERATIONS: AtomicU64 = AtomicU64::new(1 << 40);
        let operation = OPERATIONS.fetch_add(1, Ordering::Relaxed);
        let cancelled: Arc<OnceLock<Instant>> = Arc::default();
        if cancel == Cancel::Before {
            cancelled.get_or_init(Instant::now);
            self.door.cancel(operation);
        }
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sender, answer) = channel();
        let running = Running {
            answer,
            events: Arc::clone(&events),
            cancelled: Arc::clone(&cancelled),
            limits: self.limits,
            door: Arc::clone(&self.door),
            operation,
            cancel,
        };
        let (door, method, request) = (Arc::clone(&self.door), method.to_owned(), request.to_owned());
        // Not a scoped one: a call that never ends must not keep the kit.
        thread::spawn(move || {
            let take = |json: &str| {
                events.lock().expect("nobody panics while it is held").push(json.to_owned());
                if cancel == Cancel::Meanwhile && cancelled.set(Instant::now()).is_ok() {
                    door.cancel(operation);
                }
            };
            let result = door.call(operation, &method, &request, &take);
            // Nobody may wait for it any more.
            drop(sender.send(result));
        });
        running
    }

    /// Has a call done.
    pub(super) fn call(&self, method: &str, request: &str) -> Result<Conversation, Fault> {
        self.begin(method, request, Cancel::Never).wait()
    }
}

impl Running {
    /// Waits for the end.
    pub(super) fn wait(self) -> Result<Conversation, Fault> {
        let start = Instant::now();
        if self.cancel == Cancel::Meanwhile {
            /// A builder that has said nothing for so long is at work.
            const SILENCE: Duration = Duration::from_millis(100);
            match self.answer.recv_timeout(SILENCE) {
                Err(RecvTimeoutError::Timeout) => {
                    if self.cancelled.set(Instant::now()).is_ok() {
                        self.door.cancel(self.operation);
                    }
                }
                ended => return self.read(ended),
            }
        }
        let Some(cancelled) = self.cancelled.get() else {
            let ended = self.answer.recv_timeout(self.limits.answer);
            return self.read(ended);
        };
        match self.answer.recv_timeout(self.limits.cancel.saturating_sub(cancelled.elapsed())) {
            Err(RecvTimeoutError::Timeout) => {}
            ended => return self.read(ended),
        }
        let seconds = self.limits.cancel.as_secs_f32();
        let late = format!(
            "it was still at work {seconds} seconds after it was cancelled: look at `Session::is_cancelled` between steps and \
             while it waits"
        );
        // It may end late, and the other checks go on then.
        match self.answer.recv_timeout(self.limits.answer.saturating_sub(start.elapsed())) {
            Err(RecvTimeoutError::Timeout) => Err(Fault::Hung(late)),
            _ => Err(Fault::Failed(late)),
        }
    }

    fn read(&self, ended: Result<Result<String, CallError>, RecvTimeoutError>) -> Result<Conversation, Fault> {
        let answer = match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(read_error(error)?),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.limits.answer.as_secs_f32();
                return Err(Fault::Hung(format!("it did not answer within {seconds} seconds")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::Failed("the call ended in a panic that nobody caught".to_owned()));
            }
        };
        let events = self.events.lock().expect("nobody panics while it is held").clone();
        Ok(Conversation { answer, events })
    }
}

fn describe(door: &Arc<dyn Door>, limits: Limits) -> Result<String, Fault> {
    let (sender, receiver) = channel();
    let door = Arc::clone(door);
    thread::spawn(move || drop(sender.send(door.describe())));
    match receiver.recv_timeout(limits.answer) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(Fault::Failed(format!("it does not describe itself: {}", told(&read_error(error)?)))),
        Err(RecvTimeoutError::Timeout) => Err(Fault::Hung("it does not describe itself in time".to_owned())),
        Err(RecvTimeoutError::Disconnected) => {
            Err(Fault::Failed("the description ended in a panic that nobody caught".to_owned()))
        }
    }
}

/// The builder's own error. That it cannot be reached, or says nothing, is a fault in every check.
fn read_error(error: CallError) -> Result<BuildError, Fault> {
    let text = match error {
        CallError::Gone(error) => {
            return Err(Fault::Failed(format!("it cannot be reached any more: {}", told(&error))));
        }
        CallError::Answered(text) => text,
    };
    let error = boundary::error_from_json(&text).map_err(|invalid| {
        let text = shortened(&text);
        Fault::Failed(format!("it answered the error `{text}`, which nobody can read: {invalid}"))
    })?;
    match error.message.trim().is_empty() {
        true => Err(Fault::Failed("it answered an error without a message: say what happened and where".to_owned())),
        false => Ok(error),
    }
}

/// Whether the builder's code panicked.
pub(super) fn is_panic(error: &BuildError) -> bool {
    error.kind == FailureKind::Internal && error.message.ends_with(PANICKED)
}

/// An error in one line.
pub(super) fn told(error: &BuildError) -> String {
    let parts: Vec<_> = std::iter::once(&error.message).chain(&error.causes).map(|part| shortened(part)).collect();
    let hints: String = error.hints.iter().map(|hint| format!(" ({})", shortened(hint))).collect();
    format!("`{}`{hints}", parts.join(": "))
}

/// A text in one line of at most so many characters that one still reads it.
pub(super) fn shortened(text: &str) -> String {
    const LENGTH_MAX: usize = 300;
    let line: String = text.chars().take(LENGTH_MAX).map(|letter| if letter == '\n' { ' ' } else { letter }).collect();
    if text.chars().nth(LENGTH_MAX).is_some() { format!("{line}…") } else { line }
}

/// What is different in two texts, with a little of what is around.
fn difference(first: &str, second: &str) -> (String, String) {
    const AROUND: usize = 20;
    let (first, second): (Vec<char>, Vec<char>) = (first.chars().collect(), second.chars().collect());
    let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    let excerpt = |text: &[char]| text.iter().skip(same.saturating_sub(AROUND)).take(3 * AROUND).collect();
    (excerpt(&first), excerpt(&second))
}
