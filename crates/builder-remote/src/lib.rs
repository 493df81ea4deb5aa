//! The builder `remote`: builds on BuildKit daemons, wherever they run, and chooses among several by who has most of an
//! image already.

mod builder;
mod caches;
mod daemon;
mod diagnosis;
pub mod endpoint;
mod failure;
pub mod fleet;
mod job;
mod options;
mod output;

pub use builder::RemoteBuilder;
pub use diagnosis::{Diagnosis, diagnose};
