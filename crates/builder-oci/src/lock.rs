//! Locks: finds out which exact parts an image would be made of now, and says what of a lock a step is to use.
//!
//! Only what must be known is made: layers of a base where apt is to be asked on them or a Python is to be found in them.

use std::cell::RefCell;

use imagespec_core::digest::Digest;
use imagespec_core::lock::{LockedBase, LockedImage};
use imagespec_core::plan::{Base, Plan, Step};
use imagespec_core::platform::Platform;
use serde_json::Value;

use crate::apt;
use crate::base::{self, BaseImage, own_layer};
use crate::builder::{Building, Failure, Position};
use crate::conda;
use crate::emulation;
use crate::image;
use crate::python::{self, BasePython};

/// Why an image cannot be made as it is locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockFailure {
    /// The lock lacks something that the plan needs.
    #[error("the lock says no {part} for {platform}")]
    Missing {
        /// What is missing.
        part: &'static str,
        /// The platform.
        platform: Platform,
    },
    /// Another Python was found.
    #[error("Python {locked} is locked for {platform}, and the image has {found}")]
    Python {
        /// The version that is locked.
        locked: String,
        /// The version that was found.
        found: String,
        /// The platform.
        platform: Platform,
    },
}

/// What is locked for the image that `position` is in, if anything is.
pub(crate) fn image<'a>(position: &Position<'a>) -> Option<&'a LockedImage> {
    position.plan.lock.get(position.platform)
}

/// The manifest that is locked.
pub(crate) fn manifest(locked: &LockedBase) -> Option<Digest> {
    match locked {
        LockedBase::Registry { digest } => Some(*digest),
        LockedBase::Bootstrap { .. } => None,
    }
}

/// Refuses a plan that is locked in part.
pub(crate) fn check(plan: &Plan, platform: &Platform) -> Result<(), LockFailure> {
    if plan.lock.is_empty() {
        return Ok(());
    }
    let missing = |part| LockFailure::Missing { part, platform: platform.clone() };
    let image = plan.lock.get(platform).ok_or_else(|| missing("image"))?;
    match (&plan.base, &image.base) {
        (Base::Registry(_), Some(LockedBase::Registry { .. })) => {}
        (Base::Bootstrap(_), Some(LockedBase::Bootstrap { .. })) => {}
        (Base::Registry(_) | Base::Bootstrap(_), _) => return Err(missing("base")),
        (Base::Scratch | Base::OciLayout { .. } | Base::DockerArchive { .. } | Base::Plan(_), _) => {}
    }
    match plan.python().is_some() && image.python.is_none() {
        true => Err(missing("version of Python")),
        false => Ok(()),
    }
}

/// Refuses another Python than the one that is locked.
pub(crate) fn check_python(position: &Position<'_>, python: &BasePython) -> Result<(), LockFailure> {
    let Some(image) = image(position) else { return Ok(()) };
    let said = |version: &str, archive: Option<Digest>| match archive {
        // There are several builds of one version.
        Some(archive) => format!("{version} of archive {archive}"),
        None => version.to_owned(),
    };
    let found = said(&python.interpreter.version(), python.archive);
    let locked = image.python.as_deref().map_or_else(|| found.clone(), |version| said(version, image.python_archive));
    match locked == found {
        true => Ok(()),
        false => Err(LockFailure::Python { locked, found, platform: position.platform.clone() }),
    }
}

/// The same plan with everything pinned that it leaves open, in the plans beneath it, too.
pub(crate) fn lock(building: &Building<'_>, plan: &Plan) -> Result<Plan, Failure> {
    let mut locked = plan.clone();
    locked.lock.clear();
    if let Base::Plan(nested) = &plan.base {
        let nested = lock(building, nested).map_err(|failure| Failure::Nested(Box::new(failure)))?;
        locked.base = Base::Plan(Box::new(nested));
    }
    let mut images = Vec::with_capacity(plan.platforms.len());
    for platform in &plan.platforms {
        building.check_cancelled()?;
        images.push((platform.clone(), lock_image(building, &locked, platform)?));
    }
    locked.lock = images.into_iter().collect();
    Ok(locked)
}

