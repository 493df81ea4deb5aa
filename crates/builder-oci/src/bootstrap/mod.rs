//! `bootstrap:debian/SUITE`: a small base image, made from Debian's signed package archive. It knows the archive, the
//! packages and dpkg's database; the tree is written, and the packages' own scripts run, by the sandbox.
//!
//! Trust goes from the embedded archive keys to `InRelease`, from its list of digests to `Packages`, and from there to
//! each package: nothing else that a mirror says is believed.

mod build;
mod database;
mod date;
mod deb;
mod fetch;
mod mirror;
mod packages;
mod release;
mod selection;
mod signature;
mod solve;
mod tree;

pub(crate) use build::script_environment;
pub use build::{Bootstrap, BootstrapError, BootstrappedBase, Observer, Progress, bootstrap, resolve};
pub use deb::DebError;
pub(crate) use fetch::side_by_side;
pub(crate) use mirror::Fetcher;
pub use mirror::{Mirror, MirrorError, MirrorOrigin, ValidUntil};
pub use packages::PackagesError;
pub use release::ReleaseError;
pub use selection::Selection;
pub use solve::SolveError;
