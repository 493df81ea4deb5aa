//! `imagespec run`: a program in an image of this machine's store, in the sandbox. The exit code is the program's.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imagespec_builder_oci::Store;
use imagespec_builder_oci::sandbox::Sandbox;
use imagespec_core::diagnostic::Diagnostic;

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prepare::{self, Surroundings};

/// Runs the program.
pub(crate) fn run(arguments: &RunArguments, cancelled: &Arc<AtomicBool>) -> Result<u8, Failure> {
    let prepared = Surroundings::of(&arguments.spec)?.prepare(&arguments.spec, None, &arguments.overrides)?;
    let cache = prepare::cache()?;
    let Some(digest) = Store::new(cache.clone()).find(&prepared.name)? else {
        let message = format!("`{}` is not built on this machine", prepared.name.familiar());
        let hint = format!("`imagespec build {}` builds it", arguments.spec);
        return Err(Failure::new(Diagnostic::error(message).hint(hint)));
    };
    let sandbox = Sandbox::new(env::current_exe()?);
    let cancelled = || cancelled.load(Ordering::Relaxed);
    let code =
        imagespec_builder_oci::run(&cache, &sandbox, digest, &arguments.command, &cancelled).map_err(|error| {
            let mut failure = Failure::of(&error);
            failure.diagnostics[0].hints.extend(error.hint().map(str::to_owned));
            failure
        })?;
    Ok(u8::try_from(code).unwrap_or(crate::failure::FAILED))
}
