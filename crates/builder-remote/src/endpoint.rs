//! Where daemons are: addresses as BuildKit's own client writes them, and what else is said of an endpoint behind `?`. Pure.
//!
//! `unix:///PATH`, `tcp://HOST[:PORT]`, `docker-container://NAME`, `kube-pod://NAMESPACE/POD` and `ssh://[USER@]HOST[:PORT][/PATH]`.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use imagespec_buildkit::connection::{Protocol, Tls, Way, ssh_arguments};
use imagespec_core::platform::Platform;
use url::Url;

/// The port of `buildkitd`.
const PORT: u16 = 1234;
/// What an address may say of a program's arguments: nothing that a shell at the other end, or the program, could take for
/// something else than a name.
const PLAIN: &[u8] = b"/._-:@";

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address, without what is said of it.
    pub address: String,
    /// How it is reached.
    pub way: Way,
    /// Its share of the builds, compared with those of the others.
    pub weight: u32,
    /// How many builds of this machine it does at once.
    pub in_flight: NonZeroUsize,
    /// The platforms that it runs natively; none are asked of it.
    pub platforms: Vec<Platform>,
}

/// What counts for each endpoint that says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The authorities of the daemons' certificates.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name that stands in the daemons' certificates, if it is not that of the host.
    pub server_name: Option<String>,
    /// How many builds of this machine a daemon does at once.
    pub in_flight: NonZeroUsize,
}

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint `{text}`: {problem}")]
pub struct EndpointError {
    /// What was written, without what could be a password.
    pub text: String,
    /// What is wrong.
    pub problem: EndpointProblem,
}

/// What is wrong with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointProblem {
    /// It is of no known form.
    #[error("it is no address of a BuildKit daemon")]
    NoAddress,
    /// It has a password.
    #[error("an address holds no password")]
    Password,
    /// A setting behind `?` that there is not.
    #[error("there is no setting `{0}`")]
    UnknownSetting(String),
    /// A setting has another kind of value.
    #[error("`{name}` must be {expected}")]
    Setting {
        /// Its name.
        name: String,
        /// `a whole number from 1 on`
        expected: &'static str,
    },
    /// Settings of TLS where none is spoken.
    #[error("`{0}` is about TLS, and none is spoken with such an address")]
    NoTls(String),
    /// A certificate without its key, or a key without its certificate.
    #[error("`cert` and `key` go together")]
    HalfIdentity,
    /// A file that depends on where one stands.
    #[error("`{name}` must be an absolute path, or one beneath `~/`")]
    Relative {
        /// The setting.
        name: String,
    },
}

/// What stands behind `?`.
#[derive(Default)]
struct Settings {
    weight: Option<u32>,
    in_flight: Option<NonZeroUsize>,
    platforms: Vec<Platform>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    is_plain: bool,
    context: Option<String>,
    container: Option<String>,
    namespace: Option<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        // A daemon runs the steps of a build beside each other, so that a few builds keep it busy.
        let in_flight = NonZeroUsize::new(4).expect("four is not zero");
        Self { ca: None, cert: None, key: None, server_name: None, in_flight }
    }
}

impl Endpoint {
    /// Reads what a user wrote. `home` is what `~` stands for.
    ///
    /// # Errors
    /// When it is no endpoint.
    pub fn parse(text: &str, defaults: &Defaults, home: Option<&Path>) -> Result<Self, EndpointError> {
        read(text.trim(), defaults, home).map_err(|problem| EndpointError { text: shown(text), problem })
    }

    /// Whether it is surely on this machine.
    pub fn is_here(&self) -> bool {
        match &self.way {
            Way::Unix(_) => true,
            Way::Tcp { host, .. } => is_loopback(host),
            Way::Program { name, .. } => *name == "docker",
        }
    }
}

