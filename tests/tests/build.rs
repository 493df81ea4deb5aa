//! `imagespec build`, as a user sees it, with images checked by other people's programs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::path::Path;

use imagespec_tests::{DockerRegistry, PASSWORD, Setup, TestEnv, lint, outsider};
use serde_json::Value;

const SPEC: &str = "\
base_image: scratch
name: app
copy: [data]
env:
  DEBUG: True
entrypoint: [/root/data/run]
user: \"1000:1000\"
labels: {team: search}
";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", SPEC);
    env.write("data/run", "#!/bin/sh\n");
    env.write("data/deep/er/file.txt", "content\n");
    env.write("data/deep.txt", "sorts between a folder and what lies in it\n");
    env
}

fn digest(line: &str) -> &str {
    line.trim().split_once('@').unwrap().1
}

#[test]
fn a_layout_is_accepted_by_skopeo_umoci_and_our_linter() {
    let env = project();
    let built = env.run(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let out = env.path().join("out");
    assert_eq!(lint(&out), Vec::<String>::new());
    let name = format!("oci:{}", out.display());
    let inspected: Value = serde_json::from_str(&outsider("skopeo", &["inspect", &name])).unwrap();
    assert_eq!(inspected["Digest"], digest(&built.stdout));
    let config: Value = serde_json::from_str(&outsider("skopeo", &["inspect", "--config", &name])).unwrap();
    assert_eq!(config["config"]["User"], "1000:1000");
    assert_eq!(config["config"]["WorkingDir"], "/root");
    assert_eq!(config["config"]["Entrypoint"][0], "/root/data/run");
    assert_eq!(config["config"]["Labels"]["team"], "search");
    let env_list = config["config"]["Env"].as_array().unwrap();
    assert!(env_list.contains(&"DEBUG=True".into()));
    assert!(env_list.last().unwrap().as_str().unwrap().starts_with("IMAGESPEC_ID="));

    let tag = built.stdout.split(['@', ':']).nth(1).unwrap().to_owned();
    let image = format!("{}:{tag}", out.display());
    let bundle = env.path().join("bundle");
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    let unpacked = fs::read_to_string(bundle.join("rootfs/root/data/deep/er/file.txt")).unwrap();
    assert_eq!(unpacked, "content\n");
}

#[test]
fn the_linter_finds_a_changed_layer() {
    let env = project();
    env.run(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    let blobs = env.path().join("out/blobs/sha256");
    for entry in fs::read_dir(blobs).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
    assert!(lint(&env.path().join("out")).iter().any(|problem| problem.contains("another digest")));
}

#[test]
fn two_caches_and_two_checkouts_give_the_same_digest() {
    let build = || env_output(&project(), &["build", "app.yaml"]);
    assert_eq!(build(), build());
}

fn env_output(env: &TestEnv, arguments: &[&str]) -> String {
    let finished = env.run(arguments);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    finished.stdout
}

#[test]
fn an_unchanged_spec_is_found_and_a_changed_file_is_not() {
    let env = project();
    let first = env_output(&env, &["build", "app.yaml"]);
    let second = env.run(&["build", "app.yaml"]);
    assert_eq!(second.stdout, first);
    assert!(second.stderr.ends_with("exists, nothing to build\n"), "{}", second.stderr);
    env.write("data/deep.txt", "changed\n");
    assert_eq!(env.run(&["exists", "app.yaml"]).code, 1);
    assert_ne!(env_output(&env, &["build", "app.yaml"]), first);
}

#[test]
fn a_layer_is_found_in_the_cache_unless_it_is_to_be_made_again() {
    let env = project();
    let first = env_output(&env, &["build", "app.yaml"]);
    let found = env.run(&["build", "app.yaml", "--force"]);
    assert!(found.stderr.contains("cached  copy"), "{}", found.stderr);
    let made = env.run(&["build", "app.yaml", "--force", "--no-cache"]);
    assert!(made.stderr.contains(" s  copy"), "{}", made.stderr);
    assert_eq!((found.stdout, made.stdout), (first.clone(), first));
}

#[test]
fn an_image_is_pushed_to_a_registry_and_found_there_by_an_empty_machine() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    let target = format!("{}/team", registry.host());
    assert_eq!(env.run(&["exists", "app.yaml", "--registry", &target]).code, 1);
    let first = env_output(&env, &["build", "app.yaml", "--registry", &target]);
    let name = format!("docker://{}", first.trim().split_once('@').unwrap().0);
    let inspected = outsider("skopeo", &["inspect", "--tls-verify=false", &name]);
    assert_eq!(serde_json::from_str::<Value>(&inspected).unwrap()["Digest"], digest(&first));

    let other = project();
    let second = other.run(&["build", "app.yaml", "--registry", &target]);
    assert_eq!((second.code, second.stdout), (0, first));
    assert!(second.stderr.ends_with("exists, nothing to build\n"), "{}", second.stderr);
    assert!(!other.path().join("cache").exists(), "nothing but a question was needed");
}

#[test]
fn a_base_in_a_registry_is_mounted_and_not_pulled() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    let target = format!("{}/team", registry.host());
    let base = env_output(&env, &["build", "app.yaml", "--registry", &target]);
    let empty = TestEnv::new();
    empty.write("top.yaml", &format!("base_image: {}\nname: top\ncopy: [more.txt]\n", base.trim()));
    empty.write("more.txt", "more\n");
    let built = env_output(&empty, &["build", "top.yaml", "--registry", &target]);
    let name = format!("docker://{}", built.trim().split_once('@').unwrap().0);
    let inspected: Value =
        serde_json::from_str(&outsider("skopeo", &["inspect", "--tls-verify=false", &name])).unwrap();
    let layers = inspected["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    let lowest = layers[0].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert!(!empty.path().join("cache/blobs/sha256").join(lowest).exists(), "the base's layer was pulled");
}

#[test]
fn a_registry_that_asks_for_a_password_is_no_reason_to_assume_anything() {
    let registry = DockerRegistry::start(Setup::Password);
    let env = project();
    let target = format!("{}/team", registry.host());
    let refused = env.run(&["build", "app.yaml", "--registry", &target]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("error: cannot tell whether"), "{}", refused.stderr);
    assert_eq!(env.run(&["exists", "app.yaml", "--registry", &target]).code, 3);

    let folder = registry.config().parent().unwrap().display().to_string();
    let built = env.run_with(&["build", "app.yaml", "--registry", &target], &[("DOCKER_CONFIG", &folder)]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(!format!("{refused:?}{built:?}").contains(PASSWORD));
}

#[test]
fn two_platforms_make_an_index_and_a_nested_spec_is_built_first() {
    let env = project();
    env.write("top.yaml", "base_image: app.yaml\nname: top\ncopy: [top.txt]\n");
    env.write("top.txt", "top\n");
    let arguments = ["build", "top.yaml", "--platform", "linux/amd64,linux/arm64", "--output", "type=oci,dest=out"];
    env_output(&env, &arguments);
    let out = env.path().join("out");
    assert_eq!(lint(&out), Vec::<String>::new());
    let name = format!("oci:{}", out.display());
    let arm: Value =
        serde_json::from_str(&outsider("skopeo", &["--override-arch", "arm64", "inspect", "--config", &name])).unwrap();
    assert_eq!(arm["architecture"], "arm64");
    assert_eq!(arm["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

#[test]
fn an_archive_for_docker_load_is_read_by_skopeo() {
    let env = project();
    env_output(&env, &["build", "app.yaml", "--output", "type=docker-archive,dest=app.tar"]);
    let archive = format!("docker-archive:{}", env.path().join("app.tar").display());
    let inspected: Value = serde_json::from_str(&outsider("skopeo", &["inspect", &archive])).unwrap();
    assert_eq!(inspected["Architecture"], "amd64");
}

#[test]
fn a_layout_is_not_scattered_over_a_folder_that_is_something_else() {
    let env = project();
    let refused = env.run(&["build", "app.yaml", "--output", "type=oci,dest=data"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is not empty and no OCI image layout"), "{}", refused.stderr);
    assert!(!Path::new(&env.path().join("data/blobs")).exists());
}
