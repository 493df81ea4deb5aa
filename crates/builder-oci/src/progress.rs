//! Tells the session what happens, with the time that it took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use imagespec_core::builder::Session;
use imagespec_core::event::{Event, Outcome, Unit};

/// A step says how far it is at most so often.
const INTERVAL_MS: u64 = 100;

/// The session, and the number of the next step.
pub(crate) struct Progress<'a> {
    session: &'a dyn Session,
    next: AtomicU32,
}

/// A step that has begun.
pub(crate) struct Step<'a> {
    session: &'a dyn Session,
    number: u32,
    start: Instant,
    unit: Unit,
    total: Option<u64>,
    done: AtomicU64,
    told_ms: Mutex<u64>,
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

    /// Begins a step of which `total` things are to be done, if that is known.
    pub(crate) fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Step<'a> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.session.event(Event::StepStarted { step: number, title: title.to_owned() });
        Step {
            session: self.session,
            number,
            start: Instant::now(),
            unit,
            total,
            done: AtomicU64::new(0),
            told_ms: Mutex::new(0),
        }
    }

    /// Does `work` as a step called `title`; `summary` says how it went if it went well.
    pub(crate) fn step<T, E>(
        &self,
        title: &str,
        work: impl FnOnce() -> Result<T, E>,
        summary: impl FnOnce(&T) -> (Outcome, String),
    ) -> Result<T, E> {
        self.counted(title, Unit::Bytes, None, |_| work(), summary)
    }

    /// The same for work that says how much of it is done, of `total` if that is known.
    pub(crate) fn counted<T, E>(
        &self,
        title: &str,
        unit: Unit,
        total: Option<u64>,
        work: impl FnOnce(&Step<'a>) -> Result<T, E>,
        summary: impl FnOnce(&T) -> (Outcome, String),
    ) -> Result<T, E> {
        let step = self.begin(title, unit, total);
        let result = work(&step)?;
        let (outcome, summary) = summary(&result);
        step.finish(outcome, summary);
        Ok(result)
    }
}

impl Step<'_> {
    /// So many more are done. Called from any thread.
    pub(crate) fn add(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        self.tell(done, self.total);
    }

    /// So many are done in all.
    pub(crate) fn reach(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.tell(done, self.total);
    }

    /// A program of the step printed a line.
    pub(crate) fn output(&self, line: String) {
        self.session.event(Event::Output { step: self.number, line });
    }

    /// How much there is to do, if that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The step ended well.
    pub(crate) fn finish(self, outcome: Outcome, summary: String) {
        let duration_ms = self.elapsed_ms();
        self.session.event(Event::StepFinished { step: self.number, duration_ms, outcome, summary });
    }

    /// So many are done of a number that was not known when the step began.
    pub(crate) fn reach_of(&self, done: u64, total: u64) {
        self.tell(done, Some(total));
    }

    fn tell(&self, done: u64, total: Option<u64>) {
        let now_ms = self.elapsed_ms();
        // Whoever cannot have the lock would come too early anyway.
        let Ok(mut told_ms) = self.told_ms.try_lock() else { return };
        if now_ms < *told_ms + INTERVAL_MS {
            return;
        }
        *told_ms = now_ms;
        // What is fetched again after a connection broke counts twice.
        let done = total.map_or(done, |total| done.min(total));
        self.session.event(Event::StepProgress { step: self.number, done, total, unit: self.unit });
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// So many things: `1 wheel`, `6 wheels`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder {
        events: Mutex<Vec<Event>>,
    }

    impl Session for Recorder {
        fn event(&self, event: Event) {
            self.events.lock().unwrap().push(event);
        }

        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_step_that_counts_fast_does_not_say_so_each_time() {
        let recorder = Recorder::default();
        let progress = Progress::new(&recorder);
        let start = Instant::now();
        progress
            .counted(
                "fetch",
                Unit::Bytes,
                Some(1000),
                |step| {
                    (0..100_000).for_each(|_| step.add(1));
                    Ok::<_, ()>(())
                },
                |()| (Outcome::Done, String::new()),
            )
            .unwrap();
        let longest = u64::try_from(start.elapsed().as_millis()).unwrap();
        let events = recorder.events.lock().unwrap();
        let told = events.iter().filter(|event| matches!(event, Event::StepProgress { .. })).count() as u64;
        assert!(told <= longest / INTERVAL_MS, "{told} in {longest} ms");
        assert!(events.iter().all(|event| !matches!(event, Event::StepProgress { done: 1001.., .. })));
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|number| count(number, "wheel")), ["0 wheels", "1 wheel", "2 wheels"]);
    }
}
