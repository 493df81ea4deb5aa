//! Where the image is that the user means: in the store on this machine, in a layout on disk, or in a registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagespec_builder_oci::cache::Cache;
use imagespec_builder_oci::{OpenError, Source, Store};
use imagespec_core::builder::{Output, RegistryAccess, Session};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_core::resolve::{ResolveProblem, oci_layout};
use imagespec_distribution::Client;

use super::{Workspace, engine, open_cache};
use crate::arguments::Lookup;
use crate::commands::build::told;
use crate::commands::builders;
use crate::failure::{Failure, diagnostic_of};
use crate::kept::{self, Answer};
use crate::prepare::{self, Prepared, Surroundings};
use crate::subject::{self, Subject};

/// An image, and where it is.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the image is called.
    pub(crate) name: String,
    place: Place,
    /// What the user may have meant, if there is no such image.
    hint: Option<String>,
}

#[derive(Debug)]
enum Place {
    Store {
        cache: Cache,
        digest: Digest,
    },
    Layout {
        folder: PathBuf,
        digest: Digest,
    },
    /// What an engine handed over.
    HandedOver {
        workspace: Workspace,
        digest: Digest,
    },
    Registry {
        reference: Reference,
        registries: BTreeMap<String, RegistryAccess>,
        credential_files: Vec<PathBuf>,
    },
}

/// Finds the image that `text` means, of a spec or another one. The store is looked in before a registry is.
/// What a builder keeps it hands over, and tells `session` about it.
pub(crate) fn find(
    surroundings: &Surroundings,
    text: &str,
    lookup: &Lookup,
    session: &dyn Session,
) -> Result<Found, Failure> {
    let settings = &lookup.settings;
    let project = surroundings.project.as_ref();
    match Subject::of(text, project)? {
        Subject::File | Subject::Image => {
            let prepared = surroundings.prepare(text, settings.registry.as_deref(), &settings.overrides)?;
            of_spec(surroundings, &prepared, text, lookup, session)
        }
        Subject::Layout(path) => {
            let (digest, folder) = oci_layout(&std::env::current_dir()?, &path).map_err(|problem| layout(&problem))?;
            Ok(Found { name: text.to_owned(), place: Place::Layout { folder, digest }, hint: None })
        }
        Subject::Reference(reference) => {
            let found = of_reference(surroundings, reference, None)?;
            Ok(Found { hint: subject::hint(text, project), ..found })
        }
    }
}

/// The image called `reference`. The store is looked in before its registry is.
pub(crate) fn of_reference(
    surroundings: &Surroundings,
    reference: Reference,
    registry_config: Option<PathBuf>,
) -> Result<Found, Failure> {
    let name = reference.familiar();
    let place = match in_store(&reference)? {
        Some((cache, digest)) => Place::Store { cache, digest },
        None => in_registry(surroundings, reference, registry_config),
    };
    Ok(Found { name, place, hint: None })
}

/// The images of the store that are called as `name` is but for the tag, the last one that was built first.
pub(crate) fn tagged(name: &Reference) -> Result<Vec<Found>, Failure> {
    if !prepare::cache_folder()?.is_dir() {
        return Ok(Vec::new());
    }
    let cache = open_cache()?;
    let images = Store::new(cache.clone()).tagged(name)?.into_iter().map(|(reference, digest)| Found {
        name: reference.familiar(),
        place: Place::Store { cache: cache.clone(), digest },
        hint: None,
    });
    Ok(images.collect())
}

/// The image of a spec that was built already.
fn of_spec(
    surroundings: &Surroundings,
    prepared: &Prepared,
    spec: &str,
    lookup: &Lookup,
    session: &dyn Session,
) -> Result<Found, Failure> {
    let hint = match &lookup.builder {
        Some(builder) => format!("`imagespec build {spec} --builder {builder}` builds it"),
        None => format!("`imagespec build {spec}` builds it"),
    };
    let builder = surroundings.builder(lookup.builder.as_deref(), prepared).name;
    // Whoever names the builder means the image that it has, and not one of that name that is elsewhere.
    let is_its_own = lookup.builder.is_some() && !super::keeps(&builder);
    let stored = if is_its_own { None } else { in_store(&prepared.name)? };
    let registry = || -> Result<Place, Failure> {
        Ok(in_registry(surroundings, prepared.name.clone(), prepared.registry_config()?))
    };
    let place = match stored {
        Some((cache, digest)) => Place::Store { cache, digest },
        None if prepared.has_registry && !is_its_own => registry()?,
        None => {
            let (answer, request) = kept::find(surroundings, prepared, lookup)?;
            match answer {
                Answer::Kept(_) if engine::hands_over(&builder) => {
                    let handed = engine::hand_over(request, super::workspace()?, session)
                        .map_err(|error| told(error, prepared))?;
                    let (workspace, digest) = handed.ok_or_else(|| absent(prepared, &builder, &answer, &hint))?;
                    Place::HandedOver { workspace, digest }
                }
                Answer::Absent | Answer::Untold if prepared.has_registry => registry()?,
                _ => return Err(absent(prepared, &builder, &answer, &hint)),
            }
        }
    };
    Ok(Found { name: prepared.name.familiar(), place, hint: Some(hint) })
}

