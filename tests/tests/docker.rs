//! The builder docker in real engines: builds, pushes, runs, reuses what it has, and keeps secrets. Needs the network, for
//! Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::path::Path;
use std::process::Command;

use imagespec_tests::{
    DockerRegistry, EVERYTHING_PRINTS, Engine, Finished, FolderServer, GuardedIndex, Kind, PASSWORD, Setup, TestEnv,
    USER, WrittenWheel, everything, skip,
};
use serde_json::Value;

const CANARY: &str = "canary-Vb7Qm";

/// A folder, an engine and a registry with a password.
struct Place {
    env: TestEnv,
    engine: Engine,
    registry: DockerRegistry,
}

impl Place {
    fn new(kind: Kind) -> Option<Self> {
        match Engine::start(kind) {
            Ok(engine) => {
                let registry = DockerRegistry::start(Setup::Password);
                Some(Self { env: TestEnv::with_debian(), engine, registry })
            }
            Err(why) => {
                skip(&format!("builder docker in {}", kind.name()), &why);
                None
            }
        }
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let config = self.registry.config().parent().unwrap().display().to_string();
        let host = self.engine.host();
        let own = [("DOCKER_HOST", host.as_str()), ("DOCKER_CONFIG", config.as_str())];
        self.env.run_online(arguments, &[&own[..], variables].concat())
    }

