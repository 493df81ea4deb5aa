//! Python packages as layers: wheels are chosen, fetched, verified and laid out straight from their archives. Nothing
//! of a package is executed here, and no interpreter is needed; what must be built first is `crate::source`'s affair.

mod allowed;
mod archive;
mod bucket;
mod download;
mod environment;
mod error;
mod install;
mod locked;
mod managed;
mod memory;
mod message;
mod name;
mod process;
mod pylock;
mod record;
mod resolve;
mod scripts;
mod source;
mod venv;

pub use allowed::AllowedDigests;
pub use archive::Wheel;
pub use bucket::{Weighed, assign};
pub use download::{DownloadError, Observer, Wanted, download};
pub use environment::Environment;
pub use error::WheelError;
pub use install::{Installation, Scheme, layer, write};
pub use locked::{packages, pylock};
pub use managed::{PythonBuild, PythonBuildError};
pub use memory::{keep, recall};
pub use message::UvMessage;
pub use name::{InvalidWheelName, Libc, Rank, Target, WheelName, best};
pub use pylock::{PylockError, SelectedWheel, Selection, select};
pub use resolve::{Dependencies, Resolution, ResolveError, Uv};
pub(crate) use scripts::launchers;
pub use source::{Origin, SelectedSource};
pub use venv::{Interpreter, VenvFile, VenvFileKind, venv, write_venv};

#[cfg(test)]
mod comparison;
#[cfg(test)]
mod hostile;
