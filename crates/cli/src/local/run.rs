//! `imagespec run`: a program in an image, in the sandbox. The exit code is the program's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imagespec_builder_oci::sandbox::{Failure as Inside, SandboxError};
use imagespec_builder_oci::{RunError, open};
use imagespec_core::platform::Platform;

use super::{image, open_cache, sandbox};
use crate::arguments::{Lookup, Overrides, ProgressMode, RunArguments, Settings};
use crate::failure::Failure;
use crate::prepare::{self, Surroundings};
use crate::session::Terminal;
use crate::subject::{self, Subject};

/// Runs the program.
pub(crate) fn run(arguments: &RunArguments, cancelled: &Arc<AtomicBool>) -> Result<u8, Failure> {
    let text = &arguments.subject;
    let surroundings = Surroundings::of(text)?;
    let (wanted, lookup) = wanted(arguments, &surroundings)?;
    let machine = prepare::host_platform()?;
    let terminal = Terminal::new(ProgressMode::Auto, Arc::clone(cancelled));
    let found = image::find(&surroundings, text, &lookup, &terminal)?;
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    let cache = open_cache()?;
    let digest = found.read(&is_cancelled, |source| open(source, &cache, wanted.as_ref(), &machine, &terminal))?;
    let sandbox = sandbox()?;
    let code = imagespec_builder_oci::run(&cache, &sandbox, digest, &machine, &arguments.command, &is_cancelled)
        .map_err(|error| failure(&error, text))?;
    Ok(u8::try_from(code).unwrap_or(crate::failure::FAILED))
}

/// The platform to run, if the user says one, and what is laid over the spec. Of a spec, `--platform` is a field; but of
/// one that has several it chooses.
fn wanted(arguments: &RunArguments, surroundings: &Surroundings) -> Result<(Option<Platform>, Lookup), Failure> {
    let (text, lookup) = (&arguments.subject, &arguments.lookup);
    let settings = &lookup.settings;
    let chosen = match settings.overrides.platform.as_slice() {
        [one] => Some(one.parse::<Platform>()),
        _ => None,
    };
    let sets = settings.overrides.sets.clone();
    let others = Settings {
        registry: settings.registry.clone(),
        overrides: Overrides { sets, platform: Vec::new(), locked: settings.overrides.locked },
    };
    let others = Lookup { settings: others, ..lookup.clone() };
    if let Subject::File | Subject::Image = Subject::of(text, surroundings.project.as_ref())? {
        let Some(Ok(chosen)) = chosen else { return Ok((None, lookup.clone())) };
        let prepared = surroundings.prepare(text, settings.registry.as_deref(), &others.settings.overrides)?;
        let is_one_of_several = prepared.plan.platforms.len() > 1 && prepared.plan.platforms.contains(&chosen);
        return Ok(if is_one_of_several { (Some(chosen), others) } else { (None, lookup.clone()) });
    }
    subject::refuse_lookup(text, &others)?;
    match (chosen, settings.overrides.platform.len()) {
        (Some(chosen), _) => Ok((Some(chosen.map_err(|error| Failure::of(&error))?), others)),
        (None, 0) => Ok((None, others)),
        (None, _) => Err(Failure::usage("one platform is run at a time", "pass one `--platform`")),
    }
}

/// Exit code of a program that the image does not have, as shells and `docker run` have it.
const NOT_FOUND: u8 = 127;
/// Exit code of a file that is no program that can be started.
const NOT_EXECUTABLE: u8 = 126;
/// ENOENT of errno(3).
const NO_SUCH_FILE: i32 = 2;

fn failure(error: &RunError, text: &str) -> Failure {
    let mut failure = Failure::of(error);
    let hint = match error {
        RunError::NoProgram => Some(format!("name one: `imagespec run {text} -- CMD`")),
        RunError::CannotExecute(error) => Some(error.hint()),
        RunError::Sandbox(SandboxError::Inside(Inside::Program { cause, .. })) => {
            let (code, hint) = if cause.errno == Some(NO_SUCH_FILE) {
                (NOT_FOUND, "the image lacks the program, or the interpreter or loader that it is started by")
            } else {
                (NOT_EXECUTABLE, "name a program for this processor, or a script with `#!`, that the user may execute")
            };
            failure.code = code;
            Some(hint.to_owned())
        }
        RunError::Sandbox(error) => error.hint().map(str::to_owned),
        RunError::Open(error) => return error.into(),
        RunError::Absent { .. } | RunError::Malformed { .. } | RunError::Snapshot(_) | RunError::Cache(_) => None,
    };
    failure.diagnostics[0].hints.extend(hint);
    failure
}
