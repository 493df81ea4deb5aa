//! What people build: teams that share bases and packages, whose files change with every build, whose Python packages change
//! now and then and whose Debian packages seldom. More by day than by night, and in bursts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use imagespec_builder_remote::fleet::affinity;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{AptStep, Base, CondaStep, ImageConfig, Plan, PythonStep, Step};
use imagespec_core::platform::Platform;

use crate::random::{Random, Zipf};

/// Megabytes of the bases, the ones that most use first: two small ones, one with a compiler, those with CUDA.
const BASE_SIZES_MB: [f64; 8] = [45.0, 60.0, 350.0, 2800.0, 45.0, 120.0, 900.0, 3500.0];
const APT_SIZE_MB: f64 = 110.0;
const PYTHON_SIZE_MB: f64 = 1.0;
const CONDA_SIZE_MB: f64 = 450.0;
const PACKAGES: usize = 400;
const APT_SETS: usize = 40;
const CONDA_SETS: usize = 10;
const TEAMS_PER_ENDPOINT: usize = 3;
const PROJECTS_PER_TEAM: usize = 6;
/// How much more there is at noon, and how much less at night.
const DAY_AND_NIGHT: f64 = 0.6;
/// A burst, as after a change of what all build: how often, how long, how many times as much.
const BURST_INTERVAL_SECONDS: f64 = 1800.0;
const BURST_SECONDS: f64 = 90.0;
const BURST_FACTOR: f64 = 4.0;
/// How often a build has another Python package, another version of one, or another Debian package than the one before.
const PACKAGE_ADDED: f64 = 0.05;
const PACKAGE_UPDATED: f64 = 0.08;
const APT_CHANGED: f64 = 0.01;

/// A thing that takes a place on disk and time to make: which one, and how large in the registry or index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    /// Tells it from all others.
    pub(crate) id: u64,
    /// Megabytes, compressed.
    pub(crate) size_mb: f64,
}

/// One build.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// Seconds since the start.
    pub(crate) at: f64,
    /// The affinity of its plan.
    pub(crate) key: Digest,
    /// The same with its Python packages.
    pub(crate) key_with_packages: Digest,
    /// The machine that asks for it.
    pub(crate) machine: usize,
    pub(crate) base: Part,
    pub(crate) apt: Option<Part>,
    pub(crate) python: Part,
    pub(crate) conda: Option<Part>,
    /// The layer of Python packages, and the wheels in it.
    pub(crate) pip: Part,
    pub(crate) wheels: Vec<Part>,
}

/// What a project builds.
#[derive(Clone)]
struct Project {
    base: usize,
    apt_set: Option<usize>,
    apt_revision: u64,
    python: usize,
    conda_set: Option<usize>,
    packages: Vec<(usize, u64)>,
}

/// All builds of `hours` hours in a fleet of `endpoints`, of which each has `builds_per_hour`, asked for by `machines` machines.
pub(crate) fn builds(endpoints: usize, hours: f64, builds_per_hour: f64, machines: usize, seed: u64) -> Vec<Build> {
    let random = &mut Random::new(seed);
    let sizes: Vec<f64> = (0..PACKAGES).map(|_| random.size(1.5, 1.6).min(700.0)).collect();
    let mut teams: Vec<Vec<Project>> = (0..endpoints * TEAMS_PER_ENDPOINT).map(|_| team(random)).collect();
    let popularity = Zipf::new(teams.len(), 0.8);
    let end = hours * 3600.0;
    let (mut builds, mut keys) = (Vec::new(), HashMap::new());
    let mut at = 0.0;
    loop {
        let day = 1.0 - DAY_AND_NIGHT * (at / end * std::f64::consts::TAU).cos();
        let burst = if at % BURST_INTERVAL_SECONDS < BURST_SECONDS { BURST_FACTOR } else { 1.0 };
        at += random.until_next(builds_per_hour / 3600.0 * endpoints as f64 * day * burst);
        if at >= end {
            return builds;
        }
        let team = &mut teams[popularity.draw(random)];
        let project = random.below(team.len());
        let project = &mut team[project];
        change(project, random);
        builds.push(build(project, at, random.below(machines), &sizes, &mut keys));
    }
}

