//! The user's config, changed in place: comments, order and everything that this program does not know stay.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use toml_edit::{DocumentMut, Item, Table, value};

use crate::failure::Failure;
use crate::prepare::{config_file, shown};

/// The user's config, to be changed.
pub(super) struct Config {
    path: PathBuf,
    document: DocumentMut,
}

/// `[plugins.NAME]`, as it is written.
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    pub(super) sha256: &'a str,
    pub(super) in_process: bool,
    pub(super) overrides: bool,
}

impl Config {
    /// Reads it; one that is not there is empty.
    pub(super) fn read() -> Result<Self, Failure> {
        let path = config_file()
            .ok_or_else(|| Failure::usage("there is no home folder to keep a config in", "set XDG_CONFIG_HOME"))?;
        // What is linked stays linked: people keep such files in a repository.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unable("read", &path, &error.to_string())),
        };
        let document = text.parse().map_err(|error: toml_edit::TomlError| unable("read", &path, error.message()))?;
        Ok(Self { path, document })
    }

    /// Sets `[plugins.NAME]`.
    pub(super) fn set_plugin(&mut self, name: &str, entry: &Entry<'_>) -> Result<(), Failure> {
        let mut table = Table::new();
        table["path"] = value(entry.path);
        table["sha256"] = value(entry.sha256);
        for (key, is_set) in [("in_process", entry.in_process), ("override", entry.overrides)] {
            if is_set {
                table[key] = value(true);
            }
        }
        self.table("plugins")?.insert(name, Item::Table(table));
        Ok(())
    }

    /// Sets the digest at which the plugin `name` of the project file `project` is approved.
    pub(super) fn approve(&mut self, project: &str, name: &str, sha256: &str) -> Result<(), Failure> {
        let approved = self.table("approved")?;
        let projects = approved.entry(project).or_insert_with(|| Item::Table(Table::new()));
        match projects.as_table_like_mut() {
            Some(projects) => drop(projects.insert(name, value(sha256))),
            None => return Err(unable("change", &self.path, "`approved` is not as this program writes it")),
        }
        Ok(())
    }

    /// Takes `[plugins.NAME]` and the approval of the project's away; says whether there was any.
    pub(super) fn remove(&mut self, name: &str, project: Option<&str>) -> Result<bool, Failure> {
        let own = self.document.get_mut("plugins").and_then(Item::as_table_like_mut);
        let was_own = own.and_then(|plugins| plugins.remove(name)).is_some();
        let approved = project.and_then(|project| self.document.get_mut("approved")?.get_mut(project));
        let was_approved = approved.and_then(Item::as_table_like_mut).and_then(|names| names.remove(name)).is_some();
        Ok(was_own || was_approved)
    }

    fn table(&mut self, name: &str) -> Result<&mut dyn toml_edit::TableLike, Failure> {
        let path = self.path.clone();
        let item = self.document.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            // Its own header says nothing that those beneath it do not.
            table.set_implicit(true);
            Item::Table(table)
        });
        item.as_table_like_mut().ok_or_else(|| unable("change", &path, &format!("`{name}` is no table")))
    }

    /// Writes it, all or nothing.
    pub(super) fn write(&self) -> Result<(), Failure> {
        let folder = self.path.parent().expect("it lies in the config folder");
        let write = || {
            fs::create_dir_all(folder)?;
            let mode = fs::metadata(&self.path).map_or(0o600, |metadata| metadata.permissions().mode());
            let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
            file.write_all(self.document.to_string().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error: io::Error| unable("write", &self.path, &error.to_string()))
    }
}

fn unable(what: &str, path: &Path, why: &str) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot {what} your config `{}`", shown(path)));
    diagnostic.notes.extend(why.lines().map(str::to_owned));
    Failure::new(diagnostic)
}
