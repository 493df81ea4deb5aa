//! Debian's `docker-registry`, the real one: open, with a password, with TLS. Ended when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// Who may use a registry that asks for a password.
pub const USER: &str = "user";
/// The password.
pub const PASSWORD: &str = "hunter2";

/// How a registry is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Plain HTTP for everybody.
    Open,
    /// Plain HTTP and a password.
    Password,
    /// TLS by an authority that nobody knows, for everybody.
    Tls,
    /// TLS and a password.
    TlsPassword,
}

/// A running `docker-registry`, which ends when it is dropped.
pub struct DockerRegistry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl DockerRegistry {
    /// Starts one on a free port of 127.0.0.1 and waits until it listens.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut http = serde_json::json!({"addr": "127.0.0.1:0"});
        let mut auth = serde_json::json!({});
        if matches!(setup, Setup::Password | Setup::TlsPassword) {
            let line = output(Command::new("htpasswd").args(["-nbB", USER, PASSWORD]));
            let path = folder.path().join("htpasswd");
            fs::write(&path, line).expect("written");
            auth = serde_json::json!({"htpasswd": {"realm": "registry", "path": path}});
        }
        if matches!(setup, Setup::Tls | Setup::TlsPassword) {
            make_certificates(folder.path());
            let path = |name| folder.path().join(name);
            http["tls"] = serde_json::json!({"certificate": path("server.pem"), "key": path("server.key")});
        }
        // JSON is YAML, too.
        let config = serde_json::json!({
            "version": 0.1, "http": http, "auth": auth, "log": {"level": "info", "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("storage")}},
        });
        let path = folder.path().join("config.yml");
        fs::write(&path, config.to_string()).expect("written");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`docker-registry` must be installed: apt-get install docker-registry apache2-utils openssl");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut seen = Vec::new();
        let address = loop {
            let line = log.next().and_then(Result::ok).unwrap_or_else(|| panic!("it ended: {seen:#?}"));
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(|character: char| !matches!(character, '0'..='9' | '.' | ':'));
                break rest[..end.unwrap_or(rest.len())].parse().expect("an address");
            }
            seen.push(line);
        };
        // The registry stops if nobody reads what it says.
        thread::spawn(move || log.for_each(drop));
        Self { child, address, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where the blobs lie.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// The authority that signed the registry's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A Docker configuration with the registry's password.
    pub fn config(&self) -> PathBuf {
        let path = self.folder.path().join("config.json");
        let document = serde_json::json!({"auths": {self.host(): {"username": USER, "password": PASSWORD}}});
        fs::write(&path, document.to_string()).expect("written");
        path
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().expect("it runs until now");
        self.child.wait().expect("it ends");
    }
}

/// An authority in `authority.pem`, and in `server.pem` and `server.key` a certificate that it signed for 127.0.0.1.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        output(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    };
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .expect("written");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout authority.key -out authority.pem"));
    openssl(&format!("req {key} -subj /CN=registry -keyout server.key -out server.csr"));
    openssl(
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

/// What a program prints. It must be there and succeed.
pub fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} must be installed: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
