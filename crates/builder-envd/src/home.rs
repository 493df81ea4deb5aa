//! The home that envd has for one build: a folder of its own with a context, logins of the registries that are needed, and
//! how these are reached. The user's own is not touched, and of this machine's variables it sees few.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imagespec_buildkit::Progress;
use imagespec_core::builder::BuildRequest;
use imagespec_distribution::{CredentialError, CredentialStore};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::follow::message;
use crate::options::Options;
use crate::process::{End, ProcessError, Program, Stream, ending};

/// The program, where no option names another one.
const PROGRAM: &str = "envd";
/// The context that is made where the user names none.
const CONTEXT: &str = "imagespec";
/// The BuildKit inside of an engine, which envd takes by itself.
pub(crate) const MOBY: &str = "moby-worker";
/// Variables of this machine that envd sees: how it reaches engines, clusters and the network.
const VARIABLES: [&str; 17] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "KUBERNETES_SERVICE_HOST",
];
/// Keys for the SSH server of an environment to work in, of which our images have none: envd takes seconds to make some.
const KEYS: [&str; 2] = ["id_rsa_envd", "id_rsa_envd.pub"];

/// Why envd cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    #[error("there is no program `{program}`")]
    NoProgram { program: String },
    #[error("`{program}` says that it is {said}, and builder `envd` needs envd 1")]
    Version { program: String, said: String },
    #[error("cannot write to `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error("envd has no context `{name}`, which {asker} names")]
    NoContext { name: String, asker: &'static str },
    #[error("`address` is `{address}`, which does not say what it leads to")]
    Address { address: String },
    #[error("`{command}` ended with {ending}: {said}")]
    Failed { command: String, ending: String, said: String },
    #[error("cannot read `{path}`, which tells envd about registries")]
    RegistryConfig { path: PathBuf, source: io::Error },
    #[error("the build was cancelled")]
    Cancelled,
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// Where envd builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// Name of the context.
    pub(crate) name: String,
    /// Kind of the BuildKit: `tcp`.
    pub(crate) builder: String,
    /// Where it is, as envd says it.
    pub(crate) address: String,
}

/// envd with a home of its own, which is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    /// The program.
    pub(crate) program: PathBuf,
    /// What it says of its version.
    pub(crate) version: String,
    /// Where it builds.
    pub(crate) context: Context,
    /// Whether this machine reaches the network through a proxy.
    pub(crate) has_proxy: bool,
    environment: Vec<(OsString, OsString)>,
    folder: TempDir,
}

