//! A fleet of BuildKit daemons under a real-looking arrival of specs: how much of what is built an endpoint has already, and
//! how long builds wait, by how endpoints are chosen. A tenth of the endpoints is lost half-way. The builder's own code
//! chooses. Every run prints the same; with `--json` as JSON.

#![expect(clippy::print_stdout, reason = "it is a report")]

mod endpoint;
mod random;
mod simulation;
mod workload;

use imagespec_builder_remote::fleet::QUEUED_PER_SLOT_MAX;
use simulation::{Key, Knowledge, Outcome, Policy, Ranks, simulate};

const SEED: u64 = 20_261_124;
/// Endpoints, and hours that are looked at.
const FLEETS: [(usize, f64); 3] = [(10, 12.0), (100, 4.0), (1000, 1.0)];
/// Builds of an endpoint in an hour, on average: as many as any way to choose can do, and more than some can.
const LOADS: [f64; 2] = [60.0, 90.0];
/// How many machines ask a fleet for builds, where it matters which one does.
const MACHINES: usize = 50;
/// In a larger fleet there are more Python packages than are worth ranking.
const ENDPOINTS_WITH_PACKAGES_MAX: usize = 100;

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    if !is_json {
        println!("| endpoints | builds | chosen by | found | waited p50 | p95 | p99 | took p50 | p95 | mean of both |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    }
    for (endpoints, hours, load) in FLEETS.into_iter().flat_map(|(size, hours)| LOADS.map(|load| (size, hours, load))) {
        let builds = workload::builds(endpoints, hours, load, MACHINES, SEED);
        let mut ranks = Ranks::new(endpoints);
        for (name, policy) in policies() {
            let has_packages = matches!(policy, Policy::Bounded { key: Key::WithPackages, .. });
            if has_packages && endpoints > ENDPOINTS_WITH_PACKAGES_MAX {
                continue;
            }
            let outcome = simulate(&builds, endpoints, endpoints / 10, policy, &mut ranks);
            assert_eq!(outcome.took.len(), builds.len(), "every build ends");
            report(endpoints, &name, outcome, is_json);
        }
    }
}

fn policies() -> Vec<(String, Policy)> {
    let bounded = |queued_per_slot_max, key, knowledge| Policy::Bounded { queued_per_slot_max, key, knowledge };
    let by_slow_steps = |queued| bounded(queued, Key::SlowSteps, Knowledge::Everybodys);
    let mut policies = vec![
        ("round robin".to_owned(), Policy::RoundRobin),
        ("least loaded".to_owned(), Policy::LeastLoaded),
        ("rendezvous, no bound".to_owned(), Policy::Rendezvous),
    ];
    for queued in [0, 1, 2, 4, 8] {
        let policy = by_slow_steps(queued);
        let ours = if policy == Policy::OURS { " (ours)" } else { "" };
        policies.push((format!("rendezvous, {queued} may wait a slot{ours}"), policy));
    }
    let with_packages = bounded(QUEUED_PER_SLOT_MAX, Key::WithPackages, Knowledge::Everybodys);
    policies.push(("ours, with Python packages in the key".to_owned(), with_packages));
    let own = bounded(QUEUED_PER_SLOT_MAX, Key::SlowSteps, Knowledge::Own);
    policies.push(("ours, fifty machines that do not know of each other".to_owned(), own));
    policies
}

fn report(endpoints: usize, name: &str, mut outcome: Outcome, is_json: bool) {
    let builds = outcome.took.len();
    let mean = outcome.waited.iter().chain(&outcome.took).sum::<f64>() / builds as f64;
    outcome.waited.sort_by(f64::total_cmp);
    outcome.took.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
    let found = outcome.found as f64 / outcome.steps as f64 * 100.0;
    let waited = [0.5, 0.95, 0.99].map(|part| at(&outcome.waited, part));
    let took = [0.5, 0.95].map(|part| at(&outcome.took, part));
    if is_json {
        println!(
            r#"{{"endpoints": {endpoints}, "policy": "{name}", "builds": {builds}, "retried": {}, "found_percent": {found:.2}, "waited_seconds_p50": {:.2}, "waited_seconds_p95": {:.2}, "waited_seconds_p99": {:.2}, "took_seconds_p50": {:.2}, "took_seconds_p95": {:.2}, "mean_seconds": {mean:.2}}}"#,
            outcome.retried, waited[0], waited[1], waited[2], took[0], took[1],
        );
    } else {
        println!(
            "| {endpoints} | {builds} | {name} | {found:.1} % | {:.1} s | {:.1} s | {:.1} s | {:.1} s | {:.1} s | {mean:.1} s |",
            waited[0], waited[1], waited[2], took[0], took[1],
        );
    }
}
