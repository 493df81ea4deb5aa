//! `imagespec explain`: why a spec has the hash that it has, or another one than before.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::explanation::{self, HashedPlan, NotAPlan};
use imagespec_core::spec::Spec;

use crate::arguments::{Format, Settings};
use crate::explained::{Comparison, Side, composition, composition_json};
use crate::failure::{Failure, unreadable};
use crate::local::{self, Carried};
use crate::prepare::{Prepared, Surroundings};
use crate::session::print_data;
use crate::subject::Subject;

/// How long a file with a plan may be.
const PLAN_SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DOCKER_ARCHIVE: &str = "docker-archive:";

/// What a spec is compared with.
struct Before {
    name: String,
    plan: HashedPlan,
    /// The spec itself, if it is one.
    spec: Option<Spec>,
}

/// Prints what differs, or what the hash is made of if there is nothing to compare with.
pub(crate) fn explain(text: &str, against: Option<&str>, settings: &Settings, format: Format) -> Result<(), Failure> {
    let surroundings = Surroundings::of(text)?;
    let prepared = surroundings.prepare(text, settings.registry.as_deref(), &settings.overrides)?;
    let plan = HashedPlan::of(&prepared.plan);
    let spec = &prepared.loaded.spec;
    let before = match against {
        Some(against) => Some(before(&surroundings, &prepared, against)?),
        None => local::last(&prepared)?.map(of_carried).transpose()?,
    };
    let Some(before) = before else {
        let parts = explanation::parts(&plan, spec);
        return match format {
            Format::Text => print_data(composition(&prepared, &parts).trim_end()),
            Format::Json => print_data(&composition_json(&prepared, &parts)),
        };
    };
    let comparison = Comparison {
        differences: explanation::compare(&before.plan, &plan, spec),
        uncounted: before.spec.as_ref().map(|before| explanation::uncounted(before, spec)).unwrap_or_default(),
        before: Side { name: before.name, scheme: before.plan.scheme(), spec_hash: before.plan.hash() },
        after: Side { name: prepared.name.familiar(), scheme: plan.scheme(), spec_hash: plan.hash() },
    };
    match format {
        Format::Text => print_data(comparison.text().trim_end()),
        Format::Json => print_data(&comparison.json()),
    }
}

/// What `--against` says.
fn before(surroundings: &Surroundings, prepared: &Prepared, text: &str) -> Result<Before, Failure> {
    if let Some(file) = text.strip_prefix(DOCKER_ARCHIVE) {
        return of_carried(local::in_archive(text, std::path::absolute(file)?)?);
    }
    if let Some(plan) = printed_plan(text)? {
        return Ok(Before { name: text.to_owned(), plan, spec: None });
    }
    match Subject::of(text, surroundings.project.as_ref())? {
        Subject::File | Subject::Image => {
            let Settings { registry, overrides } = Settings::default();
            let other = Surroundings::of(text)?.prepare(text, registry.as_deref(), &overrides)?;
            let plan = HashedPlan::of(&other.plan);
            Ok(Before { name: text.to_owned(), plan, spec: Some(other.loaded.spec) })
        }
        Subject::Layout(_) => of_carried(local::in_layout(surroundings, text)?),
        Subject::Reference(reference) => of_carried(local::called(surroundings, prepared, reference)?),
    }
}

fn of_carried((name, plan): Carried) -> Result<Before, Failure> {
    match plan {
        Some(plan) => Ok(Before { name, plan, spec: None }),
        None => Err(Failure::new(Diagnostic::error(format!("`{name}` carries no plan")).hint(
            "only images that imagespec made carry one; compare with a spec, or with what \
             `imagespec plan --format json` printed when the image was built",
        ))),
    }
}

/// The plan in a JSON file, if it holds one. Any other may be a spec.
fn printed_plan(text: &str) -> Result<Option<HashedPlan>, Failure> {
    let path = Path::new(text);
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) || !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PLAN_SIZE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| unreadable(text, &error))?;
    let Ok(value) = serde_json::from_slice(&bytes) else { return Ok(None) };
    match HashedPlan::from_json(value) {
        Ok(plan) => Ok(Some(plan)),
        Err(NotAPlan::Shape) => Ok(None),
        Err(error @ NotAPlan::Damaged) => {
            let mut diagnostic = Diagnostic::error(format!("`{text}` is no plan that can be compared with"));
            diagnostic.notes.push(error.to_string());
            Err(Failure::new(diagnostic.hint("make it again: `imagespec plan SPEC --format json`")))
        }
    }
}