/// The failure of looking for an image that is not where this program can look, after what its builder says.
fn absent(prepared: &Prepared, builder: &str, answer: &Answer, hint: &str) -> Failure {
    let name = prepared.name.familiar();
    let not_here = || {
        let diagnostic = Diagnostic::error(format!("`{name}` is not in the store on this machine"));
        diagnostic.hint(builders::keeper(builder, &prepared.name))
    };
    Failure::new(match answer {
        Answer::Untold if super::keeps(builder) => {
            Diagnostic::error(format!("`{name}` is not built on this machine")).hint(hint)
        }
        Answer::Untold => not_here(),
        Answer::Kept(_) if !engine::hands_over(builder) => {
            Diagnostic { notes: vec![format!("builder `{builder}` has it")], ..not_here() }
        }
        // It may have been removed after the question.
        Answer::Absent | Answer::Kept(_) => {
            Diagnostic::error(format!("`{name}` is not built: builder `{builder}` does not have it")).hint(hint)
        }
    })
}

/// The image of a spec that is known to exist in the registry, if that is `output`, or in the store, by its digest.
pub(crate) fn existing(
    surroundings: &Surroundings,
    prepared: &Prepared,
    output: &Output,
    digest: Digest,
) -> Result<Found, Failure> {
    let place = match output {
        Output::Registry => in_registry(surroundings, prepared.name.with_digest(digest), prepared.registry_config()?),
        _ => Place::Store { cache: open_cache()?, digest },
    };
    Ok(Found { name: prepared.name.familiar(), place, hint: None })
}

impl Found {
    /// Reads the image. `cancelled` ends what a registry is asked for.
    pub(crate) fn read<T>(
        &self,
        cancelled: &(dyn Fn() -> bool + Sync),
        read: impl FnOnce(Source<'_>) -> Result<T, OpenError>,
    ) -> Result<T, Failure> {
        let result = match &self.place {
            Place::Store { cache, digest } => read(Source::Cache { cache, digest: *digest }),
            Place::Layout { folder, digest } => read(Source::Layout { folder, digest: *digest }),
            Place::HandedOver { workspace, digest } => {
                read(Source::Layout { folder: &engine::handed_over(workspace), digest: *digest })
            }
            Place::Registry { reference, registries, credential_files } => {
                let client =
                    Client::new(prepare::client_options(registries.clone(), credential_files.clone()), cancelled);
                read(Source::Registry { client: &client, reference })
            }
        };
        result.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &OpenError) -> Failure {
        let Place::Registry { reference, .. } = &self.place else { return error.into() };
        let OpenError::Registry(cause) = error else { return error.into() };
        let mut failure = Failure::from(error);
        if cause.is_not_found() {
            let message =
                format!("`{}` is neither in the store of this machine nor in `{}`", self.name, reference.registry());
            failure.diagnostics = vec![Diagnostic::error(message)];
        }
        failure.diagnostics[0].hints.splice(0..0, self.hint.clone());
        failure
    }
}

/// The image called `name` in the store on this machine.
pub(crate) fn in_store(name: &Reference) -> Result<Option<(Cache, Digest)>, Failure> {
    // A question makes no folders.
    if !prepare::cache_folder()?.is_dir() {
        return Ok(None);
    }
    let cache = open_cache()?;
    Ok(Store::new(cache.clone()).find(name)?.map(|digest| (cache, digest)))
}

fn in_registry(surroundings: &Surroundings, reference: Reference, registry_config: Option<PathBuf>) -> Place {
    let registries = surroundings.registries();
    Place::Registry { reference, registries, credential_files: prepare::credential_files(registry_config) }
}

fn layout(problem: &ResolveProblem) -> Failure {
    let diagnostic = diagnostic_of(problem);
    Failure::new(match problem {
        ResolveProblem::ManyImages { .. } | ResolveProblem::NoSuchImage { .. } => {
            problem.hint().into_iter().fold(diagnostic, Diagnostic::hint)
        }
        _ => diagnostic.hint("`imagespec build --output type=oci,dest=DIR` and `skopeo copy` make layouts"),
    })
}
