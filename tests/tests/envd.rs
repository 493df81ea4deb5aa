//! The builder envd, by the real program: with a BuildKit at a port and with that of an engine, pushed to a registry with a
//! password, and run. Needs the network, for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use imagespec_tests::{
    Bridge, DockerRegistry, Engine, Finished, Kind, PASSWORD, Setup, Shared, TestEnv, envd, insta, network_variables,
    skip,
};
use serde_json::Value;

/// An engine, its BuildKit at a port, and a registry with a password. The tests of this file share them.
struct Machines {
    engine: Engine,
    bridge: Bridge,
    registry: DockerRegistry,
}

static MACHINES: Shared<Option<Machines>> = Shared::new(|| match Engine::start(Kind::Docker26) {
    Ok(engine) => {
        let bridge = Bridge::tcp(&engine);
        Some(Machines { engine, bridge, registry: DockerRegistry::start(Setup::Password) })
    }
    Err(why) => {
        skip("builder envd", &why);
        None
    }
});

/// A folder of a test's own, and envd in it, at a path with blanks.
struct Place {
    env: TestEnv,
    program: PathBuf,
    machines: Arc<Option<Machines>>,
}

impl Deref for Place {
    type Target = Machines;

    fn deref(&self) -> &Machines {
        self.machines.as_ref().as_ref().unwrap()
    }
}

impl Place {
    fn new() -> Option<Self> {
        let machines = MACHINES.get();
        machines.as_ref().as_ref()?;
        let env = TestEnv::with_debian();
        let folder = env.path().join("a folder");
        fs::create_dir(&folder).unwrap();
        let program = folder.join("envd");
        symlink(envd(), &program).unwrap();
        Some(Self { env, program, machines })
    }

