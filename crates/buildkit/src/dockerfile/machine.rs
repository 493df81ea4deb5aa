//! What the machine that builds lends to a build, and what must leave no trace in the image: proxies, package indexes, and
//! whom it trusts. Taken from the variables of a process.
//!
//! Variables that change which packages are found stay out, so that the same spec means the same image on every machine.
//! So do logins of this machine: code of packages runs in the step that would see them. `pip_secret_mounts` is for logins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use imagespec_core::runtime::quoted;
use reqwest::Url;

/// Build arguments that every Dockerfile has without declaring them, and that are in no image's history.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// Variables of uv that say how this machine reaches the network and where packages are.
const UV: [&str; 12] = [
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT",
    "UV_HTTP_CONNECT_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_REQUEST_TIMEOUT",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
];
/// Where Debian and most others keep the authorities that they trust.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What the machine that builds lends to a build.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its proxies, by the variable that names them: `http_proxy`.
    pub proxies: BTreeMap<String, String>,
    /// Variables that uv sees. Without logins.
    pub uv: BTreeMap<String, String>,
    /// The file with the authorities that it trusts, if it says so. It may be absent.
    pub authorities: Option<PathBuf>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy's address may hold a password.
        let Self { proxies, uv, authorities } = self;
        let (proxies, uv) = (proxies.keys(), uv.keys());
        write!(formatter, "Machine {{ proxies: {proxies:?}, uv: {uv:?}, authorities: {authorities:?} }}")
    }
}

impl Machine {
    /// The machine of a process with these variables.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut machine = Self { authorities: Some(PathBuf::from(AUTHORITIES)), ..Self::default() };
        for (name, value) in variables {
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            if value.is_empty() {
                continue;
            }
            if PROXIES.contains(&name.to_ascii_uppercase().as_str()) {
                machine.proxies.insert(name, value);
            } else if UV.contains(&name.as_str()) {
                machine.uv.insert(name, without_login(&value));
            } else if name == "SSL_CERT_FILE" && value.starts_with('/') {
                machine.authorities = Some(PathBuf::from(value));
            }
        }
        machine
    }

    /// The variables of uv as a file that a shell reads; none if there are none.
    pub fn variables(&self) -> Option<String> {
        let mut text = String::new();
        for (name, value) in &self.uv {
            writeln!(text, "export {name}={}", quoted(value)).expect("text takes text");
        }
        (!text.is_empty()).then_some(text)
    }
}

fn without_login(value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            let is_cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
            if is_cleared { url.into() } else { String::new() }
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_lent_proxies_indexes_and_authorities_and_no_logins() {
        let machine = Machine::of(
            [
                ("https_proxy", "http://joe:pr0xy@proxy.example:3128"),
                ("NO_PROXY", "localhost"),
                ("UV_DEFAULT_INDEX", "https://joe:s3cret@mirror.example/simple"),
                ("UV_INDEX_TEAM_PASSWORD", "s3cret"),
                ("UV_EXCLUDE_NEWER", "2020-01-01"),
                ("UV_INSECURE_HOST", "a'b"),
                ("NETRC", "/home/joe/.netrc"),
                ("SSL_CERT_FILE", "/etc/ssl/own.pem"),
                ("HOME", "/home/joe"),
                ("HTTP_PROXY", ""),
            ]
            .map(|(name, value)| (name.into(), value.into())),
        );
        insta::assert_debug_snapshot!(machine, @r#"Machine { proxies: ["NO_PROXY", "https_proxy"], uv: ["UV_DEFAULT_INDEX", "UV_INSECURE_HOST"], authorities: Some("/etc/ssl/own.pem") }"#);
        insta::assert_snapshot!(machine.variables().unwrap(), @r#"
        export UV_DEFAULT_INDEX=https://mirror.example/simple
        export UV_INSECURE_HOST='a'"'"'b'
        "#);
        assert_eq!(Machine::of([]).variables(), None);
        assert_eq!(Machine::of([]).authorities, Some(AUTHORITIES.into()));
    }
}
