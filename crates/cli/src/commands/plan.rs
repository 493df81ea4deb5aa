//! `imagespec plan`, `hash` and `name`: what would be built, without building it.

use imagespec_core::plan::Base;

use crate::arguments::{Format, Settings, SpecArguments};
use crate::failure::Failure;
use crate::prepare::{Prepared, Surroundings};
use crate::session::print_data;

/// Prints the plan.
pub(crate) fn plan(arguments: &SpecArguments, format: Format) -> Result<(), Failure> {
    let prepared = prepare(arguments)?;
    match format {
        Format::Json => print_data(&prepared.plan.to_json())?,
        Format::Text => print_data(text(&prepared).trim_end())?,
    }
    Ok(())
}

/// Prints the hash of the plan.
pub(crate) fn hash(arguments: &SpecArguments) -> Result<(), Failure> {
    print_data(&prepare(arguments)?.spec_hash.to_string())
}

/// Prints the name and tag of the image.
pub(crate) fn name(spec: &str, settings: &Settings) -> Result<(), Failure> {
    let prepared = Surroundings::of(spec)?.prepare(spec, settings.registry.as_deref(), &settings.overrides)?;
    print_data(&prepared.name.familiar())
}

fn prepare(arguments: &SpecArguments) -> Result<Prepared, Failure> {
    Surroundings::of(&arguments.spec)?.prepare(&arguments.spec, None, &arguments.overrides)
}

/// What a base is called.
pub(crate) fn base_name(base: &Base) -> String {
    match base {
        Base::Scratch => "scratch".to_owned(),
        Base::Registry(reference) => reference.familiar(),
        Base::OciLayout { digest } => format!("oci layout {digest}"),
        Base::DockerArchive { digest } => format!("docker archive {digest}"),
        Base::Bootstrap(bootstrap) => format!("bootstrap:debian/{}", bootstrap.suite),
        Base::Plan(_) => "another spec".to_owned(),
    }
}

/// The plan for people, a line for each part.
pub(crate) fn text(prepared: &Prepared) -> String {
    let plan = &prepared.plan;
    let mut base = base_name(&plan.base);
    if let Base::Bootstrap(bootstrap) = &plan.base {
        let packages: Vec<_> = bootstrap.packages.iter().map(String::as_str).collect();
        base.push_str(&format!(" with {}", packages.join(", ")));
    }
    let platforms: Vec<_> = plan.platforms.iter().map(ToString::to_string).collect();
    let steps: Vec<_> = plan.steps.iter().map(imagespec_core::plan::Step::kind).collect();
    let mut text = format!(
        "name       {}\nspec hash  {}\nid         {}\nplatform   {}\nbase       {base}\nsteps      {}\nworkdir    {}\n",
        prepared.name.familiar(),
        prepared.spec_hash,
        prepared.id,
        platforms.join(", "),
        if steps.is_empty() { "none".to_owned() } else { steps.join(", ") },
        plan.config.workdir,
    );
    if let Some(entrypoint) = &plan.config.entrypoint {
        text.push_str(&format!("entrypoint {entrypoint:?}\n"));
    }
    text
}
