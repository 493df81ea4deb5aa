//! From a request to a recipe: what the plan needs from this machine is fetched first.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;

use imagespec_core::builder::BuildRequest;
use imagespec_core::event::{self, Outcome};

use crate::dockerfile::{KnownBase, LowerError, Machine, UvProgram, lower, wanted_uv};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::uv::{UvError, pinned_uv};

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The plan.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// uv.
    #[error(transparent)]
    Uv(#[from] UvError),
}

/// The recipe of `request`, with the uv that it needs.
///
/// # Errors
/// When uv cannot be had, or the plan has no words for BuildKit.
pub fn recipe(
    request: &BuildRequest,
    progress: &Progress<'_>,
    bases: &BTreeMap<String, KnownBase>,
) -> Result<Recipe, RecipeError> {
    let mut programs = BTreeMap::new();
    for machine in wanted_uv(&request.plan) {
        let program = fetched_uv(request, progress, machine)?;
        programs.extend(program.map(|program| (machine.to_owned(), program)));
    }
    Ok(lower(request, &Machine::of(std::env::vars_os()), &programs, bases)?)
}

/// The uv for `machine`. It is there but for the first time, which takes a while.
pub(crate) fn fetched_uv(
    request: &BuildRequest,
    progress: &Progress<'_>,
    machine: &str,
) -> Result<Option<UvProgram>, UvError> {
    let (fetching, done_bytes) = (OnceCell::new(), Cell::new(0));
    let received = |count| {
        done_bytes.set(done_bytes.get() + count);
        fetching.get_or_init(|| progress.begin("fetch uv")).reach(done_bytes.get(), None);
    };
    let cancelled = || progress.is_cancelled();
    let program = pinned_uv(&request.cache_dir, machine, request.network, &received, &cancelled)?;
    if let Some(step) = fetching.into_inner() {
        step.finish(Outcome::Done, event::size(done_bytes.get()));
    }
    Ok(program)
}
