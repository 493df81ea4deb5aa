//! The builder `envd`: a plan as a `build.envd`, which the envd program builds.

mod base;
mod builder;
mod config;
mod diagnosis;
mod engine;
mod failure;
mod follow;
mod home;
mod lower;
mod options;
mod output;
mod process;
mod registry;
mod serve;
mod starlark;
#[cfg(test)]
mod testing;

pub use builder::EnvdBuilder;
pub use diagnosis::{Diagnosis, Found, diagnose};
