//! Runs the real `docker-registry`, and a proxy that cuts a connection.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use imagespec_core::reference::Reference;
use tempfile::TempDir;

const USER: &str = "user";
pub(crate) const PASSWORD: &str = "hunter2";

/// How a registry is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    Open,
    Password,
    Tls,
}

/// A running `docker-registry`, which ends when it is dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl DockerRegistry {
    pub(crate) fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut http = serde_json::json!({"addr": "127.0.0.1:0"});
        let mut auth = serde_json::json!({});
        match setup {
            Setup::Open => {}
            Setup::Password => {
                let line = output(Command::new("htpasswd").args(["-nbB", USER, PASSWORD]));
                let path = folder.path().join("htpasswd");
                fs::write(&path, line).expect("written");
                auth = serde_json::json!({"htpasswd": {"realm": "registry", "path": path}});
            }
            Setup::Tls => {
                make_certificates(folder.path());
                let path = |name| folder.path().join(name);
                http["tls"] = serde_json::json!({"certificate": path("server.pem"), "key": path("server.key")});
            }
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host()).parse().expect("a reference")
    }

    /// The authority that signed the registry's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A Docker configuration with the registry's password.
    pub(crate) fn config(&self) -> PathBuf {
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

/// What a program prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} must be installed: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Passes connections on, and cuts one after it sent so many bytes.
pub(crate) struct CuttingProxy {
    address: SocketAddr,
    has_cut: Arc<AtomicBool>,
}

impl CuttingProxy {
    pub(crate) fn start(to: SocketAddr, cut_after_bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let has_cut: Arc<AtomicBool> = Arc::default();
        let flag = Arc::clone(&has_cut);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(to).expect("the registry runs");
                let flag = Arc::clone(&flag);
                let (to_client, from_server) = (client.try_clone(), server.try_clone());
                thread::spawn(move || copy(from_server.expect("a socket"), to_client.expect("a socket")));
                thread::spawn(move || {
                    let allowed = if flag.load(Ordering::SeqCst) { u64::MAX } else { cut_after_bytes };
                    let count = copy((&client).take(allowed), &server);
                    if count == allowed {
                        flag.store(true, Ordering::SeqCst);
                    }
                    // One that is closed already needs no closing.
                    client.shutdown(Shutdown::Both).ok();
                    server.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self { address, has_cut }
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().expect("a reference")
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

/// Copies until one side ends, and says how many bytes there were.
fn copy(mut from: impl Read, mut to: impl Write) -> u64 {
    let mut buffer = vec![0; 16 * 1024];
    let mut count = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        count += length as u64;
    }
    count
}
