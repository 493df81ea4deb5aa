//! What can go wrong with a builder that is somebody else's engine: it says what, leaves nothing running, and works again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imagespec_tests::{
    DockerRegistry, Engine, EngineSetup, Finished, Kind, PASSWORD, Setup, TestEnv, insta, network_variables, outsider,
    skip, snapshot,
};

/// How long something may take that takes no time at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A spec whose command waits for the test, which so knows when it runs and when it ends.
struct Waiting {
    env: TestEnv,
    engine: Engine,
    questions: TcpListener,
}

impl Waiting {
    /// Nothing where there can be no such engine.
    fn new(kind: Kind) -> Option<Self> {
        let engine = started(kind, &EngineSetup::default())?;
        let questions = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = questions.local_addr().unwrap().port();
        let ask = format!("import socket; assert socket.create_connection((\"{}\", {port})).recv(1)", Engine::MACHINE);
        let env = TestEnv::with_debian();
        env.write("app.yaml", &format!("name: app\npython_version: 3.11\ncommands:\n  - python -c '{ask}'\n"));
        Some(Self { env, engine, questions })
    }

    /// The build, and the connection of its command, which waits.
    fn begun(&self) -> (Child, TcpStream) {
        let mut command = self.env.command(&["build", "app.yaml", "--builder", "docker"]);
        command.envs(network_variables()).env("DOCKER_HOST", self.engine.host());
        let build = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (question, _) = self.questions.accept().unwrap();
        question.set_read_timeout(Some(PATIENCE)).unwrap();
        (build, question)
    }

