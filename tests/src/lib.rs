//! What the workspace tests share: a place to run the program in, a real registry, and a linter of layers.

mod environment;
mod lint;
mod registry;

pub use environment::{Finished, TestEnv, outsider};
pub use lint::lint;
pub use registry::DockerRegistry;
