//! Docker's `config.json` and Podman's `auth.json` (containers-auth.json(5)). Reads one file, runs nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Credential, CredentialError};
use crate::secret::Secret;

const SIZE_BYTES_MAX: u64 = 1024 * 1024;

/// Under which name Docker stores the credentials of Docker Hub, and asks helpers for them.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One file with credentials.
pub(super) struct ConfigFile {
    path: PathBuf,
    content: Content,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    auths: Option<BTreeMap<String, Auth>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl ConfigFile {
    /// Reads the file at `path`, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialError> {
        let unreadable = |source| CredentialError::Read { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let mut text = Vec::new();
        file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > SIZE_BYTES_MAX {
            return Err(CredentialError::TooLarge { path: path.to_owned(), limit_bytes: SIZE_BYTES_MAX });
        }
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let content = serde_json::from_slice(&text).map_err(|error| CredentialError::Parse {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Some(Self { path: path.to_owned(), content }))
    }

    /// The name of the helper that keeps the credentials of `registry`.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let of_registry = self.content.cred_helpers.iter().flatten().find(|(key, _)| normal(key) == registry);
        let name = of_registry.map(|(_, name)| name).or(self.content.creds_store.as_ref())?;
        (!name.is_empty()).then_some(name)
    }

    /// What stands in `auths` for the repository: its longest prefix that has an entry, at least its registry.
    pub(super) fn credential(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        let name = format!("{registry}/{repository}");
        let entry = self
            .content
            .auths
            .iter()
            .flatten()
            .map(|(key, auth)| (key, normal(key), auth))
            .filter(|(_, normal, _)| {
                name.strip_prefix(normal.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .max_by_key(|(_, normal, _)| normal.len());
        match entry {
            Some((key, _, auth)) => auth
                .credential()
                .map_err(|InvalidAuth| CredentialError::Auth { path: self.path.clone(), key: key.clone() }),
            None => Ok(None),
        }
    }
}

struct InvalidAuth;

impl Auth {
    fn credential(&self) -> Result<Option<Credential>, InvalidAuth> {
        let present = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = present(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        if let Some(token) = present(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = present(&self.auth) {
            let decoded = BASE64.decode(auth.trim()).map_err(|_| InvalidAuth)?;
            let text = String::from_utf8(decoded).map_err(|_| InvalidAuth)?;
            // Old versions of Docker padded the password with NUL.
            let (username, password) = text.trim_end_matches('\0').split_once(':').ok_or(InvalidAuth)?;
            return Ok(Some(Credential::Password { username: username.to_owned(), password: Secret::new(password) }));
        }
        let (Some(username), Some(password)) = (present(&self.username), present(&self.password)) else {
            return Ok(None);
        };
        Ok(Some(Credential::Password { username, password: Secret::new(password) }))
    }
}

/// The name that `registry` is stored under in a helper.
pub(super) fn server_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_SERVER } else { registry }
}

/// A key of `auths` or `credHelpers` as references write it: no scheme, no API version, `docker.io` for Docker Hub.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.docker.io" => "docker.io",
        host => host,
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<ConfigFile, CredentialError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).expect("written");
        ConfigFile::read(&path).map(|file| file.expect("a file"))
    }

    fn user(file: &ConfigFile, registry: &str, repository: &str) -> Option<String> {
        match file.credential(registry, repository).expect("readable") {
            Some(Credential::Password { username, password }) => Some(format!("{username}:{}", password.expose())),
            Some(Credential::IdentityToken(token)) => Some(format!("identity {}", token.expose())),
            Some(Credential::RegistryToken(token)) => Some(format!("registry {}", token.expose())),
            None => None,
        }
    }

    #[test]
    fn credentials_are_found_by_any_spelling_of_the_registry_and_by_the_longest_prefix() {
        let file = file(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnM6Mw"},
                "https://registry.example:5000/v2/": {"username": "u", "password": "p"},
                "quay.io": {"identitytoken": "it"},
                "quay.io/team": {"registrytoken": "rt"},
                "empty.example": {}
            }}"#,
        )
        .expect("a configuration");
        assert_eq!(user(&file, "docker.io", "library/debian").as_deref(), Some("hub:s:3"));
        assert_eq!(user(&file, "registry.example:5000", "x").as_deref(), Some("u:p"));
        assert_eq!(user(&file, "registry.example", "x"), None);
        assert_eq!(user(&file, "quay.io", "other/x").as_deref(), Some("identity it"));
        assert_eq!(user(&file, "quay.io", "team/x").as_deref(), Some("registry rt"));
        assert_eq!(user(&file, "quay.io", "teams/x").as_deref(), Some("identity it"));
        assert_eq!(user(&file, "empty.example", "x"), None);
    }

    #[test]
    fn a_registrys_own_helper_comes_before_the_store_of_all() {
        let file = file(r#"{"credsStore": "desktop", "credHelpers": {"https://ghcr.io": "gh", "none.example": ""}}"#)
            .expect("a configuration");
        assert_eq!(file.helper("ghcr.io"), Some("gh"));
        assert_eq!(file.helper("docker.io"), Some("desktop"));
        assert_eq!(file.helper("none.example"), None);
    }

    #[test]
    fn an_error_never_repeats_what_may_be_a_secret() {
        let error = file("{\"auths\": {\"x.example\":\n \"hunter2\"}}").err().expect("no configuration");
        let text = format!("{error} {error:?}");
        assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
        let file = file(r#"{"auths": {"x.example": {"auth": "hunter2!"}}}"#).expect("a configuration");
        let error = file.credential("x.example", "y").expect_err("no base64");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_does_not_exist_is_passed_over_and_a_huge_one_is_refused() {
        assert!(ConfigFile::read(Path::new("/nonexistent/config.json")).is_ok_and(|file| file.is_none()));
        assert!(matches!(file(&" ".repeat(1024 * 1024 + 1)), Err(CredentialError::TooLarge { .. })));
    }
}
