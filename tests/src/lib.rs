//! What the workspace tests share: a place to run the program in, a real registry, and a linter of layers.

mod environment;
mod lint;
mod registry;

pub use environment::{Finished, TestEnv};
pub use lint::{lint, lint_above};
pub use registry::{DockerRegistry, PASSWORD, Setup, USER, output};
