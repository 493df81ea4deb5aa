//! A builder that understands the words of the boundary: text in, text out. A panic ends here.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use imagespec_core::boundary::{self, CallError, Door, InvalidRequest, RenderRequest};
use imagespec_core::builder::{BuildError, BuildRequest, Builder, FailureKind, Session};
use imagespec_core::event::Event;

/// So many calls may be cancelled before they come. Whoever cancels more has forgotten the oldest.
const CANCELLED_MAX: usize = 1024;

/// What the error of a panic ends with.
pub(crate) const PANICKED: &str = "panicked";

/// A builder behind the words of [`boundary`], in this very process and without a file to load.
pub struct Speaker {
    name: String,
    builder: Box<dyn Builder>,
    /// By operation: whether it is to stop.
    operations: Mutex<BTreeMap<u64, Arc<AtomicBool>>>,
}

struct Wire<'a> {
    events: &'a (dyn Fn(&str) + Sync),
    is_cancelled: Arc<AtomicBool>,
}

impl Session for Wire<'_> {
    fn event(&self, event: Event) {
        (self.events)(&serde_json::to_string(&event).expect("an event has only string keys"));
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

impl Speaker {
    /// Puts words into the mouth of `builder`.
    pub fn new(builder: Box<dyn Builder>) -> Self {
        Self::named(&builder.describe().name, builder)
    }

    /// The same for a builder that is not to be asked yet.
    pub(crate) fn named(name: &str, builder: Box<dyn Builder>) -> Self {
        Self { name: name.to_owned(), builder, operations: Mutex::default() }
    }

    fn flag(&self, operation: u64) -> Arc<AtomicBool> {
        let mut operations = self.operations.lock().expect("nobody panics while it is held");
        if operations.len() >= CANCELLED_MAX {
            // A call that runs has its own.
            operations.retain(|_, flag| Arc::strong_count(flag) > 1);
        }
        Arc::clone(operations.entry(operation).or_default())
    }

    fn answer(&self, method: &str, request: &str, session: &Wire<'_>) -> Result<String, BuildError> {
        match method {
            boundary::BUILD => {
                let report = self.builder.build(&read(request)?, session)?;
                Ok(serde_json::to_string(&report).expect("a report has only string keys"))
            }
            boundary::LOCK => Ok(self.builder.lock(&read(request)?, session)?.to_json()),
            boundary::RENDER => {
                let RenderRequest { build, folder } = RenderRequest::from_json(request).map_err(unreadable)?;
                Ok(boundary::rendered_to_json(&self.builder.render(&build, folder.as_deref(), session)?))
            }
            boundary::FIND => Ok(boundary::found_to_json(self.builder.find(&read(request)?, session)?.as_ref())),
            _ => Err(internal(format!("builder `{}` has no method `{}`", self.name, method.escape_debug()))),
        }
    }
}

impl Door for Speaker {
    fn describe(&self) -> Result<String, CallError> {
        let description = guard(&self.name, || Ok(self.builder.describe())).map_err(answered)?;
        Ok(serde_json::to_string(&description).expect("a description has only string keys"))
    }

    fn call(
        &self,
        operation: u64,
        method: &str,
        request: &str,
        events: &(dyn Fn(&str) + Sync),
    ) -> Result<String, CallError> {
        let session = Wire { events, is_cancelled: self.flag(operation) };
        let answer = guard(&self.name, || self.answer(method, request, &session));
        self.operations.lock().expect("nobody panics while it is held").remove(&operation);
        answer.map_err(answered)
    }

    fn cancel(&self, operation: u64) {
        self.flag(operation).store(true, Ordering::Relaxed);
    }
}

fn answered(error: BuildError) -> CallError {
    CallError::Answered(boundary::error_to_json(&error))
}

fn read(request: &str) -> Result<BuildRequest, BuildError> {
    BuildRequest::from_json(request).map_err(unreadable)
}

fn unreadable(error: InvalidRequest) -> BuildError {
    BuildError::new(FailureKind::Internal, &error)
}

fn internal(message: String) -> BuildError {
    BuildError::of(FailureKind::Internal, message)
}

thread_local! {
    /// What the last panic of this thread said and where, from within [`guard`].
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_GUARDED: RefCell<bool> = const { RefCell::new(false) };
}

/// Does `work`; a panic becomes an error that says what and where, and is not printed.
pub(crate) fn guard<T>(builder: &str, work: impl FnOnce() -> Result<T, BuildError>) -> Result<T, BuildError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.with_borrow(|is_guarded| *is_guarded) {
                return before(info);
            }
            let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
            let said = format!("{}{}", text_of(info.payload()), place.unwrap_or_default());
            PANIC.with_borrow_mut(|last| *last = Some(said));
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    result.unwrap_or_else(|payload| {
        let said = PANIC.take().unwrap_or_else(|| text_of(payload.as_ref()).to_owned());
        let error = internal(format!("builder `{builder}` {PANICKED}")).hint("tell the builder's author");
        Err(BuildError { causes: vec![said], ..error })
    })
}

fn text_of(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it said nothing")
}
