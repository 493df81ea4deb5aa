//! What the workspace tests share: a place to run the program in, a real registry, a real engine, and a linter of layers.

mod conda;
mod engine;
mod environment;
mod lint;
mod quickstart;
mod registry;
mod said;
mod server;
mod user;

pub use insta;

pub use conda::{CondaChannel, CondaPackage, PLACEHOLDER};
pub use engine::{DockerEngine, is_root, skip};
pub use environment::{Finished, TestEnv, outsider};
pub use lint::{lint, lint_above, lint_own};
pub use quickstart::{network_variables, quickstart};
pub use registry::{DockerRegistry, PASSWORD, Setup, USER, output};
pub use server::{FixedServer, FolderServer};
pub use user::OrdinaryUser;
