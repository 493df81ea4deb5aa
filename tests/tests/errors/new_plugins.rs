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
    insta::assert_snapshot!(named("Hello World"), @"
    exit 2
    error: a new plugin cannot be called `Hello World`: a builder has lower-case letters, digits, `_`, `.` and `-`, and begins with a letter or a digit
    hint: choose a name such as `my-builder`
    ");
    insta::assert_snapshot!(named(""), @"
    exit 2
    error: a new plugin cannot be called ``: a builder has lower-case letters, digits, `_`, `.` and `-`, and begins with a letter or a digit
    hint: choose a name such as `my-builder`
    ");
    insta::assert_snapshot!(named("../up\u{1b}"), @r#"
    exit 2
    error: a new plugin cannot be called `../up\u{1b}`: a builder has lower-case letters, digits, `_`, `.` and `-`, and begins with a letter or a digit
    hint: choose a name such as `my-builder`
    "#);
    insta::assert_snapshot!(named("7zip"), @"
    exit 2
    error: a new plugin cannot be called `7zip`: its crate begins with a letter
    hint: `my-7zip` can be one
    ");
    insta::assert_snapshot!(named("a.b"), @"
    exit 2
    error: a new plugin cannot be called `a.b`: its crate has no `.`
    hint: `a-b` can be one
    ");
    insta::assert_snapshot!(named("match"), @"
    exit 2
    error: a new plugin cannot be called `match`: it is a word of Rust
    hint: `my-match` can be one
    ");
    insta::assert_snapshot!(named("serde-json"), @"
    exit 2
    error: a new plugin cannot be called `serde-json`: there is a crate of this name that it needs
    hint: `my-serde-json` can be one
    ");
    insta::assert_snapshot!(named(&"a".repeat(41)), @"
    exit 2
    error: a new plugin cannot be called `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`: its crate has at most 40 characters
    hint: choose a shorter name
    ");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let env = TestEnv::new();
    env.write("full/file", "mine");
    env.write("file", "mine");
    std::os::unix::fs::symlink("nowhere", env.path().join("link")).unwrap();
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "full"]), @"
    exit 1
    error: `full` is a folder that is not empty, and nothing is overwritten
    hint: `--path DIR` names another folder
    ");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "file"]), @"
    exit 1
    error: `file` is a file, and nothing is overwritten
    hint: `--path DIR` names another folder
    ");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "link"]), @"
    exit 1
    error: `link` is a link that leads nowhere, and nothing is overwritten
    hint: `--path DIR` names another folder
    ");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "."]), @"
    exit 1
    error: `.` is a folder that is not empty, and nothing is overwritten
    hint: `--path DIR` names another folder
    ");
    insta::assert_snapshot!(failure(&TestEnv::new(), &["plugin", "new", "hello", "--path", "."]), @"
    exit 2
    error: the current folder cannot be the plugin's own: it is put in place as a whole
    hint: name it from the folder above, by `--path`
    ");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--path", "absent/hello"]), @"
    exit 1
    error: there is no folder `absent`
    hint: make it: `mkdir -p absent`
    ");
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
    insta::assert_snapshot!(finished.stderr, @"
    it takes imagespec-plugin-sdk 0.1.0 from crates.io, where it may not be yet: `--sdk PATH` takes a checkout's
    next: cd place/empty
          cargo build
          imagespec plugin add target/debug/libhello_plugin.so
    then: imagespec build --builder hello SPEC
    ");
    let manifest = fs::read_to_string(env.path().join("place/empty/Cargo.toml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(manifest.contains(&format!("\nimagespec-plugin-sdk = \"{version}\"\n")), "{manifest}");
    assert_eq!(fs::read_dir(env.path().join("place")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_sdk_is_that_of_a_checkout() {
    let env = TestEnv::new();
    env.write("other/Cargo.toml", "[package]\nname = \"other\"\n");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "other"]), @"
    exit 1
    error: there is no `imagespec-plugin-sdk` in `other`
    hint: `--sdk` names a checkout of imagespec, or the folder `crates/plugin-sdk` in it
    ");
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "nowhere"]), @"
    exit 1
    error: there is no `imagespec-plugin-sdk` in `nowhere`
    hint: `--sdk` names a checkout of imagespec, or the folder `crates/plugin-sdk` in it
    ");
    let sdk = "[package]\nname = \"imagespec-plugin-sdk\"\n";
    env.write("new\nline/Cargo.toml", sdk);
    insta::assert_snapshot!(failure(&env, &["plugin", "new", "hello", "--sdk", "new\nline"]), @"
    exit 1
    error: `FOLDER/new
           line` cannot stand in a Cargo.toml
    hint: move the checkout to a folder with a plain name
    ");
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
