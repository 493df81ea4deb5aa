//! How many builds of this machine an endpoint has at once, and who is next. Files that are locked (flock), so that it holds for
//! all processes of the machine that share a cache folder, and a process that is killed leaves nothing behind that counts.
//!
//! The bound is that of this machine. What an endpoint does for all of its clients it bounds itself: `max-parallelism` in
//! `buildkitd.toml` says how many steps run at once there, whoever asked for them.
//!
//! In the endpoint's folder lie `slot-0` to `slot-N`, of which whoever builds holds one, `ticket-M` for each who waits, by
//! the order of their numbers, and `door`, which is held while one looks around. A file that nobody holds is of somebody who
//! ended.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often somebody who waits looks whether it is their turn. Locks of files wake nobody.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The queue in front of one endpoint.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
    bound: NonZeroUsize,
}

/// What an endpoint has to do for this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Builds that it does.
    pub running: usize,
    /// Builds that wait for it.
    pub waiting: usize,
}

/// A place in the queue, which is given up when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    slots: Slots,
    number: u64,
    path: PathBuf,
    /// Locked while the ticket counts.
    _file: File,
}

/// The right to one build, which ends when it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// Locked while the slot is taken.
    _file: File,
}

/// A folder in which nobody else looks around or moves. Ends when it is dropped.
#[derive(Debug)]
pub struct Door {
    /// Locked while one is in.
    _file: File,
}

impl Slots {
    /// The queue with its files in `folder`, of builds of which the endpoint does `bound` at once.
    ///
    /// Processes with different bounds each keep to their own: one with 2 takes none but the first two slots, and does not
    /// count who holds others.
    pub fn new(folder: &Path, bound: NonZeroUsize) -> Self {
        Self { folder: folder.to_owned(), bound }
    }

    /// Waits for a slot, in the order in which builds came, and tells `waiting` the place in the queue whenever it is another
    /// one: 1 is next. Nothing if `cancelled` says so before.
    ///
    /// # Errors
    /// When the folder's files cannot be made, read or locked.
    pub fn enter(&self, cancelled: &dyn Fn() -> bool, waiting: &mut dyn FnMut(usize)) -> io::Result<Option<Slot>> {
        self.queue()?.wait(cancelled, waiting)
    }

    /// Takes the last place in the queue, without waiting.
    ///
    /// # Errors
    /// As [`Slots::enter`].
    pub fn queue(&self) -> io::Result<Ticket> {
        let _door = Door::enter(&self.folder)?;
        let number = self.tickets()?.last().map_or(0, |last| last.saturating_add(1));
        let path = self.ticket_path(number);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.lock()?;
        Ok(Ticket { slots: self.clone(), number, path, _file: file })
    }

    /// What the endpoint has to do for this machine now.
    ///
    /// # Errors
    /// As [`Slots::enter`].
    pub fn load(&self) -> io::Result<Load> {
        let _door = Door::enter(&self.folder)?;
        let mut running = 0;
        // All that there are: a process with a greater bound has more than we would.
        for number in self.numbers("slot-")? {
            running += usize::from(is_held(&self.folder.join(format!("slot-{number}")))?);
        }
        Ok(Load { running, waiting: self.tickets()?.len() })
    }

    /// A slot that nobody has. The caller is in at the door.
    fn free_slot(&self) -> io::Result<Option<Slot>> {
        for number in 0..self.bound.get() {
            let path = self.folder.join(format!("slot-{number}"));
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => return Ok(Some(Slot { _file: file })),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The tickets of those who wait, first come first. Those of others are removed. The caller is in at the door.
    fn tickets(&self) -> io::Result<Vec<u64>> {
        let mut held = Vec::new();
        for number in self.numbers("ticket-")? {
            let path = self.ticket_path(number);
            if is_held(&path)? {
                held.push(number);
            } else {
                ignore_absence(fs::remove_file(path))?;
            }
        }
        Ok(held)
    }

    /// The numbers of the files that are called so, sorted.
    fn numbers(&self, prefix: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|text| text.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn ticket_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("ticket-{number}"))
    }
}

impl Load {
    /// All of it.
    pub fn total(&self) -> usize {
        self.running + self.waiting
    }
}

impl Ticket {
    /// As [`Slots::enter`], with the place that was taken.
    ///
    /// # Errors
    /// As [`Slots::enter`].
    pub fn wait(self, cancelled: &dyn Fn() -> bool, waiting: &mut dyn FnMut(usize)) -> io::Result<Option<Slot>> {
        let mut told = None;
        while !cancelled() {
            let door = Door::enter(&self.slots.folder)?;
            let before = self.slots.tickets()?.into_iter().filter(|number| *number < self.number).count();
            if before == 0
                && let Some(slot) = self.slots.free_slot()?
            {
                return Ok(Some(slot));
            }
            drop(door);
            let place = before + 1;
            if told.replace(place) != Some(place) {
                waiting(place);
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(None)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Before its lock ends, so that it cannot be another one of that number. If it stays, the next who looks removes it.
        let _ = fs::remove_file(&self.path);
    }
}

impl Door {
    /// Waits until nobody else is in `folder`, which is made if it is absent. Those who are in do not stay.
    ///
    /// # Errors
    /// When the folder or its file cannot be made or locked.
    pub fn enter(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("door");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

/// Whether somebody has the file locked, this process included.
fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn ignore_absence(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
