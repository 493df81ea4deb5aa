//! What every builder on BuildKit shares: plans as Dockerfiles with their context, sessions, solving and its progress.
//! Knows neither engines nor endpoints: whoever calls it brings the connections.

mod channel;
pub mod dockerfile;
mod progress;
mod recipe;
mod session;
mod solve;
mod text;
pub mod uv;
mod write;

pub use channel::channel;
pub use dockerfile::{BASE_ARCHIVE, KnownBase, LowerError, Machine, UvProgram, loaded_base, lower, wanted_uv};
pub use progress::{FailedStep, Progress, Step};
pub use recipe::{Entry, Recipe, RecipeSecret, RecipeStep};
pub use session::Session;
pub use solve::{Solve, SolveError, Solved, solve};
pub use text::one_line;
pub use uv::{UvError, pinned_uv};
pub use write::{WriteError, write_context};
