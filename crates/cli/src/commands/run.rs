//! `imagespec run`: a program in an image, in the sandbox. The exit code is the program's.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imagespec_builder_oci::sandbox::{self, Sandbox, SandboxError};
use imagespec_builder_oci::{RunError, open};
use imagespec_core::platform::Platform;

use crate::arguments::{Overrides, ProgressMode, RunArguments, Settings};
use crate::failure::Failure;
use crate::image;
use crate::prepare::{self, Surroundings};
use crate::session::Terminal;
use crate::subject::{self, Subject};

/// Runs the program.
pub(crate) fn run(arguments: &RunArguments, cancelled: &Arc<AtomicBool>) -> Result<u8, Failure> {
    let text = &arguments.subject;
    let surroundings = Surroundings::of(text)?;
    let wanted = wanted(arguments, &surroundings)?;
    let machine = prepare::host_platform()?;
    let found = image::find(&surroundings, text, &arguments.settings)?;
    let terminal = Terminal::new(ProgressMode::Auto, Arc::clone(cancelled));
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    let cache = prepare::cache()?;
    let digest = found.read(&is_cancelled, |source| open(source, &cache, wanted.as_ref(), &machine, &terminal))?;
    let sandbox = Sandbox::new(env::current_exe()?);
    let code = imagespec_builder_oci::run(&cache, &sandbox, digest, &machine, &arguments.command, &is_cancelled)
        .map_err(|error| failure(&error, text))?;
    Ok(u8::try_from(code).unwrap_or(crate::failure::FAILED))
}

/// The platform to run, if the user says one for an image that is no spec's. Of a spec, `--platform` is a field.
fn wanted(arguments: &RunArguments, surroundings: &Surroundings) -> Result<Option<Platform>, Failure> {
    let text = &arguments.subject;
    if let Subject::File | Subject::Image = Subject::of(text, surroundings.project.as_ref())? {
        return Ok(None);
    }
    let Settings { registry, overrides: Overrides { sets, platform, locked } } = &arguments.settings;
    let others = Overrides { sets: sets.clone(), platform: Vec::new(), locked: *locked };
    subject::refuse_settings(text, &Settings { registry: registry.clone(), overrides: others })?;
    match platform.as_slice() {
        [] => Ok(None),
        [one] => one.parse().map(Some).map_err(|error| Failure::of(&error)),
        _ => Err(Failure::usage("one platform is run at a time", "pass one `--platform`")),
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
        RunError::Sandbox(SandboxError::Inside(sandbox::Failure::Program { cause, .. })) => {
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
