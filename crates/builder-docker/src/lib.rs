//! The builder `docker`: Docker Engine and Podman over their API alone, and the BuildKit inside.

mod base;
mod builder;
mod diagnosis;
pub mod engine;
mod failure;
mod options;
mod output;
mod renamed;
mod report;

pub use builder::{DockerBuilder, NAME, export};
pub use diagnosis::{Diagnosis, diagnose};
