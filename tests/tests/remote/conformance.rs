//! The conformance kit, wherever the builder's code runs.

use imagespec_tests::{Bridge, TestEnv, plugin};
use serde_json::Value;

use crate::engine;

/// What the kit cannot try without a network.
const REST: &str = "has all else that it says";

/// The names of the checks in `target` with the verdict `skipped`, each with its mode. None has failed.
fn skipped(target: impl FnOnce(&TestEnv) -> String) -> Option<Vec<String>> {
    let engine = engine()?;
    let bridge = Bridge::unix(&engine);
    let env = TestEnv::new();
    let target = target(&env);
    let host = bridge.address();
    let finished = env.run_with(&["plugin", "test", &target, "--format", "json"], &[("BUILDKIT_HOST", &host)]);
    let checks: Vec<Value> = serde_json::from_str(&finished.stdout).expect("it prints JSON");
    let having = |verdict: &str| -> Vec<String> {
        let having = checks.iter().filter(|check| check["verdict"] == verdict);
        having
            .map(|check| format!("{}: {}", check["mode"].as_str().unwrap(), check["name"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(having("failed"), [""; 0], "{checks:#?}");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(having("passed").iter().any(|name| name.ends_with(": has `base-oci-layout`, as it says")), "{checks:#?}");
    Some(having("skipped"))
}

#[test]
fn the_builder_passes() {
    let Some(skipped) = skipped(|_| "remote".to_owned()) else { return };
    assert_eq!(skipped, [format!("bundled: {REST}")]);
}

#[test]
fn the_builder_passes_as_a_file_in_this_process_and_in_a_worker() {
    let target = |env: &TestEnv| plugin(&env.path().join("plugins"), "remote").display().to_string();
    let Some(skipped) = skipped(target) else { return };
    assert_eq!(skipped, [format!("in-process: {REST}"), format!("worker: {REST}")]);
}
