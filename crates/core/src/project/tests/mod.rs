//! Project files, layers, settings, and the choice of a builder, on real folders.

mod layers;
mod mistakes;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::place::Located;
use crate::spec::SpecError;

/// A folder with files.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("a path")
    }

    fn project(&self) -> Project {
        match Project::read(&self.path().join(PROJECT_FILE), PROJECT_FILE, ProjectRole::Project) {
            Ok(project) => project,
            Err(errors) => panic!("{}", self.render(&errors)),
        }
    }

    fn load(&self, target: &str, settings: &[&str]) -> Loaded {
        self.try_load(target, settings).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Loads an image, or a file if `target` has a dot.
    fn try_load(&self, target: &str, settings: &[&str]) -> Result<Loaded, String> {
        let project = self.path().join(PROJECT_FILE).exists().then(|| self.project());
        let config = self.path().join("home/config.toml");
        let user = config.exists().then(|| Project::read(&config, "config.toml", ProjectRole::User).expect("a config"));
        let settings: Vec<_> =
            settings.iter().map(|setting| Setting::parse(setting, &self.path()).expect("a setting")).collect();
        let layers = Layers { project: project.as_ref(), user: user.as_ref(), settings: &settings };
        let path = self.path().join(target);
        let target = match target.contains('.') {
            true => Target::File(&path),
            false => Target::Image(target),
        };
        load(target, &layers).map_err(|errors| self.render(&errors))
    }

    fn render(&self, errors: &[SpecError]) -> String {
        let text: String = errors.iter().map(|error| error.diagnostic().render()).collect();
        text.replace(&self.path().display().to_string(), "FOLDER")
    }
}

fn values(texts: &[Located<String>]) -> Vec<&str> {
    texts.iter().map(|text| text.value.as_str()).collect()
}

fn text(text: &Option<Located<String>>) -> Option<&str> {
    text.as_ref().map(|text| text.value.as_str())
}
