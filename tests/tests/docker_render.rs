//! Two promises of builder `docker`, on a real engine: what it renders is all that Docker needs, and it says what its engine
//! has before anything is made.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use imagespec_tests::{Engine, Finished, Kind, Program, TestEnv, differences, network_variables, seen, skip, snapshot};

const SPEC: &str = "name: app\nbuilder: docker\nbase_image: BASE\ncopy: [data.txt]\nenv: {GREETING: 'good morning'}\n\
                    labels: {team: 'a b'}\n";

fn started() -> Option<Engine> {
    match Engine::start(Kind::Docker20) {
        Ok(engine) => Some(engine),
        Err(why) => {
            skip("what builder docker renders and finds", &why);
            None
        }
    }
}

/// A folder with a base as a layout and as an archive, each of which says something that an image on it keeps.
fn project() -> TestEnv {
    let env = TestEnv::new();
    let base =
        "base_image: scratch\ncopy: [base.txt]\nenv: {OF_THE_BASE: 'yes'}\nentrypoint: [/bin/program]\ncmd: [now]\n";
    env.write("base.txt", "base\n");
    env.write("base.yaml", &format!("name: base\nuser: app\n{base}"));
    env.write("data.txt", "data\n");
    env.stdout(&["build", "base.yaml", "--output", "type=oci,dest=layout"]);
    env.stdout(&["build", "base.yaml", "--output", "type=docker-archive,dest=saved.tar"]);
    env
}

fn run(env: &TestEnv, engine: &Engine, arguments: &[&str]) -> Finished {
    env.run_with(arguments, &[("DOCKER_HOST", &engine.host())])
}

/// Exit code and all that is said, with what is data last.
fn told(env: &TestEnv, engine: &Engine, arguments: &[&str]) -> String {
    let Finished { code, stdout, stderr } = run(env, engine, arguments);
    format!("exit code {code}\n{stderr}{stdout}").replace(&engine.host(), "unix://SOCKET")
}

#[test]
fn what_is_rendered_is_all_that_docker_needs_to_build_the_same_image() {
    let Some(engine) = started() else { return };
    let env = project();
    for (name, base) in [("nothing", "scratch"), ("layout", "oci:layout"), ("archive", "docker-archive:saved.tar")] {
        let spec = format!("{name}.yaml");
        env.write(&spec, &SPEC.replace("BASE", base));
        let rendered = env.stdout(&["render", &spec]);
        let (own, folder) = (format!("by-hand-{name}"), env.path().join("rendered").join(name));
        let target = format!("dir={}", folder.display());
        env.stdout(&["render", &spec, "--output", &target]);
        assert_eq!(fs::read_to_string(folder.join("Dockerfile")).unwrap(), rendered);
        assert!(rendered.ends_with('\n') && !rendered.ends_with("\n\n"));

        // The command is the one that stands there, as somebody types it who has this folder alone.
        let command = rendered.lines().nth(1).unwrap().trim_start_matches("#   ");
        let command = command.replace("docker build ", &format!("docker build --quiet --tag {own} "));
        let typed = Command::new("sh")
            .args(["-ec", &command])
            .current_dir(&folder)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("DOCKER_HOST", &engine.host()), ("DOCKER_BUILDKIT", "1")])
            .output()
            .unwrap();
        assert!(typed.status.success(), "{command}: {}", String::from_utf8_lossy(&typed.stderr));
        let by_hand = seen(&engine, &own, Program::Absent);
        if base != "scratch" {
            assert_eq!(by_hand["config variable OF_THE_BASE"], "yes");
            assert_eq!((by_hand["config User"].as_str(), by_hand.contains_key("file /root/base.txt")), ("app", true));
        }

        let built = run(&env, &engine, &["build", &spec]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let image = built.stdout.trim().split('@').next().unwrap();
        assert_eq!(differences(&by_hand, &seen(&engine, image, Program::Absent)), [], "{name}");
        // The next one has the same name.
        engine.docker(&["image", "rm", "--force", image, &own]);
    }
}

