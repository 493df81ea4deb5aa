//! Image references, with the rules that Docker gave them. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry that a reference without one means.
const DOCKER_HUB: &str = "docker.io";

/// The name of an image in a registry: `registry/repository:tag@digest`.
///
/// Grammar: the distribution project's `reference` package, which every engine follows. The first component names a
/// registry if it holds a `.` or a `:`, is `localhost` or has an upper-case letter; otherwise the registry is Docker
/// Hub, where a repository of one component lies under `library/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {problem}")]
pub struct InvalidReference {
    text: String,
    problem: ReferenceProblem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ReferenceProblem {
    #[error("it is empty")]
    Empty,
    #[error("the registry is not `HOST` or `HOST:PORT`")]
    Registry,
    #[error("a repository has lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) between `/`")]
    Repository,
    #[error("a repository's name has 255 characters at most")]
    TooLong,
    #[error("a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two")]
    Tag,
    #[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
    Digest,
}

impl InvalidReference {
    /// What is wrong, without the text itself.
    pub(crate) fn problem(&self) -> String {
        self.problem.to_string()
    }
}

/// Whether `text` begins with credentials, as in `user:password@registry/name`. What follows the `@` of a reference is
/// a digest.
pub(crate) fn holds_credentials(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.split_once('@').is_some_and(|(user, rest)| {
        let is_host = rest.contains('/') || rest.contains('.') || user.contains(':') && !user.contains('/');
        !user.is_empty() && is_host && !rest.starts_with("sha256:")
    })
}

/// Where the credentials of a registry belong.
pub(crate) const REGISTRY_CREDENTIALS_HINT: &str = "leave them out: credentials of registries come from `docker login`";

impl Reference {
    /// `HOST` or `HOST:PORT` of the registry; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path of the repository in the registry, `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What the registry's manifest endpoint is asked for: the digest if there is one, else the tag, else `latest`.
    pub fn manifest_name(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository, pinned to `digest` and without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// When `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference { text: tag.to_owned(), problem: ReferenceProblem::Tag });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The reference as people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let name = match self.registry.as_str() {
            DOCKER_HUB => self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned(),
            registry => format!("{registry}/{}", self.repository),
        };
        format!("{name}{}", self.suffix())
    }

    fn suffix(&self) -> String {
        let mut suffix = String::new();
        if let Some(tag) = &self.tag {
            suffix.push(':');
            suffix.push_str(tag);
        }
        if let Some(digest) = self.digest {
            suffix.push('@');
            suffix.push_str(&digest.to_string());
        }
        suffix
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let shown = match text.split_once('@') {
            // What may be a password is not repeated.
            Some((_, rest)) if holds_credentials(text) => format!("…@{rest}"),
            _ => text.to_owned(),
        };
        let invalid = |problem| InvalidReference { text: shown.clone(), problem };
        if text.is_empty() {
            return Err(invalid(ReferenceProblem::Empty));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid(ReferenceProblem::Digest))?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(ReferenceProblem::Tag));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if names_registry(first) => (first, path),
            _ => (DOCKER_HUB, name),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        if !is_registry(registry) {
            return Err(invalid(ReferenceProblem::Registry));
        }
        let repository = match registry {
            DOCKER_HUB if !path.contains('/') => format!("library/{path}"),
            _ => path.to_owned(),
        };
        if !repository.split('/').all(is_repository_component) {
            return Err(invalid(ReferenceProblem::Repository));
        }
        if registry.len() + 1 + repository.len() > 255 {
            return Err(invalid(ReferenceProblem::TooLong));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn names_registry(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok()
                    && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_repository_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    if !(bytes.first().copied().is_some_and(is_alphanumeric) && bytes.last().copied().is_some_and(is_alphanumeric)) {
        return false;
    }
    component
        .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().expect("a reference")
    }

    #[test]
    fn a_short_name_means_docker_hub() {
        assert_eq!(parse("debian").to_string(), "docker.io/library/debian");
        assert_eq!(parse("nvidia/cuda:12.6.1").to_string(), "docker.io/nvidia/cuda:12.6.1");
        assert_eq!(parse("index.docker.io/library/debian").to_string(), "docker.io/library/debian");
        assert_eq!(parse("debian").manifest_name(), "latest");
        assert_eq!(parse("docker.io/library/debian:12").familiar(), "debian:12");
    }

    #[test]
    fn a_first_component_with_a_dot_a_port_or_localhost_is_a_registry() {
        assert_eq!(parse("localhost/x").registry(), "localhost");
        assert_eq!(parse("127.0.0.1:5000/team/x:a").registry(), "127.0.0.1:5000");
        assert_eq!(parse("ghcr.io/flyteorg/flytekit").repository(), "flyteorg/flytekit");
        assert_eq!(parse("[::1]:5000/x").registry(), "[::1]:5000");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "UPPER",
            "a//b",
            "a/",
            "/a",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "a..b",
            "a___b",
            "-a",
            "x.y:99999/z",
            "[::1/x",
            "a/b\n",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_before_the_registry_is_not_repeated() {
        let refused = |text: &str| text.parse::<Reference>().expect_err("no reference").to_string();
        insta::assert_snapshot!(refused("joe:hunter2@ghcr.io/app"), @"`…@ghcr.io/app` is not an image reference: a digest is `sha256:` and 64 lower-case hexadecimal digits");
        assert!(holds_credentials("https://joe:hunter2@ghcr.io") && holds_credentials("hunter2@ghcr.io/app"));
        assert!(!holds_credentials("ghcr.io/app:1@sha256:00") && !holds_credentials("ghcr.io/app@latest"));
    }

    #[test]
    fn the_error_says_which_part_is_wrong() {
        let refused = |text: &str| text.parse::<Reference>().expect_err("no reference").to_string();
        insta::assert_snapshot!(refused("host.example:x/app"), @"`host.example:x/app` is not an image reference: the registry is not `HOST` or `HOST:PORT`");
        insta::assert_snapshot!(refused("app:-x"), @"`app:-x` is not an image reference: a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two");
        insta::assert_snapshot!(refused("app@sha256:00"), @"`app@sha256:00` is not an image reference: a digest is `sha256:` and 64 lower-case hexadecimal digits");
        assert!(refused(&"a".repeat(300)).ends_with("a repository's name has 255 characters at most"));
        insta::assert_snapshot!("team/App".parse::<Reference>().expect_err("upper case"), @"`team/App` is not an image reference: a repository has lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) between `/`");
    }
}
