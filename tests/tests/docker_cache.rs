//! Caches outside of an engine: what one engine wrote another one takes, no secret is in it, and what an engine cannot do is
//! said before any work.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs::File;

use imagespec_tests::{DockerRegistry, Engine, Finished, Kind, Setup, TestEnv, outsider, skip, snapshot};
use serde_json::Value;

const CANARY: &str = "canary-5b1e9c07";
/// What the command leaves, so that the test sees that it looks into what is exported.
const LEFT: &str = "left-by-the-command";

fn started(kind: Kind) -> Option<Engine> {
    Engine::start(kind).inspect_err(|why| skip(&format!("caches with {}", kind.name()), why)).ok()
}

/// A base with a shell, which an engine saves, and a command on it that takes a secret.
fn project(engine: &Engine) -> TestEnv {
    let env = TestEnv::new();
    let layer = env.path().join("layer.tar");
    let mut archive = tar::Builder::new(File::create(&layer).unwrap());
    archive.append_path_with_name("/bin/busybox", "bin/sh").expect("Debian's busybox-static must be installed");
    drop(archive.into_inner().unwrap());
    engine.docker(&["import", &layer.display().to_string(), "shell"]);
    engine.docker(&["save", "--output", &env.path().join("shell.tar").display().to_string(), "shell"]);
    let command = format!("test -n \"$TOKEN\" && echo {LEFT} > /left");
    env.write(
        "app.yaml",
        &format!(
            "name: app\nbase_image: docker-archive:shell.tar\ncommands: ['{command}']\nsecrets: [{{id: token, env: TOKEN}}]\n"
        ),
    );
    env
}

fn build(env: &TestEnv, engine: &Engine, arguments: &[&str]) -> Finished {
    let arguments = [&["build", "app.yaml", "--builder", "docker", "--secret", "id=token,env=T"], arguments].concat();
    env.run_with(&arguments, &[("DOCKER_HOST", &engine.host()), ("T", CANARY)])
}

/// What is said of a build that cannot be done, and nothing else: no step had begun.
fn refused(engine: &Engine, failed: &Finished) -> String {
    format!("exit code {}\n{}", failed.code, failed.stderr).replace(&engine.host(), "ENGINE")
}

#[test]
fn what_one_engine_exports_another_one_takes_and_no_secret_is_in_it() {
    let (Some(first), Some(second)) = (started(Kind::Docker26), started(Kind::Docker26)) else { return };
    let registry = DockerRegistry::start(Setup::Open);
    let env = project(&first);
    let cache = format!("type=registry,ref={}/team/cache", registry.host());
    let built = build(&env, &first, &["--cache-to", &format!("{cache},mode=max")]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let taken = build(&env, &second, &["--cache-from", &cache, "--progress", "json"]);
    assert_eq!(taken.code, 0, "{}", taken.stderr);
    let events: Vec<Value> = taken.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let started = events.iter().find(|event| event["title"].as_str().is_some_and(|title| title.starts_with("run ")));
    let number = &started.unwrap_or_else(|| panic!("no command is told: {}", taken.stderr))["step"];
    let finished = events.iter().find(|event| event["event"] == "step-finished" && event["step"] == *number);
    assert_eq!(finished.unwrap()["outcome"], "cached", "{}", taken.stderr);

    let storage = registry.storage().display().to_string();
    let holding = |text: &str| {
        let search = format!("find '{storage}' -type f -exec zgrep -l -a -F {text} {{}} + || :");
        outsider("sh", &["-c", &search])
    };
    assert_ne!(holding(LEFT), "");
    assert_eq!(holding(CANARY), "");
    assert!(!format!("{built:?}{taken:?}").contains(CANARY));

    let local = build(&env, &second, &["--cache-from", "type=local,src=cache", "--force"]);
    snapshot!(refused(&second, &local), @"
    exit code 1
    error: `--cache-from type=local` names a folder of this machine, and BuildKit works where it cannot reach it
    hint: keep it in a registry: `type=registry,ref=NAME`
    ");
}

#[test]
fn an_engine_that_exports_no_cache_says_so_before_any_work() {
    let Some(engine) = started(Kind::Docker20) else { return };
    let env = project(&engine);
    let cache = ["--cache-to", "registry.example/team/cache"];
    snapshot!(refused(&engine, &build(&env, &engine, &cache)), @"
    exit code 1
    error: the engine at `ENGINE` exports caches with the containerd image store alone
    hint: leave `--cache-to` out, or take `--cache-to type=inline`, which lies in the image
    hint: the containerd image store is turned on in the engine's `daemon.json`
    ");
    let inside = build(&env, &engine, &["--cache-to", "type=inline"]);
    assert_eq!(inside.code, 0, "{}", inside.stderr);
}
