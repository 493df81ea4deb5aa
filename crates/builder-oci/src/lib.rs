//! The embedded builder: assembles OCI images with no daemon.
//!
//! Every layer is a pure function of a key, is cached by that key, and is made without unpacking what it is made of
//! wherever that is possible. Only what must execute runs, in a sandbox.

pub mod bootstrap;
pub mod cache;
pub mod layer;
pub mod sandbox;
pub mod wheel;

mod apt;
mod base;
mod builder;
mod bytecode;
mod carried;
mod command;
mod compression;
mod conda;
mod documents;
mod emulation;
mod execute;
mod failure;
mod files;
mod image;
mod inspect;
mod lock;
mod managed;
mod network;
mod open;
mod output;
mod point;
mod progress;
mod python;
mod run;
mod runtime;
mod secret;
mod snapshot;
mod source;
mod survey;
mod watch;
mod workdir;

pub use builder::{NAME, OciBuilder};
pub use carried::{carried_plan, carried_plan_of_archive};
pub use documents::{OpenError, Source};
pub use emulation::CannotExecute;
pub use inspect::{Inspected, InspectedImage, InspectedLayer, inspect};
pub use open::open;
pub use output::Store;
pub use run::{RunError, run};
