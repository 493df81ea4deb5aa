//! Images of several platforms by builder docker, in an engine that keeps images in containerd. Nothing of another
//! processor runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;

use imagespec_tests::{DockerRegistry, Engine, Finished, Kind, Setup, TestEnv, outsider, skip};
use serde_json::Value;

const PLATFORMS: &str = "platform: [linux/amd64, linux/arm64]\n";

fn started(kind: Kind) -> Option<Engine> {
    Engine::start(kind).inspect_err(|why| skip(&format!("several platforms with {}", kind.name()), why)).ok()
}

/// A project with a base of two platforms, as a layout and in the registry.
fn project(registry: &DockerRegistry) -> TestEnv {
    let env = TestEnv::new();
    env.write("data.txt", "data\n");
    env.write(
        "base.yaml",
        &format!("name: base\nbase_image: scratch\n{PLATFORMS}copy: [data.txt]\nenv: {{OF: base}}\n"),
    );
    let target = format!("{}/team", registry.host());
    let built = env.run(&["build", "base.yaml", "--output", "type=oci,dest=base"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let built = env.run(&["build", "base.yaml", "--registry", &target]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let base = built.stdout.trim();
    env.write("mine.txt", "mine\n");
    env.write("remote.yaml", &format!("name: remote\nbase_image: {base}\n{PLATFORMS}copy: [mine.txt]\n"));
    env.write("local.yaml", &format!("name: local\nbase_image: oci:base\n{PLATFORMS}copy: [mine.txt]\n"));
    env.write("one.yaml", "name: one\nbase_image: oci:base\nplatform: linux/arm64\ncopy: [mine.txt]\n");
    env
}

fn build(env: &TestEnv, engine: &Engine, arguments: &[&str]) -> Finished {
    let arguments = [&["build", "--builder", "docker", "--metadata-file", "report.json"], arguments].concat();
    env.run_with(&arguments, &[("DOCKER_HOST", &engine.host())])
}

/// The image of the report that was written last.
fn report(env: &TestEnv) -> Value {
    serde_json::from_slice(&fs::read(env.path().join("report.json")).unwrap()).unwrap()
}

fn digest_of(stdout: &str) -> &str {
    stdout.trim().split_once('@').unwrap().1
}

#[test]
fn an_image_of_two_platforms_is_made_on_a_base_of_both() {
    let Some(engine) = started(Kind::Docker26) else { return };
    let registry = DockerRegistry::start(Setup::Open);
    let env = project(&registry);
    let target = format!("{}/team", registry.host());
    for spec in ["remote.yaml", "local.yaml"] {
        let built = build(&env, &engine, &[spec, "--registry", &target]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        // skopeo takes a tag or a digest, and not both.
        let name = format!("docker://{}", built.stdout.trim().split('@').next().unwrap());
        let index: Value =
            serde_json::from_str(&outsider("skopeo", &["inspect", "--raw", "--tls-verify=false", &name])).unwrap();
        let listed: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
        let images = &report(&env)["images"];
        assert_eq!(listed.len(), 2, "{index}");
        for (entry, architecture) in listed.iter().zip(["amd64", "arm64"]) {
            assert_eq!(entry["platform"]["architecture"], architecture);
            let inspect = ["--override-arch", architecture, "inspect", "--config", "--tls-verify=false", &name];
            let config: Value = serde_json::from_str(&outsider("skopeo", &inspect)).unwrap();
            assert_eq!(config["architecture"], architecture);
            assert!(config["config"]["Env"].as_array().unwrap().contains(&"OF=base".into()), "{config}");
        }
        assert_eq!(report(&env)["digest"], digest_of(&built.stdout));
        assert_eq!(images[0]["digest"], listed[0]["digest"], "{images}");
        assert_eq!(images[1]["digest"], listed[1]["digest"]);
        assert_eq!(images[1]["platform"], "linux/arm64");

        // The same image again, which the environment lints.
        let output = format!("type=oci,dest=out-{spec}");
        let written = build(&env, &engine, &[spec, "--output", &output]);
        assert_eq!(written.code, 0, "{}", written.stderr);
        assert_eq!(digest_of(&written.stdout), digest_of(&built.stdout), "{}", written.stderr);
    }
    // It stays in the engine as well.
    let kept = build(&env, &engine, &["local.yaml"]);
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let again = build(&env, &engine, &["local.yaml", "--force"]);
    assert!(again.stderr.contains("cached  load base oci:"), "{}", again.stderr);
}

#[test]
fn a_base_is_loaded_again_for_another_platform() {
    for kind in [Kind::Docker20, Kind::Docker26, Kind::Docker26Classic] {
        let Some(engine) = started(kind) else { return };
        let env = project(&DockerRegistry::start(Setup::Open));
        env.write("native.yaml", "name: native\nbase_image: oci:base\nplatform: linux/amd64\ncopy: [mine.txt]\n");
        for (spec, architecture) in [("native.yaml", "amd64"), ("one.yaml", "arm64"), ("native.yaml", "amd64")] {
            let built = build(&env, &engine, &[spec, "--force", "--output", "type=oci,dest=out"]);
            assert_eq!(built.code, 0, "{}", built.stderr);
            let layout = format!("oci:{}", env.path().join("out").display());
            let config: Value = serde_json::from_str(&outsider(
                "skopeo",
                &["inspect", "--config", "--raw", &format!("{layout}:{}", tag(&built.stdout))],
            ))
            .unwrap();
            assert_eq!(config["architecture"], architecture, "{}: {}", kind.name(), built.stderr);
        }
    }
}

fn tag(stdout: &str) -> &str {
    stdout.split(['@', ':']).nth(1).unwrap()
}

#[test]
fn an_engine_that_keeps_one_platform_says_so_before_any_work() {
    for kind in [Kind::Docker20, Kind::Docker26Classic] {
        let Some(engine) = started(kind) else { return };
        let env = project(&DockerRegistry::start(Setup::Open));
        let failed = build(&env, &engine, &["local.yaml"]);
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{}", failed.stderr);
        insta::allow_duplicates!(insta::assert_snapshot!(failed.stderr, @"
        error: the engine keeps one platform under a name, and this image has 2
          --> local.yaml:3:12
           |
         3 | platform: [linux/amd64, linux/arm64]
           |            ^^^^^^^^^^^
        hint: turn on the engine's containerd image store, or build for one platform
        hint: `--builder oci` makes images of several platforms
        "));
    }
}

#[test]
fn an_archive_has_one_platform_as_output_and_as_base() {
    let Some(engine) = started(Kind::Docker26) else { return };
    let env = project(&DockerRegistry::start(Setup::Open));
    let failed = build(&env, &engine, &["local.yaml", "--output", "type=docker-archive,dest=out.tar"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{}", failed.stderr);
    insta::assert_snapshot!(failed.stderr, @"
    error: an archive for `docker load` holds one platform, and this image has 2
      --> local.yaml:3:12
       |
     3 | platform: [linux/amd64, linux/arm64]
       |            ^^^^^^^^^^^
    hint: choose one by `--platform`, or write all of them to `type=oci,dest=DIR`
    ");

    let built = env.run(&["build", "one.yaml", "--output", "type=docker-archive,dest=base.tar"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    env.write(
        "archive.yaml",
        &format!("name: archive\nbase_image: docker-archive:base.tar\n{PLATFORMS}copy: [mine.txt]\n"),
    );
    let failed = build(&env, &engine, &["archive.yaml"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{}", failed.stderr);
    insta::assert_snapshot!(failed.stderr, @"
    error: an archive of `docker save` is of one platform, and this image has 2
      --> archive.yaml:2:13
       |
     2 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    hint: build for one platform, or on an OCI layout with all of them: `oci:DIR`
    ");
}
