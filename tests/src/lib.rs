//! What the workspace tests share: a place to run the program in, a real registry, and a linter of layers.

mod environment;
mod lint;
mod registry;
mod server;

pub use environment::{Finished, TestEnv};
pub use lint::lint;
pub use registry::DockerRegistry;
pub use server::FixedServer;
