//! Debian's docker-registry on a free port of 127.0.0.1, ended when it is dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running registry.
pub struct DockerRegistry {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl DockerRegistry {
    /// Starts a registry, with the content of an htpasswd file if it asks for a password.
    pub fn start(htpasswd: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free").port();
        let data = folder.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            data.display()
        );
        if let Some(htpasswd) = htpasswd {
            let path = folder.path().join("htpasswd");
            fs::write(&path, htpasswd).expect("a file can be written");
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display()));
        }
        let path = folder.path().join("config.yml");
        fs::write(&path, config).expect("a file can be written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: `tests/run` does that");
        let registry = Self { process, port, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not answer");
            thread::yield_now();
        }
        registry
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