fn lock_image(building: &Building<'_>, plan: &Plan, platform: &Platform) -> Result<LockedImage, Failure> {
    let (locked_base, mut base) = lock_base(building, plan, platform)?;
    let mut locked = LockedImage { base: locked_base, ..LockedImage::default() };
    let own_config = base.config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let env = image::environment(&own_config, plan);
    for step in &plan.steps {
        building.check_cancelled()?;
        // The step changes the base as far as it is known.
        let (below, installed, learned) = (base.layers.clone(), base.distributions.clone(), RefCell::default());
        let position = Position {
            plan,
            platform,
            below: &below,
            env: &env,
            python: None,
            distributions: &installed,
            learned: Some(&learned),
        };
        match step {
            Step::Apt(apt) => {
                // A Python that is looked for may come from here, and so may what a package is built with.
                if finds_python(plan, &base) || may_build(plan, platform) {
                    let (layer, outcome) = apt::layer(building, apt, &position, None)?;
                    base.layers.push(own_layer(layer, outcome, "packages"));
                    locked.apt = learned.take();
                } else {
                    locked.apt = apt::closure(building, apt, &position)?;
                }
            }
            // Conda brings it.
            Step::Python(_) if has_conda(plan) => {}
            Step::Python(step) => {
                if base.python.is_none() || step.executable.is_some() {
                    let (found, brought) = python::find(building, step, &position, &base.config)?;
                    base.python = Some(found);
                    base.layers.extend(brought);
                    // Of a Python that did not come by apt, apt may have been asked for it all the same.
                    let is_by_apt = base.python.as_ref().is_some_and(|python| python.archive.is_none());
                    locked.python_apt = if is_by_apt { learned.take() } else { Vec::new() };
                }
                locked.python = base.python.as_ref().map(|python| python.interpreter.version());
                locked.python_archive = base.python.as_ref().and_then(|python| python.archive);
                if let Some(python) = base.python.as_ref().filter(|_| may_build(plan, platform)) {
                    let made = python::environment(building, step, python)?;
                    base.layers.extend(made.map(|(layer, outcome)| own_layer(layer, outcome, "python environment")));
                }
            }
            Step::Conda(step) => {
                let solution = conda::solution(building, step, plan.python(), &position)?;
                let made = conda::install(building, step, &solution, &position)?;
                locked.conda = solution.lock();
                locked.python = Some(made.python.interpreter.version());
                (base.distributions, base.python) = (made.distributions, Some(made.python));
                base.layers.extend(made.layers);
            }
            Step::Pip(step) => {
                let python = base.python.as_ref().expect("a plan with packages has a Python step, which found it");
                locked.packages = python::locked_packages(building, step, python, &position)?;
            }
            // The plan says exactly what they are.
            Step::Copy(_) | Step::Run(_) => {}
        }
    }
    Ok(locked)
}

/// Whether packages may turn out to have no wheel, and this machine can build them. Only the resolver knows, and it then
/// needs the layers to build on, which the build that follows needs anyway.
fn may_build(plan: &Plan, platform: &Platform) -> bool {
    let can_execute = emulation::machine().is_none_or(|machine| emulation::check(platform, &machine).is_ok());
    can_execute && plan.steps.iter().any(|step| matches!(step, Step::Pip(_)))
}

/// Whether the plan's Python must be looked for in its layers.
fn finds_python(plan: &Plan, base: &BaseImage) -> bool {
    let step = plan.python().filter(|_| !has_conda(plan));
    step.is_some_and(|step| base.python.is_none() || step.executable.is_some())
}

/// Whether conda brings the Python.
fn has_conda(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Conda(_)))
}

/// What is pinned of the base, and the base as far as it must be known.
fn lock_base(
    building: &Building<'_>,
    plan: &Plan,
    platform: &Platform,
) -> Result<(Option<LockedBase>, BaseImage), Failure> {
    match &plan.base {
        Base::Bootstrap(wanted) => {
            let (locked, python) = base::resolve_bootstrap(building, wanted, platform)?;
            let known = BaseImage { python, ..BaseImage::default() };
            let is_asked = plan.steps.iter().any(|step| matches!(step, Step::Apt(_) | Step::Conda(_)));
            if !is_asked && !finds_python(plan, &known) && !may_build(plan, platform) {
                return Ok((Some(locked), known));
            }
            let base = base::from_bootstrap(building, wanted, platform, Some(&locked))?;
            Ok((Some(locked), base))
        }
        Base::Registry(_) => {
            let base = building.base(plan, platform)?;
            Ok((base.digest.map(|digest| LockedBase::Registry { digest }), base))
        }
        Base::Scratch | Base::OciLayout { .. } | Base::DockerArchive { .. } | Base::Plan(_) => {
            let needs_base =
                plan.steps.iter().any(|step| matches!(step, Step::Apt(_) | Step::Python(_) | Step::Conda(_)));
            Ok((None, if needs_base { building.base(plan, platform)? } else { BaseImage::default() }))
        }
    }
}
