//! The worker's side: loads the plugin, has calls done, each on a thread of its own, and ends with the conversation.

use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use imagespec_core::boundary::{self, CallError, Door};
use imagespec_core::builder::{BuildError, FailureKind};

use super::frame::{Frame, Kind};
use crate::library::Library;
use crate::trace;

/// The end of the conversation that this process writes to.
#[derive(Clone)]
struct Speaking(Arc<Mutex<UnixStream>>);

impl Speaking {
    /// Says something; what is too long is not said.
    fn say(&self, kind: Kind, operation: u64, text: &str) -> Result<(), TooLong> {
        let mut stream = self.0.lock().expect("nobody panics while it is held");
        match Frame::write(kind, operation, text, &mut *stream) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(TooLong),
            // The program is gone, and whatever the plugin still does is for nobody.
            Err(_) => end(),
        }
    }
}

/// It was not said.
struct TooLong;

/// Ends this process and all that it started, at once: the plugin's threads may be in the middle of something.
fn end() -> ! {
    let own = rustix::process::getpid();
    if rustix::process::getpgid(None) == Ok(own) {
        let _ = rustix::process::kill_process_group(own, rustix::process::Signal::KILL);
    }
    std::process::exit(0)
}

/// Why this process could not load the plugin.
pub(super) fn unable(what: &str, error: &io::Error) -> CallError {
    let message = format!("the worker process cannot {what}");
    let causes = vec![error.to_string()];
    CallError::Gone(Box::new(BuildError {
        kind: FailureKind::Machine,
        message,
        causes,
        hints: Vec::new(),
        field: None,
    }))
}

/// Serves until the other end hangs up, and then ends this process: calls that still run are for nobody.
pub(super) fn serve(conversation: OwnedFd, load: impl FnOnce() -> Result<Library, CallError>) {
    let hearing = UnixStream::from(conversation);
    let Ok(stream) = hearing.try_clone() else { return };
    let speaking = Speaking(Arc::new(Mutex::new(stream)));
    let (sender, orders) = channel();
    // From before the plugin is loaded: it may hang, and the program may go.
    thread::spawn(move || {
        let mut hearing = BufReader::new(hearing);
        while let Ok(Some(frame)) = Frame::read(&mut hearing) {
            // Who would take it is about to end this process.
            let _ = sender.send(frame);
        }
        end()
    });
    let tracing = speaking.clone();
    trace::forward(move |json| drop(tracing.say(Kind::Trace, 0, json)));
    let opened = load().and_then(|library| {
        let description = library.describe()?;
        Ok((library, description))
    });
    let (library, said) = match opened {
        Ok((library, description)) => (Some(library), speaking.say(Kind::Ready, 0, &description)),
        Err(CallError::Answered(text)) => (None, speaking.say(Kind::RefusedByBuilder, 0, &text)),
        Err(CallError::Gone(error)) => (None, speaking.say(Kind::Refused, 0, &boundary::error_to_json(&error))),
    };
    let (Some(library), Ok(())) = (library, said) else { return };
    let library = Arc::new(library);
    for frame in orders {
        match frame.kind {
            Kind::Call => {
                let (library, speaking) = (Arc::clone(&library), speaking.clone());
                thread::spawn(move || call(&library, &speaking, &frame));
            }
            Kind::Cancel => library.cancel(frame.operation),
            _ => break,
        }
    }
    end()
}

fn call(library: &Library, speaking: &Speaking, frame: &Frame) {
    let (method, request) = frame.text.split_once('\n').unwrap_or((&frame.text, ""));
    let events = |json: &str| drop(speaking.say(Kind::Event, frame.operation, json));
    let said = match library.call(frame.operation, method, request, &events) {
        Ok(answer) => speaking.say(Kind::Answer, frame.operation, &answer),
        Err(CallError::Answered(text)) => speaking.say(Kind::Failure, frame.operation, &text),
        Err(CallError::Gone(error)) => speaking.say(Kind::Failure, frame.operation, &boundary::error_to_json(&error)),
    };
    if said.is_err() {
        let error = BuildError::of(FailureKind::Internal, "the builder's answer is too long");
        // This one is short.
        let _ = speaking.say(Kind::Failure, frame.operation, &boundary::error_to_json(&error));
    }
}
