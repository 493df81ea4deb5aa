//! Where an engine is: the builder's options, DOCKER_HOST, Docker's contexts, else where engines put their sockets.
//!
//! Formats: DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH of Docker's client, and the folder
//! `contexts` beside its `config.json`, in which a context has the sha256 of its name for a name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use imagespec_buildkit::connection::{Protocol, Tls, Way, ssh_arguments};
use imagespec_core::digest::Digest;
use serde::Deserialize;
use url::Url;

/// Who says so where nobody does.
pub(crate) const DEFAULT: &str = "the default";
/// Where Docker puts its socket.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Where rootless Docker and Podman put theirs, beneath XDG_RUNTIME_DIR.
const ROOTLESS_SOCKETS: [&str; 2] = ["docker.sock", "podman/podman.sock"];
/// Docker's ports without and with TLS.
const PORT_PLAIN: u16 = 2375;
const PORT_TLS: u16 = 2376;

/// Where an engine is, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// How it is reached.
    pub place: Place,
    /// Who says so: `DOCKER_HOST`, `context team`.
    pub origin: String,
}

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A port, perhaps with TLS.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// The files of TLS; none is plain TCP.
        tls: Option<TlsFiles>,
    },
    /// `docker system dial-stdio` on another machine, by this machine's `ssh`.
    Ssh {
        /// The user, if it is not the one that ssh takes.
        user: Option<String>,
        /// Name or address.
        host: String,
        /// Port, if it is not the one that ssh takes.
        port: Option<u16>,
        /// The socket there, if it is not the default one.
        socket: Option<String>,
    },
}

/// The folder with the PEM files of TLS, each of which may be absent; none where nothing says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    folder: Option<PathBuf>,
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is none, or of a kind that is not known.
    #[error("{origin} is `{text}`, which is no address of an engine")]
    Invalid {
        /// Who says so.
        origin: String,
        /// What it says.
        text: String,
    },
    /// There is no such context.
    #[error("there is no Docker context `{name}`, which {origin} names")]
    NoContext {
        /// Its name.
        name: String,
        /// Who says so.
        origin: String,
    },
    /// What Docker wrote cannot be read.
    #[error("`{path}` is no Docker context")]
    Context {
        /// The file.
        path: PathBuf,
    },
    /// A context that takes any certificate.
    #[error("Docker context `{name}` takes any certificate (`SkipTLSVerify`), and imagespec does not")]
    SkipsVerification {
        /// Its name.
        name: String,
    },
}

/// What says where the engine is.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The builder's option `host`.
    pub host: Option<String>,
    /// The builder's option `context`.
    pub context: Option<String>,
    /// Variables of this process.
    pub variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

impl Address {
    /// The engine that `wishes` lead to, the first of: option `host`, option `context`, DOCKER_HOST, DOCKER_CONTEXT, the
    /// current context, the first default socket that is there.
    ///
    /// # Errors
    /// When what leads there is no address.
    pub fn find(wishes: &Wishes) -> Result<Self, AddressError> {
        let variable = |name: &str| wishes.variables.get(name).filter(|value| !value.is_empty());
        if let Some(host) = &wishes.host {
            return wishes.at(host, "the option `host`");
        }
        if let Some(name) = &wishes.context {
            return wishes.in_context(name, "the option `context`");
        }
        if let Some(host) = variable("DOCKER_HOST") {
            return wishes.at(host, "DOCKER_HOST");
        }
        if let Some(name) = variable("DOCKER_CONTEXT") {
            return wishes.in_context(name, "DOCKER_CONTEXT");
        }
        if let Some((name, path)) = wishes.current_context() {
            return wishes.in_context(&name, &format!("`{}`", path.display()));
        }
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let rootless = ROOTLESS_SOCKETS.iter().filter_map(|name| Some(runtime.as_ref()?.join(name)));
        let found = [PathBuf::from(DOCKER_SOCKET)].into_iter().chain(rootless).find(|socket| socket.exists());
        let socket = found.unwrap_or_else(|| DOCKER_SOCKET.into());
        Ok(Self { place: Place::Unix(socket), origin: DEFAULT.to_owned() })
    }
}

impl Wishes {
    /// With the variables of this process.
    pub fn of_process(host: Option<String>, context: Option<String>) -> Self {
        Self { host, context, variables: std::env::vars().collect() }
    }

