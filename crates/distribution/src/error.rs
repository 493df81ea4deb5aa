//! What can go wrong with a registry, in fields. No URL here carries a query or credentials.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use imagespec_core::digest::Digest;
use url::Url;

use crate::credentials::CredentialError;
use crate::endpoint::DOCKER_HUB;
use crate::index::NoPlatform;

/// Characters of a registry's own words that are kept.
const MESSAGE_LENGTH_MAX: usize = 300;

/// Why something could not be done with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry answered, and not as hoped.
    #[error(transparent)]
    Answer(Box<RegistryAnswer>),
    /// No answer came, or only a part of it.
    #[error("cannot talk to `{url}`: {problem}")]
    Connection {
        /// What was asked, without query.
        url: String,
        /// `HOST[:PORT]` of the registry that the user named.
        registry: String,
        /// What happened.
        problem: ConnectionProblem,
    },
    /// The registry's name forms no URL.
    #[error("`{registry}` is not the address of a registry")]
    Address {
        /// What was named.
        registry: String,
    },
    /// Stored credentials could not be had.
    #[error("cannot get the credentials of `{registry}`")]
    Credentials {
        /// `HOST[:PORT]` of the registry.
        registry: String,
        /// Why.
        source: CredentialError,
    },
    /// The registry asks for a way of authentication that is not safe or not known.
    #[error("registry `{registry}` asks for authentication in a way that is refused: {problem}")]
    Authentication {
        /// `HOST[:PORT]` of the registry.
        registry: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The registry sends the client to a place where it must not go.
    #[error("registry `{registry}` redirects `{url}` in a way that is refused: {problem}")]
    Redirect {
        /// `HOST[:PORT]` of the registry.
        registry: String,
        /// Where it redirects from, without query.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An answer breaks the protocol.
    #[error("the answer to `{url}` breaks the protocol: {problem}")]
    Protocol {
        /// What was asked, without query.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// What came has another digest than what was asked for.
    #[error("`{name}` has the digest `{actual}`, expected `{expected}`")]
    Digest {
        /// The manifest or blob.
        name: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// What came is longer or shorter than its descriptor says.
    #[error("`{name}` is {problem} than the {size_bytes} bytes that its descriptor says")]
    Size {
        /// The blob.
        name: String,
        /// `longer` or `shorter`.
        problem: &'static str,
        /// Length in bytes that the descriptor says.
        size_bytes: u64,
    },
    /// A document is larger than any real one.
    #[error("`{name}` is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The document.
        name: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// A manifest of a kind that is not supported.
    #[error("`{reference}` has a manifest of the type `{media_type}`, which is not supported")]
    UnsupportedManifest {
        /// The image.
        reference: String,
        /// Its media type.
        media_type: String,
    },
    /// A manifest that cannot be read.
    #[error("the manifest of `{reference}` cannot be read")]
    InvalidManifest {
        /// The image.
        reference: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An index has no image for the platform.
    #[error(transparent)]
    NoPlatform(#[from] NoPlatform),
    /// The file with certificate authorities cannot be used.
    #[error("cannot use the certificate authorities in `{path}`")]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine cannot set up HTTP or TLS.
    #[error("cannot set up HTTP: {problem}")]
    Setup {
        /// What the library says.
        problem: String,
    },
    /// The content to push could not be read.
    #[error("cannot read `{digest}`, to be pushed")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// What was pulled could not be written.
    #[error("cannot write `{digest}`, as it is pulled")]
    Sink {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Nothing may be asked of any registry.
    #[error("registry `{registry}` is not asked, for the build is offline")]
    Offline {
        /// `HOST[:PORT]` of the registry.
        registry: String,
    },
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryAnswer {
    /// `HOST[:PORT]` of the registry that the user named; the answer may come from its token server or its storage.
    pub registry: String,
    /// Method of the request.
    pub method: String,
    /// What was asked, without query.
    pub url: String,
    /// HTTP status.
    pub status: u16,
    /// The registry's error code (distribution-spec, "Error Codes"), if it gave one.
    pub code: Option<String>,
    /// The registry's own words, one line, bounded.
    pub message: Option<String>,
    /// How long the registry asks to wait.
    pub retry_after: Option<Duration>,
    /// Who asked.
    pub asker: Asker,
}

/// Whom a registry was asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody without credentials.
    Nobody,
    /// The account whose credentials are stored for the registry.
    Account,
}

/// Why a connection gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionProblem {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The host's name has no address.
    #[error("no address is known for this host")]
    UnknownHost,
    /// No answer in time.
    #[error("timed out")]
    TimedOut,
    /// The other side's certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The other side answers without TLS.
    #[error("it does not speak TLS")]
    NoTls,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Error {
    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == 404)
    }

    /// Whether access was denied.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Answer(answer) if matches!(answer.status, 401 | 403))
    }

    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Answer(answer) => is_temporary_status(answer.status),
            Self::Connection { problem, .. } => {
                !matches!(problem, ConnectionProblem::Tls(_) | ConnectionProblem::NoTls)
            }
            _ => false,
        }
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Answer(answer) => answer.hint(),
            Self::Connection { registry, problem, .. } => match problem {
                ConnectionProblem::Refused => {
                    Some(format!("check that `{registry}` is the registry's address and that it is running"))
                }
                // Nobody spelled the registry of a name without one.
                ConnectionProblem::UnknownHost if registry == DOCKER_HUB => {
                    Some("check the network; an image without a registry in its name comes from Docker Hub".to_owned())
                }
                ConnectionProblem::UnknownHost => Some(format!("check the spelling of `{registry}`, or the network")),
                ConnectionProblem::TimedOut => {
                    Some(format!("check the network, or whether `{registry}` needs a proxy"))
                }
                ConnectionProblem::Tls(_) => Some(format!(
                    "under `[registries.\"{registry}\"]` of `imagespec.toml`, name the authority that signed its \
                     certificate as `ca_bundle`, or set `insecure = true`"
                )),
                ConnectionProblem::NoTls => Some(format!(
                    "if that is meant, set `insecure = true` under `[registries.\"{registry}\"]` of `imagespec.toml`"
                )),
                ConnectionProblem::Broken(_) => Some("try again later".to_owned()),
            },
            Self::Credentials { source, .. } => source.hint(),
            Self::NoPlatform(error) => error.hint(),
            Self::UnsupportedManifest { .. } => {
                Some("push the image again with a current tool; schema 1 manifests are no longer read".to_owned())
            }
            Self::Digest { .. } | Self::Size { .. } => Some(
                "the registry, or a proxy before it, sends other bytes than were pushed: push the image again"
                    .to_owned(),
            ),
            Self::Authentication { .. }
            | Self::Redirect { .. }
            | Self::Protocol { .. }
            | Self::InvalidManifest { .. } => {
                Some("the registry, or a proxy before it, is at fault: tell whoever runs it".to_owned())
            }
            Self::Offline { .. } => Some("build it once without `--offline`, which keeps what it fetches".to_owned()),
            Self::CaBundle { .. } => Some("write `ca_bundle` as the path of a PEM file".to_owned()),
            _ => None,
        }
    }

    /// Whether another attempt at once, after a pause, makes sense: a refused connection will be refused again.
    pub(crate) fn deserves_retry(&self) -> bool {
        match self {
            Self::Connection { problem, .. } => {
                matches!(problem, ConnectionProblem::TimedOut | ConnectionProblem::Broken(_))
            }
            _ => self.is_temporary(),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer(answer) => answer.retry_after,
            _ => None,
        }
    }
}

