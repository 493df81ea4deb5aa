//! Debian's dockerd in namespaces of its own, so that it neither touches another engine of this machine nor leaves
//! anything behind. Ended when it is dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DAEMON: &str = "/usr/sbin/dockerd";
const CLIENT: &str = "/usr/bin/docker";

/// A running engine. Containers have no network.
pub struct DockerEngine {
    process: Child,
    folder: TempDir,
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

impl DockerEngine {
    /// Starts an engine.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    pub fn start() -> Result<Self, String> {
        if !is_root() {
            return Err("only root can start an engine".to_owned());
        }
        if !Path::new(DAEMON).is_file() {
            return Err(format!("there is no `{DAEMON}`; Debian's package docker.io has it"));
        }
        // Overlays do not lie on every file system.
        Self::start_with("overlay2")
            .or_else(|first| Self::start_with("vfs").map_err(|second| format!("{first}\n{second}")))
    }

    fn start_with(storage_driver: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = |name: &str| folder.path().join(name);
        let log = File::create(path("log")).expect("a file can be written");
        fs::write(path("daemon.json"), "{}").expect("a file can be written");
        // The engine is the first process of its namespace, so that nothing of it survives it; and it dies with the test.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", DAEMON, "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg(format!("--storage-driver={storage_driver}"))
            .args([Path::new("--config-file"), &path("daemon.json"), Path::new("--data-root"), &path("data")])
            .args([Path::new("--exec-root"), &path("exec"), Path::new("--pidfile"), &path("pid")])
            .arg(format!("--host=unix://{}", path("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setpriv: {error}"))?;
        let mut engine = Self { process, folder };
        let start = Instant::now();
        while !engine.answers() {
            let has_ended = engine.process.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || start.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or_default();
                return Err(format!("dockerd with {storage_driver} does not start: {last}"));
            }
            thread::yield_now();
        }
        Ok(engine)
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Runs Docker's own client and returns its stdout.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let client = if Path::new(CLIENT).is_file() { CLIENT } else { "docker" };
        let output = Command::new(client)
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.folder.path().join("client"))
            .env("DOCKER_BUILDKIT", "0")
            .output()
            .unwrap_or_else(|error| panic!("{client}: {error}"));
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("stdout is UTF-8")
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer.contains(" 200 ")
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        let outer = self.process.id();
        let inner = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
        // With the first process of a namespace all others end before it counts as ended, and `unshare` waits for that.
        let killed = inner
            .split_whitespace()
            .all(|pid| Command::new("kill").args(["-KILL", pid]).status().is_ok_and(|status| status.success()));
        if inner.is_empty() || !killed {
            // It may have ended by itself.
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
