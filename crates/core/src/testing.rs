//! A project in a temporary folder, and specs made by hand, for the tests of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hash::SpecHash;
use crate::lower::lower;
use crate::place::{Located, Place, Source};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::resolve::{ResolveContext, ResolveError, ResolvedSpec, resolve};
use crate::spec::{BaseImage, CopyPath, Spec};

/// A folder that is removed at the end of the test.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, relative: &str, target: impl AsRef<Path>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    pub(crate) fn resolve(&self, spec: &Spec) -> Result<ResolvedSpec, ResolveError> {
        self.resolve_in("", spec)
    }

    /// Resolves a spec whose folder is `directory` in this project.
    pub(crate) fn resolve_in(&self, directory: &str, spec: &Spec) -> Result<ResolvedSpec, ResolveError> {
        let directory = if directory.is_empty() { self.root().to_owned() } else { self.path(directory) };
        let context = ResolveContext {
            root: self.root(),
            spec_path: None,
            default_name: "train",
            host_platform: &Platform::linux_amd64(),
            load_spec: &|path| Err(format!("nothing loads `{}`", path.display()).into()),
        };
        resolve(spec, &directory, &context)
    }

    pub(crate) fn plan(&self, spec: &Spec) -> Plan {
        lower(&self.resolve(spec).unwrap())
    }

    pub(crate) fn hash(&self, spec: &Spec) -> SpecHash {
        SpecHash::of(&self.plan(spec))
    }

    /// The error of a spec as the program shows it, without the line itself.
    pub(crate) fn error(&self, spec: &Spec) -> String {
        shown(&self.resolve(spec).unwrap_err())
    }

    /// The error of a requirements file of the given name and text.
    pub(crate) fn requirements_error(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        self.error(&Spec { requirements: some(PathBuf::from(name)), ..Spec::default() })
    }
}

pub(crate) fn shown(error: &ResolveError) -> String {
    let mut text = format!("{error}\n--> {}", error.place());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!("\ncause: {error}"));
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}

/// A value that stands at the start of `train.yaml`.
pub(crate) fn at<T>(value: T) -> Located<T> {
    let source = Arc::new(Source { name: "train.yaml".to_owned(), text: "(the spec)".to_owned() });
    Located { value, place: Place { source, line: 1, column: 1, length: 1 } }
}

pub(crate) fn some<T>(value: T) -> Option<Located<T>> {
    Some(at(value))
}

pub(crate) fn text(value: &str) -> Option<Located<String>> {
    some(value.to_owned())
}

pub(crate) fn texts(values: &[&str]) -> Vec<Located<String>> {
    values.iter().map(|value| at((*value).to_owned())).collect()
}

/// Paths to copy from the folder of the spec.
pub(crate) fn copies(paths: &[&str]) -> Vec<Located<CopyPath>> {
    paths.iter().map(|path| at(CopyPath::new(*path))).collect()
}

/// A spec that stands on nothing and so gets nothing that it does not ask for.
pub(crate) fn on_scratch() -> Spec {
    Spec { base_image: some(BaseImage::Scratch), ..Spec::default() }
}