fn read(text: &str, defaults: &Defaults, home: Option<&Path>) -> Result<Endpoint, EndpointProblem> {
    let url = Url::parse(text).map_err(|_| EndpointProblem::NoAddress)?;
    if url.password().is_some() {
        return Err(EndpointProblem::Password);
    }
    let settings = Settings::read(&url, home)?;
    let host = url.host_str().filter(|host| is_plain(host));
    let path = Some(url.path()).filter(|path| !matches!(*path, "" | "/"));
    let plain_path = path.filter(|path| is_plain(path));
    let (way, address) = match (url.scheme(), host, path) {
        ("unix", None, Some(_)) => {
            // The text itself: in a URL, a blank would be `%20`.
            let path = text["unix://".len()..].split('?').next().unwrap_or_default();
            (Way::Unix(path.into()), format!("unix://{path}"))
        }
        ("tcp", Some(host), None) => {
            let port = url.port().unwrap_or(PORT);
            let tls = settings.tls(defaults, is_loopback(host), home)?;
            (Way::Tcp { host: host.to_owned(), port, tls }, format!("tcp://{host}:{port}"))
        }
        ("docker-container", Some(name), None) => {
            let context = settings.context.iter().flat_map(|context| ["--context".to_owned(), context.clone()]);
            let command = ["exec", "-i", name, "buildctl", "dial-stdio"].map(str::to_owned);
            let arguments = context.chain(command).collect();
            (Way::Program { name: "docker", arguments }, format!("docker-container://{name}"))
        }
        ("kube-pod", Some(namespace), Some(_)) => {
            let pod = plain_path.and_then(|path| path.strip_prefix('/')).filter(|pod| !pod.contains('/'));
            let pod = pod.filter(|pod| is_plain(pod)).ok_or(EndpointProblem::NoAddress)?;
            (settings.in_pod(Some(namespace), pod), format!("kube-pod://{namespace}/{pod}"))
        }
        // As BuildKit's own client has it.
        ("kube-pod", Some(pod), None) => {
            let namespace = settings.namespace.as_deref();
            let name = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
            (settings.in_pod(namespace, pod), format!("kube-pod://{name}{pod}"))
        }
        ("ssh", Some(host), path) => {
            if path.is_some() && plain_path.is_none() {
                return Err(EndpointProblem::NoAddress);
            }
            let user = Some(url.username()).filter(|user| !user.is_empty());
            if user.is_some_and(|user| !is_plain(user)) {
                return Err(EndpointProblem::NoAddress);
            }
            let mut arguments = ssh_arguments(user, host, url.port());
            arguments.push("buildctl".to_owned());
            arguments.extend(path.iter().flat_map(|path| ["--addr".to_owned(), format!("unix://{path}")]));
            arguments.push("dial-stdio".to_owned());
            let user = user.map(|user| format!("{user}@")).unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            (Way::Program { name: "ssh", arguments }, format!("ssh://{user}{host}{port}{}", path.unwrap_or_default()))
        }
        _ => return Err(EndpointProblem::NoAddress),
    };
    if !matches!(way, Way::Tcp { .. }) {
        settings.says_nothing_of_tls()?;
    }
    Ok(Endpoint {
        address,
        way,
        weight: settings.weight.unwrap_or(1),
        in_flight: settings.in_flight.unwrap_or(defaults.in_flight),
        platforms: settings.platforms,
    })
}

impl Settings {
    fn read(url: &Url, home: Option<&Path>) -> Result<Self, EndpointProblem> {
        let mut settings = Self::default();
        for (name, value) in url.query_pairs() {
            let wrong = |expected| EndpointProblem::Setting { name: name.to_string(), expected };
            match name.as_ref() {
                "weight" => settings.weight = Some(value.parse().map_err(|_| wrong("a whole number"))?),
                "in_flight" => {
                    settings.in_flight = Some(value.parse().map_err(|_| wrong("a whole number from 1 on"))?);
                }
                "platform" => {
                    settings.platforms.push(value.parse().map_err(|_| wrong("a platform, as `linux/arm64`"))?);
                }
                "ca" => settings.ca = Some(file("ca", &value, home)?),
                "cert" => settings.cert = Some(file("cert", &value, home)?),
                "key" => settings.key = Some(file("key", &value, home)?),
                "server_name" => settings.server_name = Some(value.into_owned()),
                "tls" if value == "off" => settings.is_plain = true,
                "tls" => return Err(wrong("`off`")),
                "context" | "container" | "namespace" if !is_plain(&value) => return Err(wrong("a name")),
                "context" => settings.context = Some(value.into_owned()),
                "namespace" => settings.namespace = Some(value.into_owned()),
                "container" => settings.container = Some(value.into_owned()),
                _ => return Err(EndpointProblem::UnknownSetting(name.into_owned())),
            }
        }
        Ok(settings)
    }