/// Finds the program: the one that the options name, else the first on PATH.
///
/// # Errors
/// When there is none.
pub(crate) fn find_program(options: &Options) -> Result<PathBuf, HomeError> {
    let name = options.program.as_deref().unwrap_or(PROGRAM);
    let is_program =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let none = || HomeError::NoProgram { program: name.to_owned() };
    if name.contains('/') {
        let path = std::path::absolute(name).map_err(|_| none())?;
        return if is_program(&path) { Ok(path) } else { Err(none()) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    found.find(|path| is_program(path)).ok_or_else(none)
}

impl Home {
    /// Makes a home in `parent`, with the context that `options` ask for.
    ///
    /// # Errors
    /// When there is no envd, no such context, or the folder cannot be written.
    pub(crate) fn new(parent: &Path, options: &Options, progress: &Progress<'_>) -> Result<Self, HomeError> {
        let program = find_program(options)?;
        let write = |source| HomeError::Write { path: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(write)?;
        let folder = TempDir::with_prefix_in("envd-", parent).map_err(write)?;
        let environment = environment(folder.path());
        let has_proxy = environment.iter().any(|(name, _)| name.to_str().is_some_and(|name| name.ends_with("PROXY")));
        let context = Context {
            name: "default".to_owned(),
            builder: MOBY.to_owned(),
            address: format!("{MOBY}://envd_buildkitd"),
        };
        let mut home = Self { program, version: String::new(), context, has_proxy, environment, folder };
        for key in KEYS {
            home.write(&format!(".config/envd/{key}"), "not used\n")?;
        }
        home.version = home.ask_version(progress)?;
        home.context = home.enter(options, progress)?;
        Ok(home)
    }

    /// A folder in it that is there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, HomeError> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).map_err(|source| HomeError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// envd with these words.
    pub(crate) fn program<'a>(&'a self, arguments: Vec<OsString>, folder: &'a Path) -> Program<'a> {
        Program { path: &self.program, arguments, environment: &self.environment, folder }
    }

    /// Writes down who the user is to the registries of `names`, and how all registries are reached.
    ///
    /// # Errors
    /// When the user's logins cannot be read, or the home cannot be written.
    pub(crate) fn registries(&self, request: &BuildRequest, names: &[(&str, &str)]) -> Result<(), HomeError> {
        let store = CredentialStore::from_files(request.credential_files.clone());
        let mut logins = Map::new();
        for (registry, repository) in names {
            if let Some(login) = store.login(registry, repository)? {
                // Docker Hub is called by its first address.
                let key = if *registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
                let entry = if login.is_identity_token() {
                    json!({ "identitytoken": login.password() })
                } else if login.username.is_empty() {
                    json!({ "registrytoken": login.password() })
                } else {
                    json!({ "auth": STANDARD.encode(format!("{}:{}", login.username, login.password())) })
                };
                logins.insert(key.to_owned(), entry);
            }
        }
        self.write(".docker/config.json", &json!({ "auths": logins }).to_string())?;
        let named = names.iter().map(|(registry, _)| *registry).filter(|registry| is_loopback(registry));
        let insecure = request.registries.iter().filter(|(_, access)| access.insecure).map(|(name, _)| name.as_str());
        let mut text = String::new();
        for registry in named.chain(insecure).collect::<BTreeSet<_>>() {
            text.push_str(&format!("[[registry]]\nlocation = {}\ninsecure = true\n", Value::from(registry)));
        }
        self.write(".config/containers/registries.conf", &text)?;
        for (registry, access) in &request.registries {
            if let Some(bundle) = &access.ca_bundle {
                let read = |source| HomeError::RegistryConfig { path: bundle.clone(), source };
                let authorities = fs::read_to_string(bundle).map_err(read)?;
                self.write(&format!(".config/containers/certs.d/{registry}/ca.crt"), &authorities)?;
            }
        }
        Ok(())
    }

    /// Has envd start its BuildKit, and tell it about registries as its own file `config` says.
    ///
    /// # Errors
    /// When the file cannot be read, or envd fails.
    pub(crate) fn bootstrap(&self, config: &Path, progress: &Progress<'_>) -> Result<(), HomeError> {
        let unreadable = |source| HomeError::RegistryConfig { path: config.to_owned(), source };
        let config = fs::canonicalize(config).map_err(unreadable)?;
        let mut words: Vec<OsString> =
            ["bootstrap", "--with-autocomplete=false", "--registry-config"].map(Into::into).into();
        words.push(config.into());
        self.run(words, progress).map(drop)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), HomeError> {
        let path = self.folder.path().join(path);
        let write = |source| HomeError::Write { path: path.clone(), source };
        fs::create_dir_all(path.parent().expect("it lies in the home")).map_err(write)?;
        fs::write(&path, text).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600))).map_err(write)
    }

    fn ask_version(&self, progress: &Progress<'_>) -> Result<String, HomeError> {
        let said = self.run(vec!["version".into()], progress)?;
        let first = said.lines().next().unwrap_or_default();
        let version = first.strip_prefix("envd: ").unwrap_or(first).trim().trim_start_matches('v').to_owned();
        if version.starts_with("1.") {
            return Ok(version);
        }
        let said = if version.is_empty() { "nothing".to_owned() } else { imagespec_buildkit::one_line(&version) };
        Err(HomeError::Version { program: self.program.display().to_string(), said })
    }

    /// Chooses the context.
    fn enter(&self, options: &Options, progress: &Progress<'_>) -> Result<Context, HomeError> {
        if let Some((name, asker)) = &options.context {
            return self.enter_named(name, asker, progress);
        }
        let (builder, address) = match (&options.builder, &options.address) {
            (None, None) => return Ok(self.context.clone()),
            (Some(builder), None) => (builder.as_str(), ""),
            (builder, Some(address)) => match (address.split_once("://"), builder) {
                (Some((scheme, rest)), None) => (scheme, rest),
                (Some((scheme, rest)), Some(builder)) if scheme == builder => (scheme, rest),
                (None, Some(builder)) => (builder.as_str(), address.as_str()),
                _ => return Err(HomeError::Address { address: address.clone() }),
            },
        };
        let mut words = vec!["context", "create", "--name", CONTEXT, "--use", "--builder", builder];
        if !address.is_empty() {
            words.extend(["--builder-address", address]);
        }
        self.run(words.into_iter().map(Into::into).collect(), progress)?;
        Ok(Context { name: CONTEXT.to_owned(), builder: builder.to_owned(), address: format!("{builder}://{address}") })
    }

    /// Takes a context that the user made: all of them are copied, and envd is told which one counts here.
    fn enter_named(&self, name: &str, asker: &'static str, progress: &Progress<'_>) -> Result<Context, HomeError> {
        let none = || HomeError::NoContext { name: name.to_owned(), asker };
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let config = config.or_else(|| env::home_dir().map(|home| home.join(".config"))).ok_or_else(none)?;
        let contexts = fs::read(config.join("envd/contexts")).map_err(|_| none())?;
        let own = self.folder.path().join(".config/envd/contexts");
        fs::write(&own, contexts).map_err(|source| HomeError::Write { path: own, source })?;
        let words = ["context", "use", "--name", name].map(Into::into).to_vec();
        match self.run(words, progress) {
            Err(HomeError::Failed { said, .. }) if said.contains("does not exist") => return Err(none()),
            result => result.map(drop)?,
        }
        let listed = self.run(["context", "ls", "--format", "json"].map(Into::into).to_vec(), progress)?;
        let listed: Vec<Listed> = serde_json::from_str(listed.trim()).map_err(|_| none())?;
        let current = listed.into_iter().find(|context| context.current).ok_or_else(none)?;
        Ok(Context { name: current.context, builder: current.builder, address: current.builder_addr })
    }

    /// Runs envd, and returns what it printed on stdout.
    fn run(&self, arguments: Vec<OsString>, progress: &Progress<'_>) -> Result<String, HomeError> {
        let command = std::iter::once(OsString::from(PROGRAM)).chain(arguments.iter().take(2).cloned());
        let command = command.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let (mut out, mut error) = (String::new(), String::new());
        let mut take = |stream, line: String| match stream {
            Stream::Out => out.push_str(&format!("{line}\n")),
            Stream::Error => error = message(&line).filter(|said| !said.is_empty()).unwrap_or_else(|| error.clone()),
        };
        let end = self.program(arguments, self.folder.path()).run(&|| progress.is_cancelled(), &mut take)?;
        match end {
            End::Status(status) if status.success() => Ok(out),
            End::Status(status) => {
                Err(HomeError::Failed { command, ending: ending(status), said: imagespec_buildkit::one_line(&error) })
            }
            End::Cancelled => Err(HomeError::Cancelled),
        }
    }
}

