//! Builders that are files: finds them by name, verifies them before any of their code runs, loads them into this process
//! or into a worker, and makes each a [`Builder`](imagespec_core::builder::Builder) like those that are linked in.
//!
//! ```text
//! Catalog ── name → File (owner, mode, sha256) → Descriptor (ELF, read as bytes) → Sealed (memfd)
//!                                                                                     ├─ Library  in this process
//!                                                                                     └─ Worker   in one of its own
//!                                                                                          └─ Loaded: Builder
//! ```
//!
//! A plugin is trusted code: what is verified is that it is the file that its user chose. A worker keeps a crash away from
//! the program, and is no sandbox.

mod catalog;
mod descriptor;
mod error;
mod file;
mod library;
mod loaded;
mod sealed;
mod trace;
mod worker;

pub use catalog::{Approval, Candidate, Catalog, Chosen, Origin, Pinned, Problem, bundled};
pub use descriptor::Descriptor;
pub use error::{Mistrust, PluginError};
pub use file::PluginFile;
pub use library::Library;
pub use loaded::{Loaded, Mode};
pub use sealed::Sealed;
pub use worker::{ARGUMENT, Worker, ending, main};
