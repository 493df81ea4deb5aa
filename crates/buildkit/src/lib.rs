//! What every builder on BuildKit shares: plans as Dockerfiles with their context, sessions, solving and its progress.
//! Knows neither engines nor endpoints: whoever calls it brings the connections.

mod channel;
mod progress;
mod recipe;
mod session;
mod solve;

pub use channel::channel;
pub use progress::{FailedStep, Progress, Step};
pub use recipe::{Entry, Recipe, RecipeSecret, RecipeStep};
pub use session::Session;
pub use solve::{Solve, SolveError, Solved, solve};
