//! What every builder on BuildKit shares: plans as Dockerfiles with their context, sessions, solving and its progress.
//! Knows neither engines nor endpoints: whoever calls it brings the connections.

mod recipe;

pub use recipe::{Entry, Recipe, RecipeSecret, RecipeStep};
