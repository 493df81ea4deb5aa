//! Secrets on their way to the step that may read them, and away from everybody else.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use imagespec_core::builder::SecretSource;
pub(crate) use imagespec_core::masked::Masked;
use imagespec_core::plan::{SecretMount, SecretTarget};
use tempfile::TempDir;

use crate::sandbox::{Access, Mount};

/// Secrets are tokens and keys. What is larger is a mistake.
const SIZE_BYTES_MAX: u64 = 1 << 20;
/// File systems in memory, so that no secret comes to lie on a disk.
const MEMORY_FOLDERS: [&str; 2] = ["/dev/shm", "/run"];

/// Why a secret could not be handed to a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// Nobody gave it.
    #[error("secret `{id}` is not given")]
    Absent {
        /// Its name.
        id: String,
    },
    /// Its file cannot be read.
    #[error("cannot read secret `{id}`")]
    Unreadable {
        /// Its name.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is longer than a secret is.
    #[error("secret `{id}` has more than 1 MiB")]
    TooLong {
        /// Its name.
        id: String,
    },
    /// It is wanted as a variable, which holds text.
    #[error("secret `{id}` is no text, and a variable cannot hold it")]
    NotText {
        /// Its name.
        id: String,
    },
    /// There is no place to keep it while the step runs.
    #[error("cannot keep secret `{id}` in memory")]
    Keep {
        /// Its name.
        id: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Secrets that a step may read; gone when this is dropped.
#[derive(Default)]
pub(crate) struct Secrets {
    folder: Option<TempDir>,
    /// Files that the step sees.
    pub(crate) mounts: Vec<Mount>,
    /// Variables that the step sees.
    pub(crate) env: Vec<(String, String)>,
    /// What must not be shown.
    pub(crate) masked: Masked,
}

/// Reads the secrets that `wanted` names from where `given` says.
pub(crate) fn read(given: &BTreeMap<String, SecretSource>, wanted: &[SecretMount]) -> Result<Secrets, SecretError> {
    let mut secrets = Secrets::default();
    for SecretMount { id, target } in wanted {
        let value = value(given, id)?;
        if let Ok(text) = std::str::from_utf8(&value) {
            secrets.masked.add(text);
        }
        match target {
            SecretTarget::Environment(name) => {
                let text = String::from_utf8(value).map_err(|_| SecretError::NotText { id: id.clone() })?;
                // What `echo` and editors put at the end of a file is no part of a token.
                secrets.env.push((name.clone(), text.trim_end_matches(['\r', '\n']).to_owned()));
            }
            SecretTarget::File(path) => {
                let keep = |source| SecretError::Keep { id: id.clone(), source };
                let folder = match &secrets.folder {
                    Some(folder) => folder.path().to_owned(),
                    None => secrets.folder.insert(memory_folder().map_err(keep)?).path().to_owned(),
                };
                let source = folder.join(secrets.mounts.len().to_string());
                write(&source, &value).map_err(keep)?;
                secrets.mounts.push(Mount { source, target: PathBuf::from(path), access: Access::ReadOnly });
            }
        }
    }
    Ok(secrets)
}

fn value(given: &BTreeMap<String, SecretSource>, id: &str) -> Result<Vec<u8>, SecretError> {
    match given.get(id) {
        None => Err(SecretError::Absent { id: id.to_owned() }),
        Some(SecretSource::Value(value)) => Ok(value.clone().into_bytes()),
        Some(SecretSource::File(path)) => {
            let unreadable = |source| SecretError::Unreadable { id: id.to_owned(), source };
            if fs::metadata(path).map_err(unreadable)?.len() > SIZE_BYTES_MAX {
                return Err(SecretError::TooLong { id: id.to_owned() });
            }
            fs::read(path).map_err(unreadable)
        }
    }
}

fn memory_folder() -> io::Result<TempDir> {
    let folders = MEMORY_FOLDERS.map(PathBuf::from).into_iter().chain([std::env::temp_dir()]);
    let mut result = Err(io::ErrorKind::NotFound.into());
    for folder in folders {
        result = tempfile::Builder::new().prefix("imagespec-secret-").tempdir_in(folder);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?.write_all(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: &str, target: SecretTarget) -> SecretMount {
        SecretMount { id: id.to_owned(), target }
    }

    #[test]
    fn a_secret_is_a_file_in_memory_and_a_variable_for_a_while() {
        let given = BTreeMap::from([("token".to_owned(), SecretSource::Value("s3cret\n".to_owned()))]);
        let wanted = [
            mount("token", SecretTarget::Environment("TOKEN".to_owned())),
            mount("token", SecretTarget::File("/run/secrets/token".to_owned())),
        ];
        let secrets = read(&given, &wanted).unwrap();
        assert_eq!(secrets.env, [("TOKEN".to_owned(), "s3cret".to_owned())]);
        let source = secrets.mounts[0].source.clone();
        assert_eq!(fs::read_to_string(&source).unwrap(), "s3cret\n");
        assert_eq!(secrets.masked.apply("it is s3cret!"), "it is ****!");
        drop(secrets);
        assert!(!source.exists());
    }

    #[test]
    fn a_secret_that_is_not_there_or_no_secret_is_named() {
        let error = |source| {
            let given: BTreeMap<_, _> = std::iter::once(("id".to_owned(), source)).collect();
            read(&given, &[mount("id", SecretTarget::Environment("A".to_owned()))]).map(drop).unwrap_err()
        };
        let absent = read(&BTreeMap::new(), &[mount("id", SecretTarget::Environment("A".to_owned()))]);
        insta::assert_snapshot!(absent.map(drop).unwrap_err(), @"secret `id` is not given");
        insta::assert_snapshot!(error(SecretSource::File("/nonexistent".into())), @"cannot read secret `id`");
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE_BYTES_MAX + 1).unwrap();
        insta::assert_snapshot!(error(SecretSource::File(file.path().to_owned())), @"secret `id` has more than 1 MiB");
        fs::write(file.path(), b"\xff").unwrap();
        insta::assert_snapshot!(error(SecretSource::File(file.path().to_owned())), @"secret `id` is no text, and a variable cannot hold it");
    }
}
