//! The kit that every builder passes, whoever wrote it. It is black box: it asks through a [`Door`], text in and text
//! out, and looks at what is then on the disk. No network: what a check needs, it makes itself.
//!
//! An author's own test is one line:
//!
//! ```ignore
//! #[test]
//! fn it_conforms() {
//!     imagespec_plugin_sdk::conformance::check(MyBuilder);
//! }
//! ```
//!
//! `imagespec plugin test` runs the same checks on a file, in the program's process and in a worker, and adds those that
//! only a process can show: nothing printed to stdout, no child left behind, a full and a read-only disk.

mod behaviour;
mod bench;
mod describing;
mod features;
mod find;
mod hostile;
mod layout;
mod material;
mod render;
mod subject;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny;
mod words;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use imagespec_core::boundary::Door;
use imagespec_core::builder::Builder;
use serde::{Deserialize, Serialize};

use crate::speaker::Speaker;
use bench::Bench;
use subject::{Fault, Limits, Subject};

/// One thing that a builder must do, and whether it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it must do, as the end of a sentence that begins with "a builder".
    pub name: String,
    /// Whether it does.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Whether a builder does what it must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why", rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Passed,
    /// It does not: what was seen, and what to do.
    Failed(String),
    /// That was not tried: why.
    Skipped(String),
}

/// What is told while a builder is examined, so that somebody knows where one that takes the process with it did so.
#[derive(Debug, Clone, Copy)]
pub enum Note<'a> {
    /// The check of this name begins.
    Begun(&'a str),
    /// A check is over.
    Ended(&'a Check),
}

/// A disk on which a build cannot go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It has no room left.
    Full,
    /// Nothing can be written to it.
    ReadOnly,
}

impl Disk {
    /// The name of the check that [`examine_disk`] makes.
    pub fn check(self) -> &'static str {
        match self {
            Self::Full => "says so when the disk is full",
            Self::ReadOnly => "says so when the disk is read-only",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(formatter, "ok       {}", self.name),
            Verdict::Failed(why) => write!(formatter, "FAILED   {}: {why}", self.name),
            Verdict::Skipped(why) => write!(formatter, "skipped  {}: {why}", self.name),
        }
    }
}

impl Check {
    /// Whether it failed.
    pub fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

/// Examines `builder`, for its author's tests.
///
/// # Panics
/// When it does not do what a builder must, with a line for each check.
pub fn check(builder: impl Builder + 'static) {
    let checks = examine(Arc::new(Speaker::new(Box::new(builder))), &mut |_| {});
    let lines: Vec<_> = checks.iter().map(ToString::to_string).collect();
    assert!(!checks.iter().any(Check::is_failed), "the builder does not conform:\n{}", lines.join("\n"));
}

/// Examines the builder behind `door`, and tells `notes` about it meanwhile.
///
/// A call that never ends keeps its thread, and the checks after it are skipped.
pub fn examine(door: Arc<dyn Door>, notes: &mut dyn FnMut(Note<'_>)) -> Vec<Check> {
    examine_within(door, Limits::default(), notes)
}

/// Has the builder behind `door` build where it cannot: `folder` lies on such a `disk`.
pub fn examine_disk(door: Arc<dyn Door>, folder: &Path, disk: Disk, notes: &mut dyn FnMut(Note<'_>)) -> Vec<Check> {
    let mut examiner = Examiner { notes, checks: Vec::new(), obstacle: None };
    examiner.check(disk.check(), || {
        let bench = Bench::new(Subject::new(door, Limits::default())?)?;
        hostile::disk(&bench, folder)
    });
    examiner.checks
}

/// Something to try with a builder that builds.
type Trial = fn(&Bench) -> Result<(), Fault>;

fn examine_within(door: Arc<dyn Door>, limits: Limits, notes: &mut dyn FnMut(Note<'_>)) -> Vec<Check> {
    let mut examiner = Examiner { notes, checks: Vec::new(), obstacle: None };
    let subject = examiner.check("describes itself, and always the same", || Subject::new(door, limits));
    let Some(subject) = subject else { return examiner.checks };
    examiner.check("says what it is and which kinds of options it takes", || describing::check(&subject.description));
    examiner.check("answers an unknown method by an error", || words::unknown_method(&subject));
    examiner.check("answers a request that is none by an error", || words::malformed(&subject));
    let bench = examiner.check("builds the smallest plan that it offers", || {
        let mut bench = Bench::new(subject)?;
        bench.begins()?;
        bench.features.clear();
        Ok(bench)
    });
    let Some(mut bench) = bench else {
        // What that says is the reason for all that follows.
        return examiner.checks;
    };
    for feature in features::tried(&bench) {
        let name = format!("has `{}`, as it says", feature.name());
        if examiner.check(&name, || features::check(&bench, feature)).is_some() {
            bench.features.insert(feature);
        }
    }
    examiner.check("has all else that it says", || features::rest(&bench));
    let digest = examiner.check("makes the same image of the same plan", || behaviour::determinism(&bench));
    bench.digest = digest;
    let rest: [(&str, Trial); 11] = [
        ("makes images that know which spec they are of", features::contract),
        ("refuses to lock, render and find unless it says that it can", words::unoffered),
        ("ignores what it does not know in a request", words::unknown_fields),
        ("tells of its steps in order", behaviour::events),
        ("does not begin a build that was cancelled before", behaviour::cancelled_before),
        ("stops within two seconds of being cancelled", behaviour::cancelled_meanwhile),
        ("builds four images at once", behaviour::at_once),
        ("refuses files that are absent or changed", hostile::files),
        ("leaves nothing where a build that failed was to go", hostile::leftovers),
        ("takes absurd requests without a panic", hostile::absurd),
        ("describes itself as before, after all this", Bench::is_unchanged),
    ];
    for (name, trial) in rest {
        examiner.check(name, || trial(&bench));
    }
    examiner.checks
}

/// Has one check after another done.
struct Examiner<'a> {
    notes: &'a mut dyn FnMut(Note<'_>),
    checks: Vec<Check>,
    /// Why nothing more can be tried.
    obstacle: Option<&'static str>,
}

impl Examiner<'_> {
    fn check<T>(&mut self, name: &str, trial: impl FnOnce() -> Result<T, Fault>) -> Option<T> {
        (self.notes)(Note::Begun(name));
        let result = match self.obstacle {
            Some(obstacle) => Err(Fault::Skipped(obstacle.to_owned())),
            None => trial(),
        };
        let (verdict, value) = match result {
            Ok(value) => (Verdict::Passed, Some(value)),
            Err(Fault::Failed(why)) => (Verdict::Failed(why), None),
            Err(Fault::Skipped(why)) => (Verdict::Skipped(why), None),
            Err(Fault::Hung(why)) => {
                self.obstacle = Some("a call of an earlier check has not ended");
                (Verdict::Failed(why), None)
            }
        };
        let check = Check { name: name.to_owned(), verdict };
        (self.notes)(Note::Ended(&check));
        self.checks.push(check);
        value
    }
}
