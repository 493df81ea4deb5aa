//! Images in other people's engines: Docker's own, and whatever reads a bundle. A real dockerd is started where that
//! is possible; else the test says what it left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use imagespec_tests::{
    Engine, Finished, Kind, TestEnv, is_root, lint, network_variables, output, outsider, quickstart, skip,
};
use serde_json::Value;

fn assert_is_report(stdout: &str) {
    let lines: Vec<_> = stdout.lines().collect();
    assert!(
        matches!(lines[..], [hello, numpy, "mean age 11.5"]
        if hello.starts_with("hello from Python 3.11.") && hello.ends_with(" in /opt/venv") && numpy.starts_with("numpy 2.")),
        "{stdout}"
    );
}

/// The quickstart, whose layers stay in one cache, and an engine if there can be one.
struct Place {
    env: TestEnv,
    variables: Vec<(String, String)>,
}

impl Place {
    /// Builds `spec` into `output`, and returns the image's line and what was said.
    fn build(&self, spec: &str, output: &str) -> Finished {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let arguments = ["build", spec, "--output", output, "--metadata-file", "report.json"];
        let built = self.env.run_with(&arguments, &variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built
    }

    /// Asserts that the engine's `name` is the image that was built last. Its id is the digest of the config, or of the
    /// manifest in an engine that keeps images in containerd.
    fn assert_is_in(&self, engine: &Engine, name: &str) {
        let report = fs::read(self.env.path().join("report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        let image = &report["images"][0];
        let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert!([&image["config_digest"], &image["digest"]].iter().any(|digest| **digest == id.trim()), "{id} {image}");
    }

    fn path(&self, name: &str) -> String {
        self.env.path().join(name).display().to_string()
    }
}

#[test]
fn the_quickstart_runs_wherever_images_run() {
    if !is_root() {
        return skip("images in other engines", "needs root");
    }
    let mut place = Place { env: quickstart(), variables: network_variables() };
    a_layout_is_unpacked_by_umoci_and_its_program_runs(&place);
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(why) => return skip("images in Docker", &why),
    };
    place.variables.push(("DOCKER_HOST".to_owned(), engine.host()));
    let name = an_image_is_loaded_into_docker_and_runs(&place, &engine);
    an_archive_is_loaded_by_docker_and_runs(&place, &engine, &name);
    an_image_saved_by_docker_is_a_base(&place, &engine, &name);
}

fn a_layout_is_unpacked_by_umoci_and_its_program_runs(place: &Place) {
    let built = place.build("imagespec.yaml", "type=oci,dest=layout");
    let layout = place.path("layout");
    assert_eq!(lint(Path::new(&layout)), Vec::<String>::new());
    let inspected = outsider("skopeo", &["inspect", &format!("oci:{layout}")]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(built.stdout.trim().split_once('@').unwrap().1, inspected["Digest"]);

    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let bundle = place.path("bundle");
    outsider("umoci", &["unpack", "--image", &format!("{layout}:{tag}"), &bundle]);
    let config = fs::read(Path::new(&bundle).join("config.json")).unwrap();
    let process = serde_json::from_slice::<Value>(&config).unwrap()["process"].clone();
    let words = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let variables = words(&process["env"]);
    let variables = variables.iter().map(|variable| variable.split_once('=').unwrap());
    let report = output(
        Command::new("unshare")
            .args(["--mount", "--pid", "--fork", &format!("--mount-proc={bundle}/rootfs/proc")])
            .args(["chroot", &format!("{bundle}/rootfs")])
            .args(words(&process["args"]))
            .env_clear()
            .envs(variables),
    );
    assert_is_report(&String::from_utf8(report).unwrap());
    fs::remove_dir_all(bundle).unwrap();
}

/// Returns the image's name.
fn an_image_is_loaded_into_docker_and_runs(place: &Place, engine: &Engine) -> String {
    let built = place.build("imagespec.yaml", "type=docker");
    let name = built.stdout.trim().split_once('@').unwrap().0.to_owned();
    place.assert_is_in(engine, &name);
    assert_is_report(&engine.docker(&["run", "--rm", "--network", "none", &name]));

    let again = place.build("imagespec.yaml", "type=docker");
    assert_eq!(again.stdout, built.stdout);
    assert!(again.stderr.contains(&format!("cached  load {name} into")), "{}", again.stderr);
    name
}

fn an_archive_is_loaded_by_docker_and_runs(place: &Place, engine: &Engine, name: &str) {
    engine.docker(&["image", "rm", name]);
    place.build("imagespec.yaml", "type=docker-archive,dest=quickstart.tar");
    engine.docker(&["load", "--input", &place.path("quickstart.tar")]);
    place.assert_is_in(engine, name);
    assert_is_report(&engine.docker(&["run", "--rm", "--network", "none", name]));
}

fn an_image_saved_by_docker_is_a_base(place: &Place, engine: &Engine, name: &str) {
    // Old engines save a layer that stands in an image twice as a link.
    place
        .env
        .write("docker/Dockerfile", &format!("FROM {name}\nCOPY twice.txt /twice.txt\nCOPY twice.txt /twice.txt\n"));
    place.env.write("docker/twice.txt", "twice\n");
    engine.docker(&["build", "--network", "none", "--tag", "theirs", &place.path("docker")]);
    engine.docker(&["save", "--output", &place.path("theirs.tar"), "theirs"]);
    // What the engine was given still carries its plan; what somebody made of it does not pretend to.
    engine.docker(&["save", "--output", &place.path("ours.tar"), name]);
    let told = place.env.stdout(&["explain", "imagespec.yaml", "--against", "docker-archive:ours.tar"]);
    assert!(told.ends_with("the same: nothing that counts differs\n"), "{told}");
    let told = place.env.run(&["explain", "imagespec.yaml", "--against", "docker-archive:theirs.tar"]).stderr;
    assert!(told.starts_with("error: `docker-archive:theirs.tar` carries no plan\n"), "{told}");
    place.env.write(
        "again.yaml",
        "base_image: docker-archive:theirs.tar\nname: again\ncopy: [again.py]\nenv: {GREETING: hello again}\n\
         entrypoint: [python, /root/again.py]\n",
    );
    place.env.write("again.py", "import report\nprint(open('/twice.txt').read(), end='')\n");
    place.build("again.yaml", "type=oci,dest=again");
    assert_eq!(lint(&place.env.path().join("again")), Vec::<String>::new());

    let built = place.build("again.yaml", "type=docker");
    assert!(built.stderr.contains("cached  base docker-archive:"), "{}", built.stderr);
    let again = built.stdout.trim().split_once('@').unwrap().0;
    place.assert_is_in(engine, again);
    let ran = engine.docker(&["run", "--rm", "--network", "none", again]);
    assert!(ran.starts_with("hello again from Python 3.11."), "{ran}");
    assert!(ran.ends_with("mean age 11.5\ntwice\n"), "{ran}");
}

const SPEC: &str = "base_image: scratch\nname: app\ncopy: [data.txt]\n";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", SPEC);
    env.write("data.txt", "data\n");
    env
}

fn refusal(arguments: &[&str], docker_host: &str) -> (i32, String) {
    let env = project();
    let built = env.run_with(&[&["build", "app.yaml"], arguments].concat(), &[("DOCKER_HOST", docker_host)]);
    assert_eq!(built.stdout, "");
    (built.code, built.stderr)
}

#[test]
fn a_missing_engine_is_noticed_before_any_work() {
    let (code, stderr) = refusal(&["--output", "type=docker"], "unix:///nonexistent/docker.sock");
    insta::assert_snapshot!(stderr, @"
    error: cannot reach a Docker engine at `/nonexistent/docker.sock`
    note: No such file or directory (os error 2)
    hint: start Docker or Podman, set DOCKER_HOST to `unix://SOCKET`, or use `--output type=docker-archive,dest=FILE`, which needs no engine
    ");
    assert_eq!(code, 1);
}

#[test]
fn an_engine_that_is_not_on_this_machine_is_refused() {
    let (code, stderr) = refusal(&["--output", "type=docker"], "tcp://10.0.0.1:2376");
    insta::assert_snapshot!(stderr, @"
    error: DOCKER_HOST is `tcp://10.0.0.1:2376`, and `type=docker` needs a unix socket
    hint: set it to `unix:///PATH`, or unset it; `--output type=docker-archive,dest=FILE` needs no engine
    ");
    assert_eq!(code, 2);
}

#[test]
fn an_engine_and_its_archives_take_one_platform() {
    for output in ["type=docker", "type=docker-archive,dest=app.tar"] {
        let platforms = ["--platform", "linux/amd64,linux/arm64", "--output", output];
        let (code, stderr) = refusal(&platforms, "unix:///nonexistent/docker.sock");
        insta::allow_duplicates!(insta::assert_snapshot!(stderr, @"
    error: an archive for `docker load` holds one platform, and this image has 2
    hint: choose one by `--platform`, or write all of them to `type=oci,dest=DIR`
    "));
        assert_eq!(code, 1);
    }
}

/// Answers like an engine that loads with `message` and then has an image with the id `sha256:other`.
fn serve(listener: &UnixListener, message: &str) {
    let mut is_loaded = false;
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        let (mut request, mut length_bytes, mut line) = (String::new(), 0, String::new());
        while stream.read_line(&mut line).is_ok_and(|count| count > 2) {
            if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                length_bytes = length.trim().parse().unwrap();
            }
            request.push_str(&std::mem::take(&mut line));
        }
        std::io::copy(&mut stream.by_ref().take(length_bytes), &mut std::io::sink()).unwrap();
        let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
            "" => continue,
            "/_ping" => ("200 OK", "OK"),
            "/images/load?quiet=1" => {
                is_loaded = true;
                ("200 OK", message)
            }
            _ if is_loaded => ("200 OK", r#"{"Id":"sha256:other"}"#),
            _ => ("404 Not Found", r#"{"message":"no such image"}"#),
        };
        respond(stream.get_mut(), status, body);
    }
}

fn respond(stream: &mut UnixStream, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

/// What a user reads when an engine answers so to a load.
fn engine_trouble(message: &'static str) -> String {
    let env = project();
    let socket = env.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // It ends with the test's process.
    thread::spawn(move || serve(&listener, message));
    let host = format!("unix://{}", socket.display());
    let built = env.run_with(&["build", "app.yaml", "--output", "type=docker"], &[("DOCKER_HOST", &host)]);
    assert_eq!((built.code, built.stdout.as_str()), (1, ""));
    let error = built.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or(&built.stderr);
    let error = error.replace(&socket.display().to_string(), "SOCKET");
    // The id depends on the version of this program, which stands in the image.
    error.rsplit_once(" instead of sha256:").map_or(error.clone(), |(text, _)| format!("{text} instead of sha256:…"))
}

#[test]
fn an_engine_that_says_it_failed_or_has_another_image_is_not_believed() {
    let failed =
        "{\"status\":\"Loading\"}\r\n{\"errorDetail\":{\"message\":\"no space left on device\"},\"error\":\"x\"}\r\n";
    insta::assert_snapshot!(engine_trouble(failed), @"error: the engine at `SOCKET` did not load the image: no space left on device");
    insta::assert_snapshot!(engine_trouble("{\"stream\":\"Loaded image: app\"}\r\n"), @"error: the engine at `SOCKET` has sha256:other under the image's name instead of sha256:…");
}
