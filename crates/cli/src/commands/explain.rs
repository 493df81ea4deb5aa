//! `imagespec explain`: why a spec has the hash that it has, or another one than before.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use imagespec_builder_oci::{carried_plan, carried_plan_of_archive};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::explanation::{self, HashedPlan, NotAPlan};
use imagespec_core::spec::Spec;

use crate::arguments::{Format, Settings};
use crate::explained::{Comparison, Side, composition, composition_json};
use crate::failure::{Failure, diagnostic_of};
use crate::image::{self, Found};
use crate::prepare::{Prepared, Surroundings};
use crate::session::{print_data, print_line};
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
        None => last(&prepared)?,
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

/// The last image of the spec's name in the store.
fn last(prepared: &Prepared) -> Result<Option<Before>, Failure> {
    let images = image::tagged(&prepared.name)?;
    let Some(last) = images.first() else {
        let name = prepared.name.familiar();
        let name = prepared.name.tag().and_then(|tag| name.strip_suffix(&format!(":{tag}"))).unwrap_or(&name);
        print_line(&format!("no image called {name} is in the store of this machine, so this is all that counts"));
        return Ok(None);
    };
    // Whoever asks after the build wants to know what it changed.
    if let (true, Some(earlier)) = (last.name == prepared.name.familiar(), images.get(1)) {
        print_line(&format!(
            "{} is built; `--against {}` compares it with the image before it",
            last.name, earlier.name
        ));
    }
    of_image(last).map(Some)
}

/// What `--against` says.
fn before(surroundings: &Surroundings, prepared: &Prepared, text: &str) -> Result<Before, Failure> {
    if let Some(file) = text.strip_prefix(DOCKER_ARCHIVE) {
        let file = std::path::absolute(file)?;
        File::open(&file).map_err(|error| unreadable(text, &error))?;
        let plan = carried_plan_of_archive(&file, &env::temp_dir())?;
        return of_carried(text.to_owned(), plan);
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
        Subject::Layout(_) => of_image(&image::find(surroundings, text, &Settings::default())?),
        Subject::Reference(reference) => {
            of_image(&image::of_reference(surroundings, reference, prepared.registry_config()?)?)
        }
    }
}

fn of_image(found: &Found) -> Result<Before, Failure> {
    of_carried(found.name.clone(), found.read(&|| false, carried_plan)?)
}

fn of_carried(name: String, plan: Option<HashedPlan>) -> Result<Before, Failure> {
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

fn unreadable(text: &str, error: &std::io::Error) -> Failure {
    let mut diagnostic = diagnostic_of(error);
    let cause = std::mem::replace(&mut diagnostic.message, format!("cannot read `{text}`"));
    diagnostic.notes.insert(0, cause);
    Failure::new(diagnostic)
}
