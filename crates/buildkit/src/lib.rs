//! What every builder on BuildKit shares: plans as Dockerfiles with their context, sessions, solving and its progress.
//! Knows neither engines nor endpoints: whoever calls it brings the connections.

pub mod dockerfile;
mod recipe;
pub mod uv;
mod write;

pub use dockerfile::{KnownBase, LowerError, Machine, UvProgram, loaded_base, lower, wanted_uv};
pub use recipe::{Entry, Recipe, RecipeSecret, RecipeStep};
pub use write::WriteError;
