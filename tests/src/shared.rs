//! What the tests of a file share, and nobody after them: a static is never dropped, and its folder would stay.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Something that is made when the first test asks for it, and dropped when the last one that has it ends.
pub struct Shared<T> {
    make: fn() -> T,
    alive: Mutex<Weak<T>>,
}

impl<T> Shared<T> {
    /// What `make` makes.
    pub const fn new(make: fn() -> T) -> Self {
        Self { make, alive: Mutex::new(Weak::new()) }
    }

    /// The one that other tests have, or a new one.
    pub fn get(&self) -> Arc<T> {
        // A test that failed to make it leaves none.
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.upgrade().unwrap_or_else(|| {
            let made = Arc::new((self.make)());
            *alive = Arc::downgrade(&made);
            made
        })
    }
}
