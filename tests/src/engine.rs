//! Real engines: Docker, old and new, and Podman, each in namespaces of its own, with a way to the network that changes
//! nothing of this machine. `tests/engines/engine` runs them, and removes all that there was of them when the test's
//! process ends, however it does.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::{Finished, outsider, temporary_folder};
use crate::registry::DockerRegistry;

/// Docker's own client. Another one may stand before it on PATH.
const CLIENT: &str = "/usr/bin/docker";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_STEP: Duration = Duration::from_millis(10);

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Docker 20.10, the system's own.
    Docker20,
    /// Docker 26, which keeps images in containerd.
    Docker26,
    /// Docker 26, which keeps images as older ones do.
    Docker26Classic,
    /// Podman 4, which serves Docker's API without BuildKit.
    Podman,
}

/// How an engine is to be.
#[derive(Debug, Clone, Default)]
pub struct EngineSetup {
    /// What its data may take, in MiB. They lie in memory then.
    pub disk_mib: Option<u32>,
    /// Registries that it talks to over plain HTTP. Docker does so with all of 127.0.0.0/8 anyway.
    pub insecure: Vec<String>,
}

/// A running engine.
///
/// An address of 127.0.0.0/8 is this machine's own to it, so that it reaches what a test serves. Containers with a network
/// of their own find this machine at [`Engine::MACHINE`].
pub struct Engine {
    kind: Kind,
    folder: PathBuf,
    keeper: Mutex<Keeper>,
}

/// The script that runs it. It ends with its stdin.
struct Keeper {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// Says on stderr that something is not tested. Where CI runs as root it is a failure: everything can be installed there.
pub fn skip(what: &str, why: &str) {
    assert!(!(is_root() && std::env::var("CI").is_ok_and(|ci| ci == "true")), "{what} must be tested in CI: {why}");
    tell_skipped(what, why);
}

/// Says the same of what depends on the machine's kernel, in CI, too.
pub fn tell_skipped(what: &str, why: &str) {
    // Written past the test harness, which would keep it to itself. Nothing to do about a terminal that is gone.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Docker20, Self::Docker26, Self::Docker26Classic, Self::Podman];
    /// Those that build with BuildKit.
    pub const BUILDKIT: [Self; 3] = [Self::Docker20, Self::Docker26, Self::Docker26Classic];

    /// The name that `tests/engines/engine` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker20 => "docker-20",
            Self::Docker26 => "docker-26",
            Self::Docker26Classic => "docker-26-classic",
            Self::Podman => "podman",
        }
    }

    /// Why this machine cannot start it.
    fn missing(self) -> Option<String> {
        if !is_root() {
            return Some("only root can start an engine".to_owned());
        }
        let newer = programs().join("docker-26/usr/sbin/dockerd");
        let (own, package) = match self {
            Self::Docker20 => (PathBuf::from("/usr/sbin/dockerd"), "Debian's package docker.io has it"),
            Self::Docker26 | Self::Docker26Classic => (newer, "`tests/engines/install target/tmp/engines` fetches it"),
            Self::Podman => (PathBuf::from("/usr/bin/podman"), "Debian's package podman has it"),
        };
        let needed = [
            (own.as_path(), package),
            (Path::new(CLIENT), "Debian's package docker.io has it"),
            (Path::new("/usr/bin/slirp4netns"), "Debian's package slirp4netns has it"),
            (Path::new("/usr/sbin/iptables"), "Debian's package iptables has it"),
            (Path::new("/dev/net/tun"), "the kernel has no TUN"),
        ];
        needed.iter().find(|(file, _)| !file.exists()).map(|(file, why)| format!("no `{}`: {why}", file.display()))
    }
}

impl Engine {
    /// This machine's 127.0.0.1, as containers see it.
    pub const MACHINE: &str = "198.19.0.2";

    /// Starts an engine.
    ///
    /// # Errors
    /// Why there can be none on this machine, in one line.
    pub fn start(kind: Kind) -> Result<Self, String> {
        Self::start_with(kind, &EngineSetup::default())
    }

