//! `imagespec build`: finds the image or has it built. One line on stdout for each image: `name:tag@sha256:…`.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagespec_core::builder::{
    BuildError, BuildRequest, Builder, CachePolicy, Description, FailureKind, NetworkPolicy, Output, SecretSource,
};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::report::Report;
use imagespec_distribution::Existence;

use super::builders::{self, Wanted};
use super::{exists, plan};
use crate::aids::Aids;
use crate::arguments::{BuildArguments, IfUnknown, ProgressMode};
use crate::bases::InTurn;
use crate::documents::Documents;
use crate::failure::{FAILED, Failure, TRY_AGAIN};
use crate::kept::{self, Answer};
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{Terminal, print_data, print_line};
use crate::{local, options, outputs, secrets};

/// An image that need not be made.
enum Found {
    /// It exists, with this digest.
    Exists(Digest),
    /// The registry does not say, and the user takes it for existing.
    Assumed,
}

/// What a build may use beside the spec, the same for all specs of a command.
struct Asked {
    secrets: BTreeMap<String, SecretSource>,
    aids: Aids,
}

/// Builds every image that was named, or every image of the project.
pub(crate) fn build(arguments: &BuildArguments, cancelled: &Arc<AtomicBool>) -> Result<(), Failure> {
    let asked = Asked { secrets: secrets::read(&arguments.secrets)?, aids: Aids::read(arguments)? };
    let terminal = Terminal::new(arguments.progress, Arc::clone(cancelled));
    let mut surroundings = Vec::new();
    let mut specs = Vec::new();
    // All of them first: a mistake in the last one should not show after an hour.
    for spec in self::specs(arguments)? {
        let around = Surroundings::of(&spec)?;
        specs.push(around.prepare(&spec, arguments.registry.as_deref(), &arguments.overrides)?);
        surroundings.push(around);
    }
    for warning in secrets::unused(&asked.secrets, &specs) {
        terminal.warn(&warning);
    }
    outputs::refuse_many(arguments, specs.len())?;
    for prepared in &specs {
        outputs::refuse_offline(arguments, prepared)?;
    }
    let mut documents = Documents::new(arguments, specs.len())?;
    for (around, prepared) in surroundings.iter().zip(&specs) {
        build_one(arguments, around, prepared, &asked, &mut documents, &terminal)?;
    }
    Ok(())
}

fn specs(arguments: &BuildArguments) -> Result<Vec<String>, Failure> {
    if !arguments.specs.is_empty() {
        return Ok(arguments.specs.clone());
    }
    let surroundings = Surroundings::read(&env::current_dir()?)?;
    let names: Vec<_> =
        surroundings.project.iter().flat_map(|project| project.image_names()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Failure::usage(
            "there is nothing to build",
            "name a spec file, or put `[images.NAME]` into an `imagespec.toml`",
        ));
    }
    Ok(names)
}

