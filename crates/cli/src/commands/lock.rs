//! `imagespec lock`: has a builder find out what an image would be made of now, and writes it down beside the spec.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagespec_core::builder::{BuildRequest, Feature};
use imagespec_core::lock::Lock;

use super::build::{request, told};
use super::builders::{self, Wanted};
use crate::arguments::{LockArguments, Overrides};
use crate::failure::Failure;
use crate::prepare::{Surroundings, shown};
use crate::session::{Terminal, print_data};
use crate::{local, lockfile, options, secrets};

/// Locks a spec and prints the path of the lock file.
pub(crate) fn lock(arguments: &LockArguments, cancelled: &Arc<AtomicBool>) -> Result<(), Failure> {
    let secrets = secrets::read(&arguments.secrets)?;
    let terminal = Terminal::new(arguments.progress, Arc::clone(cancelled));
    let surroundings = Surroundings::of(&arguments.spec)?;
    let overrides = Overrides { sets: arguments.sets.clone(), platform: arguments.platform.clone(), locked: false };
    let prepared = surroundings.prepare(&arguments.spec, None, &overrides)?;
    let chosen = surroundings.builder(arguments.builder.as_deref(), &prepared);
    let (builder, warnings) = builders::find(&surroundings, &chosen)?;
    warnings.iter().for_each(|warning| terminal.warn(warning));
    let description = builder.describe();
    // Who makes the base must lock it, too: no other builder does that part.
    let features = [(Feature::Lock, "lock")];
    let wanted = Wanted { features: &features, ..Wanted::of(&prepared.plan) };
    let mut unsupported = description.check(&prepared.plan).err().unwrap_or_default();
    unsupported.extend(description.check_features(features).err().into_iter().flatten());
    if !unsupported.is_empty() {
        return Err(wanted.unable(&surroundings, &unsupported, &prepared));
    }
    let options = options::collect(&description, &surroundings, &prepared, &arguments.builder_options)?;
    let request = BuildRequest { secrets, ..request(&surroundings, &prepared, options)? };
    let _held = local::hold_cache(&description.name)?;
    let locked = builder.lock(&request, &terminal).map_err(|error| told(error, &prepared))?;
    let path = lockfile::path(&prepared.loaded);
    lockfile::write(&path, &Lock::of(&locked).to_toml())?;
    print_data(&shown(&path))
}
