//! What of a plan makes one endpoint better than another: the steps that take long and change seldom. Pure.

use std::collections::{BTreeMap, BTreeSet};

use imagespec_core::digest::Digest;
use imagespec_core::plan::{Base, FILES_ROOT, ImageConfig, Plan, Step};
use imagespec_core::platform::Platform;

/// The digest of what `plan` has in common with others that an endpoint may have built for `platform`: its base, Debian packages,
/// Python and conda packages.
///
/// Python packages, files, commands and settings are left out. They change from one build of a project to the next, and
/// each of these builds is to find what the one before has left: the layers beneath, and the wheels that the endpoint
/// fetched. So is the lock, which pins packages of all kinds. Of a plan that is the base of another, the same counts.
pub fn affinity(plan: &Plan, platform: &Platform) -> Digest {
    Digest::of(slow_part(plan, platform).to_json().as_bytes())
}

fn slow_part(plan: &Plan, platform: &Platform) -> Plan {
    let base = match &plan.base {
        Base::Plan(nested) => Base::Plan(Box::new(slow_part(nested, platform))),
        other => other.clone(),
    };
    let is_slow = |step: &&Step| match step {
        Step::Apt(_) | Step::Python(_) | Step::Conda(_) => true,
        Step::Pip(_) | Step::Copy(_) | Step::Run(_) => false,
    };
    Plan {
        platforms: BTreeSet::from([platform.clone()]),
        base,
        steps: plan.steps.iter().filter(is_slow).cloned().collect(),
        config: ImageConfig { workdir: FILES_ROOT.to_owned(), ..ImageConfig::default() },
        lock: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{
        "version": 1, "platforms": ["linux/amd64", "linux/arm64"],
        "base": {"kind": "bootstrap", "suite": "bookworm", "packages": ["python3"]},
        "steps": [
            {"kind": "apt", "packages": ["git"]},
            {"kind": "python", "version": "3.11"},
            {"kind": "conda", "packages": ["r-base"]},
            {"kind": "pip", "input": {"kind": "requirements", "requirements": [{"text": "numpy"}]}},
            {"kind": "copy", "files": {"a.py": {"kind": "link", "target": "b.py"}}},
            {"kind": "run", "commands": ["true"]}
        ],
        "config": {"workdir": "/root", "env": {"A": "1"}}
    }"#;

    fn of(text: &str) -> Digest {
        affinity(&Plan::from_json(text).unwrap(), &Platform::linux_amd64())
    }

    #[test]
    fn what_changes_from_build_to_build_keeps_the_affinity() {
        for (from, to) in [("numpy", "scipy"), ("b.py", "c.py"), ("true", "false"), (r#""A": "1""#, r#""A": "2""#)] {
            assert!(PLAN.contains(from));
            assert_eq!(of(PLAN), of(&PLAN.replace(from, to)), "{from}");
        }
    }

    #[test]
    fn every_slow_step_and_the_platform_count() {
        for (from, to) in
            [("bookworm", "trixie"), ("python3", "python3-dev"), ("git", "curl"), ("3.11", "3.12"), ("r-base", "r-dt")]
        {
            assert!(PLAN.contains(from));
            assert_ne!(of(PLAN), of(&PLAN.replace(from, to)), "{from}");
        }
        let plan = Plan::from_json(PLAN).unwrap();
        assert_ne!(affinity(&plan, &Platform::linux_amd64()), affinity(&plan, &"linux/arm64".parse().unwrap()));
    }

    #[test]
    fn the_slow_part_of_a_plan_beneath_counts_and_its_rest_does_not() {
        let above = |nested: &str| {
            let base = format!(r#"{{"kind": "plan", "plan": {nested}}}"#);
            format!(
                r#"{{"version":1,"platforms":["linux/amd64"],"base":{base},"steps":[],"config":{{"workdir":"/root"}}}}"#
            )
        };
        assert_eq!(of(&above(PLAN)), of(&above(&PLAN.replace("numpy", "scipy"))));
        assert_ne!(of(&above(PLAN)), of(&above(&PLAN.replace("git", "curl"))));
        assert_ne!(of(&above(PLAN)), of(PLAN));
    }
}
