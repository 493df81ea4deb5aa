//! What uv and downloads know of this machine and of the secrets of a build: variables, and who they are to an index.
//!
//! Variables that change which packages are found (`UV_EXCLUDE_NEWER`, `UV_RESOLUTION`, …) stay out, so that the same spec
//! means the same image on every machine. Formats: netrc(5); the variables are those of uv's documentation.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use url::Url;

use super::message::{decoded, secrets_in};

/// Variables of the host that uv sees.
const VARIABLES: [&str; 30] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    // An index of the machine is how people work who reach PyPI by a mirror.
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_KEYRING_PROVIDER",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT",
    "UV_HTTP_CONNECT_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_REQUEST_TIMEOUT",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_OFFLINE",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_CREDENTIALS_DIR",
];
/// Variables that hold addresses of indexes.
const INDEXES: [&str; 4] = ["UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"];
/// Secrets are tokens and passwords; a longer netrc is none.
const NETRC_BYTES_MAX: u64 = 1 << 20;

/// The variables that uv is run with, and the logins in them.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    /// Values that must not be shown as they are.
    hidden: Vec<String>,
}

/// Who somebody is to a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be passwords.
        formatter.debug_set().entries(self.variables.keys()).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Login(…)")
    }
}

impl Environment {
    /// Those of this process.
    pub fn of_machine() -> Self {
        Self::of(std::env::vars_os())
    }

    /// Those of `variables` that do not change what is found.
    pub(super) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { variables: variables.filter(|(name, _)| is_passed(name)).collect(), hidden: Vec::new() }
    }

    /// The same with the indexes of a spec: one instead of the default, and further ones that are looked in before it.
    ///
    /// By variable and not by argument, since an address may hold a password and arguments are for all to see.
    #[must_use]
    pub fn with_indexes(mut self, index: Option<&str>, further: &[String]) -> Self {
        if let Some(index) = index {
            self.variables.remove("UV_INDEX_URL");
            self = self.with("UV_DEFAULT_INDEX", index);
        }
        if further.is_empty() { self } else { self.with("UV_INDEX", further.join(" ")) }
    }

    /// The same with one more, which counts more than another of its name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// The same with one whose value is a secret.
    #[must_use]
    pub fn with_secret(mut self, name: &str, value: &str) -> Self {
        self.hidden.push(value.to_owned());
        self.with(name, value)
    }

    pub(super) fn variables(&self) -> &BTreeMap<String, OsString> {
        &self.variables
    }

    /// What must not be shown of it.
    pub(super) fn secrets(&self) -> Vec<String> {
        let texts = self.variables.iter().filter_map(|(name, value)| Some((name, value.to_str()?)));
        let of_variables = texts.flat_map(|(name, value)| match name.ends_with("_PASSWORD") {
            true => vec![value.to_owned()],
            false => secrets_in(value),
        });
        let of_netrc = self.netrc().into_values().map(|login| login.password);
        let hidden = self.hidden.iter().cloned();
        of_variables.chain(of_netrc).chain(hidden).filter(|secret| !secret.is_empty()).collect()
    }

    /// Who to be to the server of `url`: what an index on the same server says, else what netrc says. Nobody else is
    /// told, and netrc's `default`, which is for any server, counts for none.
    pub(super) fn login(&self, url: &Url) -> Option<Login> {
        let origin = url.origin();
        let of_index = INDEXES
            .iter()
            .filter_map(|name| self.variables.get(*name)?.to_str())
            .flat_map(str::split_whitespace)
            .find_map(|index| self.login_of_index(index).filter(|(at, _)| *at == origin));
        of_index.map(|(_, login)| login).or_else(|| self.netrc().remove(url.host_str()?))
    }

    /// User and password that netrc has for the host of `url`.
    pub(crate) fn netrc_login(&self, url: &Url) -> Option<(String, String)> {
        self.netrc().remove(url.host_str()?).map(|login| (login.user, login.password))
    }

    /// Of `https://USER:PASSWORD@HOST/…` or `NAME=https://HOST/…`.
    fn login_of_index(&self, index: &str) -> Option<(url::Origin, Login)> {
        let (name, address) = match index.split_once('=') {
            Some((name, address)) if !name.contains("://") => (Some(name), address),
            _ => (None, index),
        };
        let url = Url::parse(address).ok()?;
        let of_name = |part: &str| {
            let name: String =
                name?.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            Some(self.variables.get(&format!("UV_INDEX_{name}_{part}"))?.to_str()?.to_owned())
        };
        let (user, password) = match (url.username(), url.password()) {
            ("", None) => (of_name("USERNAME"), of_name("PASSWORD")),
            (user, password) => (Some(decoded(user)), password.map(decoded)),
        };
        if user.is_none() && password.is_none() {
            return None;
        }
        let login = Login { user: user.unwrap_or_default(), password: password.unwrap_or_default() };
        Some((url.origin(), login))
    }

    /// The logins of the file that NETRC names, else of `~/.netrc`, by host.
    fn netrc(&self) -> BTreeMap<String, Login> {
        let path = match (self.variables.get("NETRC"), self.variables.get("HOME")) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => PathBuf::from(home).join(".netrc"),
            (None, None) => return BTreeMap::new(),
        };
        let is_small = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= NETRC_BYTES_MAX);
        let text = is_small.then(|| fs::read_to_string(&path).ok()).flatten();
        text.map(|text| logins(&text)).unwrap_or_default()
    }
}