impl RegistryAnswer {
    fn hint(&self) -> Option<String> {
        let login = match self.registry.as_str() {
            "docker.io" => "docker login".to_owned(),
            registry => format!("docker login {registry}"),
        };
        match self.status {
            401 if self.asker == Asker::Account => {
                Some(format!("run `{login}` again: the user name or the password that is stored is not accepted"))
            }
            401 => Some(format!("run `{login}`; a private image looks the same as one that does not exist")),
            403 => Some(format!("run `{login}` with an account that may use this repository")),
            429 => Some(format!("wait, or run `{login}`: registries allow more to those who are known")),
            status if is_temporary_status(status) => Some("try again later".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for RegistryAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{} {}` was answered with status {}", self.method, self.url, self.status)?;
        if let Some(code) = &self.code {
            write!(formatter, ", {code}")?;
        }
        if let Some(message) = &self.message {
            write!(formatter, ": {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RegistryAnswer {}

/// Whether a status says that the same request may succeed later.
pub(crate) fn is_temporary_status(status: u16) -> bool {
    matches!(status, 408 | 429) || (status >= 500 && !matches!(status, 501 | 505))
}

/// A URL as it may be shown: without query, fragment and credentials, which may hold secrets.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return url.scheme().to_owned();
    }
    url.into()
}

/// Words from outside as one bounded line without control characters; nothing if nothing is left.
pub(crate) fn sanitized(text: &str) -> Option<String> {
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    // Characters that change the direction of text could make a line say something else than it does.
    let is_direction = |character: &char| matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line: String =
        text.chars().take(MESSAGE_LENGTH_MAX).filter(|character| !is_direction(character)).map(printable).collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_query_and_no_credentials() {
        let url = Url::parse("https://user:hunter2@storage.example/blob?X-Signature=abc#x").expect("a URL");
        assert_eq!(shown(&url), "https://storage.example/blob");
    }

    #[test]
    fn every_problem_of_a_connection_says_what_to_look_at() {
        let told = |problem: ConnectionProblem| {
            let url = "https://r.example/v2/x/manifests/a".to_owned();
            let error = Error::Connection { url, registry: "r.example".to_owned(), problem };
            format!("{error}\n{}", error.hint().unwrap_or_default())
        };
        insta::assert_snapshot!(told(ConnectionProblem::TimedOut), @"
        cannot talk to `https://r.example/v2/x/manifests/a`: timed out
        check the network, or whether `r.example` needs a proxy
        ");
        insta::assert_snapshot!(told(ConnectionProblem::UnknownHost), @"
        cannot talk to `https://r.example/v2/x/manifests/a`: no address is known for this host
        check the spelling of `r.example`, or the network
        ");
        insta::assert_snapshot!(told(ConnectionProblem::NoTls), @r#"
        cannot talk to `https://r.example/v2/x/manifests/a`: it does not speak TLS
        if that is meant, set `insecure = true` under `[registries."r.example"]` of `imagespec.toml`
        "#);
        insta::assert_snapshot!(told(ConnectionProblem::Tls("invalid peer certificate: Expired".to_owned())), @r#"
        cannot talk to `https://r.example/v2/x/manifests/a`: TLS failed: invalid peer certificate: Expired
        under `[registries."r.example"]` of `imagespec.toml`, name the authority that signed its certificate as `ca_bundle`, or set `insecure = true`
        "#);
    }

    #[test]
    fn words_from_outside_become_one_bounded_line() {
        assert_eq!(sanitized("no\u{1b}[31m\nway\u{202e}!").as_deref(), Some("no [31m way!"));
        assert_eq!(sanitized(&"x".repeat(5000)).map(|line| line.len()), Some(300));
        assert_eq!(sanitized(" \n\t"), None);
    }

    #[test]
    fn not_implemented_and_denied_are_not_temporary() {
        let temporary = [401, 403, 404, 408, 429, 500, 501, 502, 503, 504, 505, 520].map(is_temporary_status);
        assert_eq!(temporary, [false, false, false, true, true, true, false, true, true, true, false, true]);
    }
}
