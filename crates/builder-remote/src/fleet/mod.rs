//! Which endpoint of a fleet builds a plan, and when. Policy alone: nothing here opens a connection.
//!
//! [`affinity`] says what of a plan is worth finding again, [`rank`] puts the endpoints into the order in which a plan looks
//! for them, the same on every machine, and [`choose`] takes one by what they have to do. [`Slots`] lets only so many builds
//! of this machine in at once, in the order in which they came, and [`Health`] remembers who failed lately. [`queue`] does all of it.

mod affinity;
mod choice;
mod health;
mod queue;
mod rank;
mod slots;

pub use affinity::affinity;
pub use choice::{Candidate, QUEUED_PER_SLOT_MAX, Standing, choose};
pub use health::{Health, SUSPECT_SECONDS, SUSPECT_SECONDS_MAX};
pub use queue::{Endpoint, folder, queue};
pub use rank::{Member, rank};
pub use slots::{Door, Load, Slot, Slots, Ticket};
