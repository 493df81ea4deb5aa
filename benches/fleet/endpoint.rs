//! An endpoint: what it has, how long a build takes with that, and who waits for it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::workload::{Build, Part};

/// Builds that an endpoint does at once.
pub(crate) const IN_FLIGHT: usize = 4;
/// What an endpoint may keep, in megabytes of unpacked content.
const CACHE_SIZE_MB: f64 = 60_000.0;
/// How much larger things are when they are unpacked.
const UNPACKED: f64 = 2.5;

// Seconds, as measured on two cores that others used as well: of the builder `docker` in Docker 26 with Debian's git and
// build-essential, and with the packages of the quickstart. Networks and conda are assumed.
const PULL_SECONDS_PER_MB: f64 = 0.03;
const APT_SECONDS_PER_MB: f64 = 0.26;
const PYTHON_SECONDS_PER_MB: f64 = 0.7;
const CONDA_SECONDS_PER_MB: f64 = 0.1;
const RESOLVE_SECONDS: f64 = 1.6;
const FETCH_SECONDS_PER_MB: f64 = 0.02;
/// Unpacked, and compiled to bytecode.
const INSTALL_SECONDS_PER_MB: f64 = 0.33;
/// A new layer is archived, compressed and sent to the registry.
const EXPORT_SECONDS_PER_MB: f64 = 0.4;
/// What every build takes: the context, the files, the image's own config, what is said to the registry.
const REST_SECONDS: f64 = 2.0;

/// One endpoint.
#[derive(Default)]
pub(crate) struct Endpoint {
    pub(crate) is_lost: bool,
    pub(crate) running: Vec<usize>,
    pub(crate) waiting: VecDeque<usize>,
    kept: HashMap<u64, (f64, u64)>,
    by_use: BTreeMap<u64, u64>,
    kept_size_mb: f64,
    clock: u64,
}

/// How a build went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) seconds: f64,
    /// Steps that the endpoint had the result of.
    pub(crate) found: u32,
    /// Steps in all, but for those that every build has for itself.
    pub(crate) steps: u32,
}

impl Endpoint {
    /// Does a build, and keeps what it made.
    pub(crate) fn work(&mut self, build: &Build) -> Work {
        let mut work = Work { seconds: REST_SECONDS, ..Work::default() };
        let step = |endpoint: &mut Self, work: &mut Work, part: Part, seconds_per_mb: f64, export: f64| {
            work.steps += 1;
            if endpoint.has(part) {
                work.found += 1;
            } else {
                work.seconds += part.size_mb * (seconds_per_mb + export);
            }
        };
        // The registry has the base already.
        step(self, &mut work, build.base, PULL_SECONDS_PER_MB, 0.0);
        if let Some(apt) = build.apt {
            step(self, &mut work, apt, APT_SECONDS_PER_MB, EXPORT_SECONDS_PER_MB);
        }
        step(self, &mut work, build.python, PYTHON_SECONDS_PER_MB, EXPORT_SECONDS_PER_MB);
        if let Some(conda) = build.conda {
            step(self, &mut work, conda, CONDA_SECONDS_PER_MB, EXPORT_SECONDS_PER_MB);
        }
        let found = work.found;
        step(self, &mut work, build.pip, INSTALL_SECONDS_PER_MB, EXPORT_SECONDS_PER_MB);
        if work.found == found {
            work.seconds += RESOLVE_SECONDS;
            for wheel in &build.wheels {
                if !self.has(*wheel) {
                    work.seconds += wheel.size_mb * FETCH_SECONDS_PER_MB;
                }
            }
        }
        work
    }

    /// Whether it has the part. It has it from now on, in place of what was used least lately.
    fn has(&mut self, part: Part) -> bool {
        self.clock += 1;
        let size_mb = part.size_mb * UNPACKED;
        let before = self.kept.insert(part.id, (size_mb, self.clock));
        if let Some((_, used)) = before {
            self.by_use.remove(&used);
        } else {
            self.kept_size_mb += size_mb;
        }
        self.by_use.insert(self.clock, part.id);
        while self.kept_size_mb > CACHE_SIZE_MB
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            let (size_mb, _) = self.kept.remove(&oldest).expect("what was used is kept");
            self.kept_size_mb -= size_mb;
        }
        before.is_some()
    }
}