    fn build(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let built = self.run(&[&["build", "--builder", "docker"], arguments].concat(), variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built
    }

    /// Has the engine forget the image `pinned`, pull it again, and run it.
    fn pulled_and_run(&self, pinned: &str) -> String {
        self.engine.docker(&["image", "rm", "--force", pinned.split('@').next().unwrap()]);
        self.engine.log_in(&self.registry);
        self.engine.docker(&["pull", "--quiet", pinned]);
        self.engine.docker(&["run", "--rm", "--network", "none", pinned])
    }
}

/// The files beneath `folder` that hold `text`.
fn holding(folder: &Path, text: &str) -> String {
    let mut command = Command::new("grep");
    command.args(["--recursive", "--files-with-matches", "--text", "--devices=skip", "-F", text]).arg(folder);
    let found = command.output().unwrap();
    assert!(found.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8_lossy(&found.stdout).into_owned()
}

/// The same of files that may be compressed.
fn holding_inside(folder: &Path, text: &str) -> String {
    let mut command = Command::new("find");
    command.arg(folder).args(["-type", "f", "-exec", "zgrep", "-l", "-a", "-F", text, "{}", "+"]);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

fn builds_pushes_and_runs(kind: Kind) {
    let Some(place) = Place::new(kind) else { return };
    let registry = format!("{}/team", place.registry.host());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for file in ["imagespec.yaml", "report.py"] {
        place.env.write(&format!("quickstart/{file}"), &fs::read_to_string(example.join(file)).unwrap());
    }
    let report = ["--metadata-file", "report.json"];
    let built = place.build(&[&["quickstart/imagespec.yaml", "--registry", &registry], &report[..]].concat(), &[]);
    let pinned = built.stdout.trim();
    let printed = place.pulled_and_run(pinned);
    assert!(printed.starts_with("hello from Python 3.11.") && printed.ends_with("mean age 11.5\n"), "{printed}");
    let report: Value = serde_json::from_slice(&fs::read(place.env.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["digest"], pinned.split_once('@').unwrap().1);
    let titles: Vec<_> =
        report["images"][0]["layers"].as_array().unwrap().iter().map(|layer| &layer["title"]).collect();
    assert_eq!(titles, ["base", "python environment", "install 3 Python packages", "working directory", "copy 1 file"]);
    let again = place.build(&["quickstart/imagespec.yaml", "--registry", &registry], &[]);
    assert_eq!(again.stdout, built.stdout);
    assert!(again.stderr.ends_with("exists, nothing to build\n"), "{}", again.stderr);

    let _server = everything(&place.env, Path::new(env!("CARGO_TARGET_TMPDIR")), Engine::MACHINE);
    let arguments = ["app.yaml", "--registry", &registry, "--secret", "id=token,env=TOKEN"];
    let built = place.build(&arguments, &[("TOKEN", CANARY)]);
    assert_eq!(place.pulled_and_run(built.stdout.trim()), EVERYTHING_PRINTS, "{}", built.stderr);
}

#[test]
fn the_quickstart_and_a_spec_with_everything_are_built_by_docker_20_pushed_and_run() {
    builds_pushes_and_runs(Kind::Docker20);
}

#[test]
fn the_quickstart_and_a_spec_with_everything_are_built_by_docker_26_pushed_and_run() {
    builds_pushes_and_runs(Kind::Docker26);
}

/// Titles of steps, and whether they were cached.
fn steps(events: &str) -> Vec<(String, String)> {
    let events: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let title = |step: &Value| {
        let started = events.iter().find(|event| event["event"] == "step-started" && event["step"] == *step);
        started.unwrap()["title"].as_str().unwrap().to_owned()
    };
    let finished = events.iter().filter(|event| event["event"] == "step-finished");
    finished.map(|event| (title(&event["step"]), event["outcome"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_package_more_runs_one_step_again_and_fetches_one_file() {
    let Some(place) = Place::new(Kind::Docker20) else { return };
    let served = place.env.path().join("served");
    for name in ["first", "second"] {
        let folder = served.join(name);
        fs::create_dir_all(&folder).unwrap();
        let wheel = WrittenWheel::write(&folder, name, "1.0", &[], &[(&format!("{name}.py"), "HELLO = 'hello'\n")]);
        let file = wheel.path.file_name().unwrap().display().to_string();
        let page = format!("<a href=\"{file}#sha256={}\">{file}</a>\n", wheel.sha256);
        fs::write(folder.join("index.html"), page).unwrap();
    }
    let server = FolderServer::start(&served, None);
    let index = server.host().replace("127.0.0.1", Engine::MACHINE);
    let spec = |packages: &str| {
        let text = format!("name: app\npython_version: 3.11\napt_packages: [jq]\npip_index: http://{index}\n");
        place.env.write("app.yaml", &format!("{text}packages: [{packages}]\n"));
    };
    let wheels = || server.asked().into_iter().filter(|path| path.ends_with(".whl")).collect::<Vec<_>>();
    spec("first");
    let built = place.build(&["app.yaml", "--progress", "json"], &[]);
    let outcome = |steps: &[(String, String)], title: &str| {
        let step = steps.iter().find(|(other, _)| other == title);
        step.unwrap_or_else(|| panic!("no `{title}` in {steps:?}")).1.clone()
    };
    let first = steps(&built.stderr);
    for title in ["install 1 Debian package", "python environment", "install 1 Python package"] {
        assert_eq!(outcome(&first, title), "done");
    }
    let before = wheels().len();

    spec("first, second");
    let built = place.build(&["app.yaml", "--progress", "json"], &[]);
    let second = steps(&built.stderr);
    for title in ["install 1 Debian package", "python environment"] {
        assert_eq!(outcome(&second, title), "cached");
    }
    assert!(second.iter().any(|(title, outcome)| title.starts_with("load base ") && outcome == "cached"), "{second:?}");
    assert_eq!(outcome(&second, "install 2 Python packages"), "done");
    // uv asks for parts of a file first.
    let later = wheels().split_off(before);
    assert!(before > 0 && !later.is_empty() && later.iter().all(|path| path.starts_with("/second/")), "{later:?}");
}

#[test]
fn secrets_are_in_nothing_that_is_left() {
    let Some(place) = Place::new(Kind::Docker26) else { return };
    place.env.write("base.yaml", "name: base\npython_version: 3.11\n");
    // Neither Debian nor uv is to be fetched later, by a proxy that is none.
    assert_eq!(place.run(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]).code, 0);
    assert_eq!(place.run(&["render", "base.yaml", "--builder", "docker"], &[]).code, 0);
    let index = GuardedIndex::start("guarded", &["1.0"]);
    let (host, port) = (Engine::MACHINE, index.host().rsplit_once(':').unwrap().1.to_owned());
    place.env.write(
        "app.yaml",
        &format!(
            "name: app
base_image: oci:base
packages: [guarded]
pip_index: http://{host}:{port}/simple
pip_secret_mounts: [{{id: netrc, target: /root/.netrc}}, {{id: other, env: UV_INDEX_OTHER_PASSWORD}}]
commands:
  - test \"$(cat /run/secret)\" = {half}Vb7Qm-of-file && echo \"it is $(cat /run/secret)\"
  - test \"$TOKEN\" = {half}Vb7Qm-of-variable && echo \"it is $TOKEN\"
  - env | grep -i _proxy
secrets: [{{id: file, target: /run/secret}}, {{id: variable, env: TOKEN}}]
",
            half = "canary'-'",
        ),
    );
    place.env.write("file", &format!("{CANARY}-of-file"));
    place.env.write("netrc", &format!("machine {host} login {USER} password {PASSWORD}\n"));
    let proxy = format!("http://joe:{CANARY}-of-proxy@127.0.0.1:9");
    let variables = [
        ("TOKEN", format!("{CANARY}-of-variable")),
        ("OTHER", format!("{CANARY}-of-index")),
        ("HTTPS_PROXY", proxy.clone()),
        ("HTTP_PROXY", proxy),
        ("NO_PROXY", format!("{host},127.0.0.1")),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let registry = format!("{}/team", place.registry.host());
    let secrets = ["id=file,src=file", "id=variable,env=TOKEN", "id=netrc,src=netrc", "id=other,env=OTHER"];
    let secrets: Vec<_> = secrets.iter().flat_map(|secret| ["--secret", secret]).collect();
    let cache = format!("type=registry,ref={}/team/cache,mode=max", place.registry.host());
    let cache = ["--registry", &registry, "--cache-to", &cache, "--metadata-file", "report.json"];
    let built = place.build(&[&["app.yaml"], &secrets[..], &cache[..]].concat(), &variables);
    assert_eq!(built.stderr.matches("it is ****").count(), 2, "{}", built.stderr);
    assert!(built.stderr.contains("HTTPS_PROXY=http://joe:****@127.0.0.1:9"), "{}", built.stderr);
    let rendered = place.run(&["render", "app.yaml", "--builder", "docker", "--output", "dir=rendered"], &variables);
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    let name = built.stdout.trim().split('@').next().unwrap().to_owned();
    let told =
        [&["history", "--no-trunc", &name][..], &["image", "inspect", &name]].map(|words| place.engine.docker(words));
    place.engine.docker(&["save", "--output", &place.env.path().join("saved.tar").display().to_string(), &name]);
    fs::remove_file(place.env.path().join("file")).unwrap();
    fs::remove_file(place.env.path().join("netrc")).unwrap();

    assert!(!format!("{built:?}{rendered:?}{told:?}").contains(CANARY));
    for text in [CANARY, PASSWORD] {
        for folder in [place.engine.folder(), place.env.path()] {
            assert_eq!(holding(folder, text), "", "{text}");
        }
        assert_eq!(holding_inside(&place.registry.storage(), text), "");
    }
}
