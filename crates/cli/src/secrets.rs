//! `--secret`: from the words of the command line to where each value is read from, and who asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::env::{self, VarError};
use std::fmt;
use std::fs;
use std::io::Read;
use std::str::FromStr;

use imagespec_core::builder::SecretSource;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::plan::{Base, Plan, Step};
use imagespec_core::suggestion;

use crate::failure::Failure;
use crate::prepare::Prepared;

/// As much as BuildKit takes.
const SIZE_BYTES_MAX: u64 = 500 << 10;
const FORM: &str = "write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`";

/// The text behind `--secret`, which may hold a value that somebody put into the wrong place: it is never shown.
#[derive(Clone)]
pub(crate) struct SecretText(String);

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(…)")
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Reads `id=…,src=…` and `id=…,env=…`.
pub(crate) fn read(texts: &[SecretText]) -> Result<BTreeMap<String, SecretSource>, Failure> {
    let mut secrets = BTreeMap::new();
    for SecretText(text) in texts {
        let (mut id, mut file, mut variable) = (None, None, None);
        for part in text.split(',') {
            let slot = match part.split_once('=') {
                Some(("id", value)) => (&mut id, value),
                Some(("src", value)) => (&mut file, value),
                Some(("env", value)) => (&mut variable, value),
                _ => return Err(Failure::usage("`--secret` takes `id`, and `src` or `env`", FORM)),
            };
            if slot.1.is_empty() || slot.0.replace(slot.1).is_some() {
                return Err(Failure::usage("each part of `--secret` has a value and stands once", FORM));
            }
        }
        let source = match (id, file, variable) {
            (Some(id), Some(file), None) => (id, from_file(id, file)?),
            (Some(id), None, Some(variable)) => (id, from_variable(id, variable)?),
            (Some(id), Some(_), Some(_)) => {
                return Err(Failure::usage(format!("secret `{id}` has both `src` and `env`"), FORM));
            }
            _ => return Err(Failure::usage("`--secret` needs an `id`, and `src` or `env`", FORM)),
        };
        if secrets.insert(source.0.to_owned(), source.1).is_some() {
            return Err(Failure::usage(format!("secret `{}` is given twice", source.0), "leave one of them out"));
        }
    }
    Ok(secrets)
}

fn from_file(id: &str, file: &str) -> Result<SecretSource, Failure> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => {
            Err(Failure::usage(format!("`{file}`, the file of secret `{id}`, is a folder"), "name a file"))
        }
        // What flows is there once, and for this process alone: `<(pass show token)` is `/dev/fd/63`.
        Ok(metadata) if !metadata.is_file() || file.starts_with("/dev/") || file.starts_with("/proc/") => {
            at_once(id, file)
        }
        // Opened now, so that the user learns of it before the work and not after half of it.
        Ok(_) => match fs::File::open(file) {
            Ok(_) => Ok(SecretSource::File(std::path::absolute(file)?)),
            Err(error) => Err(unreadable(id, file, &error)),
        },
        Err(error) => Err(unreadable(id, file, &error)),
    }
}

/// Reads a value that cannot be read twice.
fn at_once(id: &str, file: &str) -> Result<SecretSource, Failure> {
    let mut value = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut value));
    read.map_err(|error| unreadable(id, file, &error))?;
    if value.len() as u64 > SIZE_BYTES_MAX {
        let message = format!("`{file}`, the file of secret `{id}`, has more than {} KiB", SIZE_BYTES_MAX >> 10);
        return Err(Failure::usage(message, "a secret is shorter; larger files are not for steps to read in secret"));
    }
    let value = String::from_utf8(value);
    value.map(SecretSource::Value).map_err(|_| {
        let message = format!("`{file}`, the file of secret `{id}`, is not UTF-8");
        Failure::usage(message, "put it into a regular file, which may hold any bytes")
    })
}

fn unreadable(id: &str, file: &str, error: &std::io::Error) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot read `{file}`, the file of secret `{id}`"));
    diagnostic.notes.push(error.to_string());
    Failure::new(diagnostic).code(crate::failure::USAGE)
}

fn from_variable(id: &str, name: &str) -> Result<SecretSource, Failure> {
    match env::var(name) {
        Ok(value) => Ok(SecretSource::Value(value)),
        Err(VarError::NotPresent) => Err(Failure::usage(
            format!("the variable `{name}` of secret `{id}` is not set"),
            "set it, or use `src=FILE`",
        )),
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("the variable `{name}` of secret `{id}` is not UTF-8"), "use `src=FILE`"))
        }
    }
}

/// A warning for each secret that none of the specs asks for.
pub(crate) fn unused(secrets: &BTreeMap<String, SecretSource>, specs: &[Prepared]) -> Vec<Diagnostic> {
    let asked: BTreeSet<_> = specs.iter().flat_map(|prepared| asked(&prepared.plan)).map(|(id, _)| id).collect();
    let unused = secrets.keys().filter(|id| !asked.contains(id.as_str()));
    unused
        .map(|id| {
            let warning = Diagnostic::warning(format!("secret `{id}` is given, and nothing asks for it"));
            match suggestion::closest(id, asked.iter().copied()) {
                Some(likely) => warning.hint(format!("did you mean `{likely}`?")),
                None => warning.hint("`secrets` of a spec hands secrets to its commands"),
            }
        })
        .collect()
}

/// Refuses to build what asks for a secret that was not given.
pub(crate) fn check(secrets: &BTreeMap<String, SecretSource>, prepared: &Prepared) -> Result<(), Failure> {
    let Some((id, field)) = asked(&prepared.plan).into_iter().find(|(id, _)| !secrets.contains_key(*id)) else {
        return Ok(());
    };
    let mut diagnostic = Diagnostic::error(format!("secret `{id}`, listed under `{field}`, is not given"));
    diagnostic.place = prepared.resolved.place_of(field).cloned();
    Err(Failure::new(diagnostic.hint(format!("add `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"))))
}

/// The secrets that a plan asks for, those of nested ones included, with the field that does.
fn asked(plan: &Plan) -> Vec<(&str, &'static str)> {
    let mut asked = Vec::new();
    if let Base::Plan(nested) = &plan.base {
        asked.extend(self::asked(nested));
    }
    for step in &plan.steps {
        match step {
            Step::Run(run) => asked.extend(run.secrets.iter().map(|secret| (secret.id.as_str(), "secrets"))),
            Step::Pip(pip) => asked.extend(pip.secrets.iter().map(|secret| (secret.id.as_str(), "pip_secret_mounts"))),
            Step::Apt(_) | Step::Python(_) | Step::Conda(_) | Step::Copy(_) => {}
        }
    }
    asked
}
