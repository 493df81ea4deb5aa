//! Every way to an engine, to real ones behind real servers: sockets, ports with and without TLS, ssh, Docker's contexts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod context;
mod ssh;
mod tls;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_tests::{Engine, Finished, Kind, Shared, TestEnv, skip};

/// One engine for all tests of this file, or why there is none.
static ENGINE: Shared<Result<Engine, String>> = Shared::new(|| Engine::start(Kind::Docker26));

/// The engine for as long as the test runs; says so where there can be none.
macro_rules! engine {
    () => {{
        let shared = $crate::ENGINE.get();
        if let Err(why) = &*shared {
            return $crate::skip("ways to an engine", why);
        }
        shared
    }};
}
pub(crate) use engine;

/// A server between the program and an engine. Ended when it is dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts `command` of a port, and waits until it listens there.
    fn start(command: impl FnOnce(u16) -> Command) -> Self {
        // It is free a moment later, too.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = command(port);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(process.try_wait().unwrap(), None, "{command:?} ended");
            assert!(start.elapsed() < Duration::from_secs(20), "{command:?} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }

    /// One that passes everything on to `engine`, and listens as the first part of socat's address says.
    fn passing_on(engine: &Engine, listen: impl FnOnce(u16) -> String) -> Self {
        let target = format!("UNIX-CONNECT:{}", engine.socket().display());
        Self::start(|port| {
            let mut command = Command::new("socat");
            command.args([&format!("{},bind=127.0.0.1,fork,reuseaddr", listen(port)), &target]);
            command
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A project whose image takes no time.
fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", "name: app\nbase_image: scratch\ncopy: [data.txt]\n");
    env.write("data.txt", "data\n");
    env
}

fn build(env: &TestEnv, variables: &[(&str, &str)]) -> Finished {
    env.run_with(&["build", "app.yaml", "--builder", "docker", "--force"], variables)
}

/// Asserts that the image is made in the engine.
fn builds(env: &TestEnv, variables: &[(&str, &str)]) {
    let built = build(env, variables);
    assert_eq!(built.code, 0, "{variables:?}: {}", built.stderr);
    assert!(built.stdout.starts_with("app:"), "{}", built.stdout);
}

/// What a user reads who gets no image, without what is another one each time.
fn refusal(env: &TestEnv, variables: &[(&str, &str)]) -> String {
    let failed = build(env, variables);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{variables:?}: {}", failed.stderr);
    let folder = env.path().display().to_string();
    failed.stderr.replace(&folder, "FOLDER")
}

#[test]
fn a_port_leads_to_an_engine() {
    let engine = engine!();
    let server = Server::passing_on(engine.as_ref().as_ref().unwrap(), |port| format!("TCP-LISTEN:{port}"));
    let env = project();
    let host = format!("tcp://127.0.0.1:{}", server.port);
    builds(&env, &[("DOCKER_HOST", &host)]);
    let option = format!("host={host}");
    let built = env.run(&["build", "app.yaml", "--builder", "docker", "--force", "--builder-opt", &option]);
    assert_eq!(built.code, 0, "{}", built.stderr);

    drop(server);
    let told = refusal(&env, &[("DOCKER_HOST", &host)]).replace(&host, "HOST");
    insta::assert_snapshot!(told, @"
    error: cannot reach a Docker engine at `HOST`
    note: nobody answers
    note: Connection refused (os error 111)
    hint: start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`
    hint: `--builder oci` needs no engine
    ");
}

#[test]
fn a_port_of_something_else_is_told_from_an_engine() {
    let engine = engine!();
    drop(engine);
    let registry = imagespec_tests::DockerRegistry::start(imagespec_tests::Setup::Open);
    let host = format!("tcp://{}", registry.host());
    let told = refusal(&project(), &[("DOCKER_HOST", &host)]).replace(&host, "HOST");
    insta::assert_snapshot!(told, @"
    error: what answers at `HOST` is no Docker engine: Docker responded with status code 404: 404 page not found
    hint: start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`
    hint: `--builder oci` needs no engine
    ");
}

#[test]
fn podman_is_told_to_have_no_buildkit() {
    let engine = match Engine::start(Kind::Podman) {
        Ok(engine) => engine,
        Err(why) => return skip("builder docker with podman", &why),
    };
    let told = refusal(&project(), &[("DOCKER_HOST", &engine.host())]).replace(&engine.host(), "HOST");
    let told = told.replace(&engine.version(), "VERSION");
    insta::assert_snapshot!(told, @"
    error: the engine at `HOST` is Podman Engine VERSION, which has no BuildKit
    hint: `--builder oci --output type=docker` builds without it and loads the image into that engine
    ");
}