    /// How TLS is spoken. Files, secrets and logins go over the connection: without TLS only within this machine, or where the
    /// user says so.
    fn tls(&self, defaults: &Defaults, is_loopback: bool, home: Option<&Path>) -> Result<Option<Tls>, EndpointProblem> {
        if self.is_plain {
            return Ok(None);
        }
        let of_defaults = |name, path: &Option<PathBuf>| match path {
            Some(path) => file(name, &path.to_string_lossy(), home).map(Some),
            None => Ok(None),
        };
        let ca = self.ca.clone().map_or_else(|| of_defaults("ca", &defaults.ca), |path| Ok(Some(path)))?;
        let (cert, key) = match (&self.cert, &self.key) {
            (None, None) => (of_defaults("cert", &defaults.cert)?, of_defaults("key", &defaults.key)?),
            (cert, key) => (cert.clone(), key.clone()),
        };
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(EndpointProblem::HalfIdentity),
        };
        let server_name = self.server_name.clone().or_else(|| defaults.server_name.clone());
        if is_loopback && ca.is_none() && identity.is_none() && server_name.is_none() {
            return Ok(None);
        }
        Ok(Some(Tls { authorities: ca, identity, server_name, protocol: Protocol::Http2 }))
    }

    /// A way into a pod.
    fn in_pod(&self, namespace: Option<&str>, pod: &str) -> Way {
        let mut arguments = Vec::new();
        for (option, value) in [("--context", self.context.as_deref()), ("--namespace", namespace)] {
            arguments.extend(value.iter().flat_map(|value| [option.to_owned(), (*value).to_owned()]));
        }
        arguments.extend(["exec", "-i", pod].map(str::to_owned));
        arguments.extend(self.container.iter().flat_map(|name| ["-c".to_owned(), name.clone()]));
        arguments.extend(["--", "buildctl", "dial-stdio"].map(str::to_owned));
        Way::Program { name: "kubectl", arguments }
    }

    fn says_nothing_of_tls(&self) -> Result<(), EndpointProblem> {
        let said = [
            ("ca", self.ca.is_some()),
            ("cert", self.cert.is_some()),
            ("key", self.key.is_some()),
            ("server_name", self.server_name.is_some()),
            ("tls", self.is_plain),
        ];
        match said.into_iter().find(|(_, is_said)| *is_said) {
            Some((name, _)) => Err(EndpointProblem::NoTls(name.to_owned())),
            None => Ok(()),
        }
    }
}

fn file(name: &str, value: &str, home: Option<&Path>) -> Result<PathBuf, EndpointProblem> {
    let path = match (value.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(value),
    };
    match path.is_absolute() {
        true => Ok(path),
        false => Err(EndpointProblem::Relative { name: name.to_owned() }),
    }
}

