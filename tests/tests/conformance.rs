//! Every builder passes the conformance kit, wherever its code runs, and `imagespec plugin test` tells who does not.

use std::path::PathBuf;

use imagespec_tests::TestEnv;
use serde_json::Value;

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
    checks.iter().filter(wanted).map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

fn checks(target: &str) -> Vec<Value> {
    let finished = TestEnv::new().run(&["plugin", "test", target, "--format", "json"]);
    let checks: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    checks
}

#[test]
fn the_embedded_builder_passes() {
    let checks = checks("oci");
    insta::assert_snapshot!(names(&checks, "bundled", "passed").join("\n"), @"");
    assert_eq!(names(&checks, "bundled", "skipped"), ["has all else that it says"]);
}

#[test]
fn a_plugin_passes_in_this_process_and_in_a_worker() {
    let checks = checks(&plugin("noop"));
    for mode in ["in-process", "worker"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(names(&checks, mode, "passed").join("\n"), @"");
            insta::assert_snapshot!(names(&checks, mode, "skipped").join("\n"), @"");
        }
    }
}

#[test]
fn what_is_no_plugin_fails_its_first_check() {
    let env = TestEnv::new();
    env.write("notes.so", "a text\n");
    insta::assert_snapshot!(env.said(&["plugin", "test", "notes.so"]), @"");
    insta::assert_snapshot!(env.said(&["plugin", "test", "absent"]), @"");
}
