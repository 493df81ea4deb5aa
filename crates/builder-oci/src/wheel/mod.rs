//! Python packages as layers: wheels are chosen, fetched, verified and laid out straight from their archives. Nothing
//! of a package is executed, and no interpreter is needed.

mod name;

pub use name::{InvalidWheelName, Libc, Rank, Target, WheelName, best};