    fn at(&self, text: &str, origin: &str) -> Result<Address, AddressError> {
        let wants_tls = self.variables.get("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        let folder = self.variables.get("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| self.config_folder());
        let tls = wants_tls.then_some(TlsFiles { folder });
        let place = place(text, tls);
        let place = place.ok_or_else(|| AddressError::Invalid { origin: origin.to_owned(), text: shown(text) })?;
        Ok(Address { place, origin: origin.to_owned() })
    }

    /// The context that Docker's config names, and the file that says so.
    fn current_context(&self) -> Option<(String, PathBuf)> {
        let path = self.config_folder()?.join("config.json");
        let config: Config = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let name = config.current_context.filter(|name| !name.is_empty() && name != "default")?;
        Some((name, path))
    }

    fn in_context(&self, name: &str, origin: &str) -> Result<Address, AddressError> {
        if name == "default" {
            let wishes = Self { host: None, context: None, variables: self.variables.clone() };
            let variables = wishes.variables.into_iter().filter(|(name, _)| name == "XDG_RUNTIME_DIR").collect();
            return Address::find(&Self { variables, ..Self::default() });
        }
        let absent = || AddressError::NoContext { name: shown(name), origin: origin.to_owned() };
        let folder = self.config_folder().ok_or_else(absent)?.join("contexts");
        let id = Digest::of(name.as_bytes()).to_hex();
        let path = folder.join("meta").join(&id).join("meta.json");
        let content = fs::read(&path).map_err(|_| absent())?;
        let unreadable = || AddressError::Context { path: path.clone() };
        let mut context: Context = serde_json::from_slice(&content).map_err(|_| unreadable())?;
        let endpoint = context.endpoints.remove("docker").ok_or_else(unreadable)?;
        let host = endpoint.host.ok_or_else(unreadable)?;
        let certificates = folder.join("tls").join(&id).join("docker");
        let tls = certificates.is_dir().then(|| TlsFiles::in_folder(&certificates));
        if endpoint.skip_tls_verify {
            return Err(AddressError::SkipsVerification { name: shown(name) });
        }
        let origin = format!("context {}", shown(name));
        let invalid = || AddressError::Invalid { origin: origin.clone(), text: shown(&host) };
        Ok(Address { place: place(&host, tls).ok_or_else(invalid)?, origin: origin.clone() })
    }

    fn config_folder(&self) -> Option<PathBuf> {
        let folder = self.variables.get("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        folder.or_else(|| Some(Path::new(self.variables.get("HOME")?).join(".docker")))
    }
}

impl TlsFiles {
    /// The authorities that the engine's certificate may come from; those of the system if it is absent.
    pub fn ca(&self) -> Option<PathBuf> {
        self.file("ca.pem")
    }

    /// Our own certificate and its key, if we have one.
    pub fn identity(&self) -> Option<(PathBuf, PathBuf)> {
        Some((self.file("cert.pem")?, self.folder.as_ref()?.join("key.pem")))
    }

    fn in_folder(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name)).filter(|path| path.is_file())
    }
}

impl Place {
    /// How a connection is opened.
    pub fn way(&self) -> Way {
        match self {
            Self::Unix(socket) => Way::Unix(socket.clone()),
            Self::Tcp { host, port, tls } => {
                let tls = tls.as_ref().map(|files| Tls {
                    authorities: files.ca(),
                    identity: files.identity(),
                    server_name: None,
                    protocol: Protocol::Unsaid,
                });
                Way::Tcp { host: host.clone(), port: *port, tls }
            }
            Self::Ssh { user, host, port, socket } => {
                let mut arguments = ssh_arguments(user.as_deref(), host, *port);
                arguments.push("docker".to_owned());
                arguments.extend(socket.iter().map(|socket| format!("--host=unix://{socket}")));
                arguments.extend(["system", "dial-stdio"].map(str::to_owned));
                Way::Program { name: "ssh", arguments }
            }
        }
    }
}

fn place(text: &str, tls: Option<TlsFiles>) -> Option<Place> {
    if let Some(path) = text.strip_prefix("unix://") {
        return path.starts_with('/').then(|| Place::Unix(path.into()));
    }
    let url = Url::parse(text).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty() && !host.starts_with('-'))?.to_owned();
    match url.scheme() {
        "tcp" | "http" => {
            let port = url.port().unwrap_or(if tls.is_some() { PORT_TLS } else { PORT_PLAIN });
            Some(Place::Tcp { host, port, tls })
        }
        "https" => {
            // No folder says whom to trust, and the current one may be anybody's.
            let tls = tls.unwrap_or(TlsFiles { folder: None });
            Some(Place::Tcp { host, port: url.port().unwrap_or(PORT_TLS), tls: Some(tls) })
        }
        // A password has no place in an address, and ssh takes none.
        "ssh" if url.password().is_none() => {
            let user = Some(url.username()).filter(|user| !user.is_empty() && !user.starts_with('-'));
            let socket = Some(url.path()).filter(|path| !matches!(*path, "" | "/"));
            // A shell at the other end reads it.
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
            if socket.is_some_and(|socket| !socket.bytes().all(is_plain)) {
                return None;
            }
            Some(Place::Ssh {
                user: user.map(str::to_owned),
                host,
                port: url.port(),
                socket: socket.map(str::to_owned),
            })
        }
        _ => None,
    }
}

