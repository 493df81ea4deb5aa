//! The project file `imagespec.toml` and the user's config, and how they are laid beneath specs. Reads the files that
//! it is told of and no environment.

mod builder;
mod file;
mod load;
mod plugins;
mod rebase;
mod setting;
#[cfg(test)]
mod tests;

pub use builder::{BuilderCandidates, BuilderOrigin, ChosenBuilder, choose_builder};
pub use file::{PROJECT_FILE, Project, ProjectRole, find_project};
pub use load::{Layers, Loaded, Target, load, read_spec};
pub use plugins::Plugin;
pub use setting::Setting;
