//! Watches over a build from beside it: whether the user asked to stop, and whether another process is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use imagespec_core::builder::Session;
use imagespec_core::event::Event;

use crate::cache::Patience;

/// How often somebody looks whether the user asked to stop.
const WATCH_STEP: Duration = Duration::from_millis(50);

/// Does `work` while somebody watches whether the user asked to stop, and says when another process is waited for.
pub(crate) fn watched<T>(session: &dyn Session, work: impl FnOnce(Arc<Patience>) -> T) -> T {
    let patience = Arc::<Patience>::default();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut is_told = false;
            while !is_done.load(Ordering::SeqCst) {
                if session.is_cancelled() {
                    patience.end();
                }
                if patience.is_tried() && !is_told {
                    session.event(Event::Warning { message: "waiting for another imagespec process".to_owned() });
                }
                is_told = patience.is_tried();
                thread::park_timeout(WATCH_STEP);
            }
        });
        // A panic passes by here, and the watcher must not wait for it.
        let _done = OnDrop(|| {
            is_done.store(true, Ordering::SeqCst);
            watcher.thread().unpark();
        });
        work(Arc::clone(&patience))
    })
}

/// Does something when it goes out of scope.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
