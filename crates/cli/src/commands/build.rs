//! `imagespec build`: finds the image or has it built. One line on stdout for each image: `name:tag@sha256:…`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagespec_builder_oci::inspect;
use imagespec_core::builder::{BuildRequest, CachePolicy, Output, SecretSource};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::report::Report;
use imagespec_distribution::Existence;

use super::{builders, exists, plan};
use crate::arguments::{BuildArguments, IfUnknown, ProgressMode};
use crate::failure::{FAILED, Failure, TRY_AGAIN};
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{Terminal, print_data, print_line};
use crate::{image, options, secrets};

/// Builds every image that was named, or every image of the project.
pub(crate) fn build(arguments: &BuildArguments, cancelled: &Arc<AtomicBool>) -> Result<(), Failure> {
    let secrets = secrets::read(&arguments.secrets)?;
    let terminal = Terminal::new(arguments.progress, Arc::clone(cancelled));
    let mut surroundings = Vec::new();
    let mut specs = Vec::new();
    // All of them first: a mistake in the last one should not show after an hour.
    for spec in self::specs(arguments)? {
        let around = Surroundings::of(&spec)?;
        specs.push(around.prepare(&spec, arguments.registry.as_deref(), &arguments.overrides)?);
        surroundings.push(around);
    }
    for warning in secrets::unused(&secrets, &specs) {
        print_line(warning.render().trim_end());
    }
    for (around, prepared) in surroundings.iter().zip(&specs) {
        build_one(arguments, around, prepared, &secrets, &terminal)?;
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
    secrets: &BTreeMap<String, SecretSource>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let chosen = surroundings.builder(arguments.builder.as_deref(), prepared);
    let builder = builders::find(&chosen)?;
    let description = builder.describe();
    if let Err(unsupported) = description.check(&prepared.plan) {
        let mut diagnostic = Diagnostic::error(unsupported.to_string());
        diagnostic.place = prepared.resolved.place_of(unsupported.field).cloned();
        return Err(Failure::new(diagnostic.hint(builders::able(&prepared.plan))));
    }
    let options = options::collect(&description, surroundings, prepared, &arguments.builder_options)?;
    for warning in prepared.loaded.spec.warnings() {
        print_line(warning.render().trim_end());
    }
    let outputs = outputs(arguments, prepared)?;
    if arguments.dry_run {
        print_line(plan::text(prepared).trim_end());
        return Ok(());
    }
    let is_asked = !arguments.force && !forced() && arguments.output.is_none();
    if is_asked && let Some(digest) = existing(arguments, surroundings, prepared)? {
        if arguments.progress != ProgressMode::Quiet {
            let how = if digest.is_some() { "exists" } else { "is taken for existing" };
            print_line(&format!("{} {how}, nothing to build", prepared.name.familiar()));
        }
        let report = match (digest, &arguments.metadata_file) {
            (Some(digest), Some(_)) => {
                Some(image::existing(surroundings, prepared, digest)?.read(&|| false, inspect)?.report())
            }
            _ => None,
        };
        return tell(arguments, prepared, digest, report.as_ref());
    }
    secrets::check(secrets, prepared)?;
    let request = BuildRequest {
        plan: prepared.plan.clone(),
        id: prepared.id.clone(),
        spec_hash: prepared.spec_hash.clone(),
        name: prepared.name.clone(),
        outputs,
        files: prepared.resolved.files.clone(),
        base_paths: prepared.resolved.base_paths.clone(),
        options,
        secrets: secrets.clone(),
        cache: if arguments.no_cache { CachePolicy::Rebuild } else { CachePolicy::Use },
        cache_dir: prepare::cache_folder()?,
        timestamp: prepare::timestamp()?,
        registries: surroundings.registries(),
        credential_files: prepare::credential_files(prepared.registry_config()),
    };
    let report = builder.build(&request, terminal).map_err(|error| {
        let place = |field: &str| prepared.resolved.place_of(field).cloned();
        let place = error.field.as_deref().and_then(|field| match field {
            // A builder does not know whether packages were listed in the spec or in a file that it names.
            "packages" => place("packages").or_else(|| place("requirements")),
            field => place(field),
        });
        let mut failure = Failure::from(error);
        failure.diagnostics[0].place = place;
        failure
    })?;
    tell(arguments, prepared, Some(report.digest), Some(&report))
}

/// `Some(digest)` if nothing is to be built; without a digest if the user takes the image for existing.
#[expect(clippy::option_option, reason = "built or not, and known or not, are two questions")]
fn existing(
    arguments: &BuildArguments,
    surroundings: &Surroundings,
    prepared: &Prepared,
) -> Result<Option<Option<Digest>>, Failure> {
    match (exists::of_prepared(surroundings, prepared)?, arguments.if_unknown) {
        (Existence::Yes { digest }, _) => Ok(Some(Some(digest))),
        (Existence::No, _) | (Existence::Unknown(_), IfUnknown::Build) => Ok(None),
        (Existence::Unknown(_), IfUnknown::Assume) => Ok(Some(None)),
        (Existence::Unknown(error), IfUnknown::Fail) => {
            let code = if error.is_temporary() { TRY_AGAIN } else { FAILED };
            let mut failure = exists::unknown(&prepared.name, &error).code(code);
            failure.diagnostics[0].hints.push("`--if-unknown build` builds it all the same".to_owned());
            Err(failure)
        }
    }
}

/// Prints the image's name and writes the files that were asked for.
fn tell(
    arguments: &BuildArguments,
    prepared: &Prepared,
    digest: Option<Digest>,
    report: Option<&Report>,
) -> Result<(), Failure> {
    let name = prepared.name.familiar();
    let Some(digest) = digest else {
        for file in arguments.iidfile.iter().chain(&arguments.metadata_file) {
            let message = format!("`{}` is not written: the registry did not say what the image is", file.display());
            print_line(Diagnostic::warning(message).render().trim_end());
        }
        return Ok(print_data(&name)?);
    };
    if let Some(file) = &arguments.iidfile {
        write(file, &digest.to_string())?;
    }
    if let (Some(file), Some(report)) = (&arguments.metadata_file, report) {
        write(file, &serde_json::to_string_pretty(report).expect("a report has only string keys"))?;
    }
    Ok(print_data(&format!("{name}@{digest}"))?)
}

fn write(file: &PathBuf, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        let mut failure = Failure::of(&error);
        let cause = std::mem::replace(
            &mut failure.diagnostics[0].message,
            format!("the image is built, but `{}` cannot be written", file.display()),
        );
        failure.diagnostics[0].notes.push(cause);
        failure
    })
}