fn is_plain(text: &str) -> bool {
    !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) || b"[]".contains(&byte))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(text, &Defaults::default(), Some(Path::new("/home/joe")))
    }

    fn told(text: &str) -> String {
        match parse(text) {
            Ok(Endpoint { way: Way::Program { name, arguments }, .. }) => format!("{name} {}", arguments.join(" ")),
            Ok(Endpoint { way: Way::Tcp { host, port, tls }, .. }) => match tls {
                Some(tls) => {
                    format!("{host} {port} TLS {:?} {:?} {:?}", tls.authorities, tls.identity, tls.server_name)
                }
                None => format!("{host} {port} plain"),
            },
            Ok(Endpoint { way: Way::Unix(path), .. }) => path.display().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_address_says_how_a_daemon_is_reached() {
        insta::assert_snapshot!(told("unix:///run/build kit.sock?weight=2"), @"/run/build kit.sock");
        insta::assert_snapshot!(told("tcp://localhost"), @"localhost 1234 plain");
        insta::assert_snapshot!(told("tcp://[::1]:99"), @"[::1] 99 plain");
        insta::assert_snapshot!(told("tcp://build.example"), @"build.example 1234 TLS None None None");
        insta::assert_snapshot!(told("tcp://10.0.0.7:1234?ca=/a.pem&cert=~/b.pem&key=~/c.pem&server_name=build"), @r#"10.0.0.7 1234 TLS Some("/a.pem") Some(("/home/joe/b.pem", "/home/joe/c.pem")) Some("build")"#);
        insta::assert_snapshot!(told("tcp://build?tls=off"), @"build 1234 plain");
        insta::assert_snapshot!(told("docker-container://buildkit0?context=team"), @"docker --context team exec -i buildkit0 buildctl dial-stdio");
        insta::assert_snapshot!(told("kube-pod://builds/buildkit-0?container=buildkitd&context=prod"), @"kubectl --context prod --namespace builds exec -i buildkit-0 -c buildkitd -- buildctl dial-stdio");
        insta::assert_snapshot!(told("kube-pod://buildkit-0?namespace=builds"), @"kubectl --namespace builds exec -i buildkit-0 -- buildctl dial-stdio");
        insta::assert_snapshot!(told("ssh://joe@build:2222/run/buildkit.sock"), @"ssh -T -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -p 2222 -l joe -- build buildctl --addr unix:///run/buildkit.sock dial-stdio");
        insta::assert_snapshot!(told("ssh://build"), @"ssh -T -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -- build buildctl dial-stdio");
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        insta::assert_snapshot!(told("build:1234"), @"endpoint `build:1234`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("unix://relative"), @"endpoint `unix://relative`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("ssh://joe:secret@build"), @"endpoint `ssh://****@build`: an address holds no password");
        insta::assert_snapshot!(told("ssh://-oProxyCommand=x"), @"endpoint `ssh://-oProxyCommand=x`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("ssh://build/x;touch$IFS/tmp/x"), @"endpoint `ssh://build/x;touch$IFS/tmp/x`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("docker-container://a;b"), @"endpoint `docker-container://a;b`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("kube-pod://builds/-v"), @"endpoint `kube-pod://builds/-v`: it is no address of a BuildKit daemon");
        insta::assert_snapshot!(told("tcp://build?wieght=2"), @"endpoint `tcp://build?wieght=2`: there is no setting `wieght`");
        insta::assert_snapshot!(told("tcp://build?in_flight=0"), @"endpoint `tcp://build?in_flight=0`: `in_flight` must be a whole number from 1 on");
        insta::assert_snapshot!(told("tcp://build?platform=arm"), @"endpoint `tcp://build?platform=arm`: `platform` must be a platform, as `linux/arm64`");
        insta::assert_snapshot!(told("tcp://build?cert=/a.pem"), @"endpoint `tcp://build?cert=/a.pem`: `cert` and `key` go together");
        insta::assert_snapshot!(told("tcp://build?ca=a.pem"), @"endpoint `tcp://build?ca=a.pem`: `ca` must be an absolute path, or one beneath `~/`");
        insta::assert_snapshot!(told("unix:///run/x.sock?ca=/a.pem"), @"endpoint `unix:///run/x.sock?ca=/a.pem`: `ca` is about TLS, and none is spoken with such an address");
    }

    #[test]
    fn what_is_said_of_an_endpoint_is_no_part_of_its_address() {
        let endpoint = parse("tcp://build?weight=2&in_flight=8&platform=linux/arm64&platform=linux/arm/v7").unwrap();
        let platforms: Vec<_> = endpoint.platforms.iter().map(ToString::to_string).collect();
        assert_eq!((endpoint.address.as_str(), endpoint.weight, endpoint.in_flight.get()), ("tcp://build:1234", 2, 8));
        assert_eq!(platforms, ["linux/arm64", "linux/arm/v7"]);
        assert_eq!(parse("unix:///x.sock").unwrap().in_flight.get(), 4);
    }
}
