//! The builder envd passes the conformance kit with the real program and a real engine, wherever its code runs.

use imagespec_tests::{Engine, Kind, TestEnv, envd, plugin, skip};
use serde_json::Value;

/// What the kit cannot try without a network.
const REST: &str = "has all else that it says";

/// What `plugin test` finds in `target`; nothing where there can be no engine.
fn checks(target: impl FnOnce(&TestEnv) -> String) -> Option<Vec<Value>> {
    let engine = match Engine::start(Kind::Docker26) {
        Ok(engine) => engine,
        Err(why) => {
            skip("the conformance of builder envd", &why);
            return None;
        }
    };
    let (env, program) = (TestEnv::new(), envd());
    let target = target(&env);
    let folder = program.parent().expect("a program lies in a folder").display().to_string();
    let variables = [("DOCKER_HOST", engine.host()), ("PATH", format!("{folder}:/usr/bin:/bin"))];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let finished = env.run_with(&["plugin", "test", &target, "--format", "json"], &variables);
    let checks: Vec<Value> = serde_json::from_str(&finished.stdout).expect("it prints JSON");
    let failed: Vec<_> = checks.iter().filter(|check| check["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]), "");
    let names = engine.docker(&["image", "ls", "--format", "{{.Repository}}"]);
    assert!(!names.contains("imagespec-build"), "what was handed over is forgotten: {names}");
    Some(checks)
}

/// The names of the checks of a mode that have this verdict.
fn names<'a>(checks: &'a [Value], mode: &str, verdict: &str) -> Vec<&'a str> {
    let wanted = |check: &&Value| check["mode"] == mode && check["verdict"] == verdict;
    checks.iter().filter(wanted).map(|check| check["name"].as_str().expect("a check has a name")).collect()
}

#[test]
fn it_passes_bundled() {
    let Some(checks) = checks(|_| "envd".to_owned()) else { return };
    insta::assert_snapshot!(names(&checks, "bundled", "passed").join("\n"), @"
    describes itself, and always the same
    says what it is and which kinds of options it takes
    answers an unknown method by an error
    answers a request that is none by an error
    builds the smallest plan that it offers
    has `base-oci-layout`, as it says
    has `copy`, as it says
    has `env`, as it says
    has `workdir`, as it says
    has `entrypoint`, as it says
    has `cmd`, as it says
    has `labels`, as it says
    has `render`, as it says
    has `find`, as it says
    has `output-store`, as it says
    has `output-oci`, as it says
    has `output-docker-archive`, as it says
    makes the same image of the same plan
    makes images that know which spec they are of
    refuses to lock, render and find unless it says that it can
    ignores what it does not know in a request
    tells of its steps in order
    does not begin a build that was cancelled before
    stops within two seconds of being cancelled
    builds four images at once
    refuses files that are absent or changed
    leaves nothing where a build that failed was to go
    takes absurd requests without a panic
    describes itself as before, after all this
    leaves no process behind
    prints nothing to stdout
    says so when the disk is full
    says so when the disk is read-only
    ");
    assert_eq!(names(&checks, "bundled", "skipped"), [REST]);
}

#[test]
#[ignore = "takes minutes; tests/slow runs it"]
fn it_passes_as_a_file_in_this_process_and_in_a_worker() {
    let target = |env: &TestEnv| plugin(&env.path().join("plugins"), "envd").display().to_string();
    let Some(checks) = checks(target) else { return };
    for mode in ["in-process", "worker"] {
        assert!(names(&checks, mode, "passed").contains(&"builds four images at once"), "{checks:#?}");
        assert_eq!(names(&checks, mode, "skipped"), [REST]);
    }
}
