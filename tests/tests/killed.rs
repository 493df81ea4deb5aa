//! `kill -9` at named points of a build, and the same build again. Needs the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::os::unix::process::ExitStatusExt;

use imagespec_tests::{DockerRegistry, Finished, Setup, TestEnv};

/// A build with everything that a cache has: a base that is unpacked, a program that runs, a wheel and a file.
const APP: &str = "name: app
base_image: oci:base
packages: [six==1.16.0]
copy: [labels.csv]
commands: [\"echo one; echo two > /srv/two\", \"head -c 3000000 /dev/zero > /srv/zero; echo three\"]
";

fn project() -> TestEnv {
    let env = TestEnv::with_debian();
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/bookworm\npython_version: 3.11\n");
    env.write("app.yaml", APP);
    env.write("labels.csv", "a,b\n");
    env
}

fn build(env: &TestEnv, arguments: &[&str], cache: &str) -> Finished {
    let cache = env.path().join(cache).display().to_string();
    env.run_online(&[&["build"], arguments].concat(), &[("IMAGESPEC_CACHE_DIR", &cache)])
}

/// Starts a build that ends by SIGKILL at `point`, or the test fails.
fn kill(env: &TestEnv, arguments: &[&str], cache: &str, point: &str) {
    let mut command = env.command(&[&["build"], arguments].concat());
    command.envs(imagespec_tests::network_variables());
    command.env("IMAGESPEC_CACHE_DIR", env.path().join(cache)).env("IMAGESPEC_KILL_AT", point);
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"", "{point}");
}

/// Every blob is what its name says, and what killed builds left behind goes.
fn verify(env: &TestEnv, cache: &str, point: &str) {
    let folder = env.path().join(cache).display().to_string();
    let variables = [("IMAGESPEC_CACHE_DIR", folder.as_str())];
    let verified = env.run_with(&["cache", "verify"], &variables);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, ""), "{point}: {}", verified.stderr);
    assert_eq!(env.run_with(&["cache", "prune"], &variables).code, 0, "{point}");
    assert_eq!(fs::read_dir(env.path().join(cache).join("tmp")).unwrap().count(), 0, "{point}");
}

/// Kills a build with an empty cache at each of `points`, and lets it build again.
fn each(points: &[&str]) {
    let env = project();
    let base = build(&env, &["base.yaml", "--output", "type=oci,dest=base"], "cache");
    assert_eq!(base.code, 0, "{}", base.stderr);
    let expected = build(&env, &["app.yaml"], "undisturbed");
    assert_eq!(expected.code, 0, "{}", expected.stderr);
    for (number, point) in points.iter().enumerate() {
        let (cache, layout) = (format!("cache-{number}"), format!("type=oci,dest=out-{number}"));
        let arguments = ["app.yaml", "--output", &layout];
        kill(&env, &arguments, &cache, point);
        let again = build(&env, &arguments, &cache);
        assert_eq!((again.code, &again.stdout), (0, &expected.stdout), "{point}: {}", again.stderr);
        verify(&env, &cache, point);
    }
}

#[test]
fn a_build_that_was_killed_while_it_wrote_the_cache_is_built_again() {
    each(&["half-fetched", "resolved", "layer-begun", "blob-written", "blob-named:2", "record-written"]);
}

#[test]
fn a_build_that_was_killed_while_programs_ran_is_built_again() {
    each(&[
        "snapshot-unpacked",
        "snapshot-named",
        "program-runs",
        "programs-ended",
        "layer-named:3",
        "output-written:2",
    ]);
}

#[test]
fn a_debian_that_was_killed_at_one_point_after_the_other_is_made_in_the_end() {
    let env = project();
    let expected = build(&env, &["base.yaml"], "cache");
    assert_eq!(expected.code, 0, "{}", expected.stderr);
    // One cache for all, so that each build has to do with what the one before left behind.
    for point in ["release-verified", "half-fetched:100", "tree-unpacked", "tree-configured"] {
        kill(&env, &["base.yaml"], "disturbed", point);
    }
    let again = build(&env, &["base.yaml"], "disturbed");
    assert_eq!((again.code, &again.stdout), (0, &expected.stdout), "{}", again.stderr);
    verify(&env, "disturbed", "all of them");
}

#[test]
fn a_push_that_was_killed_leaves_no_image_and_is_done_again() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    env.write("app.yaml", "name: app\nbase_image: scratch\ncopy: [labels.csv]\n");
    let target = format!("{}/team", registry.host());
    let arguments = ["app.yaml", "--registry", &target];
    kill(&env, &arguments, "cache", "layer-pushed");
    assert_eq!(env.run(&["exists", "app.yaml", "--registry", &target]).code, 1);
    let again = build(&env, &arguments, "cache");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(env.run(&["exists", "app.yaml", "--registry", &target]).code, 0);
}

#[test]
fn apt_goes_on_after_it_was_killed() {
    let env = project();
    let base = build(&env, &["base.yaml", "--output", "type=oci,dest=base"], "cache");
    assert_eq!(base.code, 0, "{}", base.stderr);
    env.write("app.yaml", "name: app\nbase_image: oci:base\napt_packages: [jq]\n");
    let expected = build(&env, &["app.yaml"], "undisturbed");
    assert_eq!(expected.code, 0, "{}", expected.stderr);
    for point in ["program-runs", "program-runs:12", "programs-ended"] {
        kill(&env, &["app.yaml"], "cache", point);
    }
    let again = build(&env, &["app.yaml"], "cache");
    assert_eq!((again.code, &again.stdout), (0, &expected.stdout), "{}", again.stderr);
    verify(&env, "cache", "all of them");
}
