//! Conda packages as layers: rattler's crates read the channels and solve; packages are fetched, verified and laid out
//! straight from their archives. Nothing of a package is executed, so that an image for any processor can be made.
//!
//! The environment is the Python environment of every image, `/opt/venv`; its Python is a package as the others are.

mod archive;
mod channel;
mod contents;
mod error;
mod fetch;
mod layer;
mod locked;
mod network;
mod package;
mod prefix;
mod solution;
mod solve;
mod step;

#[cfg(test)]
mod hostile;

pub(crate) use error::CondaError;
pub(crate) use solution::Solution;
pub(crate) use step::{install, solution};
