//! Every builder passes the conformance kit, wherever its code runs, and `imagespec plugin test` tells who does not.

use std::path::PathBuf;

use imagespec_tests::TestEnv;
use serde_json::Value;

/// What `plugin test` finds in a builder that does this while it is loaded.
fn hostile(deed: &str) -> String {
    let finished = TestEnv::new().run_with(&["plugin", "test", &plugin("hostile")], &[("HOSTILE_WHILE_LOADED", deed)]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    finished.stdout
}

/// The plugin that lies beside the program.
fn plugin(name: &str) -> String {
    let test = std::env::current_exe().expect("a test knows its own path");
    let file: PathBuf = test.ancestors().nth(2).expect("a test lies in `deps`").join(format!("libimagespec_{name}.so"));
    let file = file.display().to_string();
    assert!(PathBuf::from(&file).is_file(), "`{file}` is absent: run `cargo build -p imagespec-plugin-{name}` first");
    file
}

/// The names of the checks of a mode that have this verdict.
fn names(checks: &[Value], mode: &str, verdict: &str) -> Vec<String> {
    let wanted = |check: &&Value| check["mode"] == mode && check["verdict"] == verdict;
    checks.iter().filter(wanted).map(|check| check["name"].as_str().expect("a check has a name").to_owned()).collect()
}

fn checks(target: &str) -> Vec<Value> {
    let finished = TestEnv::new().run(&["plugin", "test", target, "--format", "json"]);
    let checks: Vec<Value> = serde_json::from_str(&finished.stdout).expect("it prints JSON");
    let failed: Vec<_> = checks.iter().filter(|check| check["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    checks
}

#[test]
fn the_embedded_builder_passes() {
    let checks = checks("oci");
    insta::assert_snapshot!(names(&checks, "bundled", "passed").join("\n"), @"
    describes itself, and always the same
    says what it is and which kinds of options it takes
    answers an unknown method by an error
    answers a request that is none by an error
    builds the smallest plan that it offers
    has `base-scratch`, as it says
    has `base-oci-layout`, as it says
    has `base-docker-archive`, as it says
    has `base-nested`, as it says
    has `multiple-platforms`, as it says
    has `copy`, as it says
    has `env`, as it says
    has `workdir`, as it says
    has `user`, as it says
    has `entrypoint`, as it says
    has `cmd`, as it says
    has `labels`, as it says
    has `lock`, as it says
    has `reproducible`, as it says
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
    assert_eq!(names(&checks, "bundled", "skipped"), ["has all else that it says"]);
}

#[test]
fn the_embedded_builder_passes_as_a_file() {
    let checks = checks(&plugin("oci"));
    for mode in ["in-process", "worker"] {
        assert_eq!(names(&checks, mode, "skipped"), ["has all else that it says"]);
    }
}

#[test]
fn a_plugin_passes_in_this_process_and_in_a_worker() {
    let checks = checks(&plugin("noop"));
    for mode in ["in-process", "worker"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(names(&checks, mode, "passed").join("\n"), @"
            describes itself, and always the same
            says what it is and which kinds of options it takes
            answers an unknown method by an error
            answers a request that is none by an error
            builds the smallest plan that it offers
            has `output-store`, as it says
            makes the same image of the same plan
            refuses to lock, render and find unless it says that it can
            ignores what it does not know in a request
            tells of its steps in order
            does not begin a build that was cancelled before
            stops within two seconds of being cancelled
            builds four images at once
            takes absurd requests without a panic
            describes itself as before, after all this
            leaves no process behind
            prints nothing to stdout
            says so when the disk is full
            says so when the disk is read-only
            ");
            insta::assert_snapshot!(names(&checks, mode, "skipped").join("\n"), @"
            has all else that it says
            makes images that know which spec they are of
            refuses files that are absent or changed
            leaves nothing where a build that failed was to go
            ");
        }
    }
}

#[test]
fn what_is_no_plugin_is_told_once() {
    let env = TestEnv::new();
    env.write("notes.so", "a text\n");
    let said = env.said(&["plugin", "test", "notes.so"]).replace(&env.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(said, @"
    exit code 1
    error: `FOLDER/notes.so` is no plugin that can be loaded: it is no ELF file
    hint: a plugin is a `cdylib` that is written with `imagespec-plugin-sdk`; see `imagespec plugin new`
    ");
    insta::assert_snapshot!(env.said(&["plugin", "test", "absent"]), @"
    exit code 1
    error: there is no builder and no file `absent`
    hint: name the file that `cargo build` made, `target/debug/lib….so`
    ");
}

#[test]
fn a_plugin_that_takes_the_process_with_it_fails_a_check() {
    insta::assert_snapshot!(hostile("segfault"), @"
    in-process
      FAILED   is loaded: the builder crashed: a segmentation fault
      ok       prints nothing to stdout
    worker
      FAILED   is loaded: builder `hostile` crashed: a segmentation fault
      ok       prints nothing to stdout
    2 passed, 2 failed, 0 skipped
    ");
    insta::assert_snapshot!(hostile("exit"), @"
    in-process
      FAILED   is loaded: the builder ended its process with code 0 in the middle of the work
      ok       prints nothing to stdout
    worker
      FAILED   is loaded: builder `hostile` ended its process with code 0 in the middle of the work
      ok       prints nothing to stdout
    2 passed, 2 failed, 0 skipped
    ");
}
