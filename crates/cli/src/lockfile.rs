//! Lock files on disk: where the lock of a spec lies, and what is said when it is of no use.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::lock::{Lock, LockError, SIZE_BYTES_MAX};
use imagespec_core::project::Loaded;

use crate::failure::{Failure, diagnostic_of};
use crate::prepare::shown;

/// Where the lock of `loaded` lies: beside its file, else beside the project file.
pub(crate) fn path(loaded: &Loaded) -> PathBuf {
    match &loaded.path {
        Some(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".lock");
            name.into()
        }
        None => {
            let is_plain = |character: &char| character.is_ascii_alphanumeric() || "._-".contains(*character);
            let name = loaded.image_name.as_deref().unwrap_or_default();
            let name: String =
                name.chars().map(|character| if is_plain(&character) { character } else { '-' }).collect();
            loaded.directory.join(format!("imagespec.{name}.lock"))
        }
    }
}

/// Reads the lock of `loaded`, which the user calls `spec`.
pub(crate) fn read(loaded: &Loaded, spec: &str) -> Result<Lock, Failure> {
    let path = path(loaded);
    let name = shown(&path);
    let unreadable = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            let diagnostic = Diagnostic::error(format!("`{spec}` is not locked: there is no `{name}`"));
            return Failure::new(diagnostic.hint(format!("`imagespec lock {spec}` writes it")));
        }
        let mut diagnostic = Diagnostic::error(format!("cannot read lock file `{name}`"));
        diagnostic.notes.push(error.to_string());
        Failure::new(diagnostic)
    };
    let mut text = Vec::new();
    let metadata = fs::metadata(&path).map_err(unreadable)?;
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() || metadata.len() > SIZE_BYTES_MAX {
        let diagnostic = Diagnostic::error(format!("`{name}` is no lock file, or larger than any is"));
        return Err(Failure::new(diagnostic.hint(lock_it(spec))));
    }
    File::open(&path).and_then(|file| file.take(SIZE_BYTES_MAX).read_to_end(&mut text)).map_err(unreadable)?;
    Lock::parse(&name, &text).map_err(|error| failure(&error, spec))
}

/// Writes a lock file aside and renames it, unless it is there as it is to be.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        // As readable as other files of the project; a temporary file is private otherwise.
        let mode = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error: io::Error| {
        let mut diagnostic = Diagnostic::error(format!("cannot write lock file `{}`", shown(path)));
        diagnostic.notes.push(error.to_string());
        Failure::new(diagnostic)
    })
}

/// What is said of a lock that cannot be used for the spec that the user calls `spec`.
pub(crate) fn failure(error: &LockError, spec: &str) -> Failure {
    let mut diagnostic = diagnostic_of(error);
    diagnostic.place = error.place().cloned();
    diagnostic.notes.extend(error.changes().iter().map(ToString::to_string));
    let hint = match error {
        LockError::Version { .. } => "a newer imagespec wrote it: take that one, or lock again".to_owned(),
        _ => lock_it(spec),
    };
    Failure::new(diagnostic.hint(hint))
}

fn lock_it(spec: &str) -> String {
    format!("`imagespec lock {spec}` writes it anew")
}