#[test]
fn the_engine_is_asked_what_it_has_before_anything_is_made() {
    let Some(engine) = started() else { return };
    let env = project();
    env.write("app.yaml", &SPEC.replace("BASE", "oci:layout"));
    snapshot!(told(&env, &engine, &["exists", "app.yaml"]), @"
    exit code 1
    app:HASH does not exist
    ");
    snapshot!(told(&env, &engine, &["run", "app.yaml"]), @"
    exit code 1
    error: `app:HASH` is not built: builder `docker` does not have it
    hint: `imagespec build app.yaml` builds it
    ");
    let dry = told(&env, &engine, &["build", "app.yaml", "--dry-run"]);
    assert!(dry.ends_with("keeps images; it does not exist\n"), "{dry}");
    let built = run(&env, &engine, &["build", "app.yaml"]);
    assert_eq!(built.code, 0, "{}", built.stderr);

    let exists = run(&env, &engine, &["exists", "app.yaml"]);
    assert_eq!((exists.code, &exists.stdout), (0, &built.stdout), "{}", exists.stderr);
    let again = run(&env, &engine, &["build", "app.yaml"]);
    assert_eq!((again.code, &again.stdout), (0, &built.stdout));
    snapshot!(again.stderr, @"app:HASH exists, nothing to build");
    let inspected = run(&env, &engine, &["inspect", "app.yaml"]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
    assert!(inspected.stdout.contains(" GREETING=good morning\n"), "{}", inspected.stdout);
    let dry = told(&env, &engine, &["build", "app.yaml", "--dry-run"]);
    assert!(dry.ends_with("keeps images; it exists\n"), "{dry}");
    // It is another image as soon as something changes, and it is built again if that is asked for.
    let forced = run(&env, &engine, &["build", "app.yaml", "--force"]);
    assert!(forced.code == 0 && !forced.stderr.contains("nothing to build"), "{}", forced.stderr);
    assert_eq!(run(&env, &engine, &["exists", "app.yaml", "--set", "env.GREETING=bye"]).code, 1);
    // An image that goes somewhere else is made for that.
    let output = run(&env, &engine, &["build", "app.yaml", "--output", "type=oci,dest=out"]);
    assert!(output.code == 0 && env.path().join("out/index.json").is_file(), "{}", output.stderr);

    engine.stop();
    snapshot!(told(&env, &engine, &["exists", "app.yaml"]), @"
    exit code 3
    error: cannot tell whether `app:HASH` exists
    note: cannot reach a Docker engine at `unix://SOCKET`
    note: nobody answers
    note: No such file or directory (os error 2)
    hint: start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`
    hint: `--builder oci` needs no engine
    ");
    let dry = told(&env, &engine, &["build", "app.yaml", "--dry-run"]);
    assert!(dry.starts_with("exit code 0\n") && dry.contains("; whether it exists is unknown: "), "{dry}");
}

/// Of a spec that names no builder, it is the user who says which one built it.
#[test]
fn an_image_of_the_engine_is_found_shown_and_run_by_whoever_names_the_builder() {
    let Some(engine) = started() else { return };
    let env = TestEnv::new();
    fs::copy("/bin/busybox", env.path().join("busybox")).expect("install busybox-static");
    let copy = "copy: [busybox]\nentrypoint: [/root/busybox]\ncmd: [echo, hello]\n";
    env.write("app.yaml", &format!("name: app\nbase_image: scratch\n{copy}"));
    let by_docker = |command: &str, more: &[&str]| {
        let host = format!("host={}", engine.host());
        let arguments = [&[command, "app.yaml", "--builder", "docker", "--builder-opt", &host], more].concat();
        env.run(&arguments)
    };
    let absent = by_docker("run", &[]);
    snapshot!(absent.stderr, @"
    error: `app:HASH` is not built: builder `docker` does not have it
    hint: `imagespec build app.yaml --builder docker` builds it
    ");
    assert_eq!(by_docker("exists", &[]).code, 1);
    let built = by_docker("build", &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let exists = by_docker("exists", &[]);
    assert_eq!((exists.code, &exists.stdout), (0, &built.stdout), "{}", exists.stderr);
    assert_eq!(env.run(&["exists", "app.yaml"]).code, 1, "builder oci has none");
    let ran = by_docker("run", &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello\n"), "{}", ran.stderr);
    let ran = by_docker("run", &["--", "/root/busybox", "sh", "-c", "exit 7"]);
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    let shown = by_docker("inspect", &["--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect(&shown.stderr);
    assert_eq!(shown["images"][0]["entrypoint"], serde_json::json!(["/root/busybox"]), "{shown}");
    // A name in a registry says nothing of builders.
    let refused = env.run(&["exists", "debian:12", "--builder", "docker"]);
    snapshot!(format!("exit code {}\n{}", refused.code, refused.stderr), @"
    exit code 2
    error: `--builder` says who built the image of a spec, and `debian:12` is no spec
    hint: name the spec, or leave it out
    ");
}

/// Needs the network, for Debian's archive.
#[test]
fn a_base_that_another_builder_makes_is_not_made_for_an_image_that_is_there() {
    let Some(engine) = started() else { return };
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\nbuilder: docker\nbase_image: bootstrap:debian/bookworm\nlabels: {a: b}\n");
    let host = engine.host();
    let mut online = network_variables();
    online.push(("DOCKER_HOST".to_owned(), host.clone()));
    let online: Vec<_> = online.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let built = env.run_with(&["build", "app.yaml"], &online);
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains("base bootstrap:debian/bookworm is made by builder oci"), "{}", built.stderr);
    // Nothing is remembered of the base, and there is no network to make it of.
    let start = Instant::now();
    let again = env.run_with(&["build", "app.yaml"], &[("DOCKER_HOST", &host), ("IMAGESPEC_CACHE_DIR", "another")]);
    assert_eq!((again.code, &again.stdout), (0, &built.stdout), "{}", again.stderr);
    snapshot!(again.stderr, @"app:HASH exists, nothing to build");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());

    // Who could not build on a base does not have one made.
    engine.stop();
    let forced = env.run_with(&["build", "app.yaml", "--force"], &online);
    assert_eq!(forced.code, 1);
    assert!(!forced.stderr.contains("is made by"), "{}", forced.stderr);
}