/// A text from outside on one line, without what could be a password.
fn shown(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://****@{rest}"),
        None => text.to_owned(),
    }
    .escape_debug()
    .to_string()
}

impl fmt::Display for Place {
    /// As DOCKER_HOST says it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } => write!(formatter, "tcp://{host}:{port}"),
            Self::Ssh { user, host, port, .. } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(formatter, "ssh://{user}{host}{port}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(host: Option<&str>, variables: &[(&str, &str)]) -> String {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let wishes = Wishes { host: host.map(str::to_owned), context: None, variables };
        match Address::find(&wishes) {
            Ok(Address { place, origin }) => format!("{place} by {origin}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_option_counts_more_than_a_variable_and_that_more_than_a_context() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().display().to_string();
        let contexts = home.path().join(".docker/contexts/meta").join(Digest::of(b"team").to_hex());
        fs::create_dir_all(&contexts).unwrap();
        fs::write(home.path().join(".docker/config.json"), r#"{"currentContext":"team"}"#).unwrap();
        let variables = [("HOME", home_path.as_str()), ("DOCKER_HOST", "unix:///run/theirs.sock")];
        assert_eq!(find(Some("tcp://build:2375"), &variables), "tcp://build:2375 by the option `host`");
        assert_eq!(find(None, &variables), "unix:///run/theirs.sock by DOCKER_HOST");
        let told = find(None, &variables[..1]).replace(&home_path, "HOME");
        assert_eq!(told, "there is no Docker context `team`, which `HOME/.docker/config.json` names");
        let meta = r#"{"Name":"team","Endpoints":{"docker":{"Host":"ssh://joe@build:2222","SkipTLSVerify":false}}}"#;
        fs::write(contexts.join("meta.json"), meta).unwrap();
        assert_eq!(find(None, &variables[..1]), "ssh://joe@build:2222 by context team");
        assert_eq!(find(None, &[]), "unix:///var/run/docker.sock by the default");
    }

    #[test]
    fn an_address_is_a_socket_a_port_or_ssh_and_nothing_else() {
        for (text, told) in [
            ("unix:///run/docker.sock", "unix:///run/docker.sock by DOCKER_HOST"),
            ("tcp://10.0.0.1", "tcp://10.0.0.1:2375 by DOCKER_HOST"),
            ("ssh://build", "ssh://build by DOCKER_HOST"),
            ("unix://relative", "DOCKER_HOST is `unix://relative`, which is no address of an engine"),
            ("npipe:////./pipe/docker", "DOCKER_HOST is `npipe:////./pipe/docker`, which is no address of an engine"),
            ("ssh://-oProxyCommand=x", "DOCKER_HOST is `ssh://-oProxyCommand=x`, which is no address of an engine"),
            ("ssh://joe:secret@build", "DOCKER_HOST is `ssh://****@build`, which is no address of an engine"),
            (
                "ssh://build/x;touch$IFS/tmp/x",
                "DOCKER_HOST is `ssh://build/x;touch$IFS/tmp/x`, which is no address of an engine",
            ),
            ("nonsense", "DOCKER_HOST is `nonsense`, which is no address of an engine"),
        ] {
            assert_eq!(find(None, &[("DOCKER_HOST", text)]), told);
        }
        let tls = [("DOCKER_HOST", "tcp://build"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        assert_eq!(find(None, &tls), "tcp://build:2376 by DOCKER_HOST");
        // Without a folder it is still TLS, and the current folder says nothing.
        assert_eq!(find(None, &tls[..2]), "tcp://build:2376 by DOCKER_HOST");
        let https = Address::find(&Wishes { host: Some("https://build".to_owned()), ..Wishes::default() }).unwrap();
        let Place::Tcp { tls: Some(files), .. } = https.place else { panic!("https is TLS") };
        assert_eq!((files.ca(), files.identity()), (None, None));
    }
}