fn build_one(
    arguments: &BuildArguments,
    surroundings: &Surroundings,
    prepared: &Prepared,
    asked: &Asked,
    documents: &mut Documents<'_>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let chosen = surroundings.builder(arguments.builder.as_deref(), prepared);
    let (builder, warnings) = builders::find(surroundings, &chosen)?;
    warnings.iter().for_each(|warning| terminal.warn(warning));
    let description = builder.describe();
    let outputs = outputs::of(arguments, prepared)?;
    let features: Vec<_> = asked.aids.features().collect();
    let wanted = Wanted { plan: &prepared.plan, outputs: &outputs, features: &features };
    let base = wanted
        .check(surroundings, &description)
        .map_err(|unsupported| wanted.unable(surroundings, &unsupported, prepared))?;
    let options = options::collect(&description, surroundings, prepared, &arguments.builder_options)?;
    base.as_ref().map(|base| base.options(surroundings)).transpose()?;
    for warning in prepared.loaded.spec.warnings() {
        terminal.warn(&warning);
    }
    let mut request = BuildRequest {
        cache: if arguments.no_cache { CachePolicy::Rebuild } else { CachePolicy::Use },
        cache_from: asked.aids.cache_from.clone(),
        cache_to: asked.aids.cache_to.clone(),
        network: if arguments.offline { NetworkPolicy::Offline } else { NetworkPolicy::Online },
        ssh_agent: asked.aids.ssh_agent.clone(),
        ..request(surroundings, prepared, options)?
    };
    if arguments.dry_run {
        let keeper = Keeper { builder: builder.as_ref(), description: &description, request: &request, terminal };
        let mut text = preview(arguments, surroundings, prepared, &outputs, &keeper)?;
        base.iter().for_each(|base| text.push_str(&base.notice()));
        match arguments.progress {
            ProgressMode::Json => text.lines().for_each(|line| terminal.notice(line)),
            _ => print_line(text.trim_end()),
        }
        return Ok(());
    }
    let (mut wanted, mut there) = (Vec::new(), None);
    for output in outputs {
        let found = match is_forced(arguments) {
            true => None,
            false => found(arguments, surroundings, prepared, &output, &description.name)?,
        };
        match found {
            Some(found) => there = Some((output, found)),
            None => wanted.push(output),
        }
    }
    if let Some((output, found)) = there {
        let how = if matches!(found, Found::Exists(_)) { "exists" } else { "is taken for existing" };
        let what = if wanted.is_empty() { "build" } else { "push" };
        terminal.notice(&format!("{} {how}, nothing to {what}", prepared.name.familiar()));
        if wanted.is_empty() {
            let Found::Exists(digest) = found else { return tell(prepared, None, None, documents, terminal) };
            let report = match documents.wants_report() {
                true => Some(local::report(surroundings, prepared, &output, digest, terminal)?),
                false => None,
            };
            return tell(prepared, Some(digest), report.as_ref(), documents, terminal);
        }
    }
    request.outputs = wanted;
    let session = InTurn::new(terminal);
    let _held = local::hold_cache(&description.name)?;
    // Even where the answer does not count: what cannot be done should be said before a base is made for it.
    let kept = builder.find(&request, &session).map_err(|error| told(error, prepared))?;
    if let Some(report) = kept.filter(|_| !is_forced(arguments) && !arguments.no_cache) {
        terminal.notice(&format!("{} exists, nothing to build", prepared.name.familiar()));
        return tell(prepared, Some(report.digest), Some(&report), documents, terminal);
    }
    session.next();
    secrets::check(&asked.secrets, prepared)?;
    request.secrets = asked.secrets.clone();
    let _made = builders::provide(base, surroundings, prepared, &mut request, &session, terminal)?;
    let report = builder.build(&request, &session).map_err(|error| told(error, prepared))?;
    tell(prepared, Some(report.digest), Some(&report), documents, terminal)
}

/// A request for `prepared` that asks for nothing beside the plan.
pub(crate) fn request(
    surroundings: &Surroundings,
    prepared: &Prepared,
    options: BTreeMap<String, serde_json::Value>,
) -> Result<BuildRequest, Failure> {
    Ok(BuildRequest {
        plan: prepared.plan.clone(),
        id: prepared.id.clone(),
        spec_hash: prepared.spec_hash.clone(),
        name: prepared.name.clone(),
        outputs: Vec::new(),
        files: prepared.resolved.files.clone(),
        base_paths: prepared.resolved.base_paths.clone(),
        options,
        secrets: BTreeMap::new(),
        cache: CachePolicy::Use,
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        network: NetworkPolicy::Online,
        cache_dir: prepare::cache_folder()?,
        timestamp: prepare::timestamp()?,
        registries: surroundings.registries(),
        ssh_agent: None,
        credential_files: prepare::credential_files(prepared.registry_config()?),
    })
}

/// A builder's failure, with the place of the field that asked for what failed.
pub(crate) fn told(error: BuildError, prepared: &Prepared) -> Failure {
    let words = [error.message.as_str()].into_iter().chain(error.causes.iter().map(String::as_str));
    let words = words.collect::<Vec<_>>().join("\n");
    let place = error.field.as_deref().and_then(|field| prepared.resolved.place_of_failure(field, &words));
    let mut failure = Failure::from(error);
    failure.diagnostics[0].place = place;
    failure
}

/// Whether the image is at `output` of `builder` already. Nothing is asked of layouts, archives, engines and what a
/// builder keeps itself: that one is asked by [`Builder::find`].
fn existence(
    surroundings: &Surroundings,
    prepared: &Prepared,
    output: &Output,
    builder: &str,
) -> Result<Option<Existence>, Failure> {
    match output {
        Output::Store if local::keeps(builder) => local::in_store(&prepared.name),
        Output::Store => Ok(None),
        Output::Registry => exists::in_its_registry(surroundings, prepared).map(Some),
        Output::Oci { .. } | Output::DockerArchive { .. } | Output::Docker { .. } => Ok(None),
    }
}

