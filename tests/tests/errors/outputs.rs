//! Where images go, and the cache that they come from.

use std::fs;

use imagespec_tests::TestEnv;

use super::{failure, without_digests};

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: scratch\nname: app\ncopy: [data.txt]\n");
    env.write("data.txt", "content\n");
    env
}

#[test]
fn an_image_is_not_scattered_over_something_else() {
    let env = env();
    env.write("photos/cat.jpg", "");
    let dest = |dest: &str| failure(&env, &["build", "app.yaml", "--progress", "quiet", "--output", dest]);
    insta::assert_snapshot!(dest("type=oci,dest=photos"), @"
    exit 1
    error: `FOLDER/photos` is not empty and no OCI image layout
    hint: name a new or empty folder, or one that an earlier build wrote
    ");
    assert!(!env.path().join("photos/blobs").exists());
    insta::assert_snapshot!(dest("type=oci,dest=data.txt"), @"
    exit 1
    error: cannot write `FOLDER/data.txt`
    note: not a directory
    hint: name a folder: a new or empty one, or one that an earlier build wrote
    ");
    insta::assert_snapshot!(dest("type=docker-archive,dest=nowhere/app.tar"), @"
    exit 1
    error: cannot write `FOLDER/nowhere/app.tar`
    note: No such file or directory (os error 2)
    hint: make the folder `FOLDER/nowhere` first
    ");
    insta::assert_snapshot!(dest("type=docker-archive,dest=photos"), @"
    exit 1
    error: cannot write `FOLDER/photos`
    note: is a directory
    hint: name a file: `FOLDER/photos/image.tar`
    ");
}

#[test]
fn an_index_of_something_else_is_not_overwritten() {
    let env = env();
    let dest = || failure(&env, &["build", "app.yaml", "--progress", "quiet", "--output", "type=oci,dest=site"]);
    let refusal = "exit 1\nerror: `FOLDER/site` is not empty and no OCI image layout\n\
                   hint: name a new or empty folder, or one that an earlier build wrote\n";
    env.write("site/index.json", "{\"manifests\": []}");
    assert_eq!(dest(), refusal);
    env.write("site/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    env.write("site/index.json", "{\"pages\": []}");
    assert_eq!(dest(), refusal);
    assert_eq!(fs::read_to_string(env.path().join("site/index.json")).unwrap(), "{\"pages\": []}");
}

#[test]
fn builds_that_add_to_one_layout_at_once_all_stand_in_its_index() {
    let env = env();
    let start = |number: usize| {
        let set = format!("env.NUMBER={number}");
        let arguments = ["build", "app.yaml", "--progress", "quiet", "--set", &set, "--output", "type=oci,dest=out"];
        env.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let builds: Vec<_> = (0..8).map(start).collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    let index = fs::read_to_string(env.path().join("out/index.json")).unwrap();
    assert_eq!(index.matches("org.opencontainers.image.ref.name").count(), 8, "{index}");
    assert_eq!(imagespec_tests::lint(&env.path().join("out")), Vec::<String>::new());
}

/// The base cannot be had, and nobody asks for it.
#[test]
fn an_output_that_cannot_be_written_is_found_before_any_work() {
    let env = env();
    env.write("app.yaml", "base_image: 127.0.0.1:1/nothing\nname: app\n");
    env.write("photos/cat.jpg", "");
    for output in [
        "type=oci,dest=photos",
        "type=oci,dest=data.txt",
        "type=docker-archive,dest=photos",
        "type=docker-archive,dest=nowhere/app.tar",
        "type=oci,dest=/proc/nowhere/out",
    ] {
        let said = failure(&env, &["build", "app.yaml", "--progress", "quiet", "--output", output]);
        assert!(said.contains("error: cannot write") || said.contains("no OCI image layout"), "{said}");
        assert!(said.contains("\nhint: "), "{said}");
    }
}

#[test]
fn an_archive_holds_one_platform() {
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--output", "type=docker-archive,dest=app.tar"];
    let arguments = [&["build", "app.yaml", "--progress", "quiet"], platforms.as_slice()].concat();
    insta::assert_snapshot!(failure(&env(), &arguments), @"
    exit 1
    error: an archive for `docker load` holds one platform, and this image has 2
    hint: choose one by `--platform`, or write all of them to `type=oci,dest=DIR`
    ");
}

#[test]
fn files_about_an_image_are_looked_at_before_any_work() {
    let env = env();
    fs::create_dir(env.path().join("folder")).unwrap();
    let build = |flag: &str, file: &str| failure(&env, &["build", "app.yaml", flag, file]);
    insta::assert_snapshot!(build("--iidfile", "nowhere/id"), @"
    exit 1
    error: cannot write `nowhere/id`
    note: No such file or directory (os error 2)
    hint: make the folder `nowhere` first
    ");
    insta::assert_snapshot!(build("--metadata-file", "folder"), @"
    exit 1
    error: cannot write `folder`: it is a folder
    hint: name a file
    ");
    insta::assert_snapshot!(build("--metadata-file", "data.txt/report.json"), @"
    exit 1
    error: cannot write `data.txt/report.json`
    note: Not a directory (os error 20)
    ");
    assert!(!env.path().join("cache").exists());
}

#[test]
fn a_corrupt_layer_in_the_cache_is_named_once_and_made_again() {
    let env = env();
    let output = ["build", "app.yaml", "--progress", "quiet", "--output", "type=oci,dest=out"];
    assert_eq!(env.run(&["build", "app.yaml"]).code, 0);
    for entry in fs::read_dir(env.path().join("cache/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // A layer is gzip, and the rest is JSON.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
    let corrupt = failure(&env, &output);
    insta::assert_snapshot!(without_digests(&corrupt), @"
    exit 1
    error: cannot write `FOLDER/out/blobs/sha256/DIGEST`
    note: blob sha256:DIGEST of the cache was corrupt and has been removed; try again
    ");
    let healed = env.run(&output);
    assert_eq!(healed.code, 0, "{}", healed.stderr);
    assert_eq!(imagespec_tests::lint(&env.path().join("out")), Vec::<String>::new());
}
