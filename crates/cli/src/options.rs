//! The options of a builder from everywhere that sets them, each checked where it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use imagespec_core::builder::Description;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::options::{OptionError, Options};
use imagespec_core::place::{Place, Source};
use imagespec_core::project::Project;
use serde_json::Value;

use crate::failure::Failure;
use crate::prepare::{Prepared, Surroundings};

/// Collects the options of the builder that `description` describes, the weakest first: user's config, project file,
/// the project's mirror, the spec, `--builder-opt`.
pub(crate) fn collect(
    description: &Description,
    surroundings: &Surroundings,
    prepared: &Prepared,
    flags: &[String],
) -> Result<BTreeMap<String, Value>, Failure> {
    if let Some(config) = &prepared.loaded.spec.builder_config {
        let diagnostic = Diagnostic::error(format!("builder `{}` takes no `builder_config`", description.name));
        return Err(Failure::new(
            diagnostic.at(config.place.clone()).hint("what can be set goes to `builder_options`"),
        ));
    }
    let known = Options::of(description);
    let (mut options, mut errors) = from_files(&known, description, surroundings);
    for (name, given) in &prepared.loaded.spec.builder_options {
        errors.extend(known.check_foreign(name, given).err());
        options.insert(name.clone(), given.value.clone());
    }
    for flag in flags {
        let (name, text) = flag.split_once('=').ok_or_else(|| {
            Failure::usage(format!("`--builder-opt {flag}` has no `=`"), "write `--builder-opt KEY=VALUE`")
        })?;
        // The value may be a password, so that only the name is shown.
        let source = Arc::new(Source { name: "--builder-opt".to_owned(), text: name.to_owned() });
        let place = Place { source, line: 1, column: 1, length: name.chars().count().max(1) };
        match known.read(name, text, &place) {
            Ok(value) => drop(options.insert(name.to_owned(), value)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(options) } else { Err(errors.into()) }
}

/// The options of a builder that the spec did not choose: those of the user's config, the project file and its mirror.
pub(crate) fn of_files(
    description: &Description,
    surroundings: &Surroundings,
) -> Result<BTreeMap<String, Value>, Failure> {
    let (options, errors) = from_files(&Options::of(description), description, surroundings);
    if errors.is_empty() { Ok(options) } else { Err(errors.into()) }
}

fn from_files(
    known: &Options<'_>,
    description: &Description,
    surroundings: &Surroundings,
) -> (BTreeMap<String, Value>, Vec<OptionError>) {
    let (mut options, mut errors) = (BTreeMap::new(), Vec::<OptionError>::new());
    let mirror = surroundings.project.as_ref().and_then(|project| project.debian_mirror.as_ref());
    let table = |project: &Option<Project>| project.as_ref()?.builders.get(&description.name).cloned();
    for (name, given) in table(&surroundings.user).into_iter().flatten() {
        errors.extend(known.check(&name, &given).err());
        options.insert(name, given.value);
    }
    for (name, given) in table(&surroundings.project).into_iter().flatten() {
        errors.extend(known.check_foreign(&name, &given).err());
        options.insert(name, given.value);
    }
    // The mirror is the project's own setting, and builders that have no use for it are not to refuse it.
    if let Some(mirror) = mirror.filter(|_| known.has(MIRROR)) {
        options.insert(MIRROR.to_owned(), mirror.value.clone().into());
    }
    (options, errors)
}

const MIRROR: &str = "debian_mirror";