/// The image at `output` if it need not be written there.
fn found(
    arguments: &BuildArguments,
    surroundings: &Surroundings,
    prepared: &Prepared,
    output: &Output,
    builder: &str,
) -> Result<Option<Found>, Failure> {
    let Some(existence) = existence(surroundings, prepared, output, builder)? else { return Ok(None) };
    match (existence, arguments.if_unknown) {
        (Existence::Yes { digest }, _) => Ok(Some(Found::Exists(digest))),
        (Existence::No, _) | (Existence::Unknown(_), IfUnknown::Build) => Ok(None),
        (Existence::Unknown(_), IfUnknown::Assume) => Ok(Some(Found::Assumed)),
        (Existence::Unknown(error), IfUnknown::Fail) => {
            let code = if error.is_temporary() { TRY_AGAIN } else { FAILED };
            let mut failure = exists::unknown(&prepared.name, &error).code(code);
            failure.diagnostics[0].hints.push("`--if-unknown build` builds it all the same".to_owned());
            Err(failure)
        }
    }
}

/// Who would build, and what.
struct Keeper<'a> {
    builder: &'a dyn Builder,
    description: &'a Description,
    request: &'a BuildRequest,
    terminal: &'a Terminal,
}

/// What `--dry-run` says: the plan, where the image would go, and whether it is there.
fn preview(
    arguments: &BuildArguments,
    surroundings: &Surroundings,
    prepared: &Prepared,
    outputs: &[Output],
    keeper: &Keeper<'_>,
) -> Result<String, Failure> {
    const ABSENT: &str = "; it does not exist";
    let there = || match is_forced(arguments) {
        true => "; it exists, and would be overwritten".to_owned(),
        false => "; it exists".to_owned(),
    };
    let unknown = |error: &dyn std::error::Error| format!("; whether it exists is unknown: {error}");
    let mut text = plan::text(prepared);
    for output in outputs {
        let state = match existence(surroundings, prepared, output, &keeper.description.name)? {
            None => match kept::ask(keeper.builder, keeper.request, output, keeper.terminal) {
                Ok(Answer::Untold) => String::new(),
                Ok(Answer::Absent) => ABSENT.to_owned(),
                Ok(Answer::Kept(_)) => there(),
                Err(error) if error.kind == FailureKind::Cancelled => return Err(told(error, prepared)),
                Err(error) => unknown(&error),
            },
            Some(Existence::Yes { .. }) => there(),
            Some(Existence::No) => ABSENT.to_owned(),
            Some(Existence::Unknown(error)) => unknown(&error),
        };
        text.push_str(&format!("output     {}{state}\n", outputs::shown(output, prepared, &keeper.description.name)));
    }
    Ok(text)
}

/// Prints the image's name and writes the files that were asked for.
fn tell(
    prepared: &Prepared,
    digest: Option<Digest>,
    report: Option<&Report>,
    documents: &mut Documents<'_>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    // A builder may answer with another image, and then that is what there is.
    let other = report.and_then(|report| report.name.as_ref());
    let reference = other.unwrap_or(&prepared.name);
    let name = reference.familiar();
    let Some(digest) = digest else {
        for file in documents.files() {
            let message = format!("`{}` is not written: the registry did not say what the image is", file.display());
            terminal.warn(&Diagnostic::warning(message));
        }
        return print_data(&name);
    };
    documents.write(reference, digest, report)?;
    match reference.digest() {
        // `NAME@ID` is no name of an image: whoever is given it looks for a manifest of that digest.
        None if report.is_none_or(Report::has_manifest) => print_data(&format!("{name}@{digest}")),
        Some(_) | None => print_data(&name),
    }
}

/// Whether the image is built even if it exists.
fn is_forced(arguments: &BuildArguments) -> bool {
    arguments.force || is_forced_by_flyte()
}

/// The variable by which flytekit's users force a rebuild.
fn is_forced_by_flyte() -> bool {
    env::var("FLYTE_FORCE_PUSH_IMAGE_SPEC")
        .is_ok_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"))
}
