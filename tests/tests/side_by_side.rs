//! Two builds of overlapping specs at once on one cache. Needs the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use imagespec_tests::{TestEnv, network_variables};
use serde_json::Value;

/// By title, how each of a build's steps came to its result.
fn outcomes(output: &Output) -> BTreeMap<String, String> {
    let mut titles = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    for line in String::from_utf8(output.stderr.clone()).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let step = event["step"].as_u64();
        match event["event"].as_str().unwrap() {
            "step-started" => drop(titles.insert(step, event["title"].as_str().unwrap().to_owned())),
            "step-finished" => {
                drop(outcomes.insert(titles[&step].clone(), event["outcome"].as_str().unwrap().to_owned()));
            }
            _ => {}
        }
    }
    outcomes
}

#[test]
fn builds_that_overlap_make_the_same_images_at_once_as_one_after_the_other_and_share_their_work() {
    let env = TestEnv::new();
    let spec = |name: &str, package: &str| {
        format!(
            "name: {name}\npython_version: 3.11\napt_packages: [jq]\npackages: [six, {package}]\ncommands: [echo {name} > /srv/name]\n"
        )
    };
    env.write("left.yaml", &spec("left", "idna"));
    env.write("right.yaml", &spec("right", "certifi"));
    let start = |spec: &str, cache: &str| {
        let mut command = env.command(&["build", spec, "--progress", "json"]);
        command.envs(network_variables()).env("IMAGESPEC_CACHE_DIR", env.path().join(cache));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start("left.yaml", "together"), start("right.yaml", "together")];
    let [left, right] = both.map(|build| build.wait_with_output().unwrap());
    for (spec, together) in [("left.yaml", &left), ("right.yaml", &right)] {
        let alone = start(spec, "apart").wait_with_output().unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        assert_eq!(together.stdout, alone.stdout, "{}", String::from_utf8_lossy(&together.stderr));
    }
    let (left, right) = (outcomes(&left), outcomes(&right));
    for shared in ["bootstrap debian/bookworm amd64", "install 1 Debian package"] {
        let mut how = [left[shared].as_str(), right[shared].as_str()];
        how.sort_unstable();
        assert_eq!(how, ["cached", "done"], "{shared}");
    }
    assert_eq!((left["run 1 command"].as_str(), right["run 1 command"].as_str()), ("done", "done"));
}
