//! The user's credentials, from the files that Docker and Podman keep. Which files, the caller says.

mod config;
mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::secret::Secret;
use config::ConfigFile;

/// How long a credential helper may take. Some ask the user's keychain, none asks the user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a user proves to be somebody with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// What `docker login` asks for.
    Password { username: String, password: Secret },
    /// Proves it to the token server only (OAuth 2.0, "refresh token").
    IdentityToken(Secret),
    /// Sent to the registry as it is.
    RegistryToken(Secret),
}

/// User and password for somebody who logs in on the user's behalf.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user; `<token>` if the password is an identity token, empty if it is a registry token.
    pub username: String,
    password: Secret,
}

impl Login {
    /// The password or the token, for the one request that needs it.
    pub fn password(&self) -> &str {
        self.password.expose()
    }

    /// Whether the password is an identity token.
    pub fn is_identity_token(&self) -> bool {
        self.username == helper::IDENTITY_TOKEN_USER
    }
}

/// Credentials of all registries, read from files when they are first needed.
///
/// Files are asked in their order. In each, a registry's helper in `credHelpers` comes first, then `credsStore`, then
/// what stands in `auths` itself. Helpers run only after a registry denied access without credentials.
#[derive(Default)]
pub struct CredentialStore {
    paths: Vec<PathBuf>,
    files: Mutex<Option<Arc<Vec<ConfigFile>>>>,
    /// What helpers answered, by program and server.
    answers: Mutex<BTreeMap<(String, String), Option<Credential>>>,
}

/// Why credentials could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no Docker configuration. Its words are not repeated, as they may be a secret.
    #[error("`{path}` is not a Docker configuration: something is wrong in line {line}, column {column}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The file is larger than any real one.
    #[error("`{path}` is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// `auth` of a registry is not base64 of `USER:PASSWORD`.
    #[error("`auth` of `{key}` in `{path}` is not base64 of `USER:PASSWORD`")]
    Auth {
        /// The file.
        path: PathBuf,
        /// Which entry of `auths`.
        key: String,
    },
    /// The name of a credential helper could be a path.
    #[error("`{name}` is not the name of a credential helper")]
    HelperName {
        /// The name.
        name: String,
    },
    /// The credential helper could not be run.
    #[error("cannot run the credential helper `{program}`")]
    HelperRun {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The credential helper took too long and was ended.
    #[error("the credential helper `{program}` gave no answer within {seconds} seconds")]
    HelperTimeout {
        /// The program.
        program: String,
        /// How long it had.
        seconds: u64,
    },
    /// The credential helper failed.
    #[error("the credential helper `{program}` failed{}", said(.message.as_deref()))]
    HelperFailed {
        /// The program.
        program: String,
        /// Its own words on standard error, one line, bounded; nothing if they could hold the secret.
        message: Option<String>,
    },
    /// The credential helper's answer cannot be read.
    #[error("the answer of the credential helper `{program}` cannot be read")]
    HelperAnswer {
        /// The program.
        program: String,
    },
}

fn said(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

impl CredentialError {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::HelperRun { program, .. } => {
                Some(format!("install `{program}`, or take it out of `credHelpers` and `credsStore`"))
            }
            Self::HelperTimeout { .. } => Some("unlock the keychain that it asks".to_owned()),
            Self::Parse { path, .. } | Self::Auth { path, .. } => {
                Some(format!("correct `{}`, or remove it and run `docker login` again", path.display()))
            }
            Self::HelperName { .. } => Some(
                "`credHelpers` and `credsStore` name programs: `desktop` for `docker-credential-desktop`".to_owned(),
            ),
            Self::HelperFailed { program, .. } | Self::HelperAnswer { program } => {
                Some(format!("run `echo HOST | {program} get` with the registry's host to see what is wrong"))
            }
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl CredentialStore {
    /// Credentials from Docker's `config.json` and Podman's `auth.json` files. What does not exist is passed over.
    pub fn from_files(paths: Vec<PathBuf>) -> Self {
        Self { paths, ..Self::default() }
    }

    /// What an engine is told, so that it reaches a repository as the user would; nothing if the user has no login there.
    ///
    /// # Errors
    /// When a file or a credential helper cannot be read.
    pub fn login(&self, registry: &str, repository: &str) -> Result<Option<Login>, CredentialError> {
        Ok(self.find(registry, repository)?.map(|credential| match credential {
            Credential::Password { username, password } => Login { username, password },
            Credential::IdentityToken(password) => Login { username: helper::IDENTITY_TOKEN_USER.to_owned(), password },
            Credential::RegistryToken(password) => Login { username: String::new(), password },
        }))
    }

    /// What stands in a file itself, without running a program; nothing if a program would have to be asked.
    pub(crate) fn stored(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for file in self.files()?.iter() {
            if file.helper(registry).is_some() {
                return Ok(None);
            }
            if let Some(credential) = file.credential(registry, repository)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// The credentials of a repository, from wherever they are.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for file in self.files()?.iter() {
            if let Some(name) = file.helper(registry)
                && let Some(credential) = self.ask_helper(name, config::server_of(registry))?
            {
                return Ok(Some(credential));
            }
            if let Some(credential) = file.credential(registry, repository)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    fn ask_helper(&self, name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let key = (name.to_owned(), server.to_owned());
        // Held while the helper runs, so that many threads do not start it many times.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&key) {
            return Ok(answer.clone());
        }
        let answer = helper::get(&helper::program(name)?, server, HELPER_TIMEOUT)?;
        answers.insert(key, answer.clone());
        Ok(answer)
    }

    fn files(&self) -> Result<Arc<Vec<ConfigFile>>, CredentialError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = &*files {
            return Ok(Arc::clone(files));
        }
        let mut read = Vec::new();
        for path in &self.paths {
            read.extend(ConfigFile::read(path)?);
        }
        Ok(Arc::clone(files.insert(Arc::new(read))))
    }
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CredentialStore").field("paths", &self.paths).finish_non_exhaustive()
    }
}
