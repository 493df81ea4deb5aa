//! `imagespec exists`: asks the registry, or the store on this machine. Exit code 0 yes, 1 no, 3 unknown.

use imagespec_builder_oci::Store;
use imagespec_core::builder::RegistryAccess;
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Client, ClientOptions, CredentialStore, Existence};
use std::collections::BTreeMap;

use crate::arguments::NamedArguments;
use crate::failure::{FAILED, Failure, UNKNOWN};
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{print_data, print_line};

/// Asks for the image of a spec, or for a reference.
pub(crate) fn exists(arguments: &NamedArguments) -> Result<u8, Failure> {
    let surroundings = Surroundings::of(&arguments.spec)?;
    let is_image = |project: &imagespec_core::project::Project| project.image_names().any(|name| name == arguments.spec);
    let is_spec = std::path::Path::new(&arguments.spec).is_file() || surroundings.project.as_ref().is_some_and(is_image);
    let (name, existence) = if is_spec || arguments.spec.ends_with(".yaml") || arguments.spec.ends_with(".yml") {
        let prepared = surroundings.prepare(&arguments.spec, arguments.registry.as_deref(), &arguments.overrides)?;
        (prepared.name.clone(), of_prepared(&surroundings, &prepared)?)
    } else {
        let reference: Reference = arguments.spec.parse().map_err(|error| Failure::of(&error))?;
        let existence = in_registry(&surroundings, &reference, None);
        (reference, existence)
    };
    match existence {
        Existence::Yes { digest } => {
            print_data(&format!("{}@{digest}", name.familiar()))?;
            Ok(0)
        }
        Existence::No => {
            print_line(&format!("{} does not exist", name.familiar()));
            Ok(FAILED)
        }
        Existence::Unknown(error) => Err(unknown(&name, &error)),
    }
}

/// Whether the image of `prepared` exists, where it would be pushed or kept.
pub(crate) fn of_prepared(surroundings: &Surroundings, prepared: &Prepared) -> Result<Existence, Failure> {
    if prepared.has_registry {
        let config = prepared.loaded.spec.registry_config.as_ref();
        let config = config.map(|config| prepared.loaded.directory.join(&config.value));
        return Ok(in_registry(surroundings, &prepared.name, config));
    }
    Ok(match in_store(&prepared.name)? {
        Some(digest) => Existence::Yes { digest },
        None => Existence::No,
    })
}

/// The failure of a build or a question whose registry did not answer it.
pub(crate) fn unknown(name: &Reference, error: &imagespec_distribution::Error) -> Failure {
    let mut failure = Failure::of(error).code(UNKNOWN);
    let diagnostic = &mut failure.diagnostics[0];
    let cause = std::mem::replace(&mut diagnostic.message, format!("cannot tell whether `{}` exists", name.familiar()));
    diagnostic.notes.insert(0, cause);
    diagnostic.hints.extend(error.hint());
    failure
}

/// How to reach registries: the user's config, and the project file above it.
pub(crate) fn registries(surroundings: &Surroundings) -> BTreeMap<String, RegistryAccess> {
    let mut registries = BTreeMap::new();
    for project in [&surroundings.user, &surroundings.project].into_iter().flatten() {
        registries.extend(project.registries.clone());
    }
    registries
}

fn in_store(name: &Reference) -> Result<Option<Digest>, Failure> {
    // A question makes no folders.
    if !prepare::cache_folder()?.is_dir() {
        return Ok(None);
    }
    Ok(Store::new(prepare::cache()?).find(name)?)
}

fn in_registry(
    surroundings: &Surroundings,
    reference: &Reference,
    registry_config: Option<std::path::PathBuf>,
) -> Existence {
    let options = ClientOptions {
        registries: registries(surroundings),
        credentials: CredentialStore::from_files(prepare::credential_files(registry_config)),
        ..ClientOptions::default()
    };
    Client::new(options, &|| false).exists(reference)
}
