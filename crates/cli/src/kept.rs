//! Whether a builder keeps an image itself, where this program cannot look: the builder is asked.

use imagespec_core::builder::{BuildError, BuildRequest, Builder, Feature, NetworkPolicy, Output, Session};
use imagespec_core::event::Event;
use imagespec_core::report::Report;

use crate::arguments::Lookup;
use crate::commands::build::{request, told};
use crate::commands::builders;
use crate::failure::Failure;
use crate::local;
use crate::options;
use crate::prepare::{Prepared, Surroundings};

/// What a builder says about an image.
pub(crate) enum Answer {
    /// Nothing: it cannot be asked, or its images are where this program can look.
    Untold,
    /// It does not keep it.
    Absent,
    /// It keeps it.
    Kept(Box<Report>),
}

/// Asks `builder` whether it keeps the image of `request`, if that is to be at `output`.
///
/// # Errors
/// Why it could not build it, such as an engine that does not answer.
pub(crate) fn ask(
    builder: &dyn Builder,
    request: &BuildRequest,
    output: &Output,
    session: &dyn Session,
) -> Result<Answer, BuildError> {
    let description = builder.describe();
    let is_kept = matches!(output, Output::Store | Output::Docker { .. }) && !local::keeps(&description.name);
    if !is_kept || !description.features.contains(&Feature::Find) {
        return Ok(Answer::Untold);
    }
    // A question fetches nothing.
    let network = NetworkPolicy::Offline;
    let request = BuildRequest { outputs: vec![output.clone()], network, ..request.clone() };
    let found = builder.find(&request, session)?;
    Ok(found.map_or(Answer::Absent, |report| Answer::Kept(Box::new(report))))
}

/// Asks the builder of `prepared`, as `lookup` or the spec says, and returns the request as well.
pub(crate) fn find(
    surroundings: &Surroundings,
    prepared: &Prepared,
    lookup: &Lookup,
) -> Result<(Answer, BuildRequest), Failure> {
    let chosen = surroundings.builder(lookup.builder.as_deref(), prepared);
    let (builder, _) = builders::find(surroundings, &chosen)?;
    let options = options::collect(&builder.describe(), surroundings, prepared, &lookup.builder_options)?;
    let request = request(surroundings, prepared, options)?;
    let answer = match local::keeps(&chosen.name) {
        true => Answer::Untold,
        false => ask(builder.as_ref(), &request, &Output::Store, &Unheard).map_err(|error| told(error, prepared))?,
    };
    Ok((answer, request))
}

/// Nobody listens, and whoever has enough ends the program.
pub(crate) struct Unheard;

impl Session for Unheard {
    fn event(&self, _: Event) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}