    /// Starts an engine that is as `setup` says.
    ///
    /// # Errors
    /// Why there can be none on this machine, in one line.
    pub fn start_with(kind: Kind, setup: &EngineSetup) -> Result<Self, String> {
        if let Some(why) = kind.missing() {
            return Err(why);
        }
        let mut process = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/engine"))
            .arg(kind.name())
            .arg(programs())
            .arg(setup.disk_mib.map(|size| size.to_string()).unwrap_or_default())
            .args(&setup.insecure)
            // Ctrl-C ends the test, and that ends the script, which then has time to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("tests/engines/engine: {error}"))?;
        let commands = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut folder = String::new();
        answers.read_line(&mut folder).map_err(|error| format!("tests/engines/engine: {error}"))?;
        let folder = PathBuf::from(folder.trim());
        let engine = Self { kind, folder, keeper: Mutex::new(Keeper { process, commands, answers }) };
        engine.start_again()?;
        Ok(engine)
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Where all that it keeps lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The engine as the variable `DOCKER_HOST` names it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The engine's version.
    pub fn version(&self) -> String {
        self.docker(&["version", "--format", "{{.Server.Version}}"]).trim().to_owned()
    }

    /// What the engine wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs Docker's own client, which must succeed, and returns its stdout.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let finished = self.try_docker(arguments);
        assert_eq!(finished.code, 0, "docker {arguments:?} with {}: {}", self.kind.name(), finished.stderr);
        finished.stdout
    }

    /// Runs Docker's own client.
    pub fn try_docker(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().unwrap_or_else(|error| panic!("{CLIENT}: {error}"));
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Docker's own client, to be started. Its logins lie beside the engine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CLIENT);
        command.args(arguments).env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.folder.join("client"));
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Lets Docker's own client use a registry with a password.
    pub fn log_in(&self, registry: &DockerRegistry) {
        let client = self.folder.join("client");
        fs::create_dir_all(&client).expect("a folder can be made");
        // Podman would ask the registry by TLS whether the password is right.
        fs::copy(registry.config(), client.join("config.json")).expect("a file can be copied");
    }

    /// Loads the image of an OCI layout under a name.
    pub fn load(&self, layout: &Path, name: &str) {
        let archive = self.folder.join("load.tar");
        // A file that is there is added to.
        let _ = fs::remove_file(&archive);
        let target = format!("docker-archive:{}:{name}", archive.display());
        outsider("skopeo", &["copy", "--quiet", &format!("oci:{}", layout.display()), &target]);
        self.docker(&["load", "--quiet", "--input", &archive.display().to_string()]);
    }

    /// Ends it as a machine does that is shut down: whatever it does is cancelled, and it says good-bye.
    pub fn stop(&self) {
        self.command_keeper("stop").expect("it can be stopped");
    }

    /// Ends it as a machine does that loses its power.
    pub fn kill(&self) {
        self.command_keeper("kill").expect("it can be killed");
    }

    /// Starts it again, with the images that it had.
    ///
    /// # Errors
    /// The last line of its log.
    pub fn start_again(&self) -> Result<(), String> {
        let started = self.command_keeper("start");
        let start = Instant::now();
        while started.is_ok() && start.elapsed() < START_TIMEOUT {
            if self.answers() {
                return Ok(());
            }
            thread::sleep(START_STEP);
        }
        let log = self.log();
        Err(format!("{} does not start: {}", self.kind.name(), log.lines().next_back().unwrap_or_default()))
    }

    fn command_keeper(&self, command: &str) -> Result<(), String> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = keeper.commands.as_mut().expect("it is open until the engine is dropped");
        writeln!(commands, "{command}").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).map_err(|error| error.to_string())?;
        if answer == "ok\n" { Ok(()) } else { Err(answer) }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer.contains(" 200 ")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.commands.take());
        // It says why on stderr if it failed.
        let _ = keeper.process.wait();
    }
}

/// Where `tests/engines/install` puts engines.
fn programs() -> PathBuf {
    temporary_folder().join("engines")
}

#[cfg(test)]
mod tests;
