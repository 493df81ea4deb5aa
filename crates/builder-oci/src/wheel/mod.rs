//! Python packages as layers: wheels are chosen, fetched, verified and laid out straight from their archives. Nothing
//! of a package is executed, and no interpreter is needed.

mod archive;
mod bucket;
mod error;
mod install;
mod name;
mod pylock;
mod record;
mod scripts;
mod venv;

pub use archive::Wheel;
pub use bucket::{Weighed, assign};
pub use error::WheelError;
pub use install::{Installation, Scheme, layer, write};
pub use name::{InvalidWheelName, Libc, Rank, Target, WheelName, best};
pub use pylock::{PylockError, SelectedWheel, select};
pub use venv::{Interpreter, VenvFile, VenvFileKind, venv, write_venv};
