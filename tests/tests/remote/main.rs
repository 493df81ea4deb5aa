//! The builder remote on BuildKit daemons: those inside of real engines, served as `buildkitd` serves its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod conformance;
mod fleet;
mod outputs;
mod tls;

use std::fs;

use imagespec_tests::{DockerRegistry, Engine, Finished, Kind, Setup, TestEnv, shell_base, skip};
use serde_json::Value;

/// An engine whose BuildKit knows all exporters; nothing where there can be none.
fn engine() -> Option<Engine> {
    let kind = Kind::Docker26;
    Engine::start(kind).inspect_err(|why| skip(&format!("builder remote on {}", kind.name()), why)).ok()
}

/// A folder with a spec whose base has a shell, and a registry with a password.
struct Place {
    env: TestEnv,
    registry: DockerRegistry,
    /// The folder with the login.
    logins: String,
}

impl Place {
    /// `commands` is what is run, in YAML.
    fn new(commands: &str) -> Self {
        let env = TestEnv::new();
        shell_base(&env.path().join("base"));
        let registry = DockerRegistry::start(Setup::Password);
        let logins = registry.config().parent().unwrap().display().to_string();
        let place = Self { env, registry, logins };
        place.spec("app", commands);
        place
    }

    /// Writes the spec `NAME.yaml`.
    fn spec(&self, name: &str, commands: &str) {
        let text = format!(
            "name: {name}\nregistry: {}/team\nbase_image: oci:base\ncommands: {commands}\ncmd: [busybox, cat, /made]\n",
            self.registry.host()
        );
        self.env.write(&format!("{name}.yaml"), &text);
    }

    fn build_with(&self, spec: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let variables = [&[("DOCKER_CONFIG", self.logins.as_str())], variables].concat();
        self.env.run_with(&[&["build", spec, "--builder", "remote"], arguments].concat(), &variables)
    }

    /// Builds on the daemons at `endpoints`.
    fn build(&self, spec: &str, endpoints: &[String], arguments: &[&str]) -> Finished {
        let option = format!("endpoints={}", endpoints.join(","));
        self.build_with(spec, &[&["--builder-opt", &option], arguments].concat(), &[])
    }

    /// The error of a build.
    fn refusal(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let refused =
            self.build_with("app.yaml", &[&["--force", "--progress", "quiet"], arguments].concat(), variables);
        assert_ne!(refused.code, 0, "{}", refused.stdout);
        assert_eq!(refused.stdout, "");
        let folder = self.env.path().display().to_string();
        format!("exit {}\n{}", refused.code, refused.stderr.replace(&folder, "FOLDER")).trim_end().to_owned()
    }
}

/// What the image prints in an engine that pulls it.
fn pulled_and_run(engine: &Engine, registry: &DockerRegistry, pinned: &str) -> String {
    engine.log_in(registry);
    engine.docker(&["pull", "--quiet", pinned]);
    engine.docker(&["run", "--rm", "--network", "none", pinned])
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

/// What a build left behind of an image that came back.
fn leftovers(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.env.path().join("cache/tmp")).expect("archives are unpacked there");
    entries.map(|entry| entry.unwrap().file_name().display().to_string()).collect()
}