    /// Asserts that nothing of the build is left, and that another one succeeds.
    fn works_again(&self, mut question: TcpStream) {
        // Whoever asked has ended: its end of the connection is closed.
        let left = question.read(&mut [0]);
        assert!(left.as_ref().is_ok_and(|count| *count == 0) || left.is_err_and(|error| !is_timeout(&error)));
        assert_eq!(self.engine.docker(&["ps", "--all", "--quiet"]), "");
        let (build, mut question) = self.begun();
        question.write_all(b"!").unwrap();
        let built = finished(build);
        assert_eq!(built.code, 0, "{}", built.stderr);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn started(kind: Kind, setup: &EngineSetup) -> Option<Engine> {
    match Engine::start_with(kind, setup) {
        Ok(engine) => Some(engine),
        Err(why) => {
            skip(&format!("builder docker with {}", kind.name()), &why);
            None
        }
    }
}

/// What a build came to. Its streams are read to the end whatever it does.
fn finished(build: Child) -> Finished {
    let output = thread::spawn(move || build.wait_with_output().unwrap()).join().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Builds by the engine and returns what it came to.
fn build(env: &TestEnv, engine: &Engine, arguments: &[&str]) -> Finished {
    let host = engine.host();
    env.run_online(&[&["build", "app.yaml", "--builder", "docker"], arguments].concat(), &[("DOCKER_HOST", &host)])
}

/// Exit code and error of a run that printed no data, without what it said on the way and where the engine is.
fn told(engine: &Engine, failed: &Finished) -> String {
    assert_eq!(failed.stdout, "", "{}", failed.stderr);
    assert!(!failed.stderr.contains("panicked"), "{}", failed.stderr);
    let start = failed.stderr.find("error: ").unwrap_or_else(|| panic!("no error is told: {failed:?}"));
    format!("exit code {}\n{}", failed.code, failed.stderr[start..].replace(&engine.host(), "ENGINE"))
}

#[test]
fn an_interrupt_ends_what_runs_in_the_engine() {
    for kind in [Kind::Docker20, Kind::Docker26] {
        let Some(waiting) = Waiting::new(kind) else { return };
        let (build, question) = waiting.begun();
        outsider("kill", &["-INT", &build.id().to_string()]);
        let cancelled = finished(build);
        assert_eq!(told(&waiting.engine, &cancelled), "exit code 1\nerror: the build was cancelled\n");
        waiting.works_again(question);
    }
}

#[test]
fn a_program_that_is_killed_leaves_nothing_running_in_the_engine() {
    for kind in [Kind::Docker20, Kind::Docker26] {
        let Some(waiting) = Waiting::new(kind) else { return };
        let (mut build, question) = waiting.begun();
        build.kill().unwrap();
        build.wait().unwrap();
        waiting.works_again(question);
    }
}

#[test]
fn an_engine_that_ends_in_the_middle_of_a_build_is_an_error_that_may_pass() {
    for kind in [Kind::Docker20, Kind::Docker26] {
        let Some(waiting) = Waiting::new(kind) else { return };
        for end in [Engine::stop, Engine::kill] {
            let (build, question) = waiting.begun();
            end(&waiting.engine);
            let failed = finished(build);
            let told = told(&waiting.engine, &failed);
            // How exactly it broke differs from time to time, and is one line.
            let (notes, lines): (Vec<_>, Vec<_>) = told.lines().partition(|line| line.starts_with("note: "));
            assert!(notes.len() == 1 && !notes[0].contains("::"), "{notes:?}");
            assert_eq!(
                lines,
                [
                    "exit code 75",
                    "error: the connection to BuildKit broke",
                    "hint: the engine may have been stopped: build again when it runs, what was done is in its cache",
                ]
            );
            waiting.engine.start_again().unwrap();
            waiting.works_again(question);
            // What was built must be built again.
            waiting.engine.docker(&["system", "prune", "--all", "--force"]);
            waiting.engine.docker(&["builder", "prune", "--all", "--force"]);
        }
    }
}

#[test]
fn an_engine_whose_disk_is_full_says_so() {
    for kind in [Kind::Docker20, Kind::Docker26] {
        // The base fits; what the command writes does not.
        let setup = EngineSetup { disk_mib: Some(1024), ..EngineSetup::default() };
        let Some(engine) = started(kind, &setup) else { return };
        let env = TestEnv::with_debian();
        env.write("app.yaml", "name: app\npython_version: 3.11\ncommands: [head -c 4G /dev/zero > /srv/zeros]\n");
        let failed = build(&env, &engine, &[]);
        insta::allow_duplicates! {
            snapshot!(told(&engine, &failed), @"
            exit code 1
            error: `run head -c 4G /dev/zero > /srv/zeros` ended with exit code 1:
                   head: error writing 'standard output': No space left on device
              --> app.yaml:3:12
               |
             3 | commands: [head -c 4G /dev/zero > /srv/zeros]
               |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: make room where the engine keeps its data: `docker builder prune`, `docker system prune`
            ");
        }
        assert_eq!(engine.docker(&["ps", "--all", "--quiet"]), "");

        env.write("app.yaml", "name: app\npython_version: 3.11\ncommands: [echo > /srv/little]\n");
        let built = build(&env, &engine, &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
    }
}

#[test]
fn a_base_that_does_not_fit_into_the_engine_is_told_with_what_to_do() {
    let setup = EngineSetup { disk_mib: Some(32), ..EngineSetup::default() };
    let Some(engine) = started(Kind::Docker20, &setup) else { return };
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\npython_version: 3.11\n");
    let failed = build(&env, &engine, &[]);
    // Which blob did not fit is the engine's affair.
    let told = told(&engine, &failed);
    let told: Vec<_> = told.split([':', '\n']).map(str::trim).filter(|part| !part.contains("sha256")).collect();
    assert_eq!(
        told,
        [
            "exit code 1",
            "error",
            "the engine did not load the base",
            "Error processing tar file(exit status 1)",
            "no space left on device",
            "hint",
            "make room where the engine keeps its data",
            "`docker builder prune`, `docker system prune`",
            "",
        ]
    );
}

#[test]
fn a_base_that_is_in_no_registry_is_told_with_its_line() {
    let Some(engine) = started(Kind::Docker20, &EngineSetup::default()) else { return };
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    env.write("app.yaml", &format!("name: app\nbase_image: {}/team/absent:1\nenv: {{A: b}}\n", registry.host()));
    let failed = build(&env, &engine, &[]);
    snapshot!(told(&engine, &failed), @"
    exit code 1
    error: the engine cannot find base `127.0.0.1:PORT/team/absent:1`
      --> app.yaml:2:13
       |
     2 | base_image: 127.0.0.1:PORT/team/absent:1
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: 127.0.0.1:PORT/team/absent:1: not found
    hint: look whether name and tag are spelt as in the registry
    ");

    // Nobody asks as nobody where the user said who he is.
    let guarded = DockerRegistry::start(Setup::Password);
    env.write("docker/config.json", &format!("{{\"credHelpers\": {{\"{}\": \"absent\"}}}}", guarded.host()));
    env.write("app.yaml", &format!("name: app\nbase_image: {}/team/base:1\nenv: {{A: b}}\n", guarded.host()));
    let (host, folder) = (engine.host(), env.path().join("docker").display().to_string());
    let variables = [("DOCKER_HOST", host.as_str()), ("DOCKER_CONFIG", &folder)];
    let failed = env.run_with(&["build", "app.yaml", "--builder", "docker"], &variables);
    snapshot!(told(&engine, &failed), @"
    exit code 1
    error: cannot get the credentials of `127.0.0.1:PORT`
      --> app.yaml:2:13
       |
     2 | base_image: 127.0.0.1:PORT/team/base:1
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: cannot run the credential helper `docker-credential-absent`
    note: No such file or directory (os error 2)
    hint: install `docker-credential-absent`, or take it out of `credHelpers` and `credsStore`
    ");

    env.write("app.yaml", "name: app\nbase_image: registry.invalid/team/base:1\nenv: {A: b}\n");
    let failed = told(&engine, &build(&env, &engine, &[]));
    let failed: Vec<_> = failed.lines().filter(|line| !line.starts_with("note: ")).collect();
    snapshot!(failed.join("\n"), @"
    exit code 75
    error: the engine cannot reach `registry.invalid`, where base `registry.invalid/team/base:1` is
      --> app.yaml:2:13
       |
     2 | base_image: registry.invalid/team/base:1
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: check the spelling of `registry.invalid`, and whether the engine reaches it
    ");
}

#[test]
fn a_base_of_another_processor_is_refused() {
    let Some(engine) = started(Kind::Docker20, &EngineSetup::default()) else { return };
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    env.write("base.yaml", "name: base\nbase_image: scratch\nenv: {OF: base}\n");
    let target = format!("{}/team", registry.host());
    let archive = env.run(&["build", "base.yaml", "--output", "type=docker-archive,dest=base.tar"]);
    assert_eq!(archive.code, 0, "{}", archive.stderr);
    let base = env.run(&["build", "base.yaml", "--registry", &target]);
    assert_eq!(base.code, 0, "{}", base.stderr);

    let spec = |base: &str| format!("name: app\nbase_image: {base}\nplatform: linux/arm64\nenv: {{A: b}}\n");
    env.write("app.yaml", &spec(base.stdout.trim()));
    let failed = told(&engine, &build(&env, &engine, &[])).replace(base.stdout.trim(), "BASE");
    // The line itself is as long as the port.
    let failed: Vec<_> = failed.lines().filter(|line| !line.contains('|')).collect();
    snapshot!(failed.join("\n"), @"
    exit code 1
    error: base `BASE` has no image for linux/arm64; it has linux/amd64
      --> app.yaml:2:13
    hint: build for it by `--platform linux/amd64`, or take a base that has both
    ");
    env.write("app.yaml", &spec("docker-archive:base.tar"));
    let failed = told(&engine, &build(&env, &engine, &[])).replace(&env.path().display().to_string(), "PROJECT");
    snapshot!(failed, @"
    exit code 1
    error: base `docker-archive:PROJECT/base.tar` has no image for linux/arm64; it has linux/amd64
      --> app.yaml:2:13
       |
     2 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    hint: build for it by `--platform linux/amd64`, or take a base that has both
    ");
}

/// Needs the network, for Debian's archive and the package index.
#[test]
fn a_package_that_there_is_not_is_marked_among_those_that_there_are() {
    let Some(engine) = started(Kind::Docker20, &EngineSetup::default()) else { return };
    let env = TestEnv::with_debian();
    let failed = |spec: &str| {
        env.write("app.yaml", &format!("name: app\n{spec}"));
        let told = told(&engine, &build(&env, &engine, &[]));
        // What uv and apt say on the way is theirs.
        let (first, rest) = told[told.rfind("error: `").unwrap()..].split_once(":\n").unwrap();
        format!("{first}:\n…\n{}", rest.split_once("  -->").map_or("", |(_, place)| place))
    };
    snapshot!(failed("apt_packages: [jq, curll]\n"), @"
    error: `install 2 Debian packages` ended with exit code 100:
    …
     app.yaml:2:20
       |
     2 | apt_packages: [jq, curll]
       |                    ^^^^^
    hint: check the names at https://packages.debian.org, and whether the image's mirror is reached
    ");
    // Without a network uv says so, and does not wait for one.
    env.write("app.yaml", "name: app\npython_version: 3.11\npackages: [six]\n");
    let alone = build(&env, &engine, &["--builder-opt", "network=none"]);
    assert!(alone.stderr.contains("network was disabled"), "{}", alone.stderr);
    snapshot!(failed("python_version: 3.11\npackages:\n  - six\n  - imagespec-typo-of-nothing\n"), @"
    error: `install 2 Python packages` ended with exit code 1:
    …
     app.yaml:5:5
       |
     5 |   - imagespec-typo-of-nothing
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
}

/// Needs the network, for Debian's archive and uv.
#[test]
fn a_python_that_nobody_has_is_told_before_a_base_is_made() {
    let Some(engine) = started(Kind::Docker20, &EngineSetup::default()) else { return };
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\npython_version: 3.99\n");
    let failed = build(&env, &engine, &[]);
    snapshot!(told(&engine, &failed), @"
    exit code 1
    error: there is no Python 3.99 for x86_64: Debian bookworm has 3.11, and uv 0.13.9 brings 3.8, 3.9, 3.10, 3.11, 3.12, 3.13, 3.14 and 3.15
      --> app.yaml:2:17
       |
     2 | python_version: 3.99
       |                 ^^^^
    hint: take one of these as `python_version`
    ");
    assert!(!failed.stderr.contains("base"), "{}", failed.stderr);
    assert_eq!(engine.docker(&["images", "--quiet"]), "");
    // What another base has, nobody knows before it is looked at.
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/bookworm\n");
    let made = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    env.write("app.yaml", "name: app\nbase_image: oci:base\npython_version: 3.99\n");
    snapshot!(told(&engine, &build(&env, &engine, &[])), @"
    exit code 1
    error: there is no Python 3.99: the base has none, and uv brings 3.8 3.9 3.10 3.11 3.12 3.13 3.14 3.15
      --> app.yaml:3:17
       |
     3 | python_version: 3.99
       |                 ^^^^
    ");
}

#[test]
fn a_base_without_a_shell_is_told() {
    let Some(engine) = started(Kind::Docker20, &EngineSetup::default()) else { return };
    let env = TestEnv::new();
    env.write("data.txt", "data\n");
    env.write("base.yaml", "name: base\nbase_image: scratch\ncopy: [data.txt]\n");
    env.stdout(&["build", "base.yaml", "--output", "type=oci,dest=base"]);
    env.write("app.yaml", "name: app\nbase_image: oci:base\ncommands: [echo hello]\n");
    snapshot!(told(&engine, &build(&env, &engine, &[])), @"
    exit code 1
    error: `run echo hello` needs `/bin/sh`, which the base does not have
      --> app.yaml:3:12
       |
     3 | commands: [echo hello]
       |            ^^^^^^^^^^
    hint: take a `base_image` with a system in it
    ");
}

#[test]
fn a_push_that_is_denied_is_an_error_and_names_the_registry() {
    for kind in [Kind::Docker20, Kind::Docker26] {
        let Some(engine) = started(kind, &EngineSetup::default()) else { return };
        let registry = DockerRegistry::start(Setup::Password);
        let env = TestEnv::new();
        env.write("app.yaml", "name: app\nbase_image: scratch\ncopy: [data.txt]\n");
        env.write("data.txt", "data\n");
        let target = format!("{}/team", registry.host());
        // It cannot tell whether the image exists, either, and is told not to mind.
        let failed = build(&env, &engine, &["--registry", &target, "--if-unknown", "build"]);
        let told = told(&engine, &failed);
        match kind {
            Kind::Docker20 => snapshot!(told, @"
            exit code 1
            error: the engine did not push the image: no basic auth credentials
            hint: log in by `docker login 127.0.0.1:PORT`
            "),
            _ => snapshot!(told, @"
            exit code 1
            error: the engine did not push the image: push access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials
            hint: log in by `docker login 127.0.0.1:PORT`
            "),
        }

        let (folder, host) = (registry.config().parent().unwrap().display().to_string(), engine.host());
        let variables = [("DOCKER_CONFIG", folder.as_str()), ("DOCKER_HOST", &host)];
        let built = env.run_with(&["build", "app.yaml", "--builder", "docker", "--registry", &target], &variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        assert!(!format!("{failed:?}{built:?}").contains(PASSWORD));

        let login = STANDARD.encode("joe:wrong");
        let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{login}\"}}}}}}", registry.host());
        env.write("wrong/config.json", &config);
        let folder = env.path().join("wrong").display().to_string();
        let variables = [("DOCKER_CONFIG", folder.as_str()), ("DOCKER_HOST", &host)];
        let push =
            ["build", "app.yaml", "--builder", "docker", "--registry", &target, "--if-unknown", "build", "--force"];
        let failed = env.run_with(&push, &variables);
        assert_eq!(failed.code, 1);
        let hint = format!("\nhint: log in again by `docker login {}`: ", registry.host());
        assert!(failed.stderr.contains(&hint), "{}", failed.stderr);
    }
}

#[test]
fn an_engine_that_is_absent_is_noticed_before_any_work() {
    let env = TestEnv::new();
    env.write("app.yaml", "name: app\nbase_image: scratch\ncopy: [data.txt]\n");
    env.write("data.txt", "data\n");
    let host = [("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
    let failed = env.run_with(&["build", "app.yaml", "--builder", "docker"], &host);
    assert_eq!(failed.stdout, "");
    snapshot!(format!("exit code {}\n{}", failed.code, failed.stderr), @"
    exit code 1
    error: cannot reach a Docker engine at `unix:///nonexistent/docker.sock`
    note: nobody answers
    note: No such file or directory (os error 2)
    hint: start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`
    hint: `--builder oci` needs no engine
    ");
}
