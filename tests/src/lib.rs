//! What the workspace tests share: a place to run the program in, real registries and engines, what a program sees in an
//! image, and a linter of layers.

mod authority;
mod bridge;
mod canary;
mod conda;
mod conda_python;
mod emulation;
mod engine;
mod envd;
mod environment;
mod everything;
mod guarded;
mod hostile_values;
mod index;
mod lint;
mod plugins;
mod quickstart;
mod registry;
mod repository;
mod said;
mod seen;
mod server;
mod shared;
mod shell;
mod user;

pub use insta;

pub use authority::{Authority, Certificate, Validity};
pub use bridge::{Bridge, Counts};
pub use canary::holders;
pub use conda::{CondaChannel, CondaPackage, PLACEHOLDER};
pub use conda_python::CondaPython;
pub use emulation::Emulation;
pub use engine::{Engine, EngineSetup, Kind, is_root, skip, tell_skipped};
pub use envd::envd;
pub use environment::{Finished, TestEnv, outsider};
pub use everything::{EVERYTHING_PRINTS, everything};
pub use guarded::GuardedIndex;
pub use hostile_values::HostileSpec;
pub use index::{PackageIndex, WrittenWheel};
pub use lint::{lint, lint_above, lint_own};
pub use plugins::plugin;
pub use quickstart::{network_variables, quickstart};
pub use registry::{DockerRegistry, PASSWORD, Setup, USER, output};
pub use repository::repository;
pub use seen::{Difference, Program, Seen, differences, seen};
pub use server::{FixedServer, FolderServer};
pub use shared::Shared;
pub use shell::shell_base;
pub use user::OrdinaryUser;