fn is_passed(name: &str) -> bool {
    let is_login = name.starts_with("UV_INDEX_") && (name.ends_with("_USERNAME") || name.ends_with("_PASSWORD"));
    is_login || VARIABLES.contains(&name)
}

/// netrc(5): `machine HOST login NAME password SECRET`. The first entry of a host counts.
fn logins(text: &str) -> BTreeMap<String, Login> {
    let mut logins = BTreeMap::new();
    let mut machine: Option<(String, Login)> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "machine" | "default" => {
                    keep(&mut logins, machine.take());
                    let login = Login { user: String::new(), password: String::new() };
                    machine = (word == "machine").then(|| words.next()).flatten().map(|host| (host.to_owned(), login));
                }
                "login" | "password" | "account" => {
                    let value = words.next().unwrap_or_default().trim_matches('"').to_owned();
                    if let Some((_, login)) = &mut machine {
                        match word {
                            "login" => login.user = value,
                            "password" => login.password = value,
                            _ => {}
                        }
                    }
                }
                // A macro lasts until an empty line.
                "macdef" => {
                    let _ = lines.find(|line| line.trim().is_empty());
                    break;
                }
                word if word.starts_with('#') => break,
                _ => {}
            }
        }
    }
    keep(&mut logins, machine);
    logins
}

fn keep(logins: &mut BTreeMap<String, Login>, machine: Option<(String, Login)>) {
    if let Some((host, login)) = machine {
        logins.entry(host).or_insert(login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    fn login(environment: &Environment, url: &str) -> Option<(String, String)> {
        environment.login(&url.parse().unwrap()).map(|login| (login.user, login.password))
    }

    fn of(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn variables_that_change_what_is_found_do_not_reach_uv() {
        let passed = environment(&[
            ("UV_EXCLUDE_NEWER", "2020-01-01"),
            ("UV_RESOLUTION", "lowest"),
            ("UV_PRERELEASE", "allow"),
            ("UV_INDEX", "https://other.example/simple"),
            ("UV_NO_BINARY", "1"),
            ("UV_CONSTRAINT", "/etc/hostname"),
            ("PYTHONPATH", "/x"),
            ("UV_DEFAULT_INDEX", "https://mirror.example/simple"),
            ("UV_INDEX_TEAM_PASSWORD", "x"),
            ("UV_HTTP_TIMEOUT", "5"),
            ("PATH", "/bin"),
        ]);
        let names: Vec<_> = passed.variables().keys().map(String::as_str).collect();
        assert_eq!(names, ["PATH", "UV_DEFAULT_INDEX", "UV_HTTP_TIMEOUT", "UV_INDEX_TEAM_PASSWORD"]);
    }

    #[test]
    fn a_login_is_told_to_its_own_server_alone() {
        let netrc = tempfile::NamedTempFile::new().unwrap();
        let text = "# mine\nmacdef init\ncd /x\n\nmachine files.example\n login ann password \"pw\"\nmachine b.example login b password c\ndefault login any password body\n";
        fs::write(netrc.path(), text).unwrap();
        let environment = environment(&[
            ("UV_DEFAULT_INDEX", "team=https://pypi.example/simple"),
            ("UV_INDEX_TEAM_USERNAME", "joe"),
            ("UV_INDEX_TEAM_PASSWORD", "s3cret"),
        ]);
        let environment =
            environment.with("NETRC", netrc.path()).with("UV_INDEX", "https://t0k%40en@other.example:8443/x");
        assert_eq!(login(&environment, "https://pypi.example/a.whl"), of("joe", "s3cret"));
        assert_eq!(login(&environment, "http://pypi.example/a.whl"), None);
        assert_eq!(login(&environment, "https://pypi.example:444/a.whl"), None);
        assert_eq!(login(&environment, "https://pypi.example.evil.test/a.whl"), None);
        assert_eq!(login(&environment, "https://other.example:8443/a.whl"), of("t0k@en", ""));
        assert_eq!(login(&environment, "https://b.example/a.whl"), of("b", "c"));
        assert_eq!(login(&environment, "https://elsewhere.example/a.whl"), None);
        let secrets = environment.secrets();
        for secret in ["s3cret", "t0k@en", "c"] {
            assert!(secrets.iter().any(|known| known == secret), "{secret}");
        }
        assert!(!format!("{environment:?}").contains("s3cret"));
    }
}
