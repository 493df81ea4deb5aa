//! A base that is made here: a Debian from its signed archive, with what the user hears of it meanwhile.

use std::sync::Mutex;
use std::time::SystemTime;

use imagespec_core::event::{self, Outcome, Unit};
use imagespec_core::lock::LockedBase;
use imagespec_core::platform::Platform;
use serde_json::Value;

use super::{BaseImage, own_layer};
use crate::bootstrap::{self, Bootstrap, Mirror, Observer, Selection, ValidUntil};
use crate::builder::{Building, Failure};
use crate::lock::LockFailure;
use crate::progress;
use crate::python::BasePython;

/// Chooses the packages of the Debian that `wanted` describes, and makes nothing.
pub(crate) fn resolve_bootstrap(
    building: &Building<'_>,
    wanted: &imagespec_core::plan::Bootstrap,
    platform: &Platform,
) -> Result<(LockedBase, Option<BasePython>), Failure> {
    let asked = asked(wanted, platform, None)?;
    let selection = building.progress.counted(
        &format!("resolve debian/{} {}", wanted.suite, platform.debian_architecture()),
        Unit::Items,
        None,
        |step| {
            let told = |progress| tell(building, step, &Mutex::new(None), progress);
            let cancelled = || building.progress.is_cancelled();
            let observer = Observer { now: now(), progress: &told, cancelled: &cancelled };
            bootstrap::resolve(&building.cache, &asked, &mirror(building), observer)
        },
        |_| (Outcome::Done, String::new()),
    )?;
    let python = selection.version("python3").zip(selection.version("libc6"));
    Ok((selection.lock(), python.and_then(|(python3, libc6)| BasePython::of_debian(python3, libc6))))
}

fn asked(
    wanted: &imagespec_core::plan::Bootstrap,
    platform: &Platform,
    locked: Option<&LockedBase>,
) -> Result<Bootstrap, Failure> {
    let missing = || LockFailure::Missing { part: "base", platform: platform.clone() };
    Ok(Bootstrap {
        suite: wanted.suite.clone(),
        platform: platform.clone(),
        packages: wanted.packages.iter().cloned().collect(),
        locked: locked.map(|locked| Selection::of_lock(locked).ok_or_else(missing)).transpose()?,
    })
}

fn mirror(building: &Building<'_>) -> Mirror {
    let mirror = match building.request.options.get("debian_mirror").and_then(Value::as_str) {
        Some(url) => Mirror::of_project(url),
        None => Mirror::of_machine(),
    };
    match building.request.options.get("debian_check_valid_until").and_then(Value::as_bool) {
        Some(false) => Mirror { valid_until: ValidUntil::Ignored, ..mirror },
        Some(true) | None => mirror,
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Makes or finds the Debian that `wanted` describes, of the packages that are `locked` if they are.
pub(crate) fn from_bootstrap(
    building: &Building<'_>,
    wanted: &imagespec_core::plan::Bootstrap,
    platform: &Platform,
    locked: Option<&LockedBase>,
) -> Result<BaseImage, Failure> {
    let asked = asked(wanted, platform, locked)?;
    let made = building.progress.counted(
        &format!("bootstrap debian/{} {}", wanted.suite, platform.debian_architecture()),
        Unit::Items,
        None,
        |step| {
            let fetching = Mutex::new(None);
            let told = |progress| tell(building, step, &fetching, progress);
            let cancelled = || building.progress.is_cancelled();
            let observer = Observer { now: now(), progress: &told, cancelled: &cancelled };
            bootstrap::bootstrap(
                &building.cache,
                &building.sandbox,
                &asked,
                &mirror(building),
                building.request.timestamp,
                observer,
            )
        },
        |made| (made.outcome, progress::count(made.packages.len(), "package")),
    )?;
    let libc6 = made.packages.iter().find(|(name, _)| name == "libc6").map(|(_, version)| version.as_str());
    let python = made.python.as_deref().zip(libc6);
    Ok(BaseImage {
        layers: vec![own_layer(made.layer, made.outcome, &format!("debian {}", wanted.suite))],
        python: python.and_then(|(python3, libc6)| BasePython::of_debian(python3, libc6)),
        ..BaseImage::default()
    })
}

/// Fetching packages is a step inside the bootstrap.
fn tell<'s>(
    building: &'s Building<'_>,
    step: &progress::Step<'_>,
    fetching: &Mutex<Option<progress::Step<'s>>>,
    progress: bootstrap::Progress,
) {
    tracing::debug!(?progress, "bootstrap");
    let mut fetching = fetching.lock().expect("no thread panics while it tells");
    match progress {
        bootstrap::Progress::Fetching { packages, size_bytes } => {
            let title = format!("fetch {}", progress::count(packages, "package"));
            *fetching = Some(building.progress.begin(&title, Unit::Bytes, Some(size_bytes)));
        }
        bootstrap::Progress::Received(count) => {
            if let Some(step) = &*fetching {
                step.add(count);
            }
        }
        bootstrap::Progress::Fetched => {
            if let Some(step) = fetching.take() {
                let size_bytes = step.total().unwrap_or_default();
                step.finish(Outcome::Done, event::size(size_bytes));
            }
        }
        bootstrap::Progress::Configuring { package, packages } => step.reach_of(package as u64, packages as u64),
        bootstrap::Progress::Warning(message) => building.progress.warn(message),
        bootstrap::Progress::Indexes
        | bootstrap::Progress::Unpacking
        | bootstrap::Progress::Output(_)
        | bootstrap::Progress::Archiving => {}
    }
}
