//! The user's config, changed in place: comments, order and everything that this program does not know stay.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};

use crate::failure::Failure;
use crate::prepare::{config_file, shown};

/// The user's config, to be changed.
pub(super) struct Config {
    path: PathBuf,
    document: DocumentMut,
    /// Nobody else changes it meanwhile.
    _lock: File,
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
        let path = match fs::canonicalize(&path) {
            Ok(path) => path,
            Err(_) if path.is_symlink() => return Err(unable("read", &path, "it is a link that leads nowhere")),
            Err(_) => path,
        };
        let lock = lock(&path)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unable("read", &path, &error.to_string())),
        };
        let document = text.parse().map_err(|error: toml_edit::TomlError| unable("read", &path, error.message()))?;
        Ok(Self { path, document, _lock: lock })
    }

    /// Sets `[plugins.NAME]`.
    pub(super) fn set_plugin(&mut self, name: &str, entry: &Entry<'_>) -> Result<(), Failure> {
        let path = self.path.clone();
        let plugin = self.table("plugins")?.entry(name).or_insert_with(|| Item::Table(Table::new()));
        // One that is there keeps its comments, and what this program does not know.
        let plugin = plugin.as_table_like_mut();
        let plugin = plugin.ok_or_else(|| unable("change", &path, &format!("`plugins.{name}` is no table")))?;
        set(plugin, "path", entry.path);
        set(plugin, "sha256", entry.sha256);
        for (key, is_set) in [("in_process", entry.in_process), ("override", entry.overrides)] {
            match is_set {
                true => set(plugin, key, true),
                false => drop(plugin.remove(key)),
            }
        }
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
        let removed = own.and_then(|plugins| plugins.remove(name));
        let was_own = removed.is_some();
        // What stands above a table belongs to it in the eyes of the parser, and need not in those of its author.
        let above = removed.as_ref().and_then(Item::as_table).and_then(|table| table.decor().prefix()?.as_str());
        if let Some(above) = above.filter(|above| above.contains('#')) {
            let trailing = self.document.trailing().as_str().unwrap_or_default();
            let kept = format!("{trailing}{above}");
            self.document.set_trailing(kept);
        }
        let approved = project.and_then(|project| self.document.get_mut("approved")?.get_mut(project));
        let was_approved = approved.and_then(Item::as_table_like_mut).and_then(|names| names.remove(name)).is_some();
        if let (true, Some(project)) = (was_approved, project) {
            let approved = self.document.get_mut("approved").and_then(Item::as_table_like_mut);
            approved.and_then(|all| all.get(project)?.as_table_like()?.is_empty().then(|| all.remove(project)));
        }
        Ok(was_own || was_approved)
    }

    fn table(&mut self, name: &str) -> Result<&mut dyn TableLike, Failure> {
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

/// Sets a key; the comment behind its value stays.
fn set(table: &mut dyn TableLike, key: &str, new: impl Into<Value>) {
    let mut new = new.into();
    match table.get_mut(key) {
        // To insert it would take the comment above it away.
        Some(item) => {
            if let Some(old) = item.as_value() {
                *new.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(new);
        }
        None => drop(table.insert(key, Item::Value(new))),
    }
}

/// A lock on the folder of the file, which is replaced and cannot have one itself.
fn lock(path: &Path) -> Result<File, Failure> {
    let folder = path.parent().expect("it lies in the config folder");
    let lock = || {
        fs::create_dir_all(folder)?;
        let folder = File::open(folder)?;
        folder.lock()?;
        Ok(folder)
    };
    lock().map_err(|error: io::Error| unable("change", path, &error.to_string()))
}

fn unable(what: &str, path: &Path, why: &str) -> Failure {
    let mut diagnostic = Diagnostic::error(format!("cannot {what} your config `{}`", shown(path)));
    diagnostic.notes.extend(why.lines().map(str::to_owned));
    Failure::new(diagnostic)
}