fn outputs(arguments: &BuildArguments, prepared: &Prepared) -> Result<Vec<Output>, Failure> {
    let mut outputs = Vec::new();
    if let Some(text) = &arguments.output {
        outputs.push(output(text)?);
    }
    let wants_registry = arguments.push || outputs.contains(&Output::Registry);
    if wants_registry && !prepared.has_registry {
        return Err(Failure::usage("there is no registry to push to", "pass `--registry HOST/PATH`"));
    }
    let is_pushed = prepared.has_registry && !arguments.no_push && (outputs.is_empty() || arguments.push);
    if is_pushed && !outputs.contains(&Output::Registry) {
        outputs.push(Output::Registry);
    }
    if outputs.is_empty() {
        outputs.push(Output::Store);
    }
    Ok(outputs)
}

/// Reads `type=…,dest=…`.
fn output(text: &str) -> Result<Output, Failure> {
    let wrong = |problem: &str| {
        Failure::usage(
            format!("`--output {text}` {problem}"),
            "write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`",
        )
    };
    let (mut kind, mut dest) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) if !value.is_empty() => dest = Some(std::path::absolute(value)?),
            _ => return Err(wrong(&format!("has `{part}`, which is neither `type=` nor `dest=`"))),
        }
    }
    match (kind, dest) {
        (Some("oci"), Some(dest)) => Ok(Output::Oci { dest }),
        (Some("docker-archive"), Some(dest)) => Ok(Output::DockerArchive { dest }),
        (Some("docker"), None) => Ok(Output::Docker { socket: prepare::engine_socket()? }),
        (Some("registry"), None) => Ok(Output::Registry),
        (Some("oci" | "docker-archive"), None) => Err(wrong("has no `dest`")),
        (Some("docker" | "registry"), Some(_)) => Err(wrong("has a `dest`, which its type does not take")),
        _ => Err(wrong("has no type that is known")),
    }
}

/// The variable by which flytekit's users force a rebuild.
fn forced() -> bool {
    env::var("FLYTE_FORCE_PUSH_IMAGE_SPEC")
        .is_ok_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"))
}