    /// What the builder is told beside the spec, with the BuildKit at its port.
    fn at_port(&self) -> Vec<String> {
        let program = format!("program={}", self.program.display());
        let address = format!("address={}", self.bridge.address());
        [&["--builder", "envd", "--builder-opt"][..], &[&program, "--builder-opt", &address]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The same with the engine's BuildKit.
    fn in_engine(&self) -> Vec<String> {
        self.at_port()[..4].to_vec()
    }

    fn command(&self, arguments: &[&str], options: &[String]) -> Command {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let mut command = self.env.command(&[arguments, &options[..]].concat());
        let config = self.registry.config().parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.envs(network_variables()).env("DOCKER_HOST", self.engine.host()).env("DOCKER_CONFIG", config);
        command.env("PATH", path);
        command
    }

    fn run(&self, arguments: &[&str], options: &[String]) -> Finished {
        finished(&mut self.command(arguments, options))
    }

    fn pulled_and_run(&self, pinned: &str) -> String {
        self.engine.log_in(&self.registry);
        self.engine.docker(&["pull", "--quiet", pinned]);
        self.engine.docker(&["run", "--rm", "--network", "none", pinned])
    }

    /// Exit code and what is said, without what differs from one run to the next.
    fn told(&self, finished: &Finished) -> String {
        let text = format!("exit code {}\n{}", finished.code, finished.stderr);
        let text = text.replace(&self.env.path().display().to_string(), "FOLDER");
        text.lines()
            .filter(|line| !line.contains(" s  ") && !line.starts_with("  cached"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn finished(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_quickstart_is_built_at_a_port_pushed_to_a_registry_with_a_password_and_run() {
    let Some(place) = Place::new() else { return };
    let registry = format!("{}/team", place.registry.host());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for file in ["imagespec.yaml", "report.py"] {
        place.env.write(&format!("quickstart/{file}"), &fs::read_to_string(example.join(file)).unwrap());
    }
    let arguments = ["build", "quickstart/imagespec.yaml", "--registry", &registry, "--metadata-file", "report.json"];
    let built = place.run(&arguments, &place.at_port());
    assert_eq!(built.code, 0, "{}", built.stderr);
    let pinned = built.stdout.trim();
    let printed = place.pulled_and_run(pinned);
    assert!(printed.starts_with("hello from Python 3.11.") && printed.ends_with("mean age 11.5\n"), "{printed}");
    let report: Value = serde_json::from_slice(&fs::read(place.env.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["digest"], pinned.split_once('@').unwrap().1);
    let layers = report["images"][0]["layers"].as_array().unwrap();
    let titles: Vec<_> = layers.iter().map(|layer| &layer["title"]).collect();
    assert_eq!(titles, ["base", "files", "python environment", "install 3 Python packages"]);
    for title in ["push base ", "python environment", "install 3 Python packages", "push "] {
        assert!(built.stderr.contains(&format!(" s  {title}")), "{}", built.stderr);
    }
    let again = place.run(&arguments[..4], &place.at_port());
    assert_eq!(again.stdout, built.stdout);
    assert!(again.stderr.ends_with("exists, nothing to build\n"), "{}", again.stderr);
    // The base has a tag that says what it is, and the image one; nothing else was named.
    let tags = format!("http://user:{PASSWORD}@{}/v2/team/quickstart/tags/list", place.registry.host());
    let tags: Value = serde_json::from_str(&imagespec_tests::outsider("curl", &["-sf", &tags])).unwrap();
    let tags: Vec<_> = tags["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    assert_eq!(tags.len(), 2, "{tags:?}");
    let base = tags.iter().find_map(|tag| tag.strip_prefix("imagespec-base-")).unwrap();
    assert!(base.len() >= 16 && base.bytes().all(|digit| digit.is_ascii_hexdigit()), "{base}");
    // envd kept to its own home, which is gone, and the logins with it.
    let home: Vec<_> =
        fs::read_dir(place.env.path().join("home")).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    assert!(home.is_empty(), "{home:?}");
    let left: Vec<_> = fs::read_dir(place.env.path().join("cache/envd")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

const EVERYTHING: &str = r#"name: app
python_version: 3.11
apt_packages: [tree]
packages: [six]
requirements: requirements.txt
copy: [data]
workdir: /srv/a b
env: {WHO: "it's $HOME", PATH: "/usr/bin:/bin"}
labels: {own: 'a "label"'}
commands:
  - echo "$WHO in $PWD by $(command -v python)" > /srv/made
  - 'printf ''it''"''"''s $HOME \\ "quoted"\n'' > ''/srv/na me'''
  - |
    set -e
    cat <<'END' > /srv/text
    two 'lines'
    #3 DONE 0.1s
    END
cmd: [sh, -c, 'cat /srv/made "/srv/na me" /srv/text && python -c "import six" && /root/data/run && tree --version >/dev/null && ls -a /home /']
"#;

const PRINTS: &str =
    "it's $HOME in /srv/a b by /opt/venv/bin/python\nit's $HOME \\ \"quoted\"\ntwo 'lines'\n#3 DONE 0.1s\nran\n";

#[test]
fn a_spec_with_all_that_envd_can_do_is_built_in_an_engine_and_pushed_by_it() {
    let Some(place) = Place::new() else { return };
    place.env.write("app.yaml", EVERYTHING);
    place.env.write("requirements.txt", "idna==3.10\n");
    place.env.write("data/run", "#!/bin/sh\necho ran\n");
    fs::set_permissions(place.env.path().join("data/run"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let kept = place.run(&["build", "app.yaml", "--no-push"], &place.in_engine());
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let name = kept.stdout.trim().split('@').next().unwrap();
    let printed = place.engine.docker(&["run", "--rm", "--network", "none", name]);
    assert!(printed.starts_with(PRINTS), "{printed}");
    assert!(!printed.contains("envd") && !printed.contains(".imagespec"), "{printed}");
    let registry = format!("{}/team", place.registry.host());
    let pushed = place.run(&["build", "app.yaml", "--registry", &registry, "--push"], &place.in_engine());
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert!(place.pulled_and_run(pushed.stdout.trim()).starts_with(PRINTS));
}

#[test]
fn what_fails_is_told_with_its_last_words_and_its_place() {
    let Some(place) = Place::new() else { return };
    let told = |spec: &str| {
        place.env.write("app.yaml", &format!("name: app\n{spec}"));
        place.told(&place.run(&["build", "app.yaml", "--no-push"], &place.in_engine()))
    };
    // Both streams are full of words, and the last ones count.
    let failed = told("commands:\n  - 'true'\n  - 'seq 1 300; seq 1 300 >&2; sleep 1; echo the last word; exit 7'\n");
    let (_, end) = failed.split_once("error: ").unwrap();
    insta::assert_snapshot!(end.lines().filter(|line| line.trim().parse::<u32>().is_err()).collect::<Vec<_>>().join("\n"), @"
    `run seq 1 300; seq 1 300 >&2; sleep 1; echo the last word; exit 7` ended with exit code 7:
           the last word
      --> app.yaml:4:5
       |
     4 |   - 'seq 1 300; seq 1 300 >&2; sleep 1; echo the last word; exit 7'
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
    let failed = told("python_version: 3.11\npackages: [this-package-does-not-exist-anywhere]\n");
    let (_, end) = failed.split_once("error: ").unwrap();
    insta::assert_snapshot!(end.lines().next().unwrap(), @"No solution found when resolving dependencies");
    assert!(end.contains("app.yaml:3:"), "{end}");
    let failed = told("apt_packages: [this-package-does-not-exist-anywhere]\n");
    let (_, end) = failed.split_once("error: ").unwrap();
    insta::assert_snapshot!(end.lines().next().unwrap(), @"`install 1 Debian package` ended with exit code 100:");
    assert!(end.contains("app.yaml:2:"), "{end}");
    // A BuildKit that is not there.
    place.env.write("app.yaml", "name: app\n");
    let mut options = place.in_engine();
    options.extend(["--builder-opt".to_owned(), "address=tcp://127.0.0.1:1".to_owned()]);
    let registry = format!("{}/team", place.registry.host());
    let failed = place.told(&place.run(&["build", "app.yaml", "--registry", &registry], &options));
    let (_, end) = failed.split_once("error: ").unwrap();
    insta::assert_snapshot!(end, @r#"
    envd ended with exit code 1
    note: failed to create the builder: failed to create buildkit client: failed to bootstrap the buildkitd: failed to connect to buildkitd tcp://127.0.0.1:1: timeout 5s: cannot connect to buildkitd
    hint: start it, or name another one: `[builders.envd] address = "tcp://HOST:PORT"`
    hint: `--builder oci` needs no other program
    "#);
}

#[test]
fn a_context_that_the_user_made_is_taken_and_left_as_it_is() {
    let Some(place) = Place::new() else { return };
    place.env.write("app.yaml", "name: app\ncommands: [echo hello > /root/hello]\n");
    // The user's own contexts, of which another one is current.
    let home = place.env.path().join("home");
    let envd = |arguments: &[&str]| {
        let mut command = Command::new(&place.program);
        command.args(arguments).env_clear().env("HOME", &home).env("ENVD_ANALYTICS", "false");
        let finished = finished(&mut command);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout
    };
    let address = place.bridge.address();
    let address = address.split_once("://").map_or(address.as_str(), |(_, address)| address);
    envd(&["context", "create", "--name", "team", "--builder", "tcp", "--builder-address", address]);
    envd(&["context", "create", "--name", "other", "--builder", "tcp", "--builder-address", "127.0.0.1:1", "--use"]);
    let before = envd(&["context", "ls"]);
    let registry = format!("{}/team", place.registry.host());
    let arguments = ["build", "app.yaml", "--registry", &registry];
    let built = finished(
        place
            .command(&arguments, &place.in_engine())
            .env("FLYTE_ENVD_CONTEXT", "team")
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock"),
    );
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert_eq!(envd(&["context", "ls"]), before);
    let unknown = finished(
        place.command(&[&arguments[..], &["--force"]].concat(), &place.in_engine()).env("FLYTE_ENVD_CONTEXT", "none"),
    );
    let told = place.told(&unknown);
    insta::assert_snapshot!(told.split_once("error: ").unwrap().1, @r#"
    envd has no context `none`, which FLYTE_ENVD_CONTEXT names
    hint: `envd context ls` lists them; `[builders.envd] address = "tcp://HOST:PORT"` needs none
    "#);
}

#[test]
fn whoever_cancels_ends_envd_and_its_build() {
    let Some(place) = Place::new() else { return };
    place.env.write("app.yaml", "name: app\ncommands: [echo begun; sleep 300]\n");
    let mut command = place.command(&["build", "app.yaml", "--no-push", "--progress", "plain"], &place.in_engine());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.ends_with("begun\n") {
        assert!(lines.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let pid = child.id().to_string();
    let start = Instant::now();
    imagespec_tests::outsider("kill", &["-INT", &pid]);
    lines.read_to_string(&mut seen).unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && start.elapsed() < Duration::from_secs(10), "{status} {:?}", start.elapsed());
    let program = fs::canonicalize(&place.program).unwrap();
    let cache = place.env.path().join("cache").display().to_string();
    let running = || {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let is_envd = fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program);
                let words = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
                (is_envd && words.contains(&cache)).then_some(words)
            })
            .next()
    };
    let start = Instant::now();
    while let Some(words) = running() {
        assert!(start.elapsed() < Duration::from_secs(10), "{words} runs");
        thread::yield_now();
    }
    assert_eq!(fs::read_dir(place.env.path().join("cache/envd")).unwrap().count(), 0);
}
