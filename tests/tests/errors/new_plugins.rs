//! `imagespec plugin new`: names that no crate can have, folders that are not empty, an SDK that is none.

use std::fs;

use imagespec_tests::TestEnv;

use super::failure;

fn named(name: &str) -> String {
    let env = TestEnv::new();
    let said = failure(&env, &["plugin", "new", name]);
    assert_eq!(fs::read_dir(env.path()).unwrap().count(), 0, "nothing is left behind");
    said
}

#[test]
fn the_name_of_a_new_plugin_is_one_of_a_builder_and_of_a_crate() {
    insta::assert_snapshot!(named("Hello World"), @"");
    insta::assert_snapshot!(named(""), @"");
    insta::assert_snapshot!(named("../up\u{1b}"), @"");
    insta::assert_snapshot!(named("7zip"), @"");
    insta::assert_snapshot!(named("a.b"), @"");
    insta::assert_snapshot!(named("match"), @"");
    insta::assert_snapshot!(named("serde-json"), @"");
    insta::assert_snapshot!(named(&"a".repeat(41)), @"");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let env = TestEnv::new();
    env.write("full/file", "mine");
    env.write("file", "mine");
    std::os::unix::fs::symlink("nowhere", env.path().join("link")).unwrap();
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "full"]), @"");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "file"]), @"");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "link"]), @"");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "."]), @"");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "absent/hello"]), @"");
    let mut names: Vec<_> = fs::read_dir(env.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "full", "link"], "nothing is left behind");
    assert_eq!(fs::read_dir(env.path().join("full")).unwrap().count(), 1);
}

#[test]
fn an_empty_folder_is_taken() {
    let env = TestEnv::new();
    fs::create_dir_all(env.path().join("place/empty")).unwrap();
    let finished = env.run(&["plugin", "new", "hello", "--path", "place/empty"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "place/empty\n"));
    insta::assert_snapshot!(finished.stderr, @"");
    let manifest = fs::read_to_string(env.path().join("place/empty/Cargo.toml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(manifest.contains(&format!("\nimagespec-plugin-sdk = \"{version}\"\n")), "{manifest}");
    assert_eq!(fs::read_dir(env.path().join("place")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_sdk_is_that_of_a_checkout() {
    let env = TestEnv::new();
    env.write("other/Cargo.toml", "[package]\nname = \"other\"\n");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "other"]), @"");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "nowhere"]), @"");
    let sdk = "[package]\nname = \"imagespec-plugin-sdk\"\n";
    env.write("new\nline/Cargo.toml", sdk);
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "new\nline"]), @"");
    assert!(!env.path().join("hello").exists());

    // A checkout or its crate, and a path that needs quotes.
    env.write("a \"checkout\"/crates/plugin-sdk/Cargo.toml", sdk);
    for (name, path) in [("one", "a \"checkout\""), ("two", "a \"checkout\"/crates/plugin-sdk")] {
        assert_eq!(env.run(&["plugin", "new", name, "--sdk", path]).code, 0);
        let manifest = fs::read_to_string(env.path().join(name).join("Cargo.toml")).unwrap();
        let folder = env.path().canonicalize().unwrap();
        let line = format!(r#"{{ path = "{}/a \"checkout\"/crates/plugin-sdk" }}"#, folder.display());
        assert!(manifest.contains(&line), "{manifest}");
    }
}
