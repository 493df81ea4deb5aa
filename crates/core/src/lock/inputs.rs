//! The part of a plan that a lock is made for, and what is different in another one. Pure.
//!
//! | field | of the plan |
//! | --- | --- |
//! | `platform` | the platforms |
//! | `base_image` | the base, and the packages of one that is bootstrapped |
//! | `apt_packages`, `conda_packages`, `conda_channels` | as they are |
//! | `python_version`, `python_exec` | as they are, and that Python is wanted at all |
//! | `packages`, `requirements` | requirements, constraints, digests of lock files |
//! | `pip_…` | indexes, pages with wheels, arguments |

use std::collections::BTreeMap;
use std::fmt;

use super::beneath;
use crate::plan::{Base, PipInput, PipStep, Plan, Requirement, Step};

/// The field of which a part may be built.
const PLATFORM: &str = "platform";

/// How a field of the spec is different from what was locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The field; of a spec beneath as `base_image.FIELD`.
    pub field: String,
    /// How it changed.
    pub kind: ChangeKind,
}

/// How a field changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has a value that was not locked.
    Gained(String),
    /// It lacks a value that was locked.
    Lost(String),
    /// It has the same values in another order.
    Reordered,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match &self.kind {
            ChangeKind::Gained(value) => write!(formatter, "`{field}` gained `{value}`"),
            ChangeKind::Lost(value) => write!(formatter, "`{field}` lost `{value}`"),
            ChangeKind::Reordered => write!(formatter, "`{field}` has another order"),
        }
    }
}

/// The values that `plan` and the plans beneath it have in each field that is pinned; fields without one are left out.
pub(super) fn of(plan: &Plan) -> BTreeMap<String, Vec<String>> {
    // A base is for the same platforms.
    let platforms = plan.platforms.iter().map(ToString::to_string).collect();
    let mut inputs = BTreeMap::from([(PLATFORM.to_owned(), platforms)]);
    let mut prefix = String::new();
    for plan in std::iter::successors(Some(plan), |plan| beneath(plan)) {
        let mut put = |field: &str, values: Vec<String>| {
            if !values.is_empty() {
                inputs.insert(format!("{prefix}{field}"), values);
            }
        };
        put("base_image", base(&plan.base));
        plan.steps.iter().for_each(|step| put_step(step, &mut put));
        prefix.push_str("base_image.");
    }
    inputs
}

fn base(base: &Base) -> Vec<String> {
    match base {
        Base::Scratch => vec!["scratch".to_owned()],
        Base::Registry(reference) => vec![reference.to_string()],
        Base::OciLayout { digest } => vec![format!("oci:{digest}")],
        Base::DockerArchive { digest } => vec![format!("docker-archive:{digest}")],
        Base::Bootstrap(bootstrap) => {
            let suite = format!("bootstrap:debian/{}", bootstrap.suite);
            std::iter::once(suite).chain(bootstrap.packages.iter().cloned()).collect()
        }
        Base::Plan(_) => vec!["a spec".to_owned()],
    }
}

fn put_step(step: &Step, put: &mut impl FnMut(&str, Vec<String>)) {
    match step {
        Step::Apt(step) => put("apt_packages", step.packages.iter().cloned().collect()),
        Step::Python(step) => {
            put("python_version", vec![step.version.clone().unwrap_or_else(|| "any".to_owned())]);
            put("python_exec", step.executable.iter().cloned().collect());
        }
        Step::Conda(step) => {
            put("conda_packages", step.packages.iter().cloned().collect());
            put("conda_channels", step.channels.clone());
        }
        Step::Pip(step) => put_pip(step, put),
        // They are no matter of a lock: the plan says exactly what they are.
        Step::Copy(_) | Step::Run(_) => {}
    }
}

fn put_pip(step: &PipStep, put: &mut impl FnMut(&str, Vec<String>)) {
    match &step.input {
        PipInput::Requirements { requirements, constraints } => {
            put("packages", requirements.iter().map(text).collect());
            put("requirements", constraints.iter().map(|constraint| format!("-c {}", text(constraint))).collect());
        }
        PipInput::Locked { requirements, pyproject } => {
            put("packages", requirements.iter().map(text).collect());
            put("requirements", vec![format!("pyproject.toml {pyproject}")]);
        }
        PipInput::UvLock { lock, pyproject } => {
            put("requirements", vec![format!("uv.lock {lock}"), format!("pyproject.toml {pyproject}")]);
        }
        PipInput::Pylock { lock } => put("requirements", vec![format!("pylock.toml {lock}")]),
    }
    put("pip_index", step.index.iter().cloned().collect());
    put("pip_extra_index_url", step.extra_indexes.clone());
    put("pip_find_links", step.find_links.clone());
    put("pip_extra_args", step.extra_args.clone());
}

fn text(requirement: &Requirement) -> String {
    let hashes = requirement.hashes.iter().map(|hash| format!(" --hash={hash}"));
    std::iter::once(requirement.text.clone()).chain(hashes).collect()
}

/// What is different in `found` from what was `locked`. That a platform is no longer wanted is no difference.
pub(super) fn changes(locked: &BTreeMap<String, Vec<String>>, found: &BTreeMap<String, Vec<String>>) -> Vec<Change> {
    let nothing = Vec::new();
    let mut fields: Vec<_> = locked.keys().chain(found.keys()).collect();
    fields.sort();
    fields.dedup();
    let mut changes = Vec::new();
    for field in fields {
        let before = locked.get(field).unwrap_or(&nothing);
        let after = found.get(field).unwrap_or(&nothing);
        let mut put = |kind| changes.push(Change { field: field.clone(), kind });
        let gained: Vec<_> = after.iter().filter(|value| !before.contains(value)).collect();
        let lost: Vec<_> = before.iter().filter(|value| !after.contains(value)).collect();
        if gained.is_empty() && lost.is_empty() && before != after {
            put(ChangeKind::Reordered);
        }
        gained.into_iter().for_each(|value| put(ChangeKind::Gained(value.clone())));
        lost.into_iter().filter(|_| field != PLATFORM).for_each(|value| put(ChangeKind::Lost(value.clone())));
    }
    changes
}
