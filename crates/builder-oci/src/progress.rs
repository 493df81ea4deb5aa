//! Tells the session what happens, with the time that it took.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use imagespec_core::builder::Session;
use imagespec_core::event::{Event, Outcome};

/// The session, and the number of the next step.
pub(crate) struct Progress<'a> {
    session: &'a dyn Session,
    next: AtomicU32,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(session: &'a dyn Session) -> Self {
        Self { session, next: AtomicU32::new(0) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.session.is_cancelled()
    }

    pub(crate) fn warn(&self, message: String) {
        self.session.event(Event::Warning { message });
    }

    /// Does `work` as a step called `title`; `summary` says how it went if it went well.
    pub(crate) fn step<T, E>(
        &self,
        title: &str,
        work: impl FnOnce() -> Result<T, E>,
        summary: impl FnOnce(&T) -> (Outcome, String),
    ) -> Result<T, E> {
        let step = self.next.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        self.session.event(Event::StepStarted { step, title: title.to_owned() });
        let result = work()?;
        let (outcome, summary) = summary(&result);
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.session.event(Event::StepFinished { step, duration_ms, outcome, summary });
        Ok(result)
    }
}