/// A context as `envd context ls` lists it.
#[derive(Deserialize)]
struct Listed {
    context: String,
    builder: String,
    builder_addr: String,
    current: bool,
}

/// The variables of a process with this home.
fn environment(home: &Path) -> Vec<(OsString, OsString)> {
    let lent = VARIABLES.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?)));
    let mut environment: Vec<_> = lent.collect();
    // What leads to a cluster is no setting of envd.
    let kubeconfig = env::var_os("KUBECONFIG").map(PathBuf::from);
    let kubeconfig = kubeconfig.or_else(|| env::home_dir().map(|home| home.join(".kube/config")));
    environment.extend(kubeconfig.filter(|path| path.exists()).map(|path| ("KUBECONFIG".into(), path.into())));
    let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
    set("HOME", home.into());
    let folders = [
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_RUNTIME_DIR", ".run"),
        ("DOCKER_CONFIG", ".docker"),
        ("REGISTRY_AUTH_FILE", ".docker/config.json"),
        ("CONTAINERS_REGISTRIES_CONF", ".config/containers/registries.conf"),
    ];
    for (name, path) in folders {
        set(name, home.join(path).into());
    }
    set("ENVD_ANALYTICS", "false".into());
    environment
}

/// Whether a registry is on this machine, so that plain HTTP goes nowhere else.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