fn team(random: &mut Random) -> Vec<Project> {
    let packages = Zipf::new(PACKAGES, 0.9);
    let apt_set = random.chance(0.6).then(|| Zipf::new(APT_SETS, 0.8).draw(random));
    let conda_set = random.chance(0.15).then(|| Zipf::new(CONDA_SETS, 1.0).draw(random));
    let (base, python) = (Zipf::new(BASE_SIZES_MB.len(), 1.0).draw(random), Zipf::new(4, 1.0).draw(random));
    let project = |random: &mut Random| {
        let count = 4 + random.below(16);
        let mut chosen: Vec<(usize, u64)> = (0..count).map(|_| (packages.draw(random), 0)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        Project { base, apt_set, apt_revision: 0, python, conda_set, packages: chosen }
    };
    (0..PROJECTS_PER_TEAM).map(|_| project(random)).collect()
}

/// What is different from the build before, beside the files.
fn change(project: &mut Project, random: &mut Random) {
    if random.chance(PACKAGE_ADDED) {
        project.packages.push((Zipf::new(PACKAGES, 0.9).draw(random), 0));
        project.packages.sort_unstable();
        project.packages.dedup_by_key(|package| package.0);
    }
    if random.chance(PACKAGE_UPDATED) {
        let place = random.below(project.packages.len());
        project.packages[place].1 += 1;
    }
    if random.chance(APT_CHANGED) {
        project.apt_revision += 1;
    }
}

/// The affinities of plans that were asked for before.
type Keys = HashMap<(usize, Option<String>, usize, Option<usize>), Digest>;

fn build(project: &Project, at: f64, machine: usize, sizes: &[f64], keys: &mut Keys) -> Build {
    let apt_package = project.apt_set.map(|set| format!("set-{set}-{}", project.apt_revision));
    let slow = (project.base, apt_package.clone(), project.python, project.conda_set);
    let key = || affinity(&plan(project, apt_package.as_deref()), &Platform::linux_amd64());
    let key = *keys.entry(slow).or_insert_with(key);
    let base = part(&["base", &project.base.to_string()], BASE_SIZES_MB[project.base]);
    let below = |name: &str| format!("{name} {}", base.id);
    let apt = apt_package.map(|package| part(&[&below("apt"), &package], APT_SIZE_MB));
    let python = part(&[&below("python"), &format!("{:?} {}", apt.map(|apt| apt.id), project.python)], PYTHON_SIZE_MB);
    let conda = project.conda_set.map(|set| part(&["conda", &set.to_string(), &python.id.to_string()], CONDA_SIZE_MB));
    let wheel =
        |package: &(usize, u64)| part(&["wheel", &package.0.to_string(), &package.1.to_string()], sizes[package.0]);
    let wheels: Vec<Part> = project.packages.iter().map(wheel).collect();
    let names: String = wheels.iter().map(|wheel| format!("{} ", wheel.id)).collect();
    let beneath = conda.unwrap_or(python).id.to_string();
    let pip = part(&["pip", &beneath, &names], wheels.iter().map(|wheel| wheel.size_mb).sum());
    let key_with_packages = Digest::of(format!("{key} {}", pip.id).as_bytes());
    Build { at, key, key_with_packages, machine, base, apt, python, conda, pip, wheels }
}

fn plan(project: &Project, apt_package: Option<&str>) -> Plan {
    let reference = format!("registry.example/base-{}:1", project.base).parse().expect("it is a reference");
    let mut steps = Vec::new();
    steps.extend(apt_package.map(|package| Step::Apt(AptStep { packages: BTreeSet::from([package.to_owned()]) })));
    steps.push(Step::Python(PythonStep { version: Some(format!("3.{}", 10 + project.python)), executable: None }));
    steps.extend(
        project.conda_set.map(|set| {
            Step::Conda(CondaStep { packages: BTreeSet::from([format!("set-{set}")]), channels: Vec::new() })
        }),
    );
    Plan {
        platforms: BTreeSet::from([Platform::linux_amd64()]),
        base: Base::Registry(reference),
        steps,
        config: ImageConfig { workdir: "/root".to_owned(), ..ImageConfig::default() },
        lock: BTreeMap::new(),
    }
}

/// The part with these words for a name.
fn part(words: &[&str], size_mb: f64) -> Part {
    let digest = Digest::of(words.join("\n").as_bytes());
    let (head, _) = digest.as_bytes().split_first_chunk::<8>().expect("a digest has 32 bytes");
    Part { id: u64::from_be_bytes(*head), size_mb }
}
