//! `imagespec exists`: asks the store on this machine, the builder that keeps images itself, or a registry. Exit code 0 yes, 1 no, 3 unknown.

use std::path::PathBuf;

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Client, Existence};

use super::builders;
use crate::arguments::Lookup;
use crate::failure::{FAILED, Failure, UNKNOWN};
use crate::kept::{self, Answer};
use crate::local;
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{print_data, print_line};
use crate::subject::{self, Subject};

/// Asks for the image of a spec, or for a reference.
pub(crate) fn exists(text: &str, lookup: &Lookup) -> Result<u8, Failure> {
    let settings = &lookup.settings;
    let surroundings = Surroundings::of(text)?;
    let (name, existence) = match Subject::of(text, surroundings.project.as_ref())? {
        Subject::File | Subject::Image => {
            let prepared = surroundings.prepare(text, settings.registry.as_deref(), &settings.overrides)?;
            let existence = of_prepared(&surroundings, &prepared, lookup)?;
            // What an engine has without a manifest has no digest that anybody else could use.
            let Some(existence) = existence else {
                print_data(&prepared.name.familiar())?;
                return Ok(0);
            };
            (prepared.name.clone(), existence)
        }
        Subject::Reference(reference) => {
            subject::refuse_lookup(text, lookup)?;
            let existence = match local::in_store(&reference)? {
                Some(existence @ Existence::Yes { .. }) => existence,
                _ => in_registry(&surroundings, &reference, None),
            };
            (reference, existence)
        }
        Subject::Layout(_) => {
            let hint = format!("`imagespec inspect {text}` says what is in it");
            return Err(Failure::usage(format!("`{text}` is a layout, and `exists` asks stores and registries"), hint));
        }
    };
    match existence {
        Existence::Yes { digest } => {
            // A reference may have been pinned already.
            print_data(&format!("{}@{digest}", name.familiar().trim_end_matches(&format!("@{digest}"))))?;
            Ok(0)
        }
        Existence::No => {
            print_line(&format!("{} does not exist", name.familiar()));
            Ok(FAILED)
        }
        Existence::Unknown(error) => Err(unknown(&name, &error)),
    }
}

/// Whether the image of `prepared` exists, where it would be pushed or kept; nothing for one that exists without a manifest.
fn of_prepared(
    surroundings: &Surroundings,
    prepared: &Prepared,
    lookup: &Lookup,
) -> Result<Option<Existence>, Failure> {
    let existence = match prepared.has_registry {
        true => in_its_registry(surroundings, prepared),
        false => match asked(surroundings, prepared, lookup)? {
            Answer::Kept(report) if !report.has_manifest() => return Ok(None),
            Answer::Kept(report) => Ok(Existence::Yes { digest: report.digest }),
            Answer::Absent => Ok(Existence::No),
            Answer::Untold => {
                let builder = surroundings.builder(lookup.builder.as_deref(), prepared).name;
                match local::in_store(&prepared.name)? {
                    Some(Existence::No) if !local::keeps(&builder) => Err(elsewhere(&prepared.name, &builder)),
                    Some(existence) => Ok(existence),
                    None => Err(nowhere(&prepared.name)),
                }
            }
        },
    };
    existence.map(Some)
}

/// What the builder says. One that does not answer, or that there is not, leaves it unknown; what is wrong about the options
/// does as well.
fn asked(surroundings: &Surroundings, prepared: &Prepared, lookup: &Lookup) -> Result<Answer, Failure> {
    let asked = kept::find(surroundings, prepared, lookup);
    if asked.is_err() && lookup.builder.is_none() && local::in_store(&prepared.name)?.is_none() {
        // That there is no builder inside is all there is to say.
        return Err(nowhere(&prepared.name));
    }
    asked.map(|(answer, _)| answer).map_err(|failure| unanswered(&prepared.name, failure))
}

/// Whether the image of `prepared` is where it would be pushed.
pub(crate) fn in_its_registry(surroundings: &Surroundings, prepared: &Prepared) -> Result<Existence, Failure> {
    Ok(in_registry(surroundings, &prepared.name, prepared.registry_config()?))
}

/// The failure of a question that only a store could answer, where none is looked into.
fn nowhere(name: &Reference) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot tell whether `{}` exists", name.familiar()));
    diagnostic.notes.push("this program was built without the bundled builders, and looks into no store".to_owned());
    Failure::new(diagnostic.hint("pass `--registry HOST/PATH` to ask a registry")).code(UNKNOWN)
}

/// The failure of a question that only the builder could answer.
fn elsewhere(name: &Reference, builder: &str) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot tell whether `{}` exists", name.familiar()));
    diagnostic.notes.push("it is not in the store on this machine".to_owned());
    Failure::new(diagnostic.hint(builders::keeper(builder, name))).code(UNKNOWN)
}

/// The failure of a build or a question whose registry did not answer it.
pub(crate) fn unknown(name: &Reference, error: &imagespec_distribution::Error) -> Failure {
    let mut failure = unanswered(name, Failure::of(error));
    failure.diagnostics[0].hints.extend(error.hint());
    failure
}

/// The failure of a question that was not answered because of `failure`.
fn unanswered(name: &Reference, mut failure: Failure) -> Failure {
    let diagnostic = &mut failure.diagnostics[0];
    let cause = std::mem::replace(&mut diagnostic.message, format!("cannot tell whether `{}` exists", name.familiar()));
    diagnostic.notes.insert(0, cause);
    failure.code(UNKNOWN)
}

fn in_registry(surroundings: &Surroundings, reference: &Reference, registry_config: Option<PathBuf>) -> Existence {
    let files = prepare::credential_files(registry_config);
    let options = prepare::client_options(surroundings.registries(), files);
    Client::new(options, &|| false).exists(reference)
}
