//! What the program does for a builder that is not its own: bases that it cannot make, images that it keeps itself, what it
//! renders, and caches outside of it. The builder is `hostile`, which does nothing of its own accord.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use imagespec_tests::{Finished, TestEnv, insta, plugin};
use serde_json::Value;

const SPEC: &str = "name: app\nbase_image: scratch\nbuilder: hostile\n";

/// A folder whose user has added the builder, with a spec of it.
fn project() -> TestEnv {
    let env = TestEnv::new();
    let file = plugin(env.path(), "hostile");
    let added = env.run(&["plugin", "add", "--yes", &file.display().to_string()]);
    assert_eq!((added.code, added.stdout.as_str()), (0, "hostile\n"), "{}", added.stderr);
    env.write("app.yaml", SPEC);
    env
}

/// What a run printed, without what differs from one machine to the next.
fn said(env: &TestEnv, finished: &Finished) -> String {
    let text = format!("exit code {}\n{}{}", finished.code, finished.stderr, finished.stdout);
    text.replace(&env.path().display().to_string(), "FOLDER")
}

/// The same, with the time of steps and all digests and hashes left out.
fn told(env: &TestEnv, arguments: &[&str]) -> String {
    let text = said(env, &env.run(arguments));
    let is_hash = |word: &str| {
        let word = word.trim_start_matches("app:").trim_start_matches("sha256:").trim_end_matches(';');
        word.len() >= 32 && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "@:".contains(letter))
    };
    let words = |line: &str| -> String {
        let line = match line.split_once("/tmp/base-") {
            Some((before, _)) => &format!("{before}/tmp/base-NAME/base"),
            None => line,
        };
        let line = match line.split_once(" s  ") {
            Some((time, rest)) if time.trim().parse::<f32>().is_ok() => format!("TIME  {rest}"),
            _ => line.to_owned(),
        };
        line.split(' ').map(|word| if is_hash(word) { "HASH" } else { word }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

/// An archive that another build wrote, and a spec that stands on it: builder `hostile` does not read archives.
fn on_archive() -> TestEnv {
    let env = project();
    env.write("base.yaml", "name: base\nbase_image: scratch\nenv: {OF_THE_BASE: yes}\n");
    env.stdout(&["build", "base.yaml", "--output", "type=docker-archive,dest=base.tar"]);
    env.write("on_archive.yaml", "name: app\nbase_image: docker-archive:base.tar\nbuilder: hostile\n");
    env
}

#[test]
fn a_base_that_the_builder_cannot_make_is_made_by_another_one() {
    let env = on_archive();
    let spec_hash = env.stdout(&["hash", "on_archive.yaml"]);
    insta::assert_snapshot!(told(&env, &["build", "on_archive.yaml", "--builder-opt", "do=gossip"]), @"
    exit code 0
    asked for HASH of HASH
    base docker archive HASH is made by builder oci
    TIME  base docker-archive:FOLDER/base.tar  1 layer
    TIME  write oci:FOLDER/cache/tmp/base-NAME/base
    plan HASH of HASH
    cache to [], ssh agent None
    base is a layout, which is there
    TIME  gossip
    HASH
    ");
    let built = env.run(&["build", "on_archive.yaml", "--builder-opt", "do=gossip", "--progress", "json"]);
    assert!(built.stderr.contains(&format!(" of {}\"", spec_hash.trim())), "the hash is that of the spec: {built:?}");
    let events = built.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let started: Vec<_> =
        events.filter(|event| event["event"] == "step-started").map(|event| event["step"].clone()).collect();
    let mut numbers: Vec<_> = started.iter().map(Value::to_string).collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), started.len(), "each step has a number of its own: {started:?}");
    let left: Vec<_> = fs::read_dir(env.path().join("cache/tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "the base is gone: {left:?}");
}

#[test]
fn the_base_at_the_bottom_of_nested_specs_is_made_by_another_one() {
    let env = on_archive();
    env.write("middle.yaml", "base_image: docker-archive:base.tar\n");
    env.write("outer.yaml", "name: app\nbase_image: middle.yaml\nbuilder: hostile\n");
    let text = told(&env, &["build", "outer.yaml", "--builder-opt", "do=gossip"]);
    assert!(text.contains("base docker archive HASH is made by builder oci\n"), "{text}");
    assert!(text.contains("base is a layout, which is there\n"), "{text}");
    // What is asked for in between stays the affair of the builder that was chosen.
    env.write("more.yaml", "base_image: docker-archive:base.tar\nenv: {A: b}\n");
    env.write("above.yaml", "name: app\nbase_image: more.yaml\nbuilder: hostile\n");
    insta::assert_snapshot!(told(&env, &["build", "above.yaml"]), @"
    exit code 1
    error: builder `hostile` cannot do `env`
    hint: choose one that can: `--builder docker`, `--builder oci`
    ");
}

#[test]
fn who_makes_the_base_is_said_before_anything_is_done() {
    let env = on_archive();
    let text = told(&env, &["build", "on_archive.yaml", "--dry-run"]);
    insta::assert_snapshot!(text, @"
    exit code 0
    name       HASH
    spec hash  HASH
    id         HASH
    platform   linux/amd64
    base       docker archive HASH
    steps      none
    workdir    /root
    output     where builder `hostile` keeps images; it does not exist
    base docker archive HASH is made by builder oci
    ");
    env.write("debian.yaml", "name: app\nbase_image: bootstrap:debian/bookworm\nbuilder: hostile\n");
    let text = told(&env, &["build", "debian.yaml", "--dry-run"]);
    assert!(text.ends_with("\nbase bootstrap:debian/bookworm is made by builder oci"), "{text}");
}

#[test]
fn a_base_that_nobody_can_make_is_refused_before_any_work() {
    let slim = on_archive().as_slim();
    insta::assert_snapshot!(told(&slim, &["build", "on_archive.yaml"]), @"
    exit code 1
    error: builder `hostile` cannot do `base_image`
      --> on_archive.yaml:2:13
       |
     2 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    hint: no builder that is installed can; `imagespec builders` lists them
    ");
    // A lock pins the base, which is the affair of whoever makes it.
    let env = on_archive();
    insta::assert_snapshot!(told(&env, &["lock", "on_archive.yaml"]), @"
    exit code 1
    error: builder `hostile` cannot do `base_image`
      --> on_archive.yaml:2:13
       |
     2 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    error: builder `hostile` cannot do `lock`
    hint: choose one that can: `--builder oci`
    ");
}

#[test]
fn options_of_the_other_builder_are_those_of_the_project() {
    let env = on_archive();
    env.write("imagespec.toml", "[builders.oci]\ncompile_bytecode = 3\n");
    // Before anything is done, and whether or not the base is made at all.
    let build = |more: &str| told(&env, &["build", "on_archive.yaml", "--builder-opt", "do=keep", more]);
    assert_eq!(build("--no-push"), build("--dry-run"));
    insta::assert_snapshot!(build("--no-push"), @"
    exit code 1
    error: option `compile_bytecode` of builder `oci` must be `true` or `false`, but a number was found
      --> imagespec.toml:2:20
       |
     2 | compile_bytecode = 3
       |                    ^
    ");
}

#[test]
fn the_store_on_this_machine_says_nothing_of_what_another_builder_keeps() {
    let env = project();
    env.stdout(&["build", "app.yaml", "--builder", "oci"]);
    let build = |more: &[&str]| told(&env, &[&["build", "app.yaml"], more].concat());
    // The builder is asked, and never the store.
    assert_eq!(build(&[]), "exit code 0\nHASH");
    let kept = "exit code 0\nHASH exists, nothing to build\nHASH";
    assert_eq!(build(&["--builder-opt", "do=keep"]), kept);
    for again in ["--force", "--no-cache"] {
        assert_eq!(build(&["--builder-opt", "do=keep", again]), "exit code 0\nHASH");
    }
    insta::assert_snapshot!(build(&["--builder-opt", "do=be deaf", "--force"]), @"
    exit code 1
    error: nobody answers
    hint: speak up
    ");
    let dry = |more: &[&str]| {
        let text = build(&[&["--dry-run"], more].concat());
        text.lines().next_back().unwrap_or_default().trim_start_matches("output     ").to_owned()
    };
    assert_eq!(dry(&[]), "where builder `hostile` keeps images; it does not exist");
    assert_eq!(dry(&["--builder-opt", "do=keep"]), "where builder `hostile` keeps images; it exists");
    insta::assert_snapshot!(dry(&["--builder-opt", "do=be deaf"]), @"where builder `hostile` keeps images; whether it exists is unknown: nobody answers");
    env.write("other.yaml", &SPEC.replace("name: app", "name: other"));
    insta::assert_snapshot!(told(&env, &["exists", "other.yaml"]), @"
    exit code 1
    HASH does not exist
    ");
    let [ran, inspected] = ["run", "inspect"].map(|command| told(&env, &[command, "other.yaml"]));
    assert_eq!(ran, inspected);
    insta::assert_snapshot!(ran, @"
    exit code 1
    error: `other:u23vxtgzsr5w3gjvzqjx3nyfkdtu2nwz` is not built: builder `hostile` does not have it
    hint: `imagespec build other.yaml` builds it
    ");
    let kept = SPEC.replace("name: app", "name: kept");
    env.write("kept.yaml", &format!("{kept}builder_options: {{do: keep}}\n"));
    insta::assert_snapshot!(told(&env, &["exists", "kept.yaml"]), @"
    exit code 0
    HASH
    ");
    insta::assert_snapshot!(told(&env, &["inspect", "kept.yaml"]), @"
    exit code 1
    error: `kept:u23vxtgzsr5w3gjvzqjx3nyfkdtu2nwz` is not in the store on this machine
    note: builder `hostile` has it
    hint: builder `hostile` keeps images itself: ask it for `kept:u23vxtgzsr5w3gjvzqjx3nyfkdtu2nwz`
    ");
    env.write("deaf.yaml", &format!("{SPEC}builder_options: {{do: be deaf}}\n"));
    insta::assert_snapshot!(told(&env, &["exists", "deaf.yaml"]), @"
    exit code 3
    error: cannot tell whether `app:u23vxtgzsr5w3gjvzqjx3nyfkdtu2nwz` exists
    note: nobody answers
    hint: speak up
    ");
}

#[test]
fn nothing_is_removed_from_the_cache_while_another_builder_works() {
    let env = project();
    let mut command = env.command(&["build", "app.yaml", "--builder-opt", "do=flood"]);
    let mut build = command.stderr(Stdio::piped()).spawn().unwrap();
    // It works as long as nobody reads on.
    let mut first = String::new();
    BufReader::new(build.stderr.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "buy now\n");
    insta::assert_snapshot!(told(&env, &["cache", "prune"]), @"
    exit code 75
    error: the cache in `FOLDER/cache` is in use by another imagespec process
    hint: try again when it has ended
    ");
    build.kill().unwrap();
    build.wait().unwrap();
}

/// What a base costs, nobody pays for an image that is there, that cannot be made, or that lacks a secret.
#[test]
fn the_builder_is_asked_before_another_one_makes_a_base_for_it() {
    let env = on_archive();
    let build = |deed: &str| told(&env, &["build", "on_archive.yaml", "--builder-opt", &format!("do={deed}")]);
    assert_eq!(build("keep"), "exit code 0\nHASH exists, nothing to build\nHASH");
    insta::assert_snapshot!(build("be deaf"), @"
    exit code 1
    error: nobody answers
    hint: speak up
    ");
    let spec_hash = env.stdout(&["hash", "on_archive.yaml"]);
    let said = env.run(&["build", "on_archive.yaml", "--builder-opt", "do=gossip"]).stderr;
    let asked = format!("asked for {0} of {0}\n", spec_hash.trim());
    assert!(said.starts_with(&asked), "the plan is that of the hash: {said}");
}

#[test]
fn caches_and_agents_reach_a_builder_that_can_use_them_and_are_refused_for_others() {
    let env = project();
    let socket = env.path().join("agent.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let agent = [("SSH_AUTH_SOCK", "agent.sock")];
    let asked =
        ["build", "app.yaml", "--builder-opt", "do=gossip", "--ssh", "default", "--cache-to", "type=local,dest=c"];
    let built = env.run_with(&asked, &agent);
    let text = said(&env, &built);
    insta::assert_snapshot!(text.lines().find(|line| line.starts_with("cache to")).unwrap_or(&text), @r#"cache to [type=local,dest=FOLDER/c], ssh agent Some("FOLDER/agent.sock")"#);
    insta::assert_snapshot!(told(&env, &["build", "app.yaml", "--cache-from", "localhost:5000/cache"]), @"
    exit code 1
    error: builder `hostile` cannot do `--cache-from`
    hint: choose one that can: `--builder docker`
    ");
    insta::assert_snapshot!(said(&env, &env.run_with(&["build", "app.yaml", "--builder", "oci", "--ssh", "default", "--cache-to", "type=inline"], &agent)), @"
    exit code 1
    error: builder `oci` cannot do `--cache-to`
    error: builder `oci` cannot do `--ssh`
    hint: choose one that can: `--builder docker`, `--builder hostile`
    ");
    insta::assert_snapshot!(told(&env, &["build", "app.yaml", "--cache-to", "type=s3,hunter2"]), @"
    exit code 2
    error: `--cache-to` names no cache
    note: part 2 of it has no `=`
    hint: write `--cache-to type=registry,ref=NAME`, or the name alone
    ");
    insta::assert_snapshot!(told(&env, &["build", "app.yaml", "--ssh", "default"]), @"
    exit code 2
    error: `--ssh default` asks for your SSH agent, and SSH_AUTH_SOCK names none
    hint: start one: `eval $(ssh-agent)` and `ssh-add`
    ");
    insta::assert_snapshot!(told(&env, &["build", "app.yaml", "--ssh", "id=/key"]), @"
    exit code 2
    error: `--ssh id=/key` is not known
    hint: write `--ssh default` for the agent of SSH_AUTH_SOCK
    ");
    insta::assert_snapshot!(said(&env, &env.run_with(&["build", "app.yaml", "--ssh", "default"], &[("SSH_AUTH_SOCK", "app.yaml")])), @"
    exit code 2
    error: SSH_AUTH_SOCK is `app.yaml`, which is no socket
    hint: start an agent: `eval $(ssh-agent)` and `ssh-add`
    ");
}

#[test]
fn what_is_rendered_goes_to_stdout_or_to_a_folder_that_is_whole() {
    let env = project();
    assert_eq!(env.stdout(&["render", "app.yaml"]), "an image on nothing, with 0 secrets\n");
    assert_eq!(env.stdout(&["render", "app.yaml", "--output", "dir=deep/out"]), "deep/out\n");
    let read = |path: &str| fs::read_to_string(env.path().join(path)).unwrap_or_default();
    assert_eq!(read("deep/out/recipe"), "an image on nothing, with 0 secrets\n");
    fs::create_dir(env.path().join("empty")).unwrap();
    assert_eq!(env.stdout(&["render", "app.yaml", "--output", "dir=empty"]), "empty\n");
    assert_eq!(read("empty/recipe"), "an image on nothing, with 0 secrets\n");
    insta::assert_snapshot!(told(&env, &["render", "app.yaml", "--output", "dir=empty"]), @"
    exit code 1
    error: `empty` is not empty
    hint: name a folder that is not there yet: nothing is overwritten
    ");
    insta::assert_snapshot!(told(&env, &["render", "app.yaml", "--output", "dir=app.yaml"]), @"
    exit code 1
    error: `app.yaml` is no folder
    hint: name a folder that is not there yet: nothing is overwritten
    ");
    insta::assert_snapshot!(told(&env, &["render", "app.yaml", "--output", "type=oci,dest=x"]), @"
    exit code 2
    error: `--output type=oci,dest=x` is not known
    hint: write `--output dir=DIR`
    ");
    // One that fails in the middle leaves nothing.
    let failed = env.run(&["render", "app.yaml", "--output", "dir=new/out", "--builder-opt", "do=abort"]);
    assert_eq!(failed.code, 1);
    let left: Vec<_> = fs::read_dir(env.path().join("new")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_builder_that_cannot_render_names_those_that_can() {
    let env = project();
    insta::assert_snapshot!(told(&env, &["render", "app.yaml", "--builder", "oci"]), @"
    exit code 1
    error: builder `oci` cannot do `render`
    hint: choose one that can: `--builder docker`, `--builder envd`, `--builder remote`, `--builder hostile`
    ");
}

#[test]
fn a_base_is_made_for_what_is_rendered_too() {
    let env = on_archive();
    insta::assert_snapshot!(told(&env, &["render", "on_archive.yaml"]), @"
    exit code 0
    base docker archive HASH is made by builder oci
    TIME  base docker-archive:FOLDER/base.tar  1 layer
    TIME  write oci:FOLDER/cache/tmp/base-NAME/base
    an image on a layout, with 0 secrets
    ");
}
