//! What every builder on BuildKit shares: plans as Dockerfiles with their context, connections, sessions, solving and its
//! progress, what a base is and what came out. Knows neither engines nor fleets: whoever calls it says where BuildKit is.

pub mod base;
mod caches;
mod channel;
pub mod connection;
pub mod control;
pub mod dockerfile;
pub mod failure;
mod prepare;
mod progress;
mod pythons;
mod recipe;
pub mod registry;
pub mod report;
mod session;
mod solve;
pub mod stream;
mod text;
pub mod uv;
mod write;

pub use caches::{LocalCache, check_caches};
pub use channel::channel;
pub use dockerfile::{BASE_ARCHIVE, KnownBase, LowerError, Machine, UvProgram, loaded_base, lower, wanted_uv};
pub use prepare::{RecipeError, recipe};
pub use progress::{FailedStep, Progress, Step};
pub use pythons::{NoPython, check_pythons};
pub use recipe::{Entry, Recipe, RecipeSecret, RecipeStep};
pub use session::{Blobs, Session};
pub use solve::{Solve, SolveError, Solved, solve};
pub use text::one_line;
pub use uv::{UvError, pinned_uv};
pub use write::{WriteError, write_context};
