//! Errors as a user reads them. What a crate can show by itself stands in that crate's own tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bases;
mod builders;
mod files;
mod new_plugins;
mod outputs;
mod registries;
mod specs;
mod usage;

use imagespec_tests::{Finished, TestEnv};

/// What a command that fails says, with `FOLDER` in place of the folder.
fn failure(env: &TestEnv, arguments: &[&str]) -> String {
    shown(env, env.run(arguments))
}

/// The same, with the exit code before it.
fn shown(env: &TestEnv, finished: Finished) -> String {
    assert_eq!(finished.stdout, "", "{finished:?}");
    let folder = env.path().canonicalize().unwrap();
    format!("exit {}\n{}", finished.code, finished.stderr.replace(&folder.display().to_string(), "FOLDER"))
}

/// `text` with a word in place of each digest: those of layers change with the form that layers have.
fn without_digests(text: &str) -> String {
    let is_hex = |character: char| character.is_ascii_hexdigit();
    let words = text.split_inclusive(|character| !is_hex(character));
    words
        .map(
            |word| if word.len() > 64 { format!("DIGEST{}", word.trim_start_matches(is_hex)) } else { word.to_owned() },
        )
        .collect()
}

/// What `build` says of a spec.
fn refused(spec: &str) -> String {
    let env = TestEnv::new();
    env.write("train.yaml", spec);
    failure(&env, &["build", "train.yaml"])
}
