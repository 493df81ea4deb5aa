//! Bytecode of packages, in layers of its own above theirs: the image's own interpreter compiles their modules in the
//! sandbox, all that are missing in one run, and each layer of packages once for the layers that Python comes from.
//!
//! Format: PEP 552. The files are marked not to be compared with their sources (`unchecked-hash`); so their bytes are a
//! function of the sources and the interpreter, and no time is in them. Where commands change a source, `tidy` removes
//! its bytecode. They do not stand in RECORD: the layer of a package is a function of its wheel alone, and pip and uv
//! remove what lies in `__pycache__` together with its module.

mod modules;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::event::{Outcome, Unit};
use imagespec_core::plan::VENV;
use serde_json::Value;

use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure, Position};
use crate::cache::{CacheError, Key};
use crate::emulation;
use crate::execute::{self, ExecuteError, Program};
use crate::layer::{FORMAT_VERSION, Layer};
use crate::progress;
use crate::python::BasePython;
use crate::sandbox::{self, Access, Line, Mount, Network, Output, Run, SandboxError, User};
use modules::Modules;

/// Raised whenever the same modules would be compiled otherwise.
const BYTECODE_VERSION: &str = "2";
const COMPILE: &str = include_str!("compile.py");
const TIDY: &str = include_str!("tidy.py");
/// Below it lie the Pythons that do not come from a distribution.
const PYTHONS: &str = "/opt/python";
/// Where the compiler finds modules, and where it puts bytecode.
const SOURCES: &str = "/run/imagespec-modules";
const TARGET: &str = "/run/imagespec-bytecode";

/// What is known of one layer of packages.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// This is its bytecode.
    Layer(Layer, Outcome),
    /// It has no module that compiles.
    Nothing,
    /// It was not compiled yet.
    Missing,
}

/// Modules to compile.
pub(crate) struct Sources<'a> {
    /// What the user sees: `compile packages to bytecode`.
    pub(crate) title: &'a str,
    /// The layers that they are in.
    pub(crate) layers: &'a [ImageLayer],
    /// Where they lie in these, without a leading `/`.
    pub(crate) folder: &'a str,
}

/// The layers of the bytecode of `sources`, none where the image's interpreter cannot run here or nobody wants them.
pub(crate) fn layers(
    building: &Building<'_>,
    sources: &Sources<'_>,
    python: &BasePython,
    position: &Position<'_>,
) -> Result<Vec<ImageLayer>, Failure> {
    let is_wanted = building.request.options.get("compile_bytecode").and_then(Value::as_bool).unwrap_or(true);
    let runs_here = emulation::machine().is_none_or(|machine| emulation::check(position.platform, &machine).is_ok());
    if !is_wanted || !runs_here || sources.layers.is_empty() {
        return Ok(Vec::new());
    }
    let compilation = Compilation { building, sources, python, position };
    let (found, _) = building.progress.counted(
        sources.title,
        Unit::Items,
        None,
        |_| compilation.all(),
        |(found, outcome)| {
            let count = found.iter().filter(|found| matches!(found, Found::Layer(..))).count();
            (*outcome, progress::count(count, "layer"))
        },
    )?;
    let titled = sources.layers.iter().zip(found).filter_map(|(package, found)| match found {
        Found::Layer(layer, outcome) => Some((layer, outcome, format!("bytecode of {}", package.title))),
        Found::Nothing | Found::Missing => None,
    });
    Ok(titled.map(|(layer, outcome, title)| own_layer(layer, outcome, &title)).collect())
}

/// The program that removes bytecode of modules that were changed or removed, for an image whose commands have run.
/// It changes nothing where there is none.
pub(crate) fn tidy() -> Program {
    let python = format!("{VENV}/bin/python");
    let argv = [&python, "-I", "-S", "-B", "-c", TIDY, VENV, PYTHONS].map(str::to_owned).into();
    Program { name: "remove stale bytecode".to_owned(), argv }
}

/// What is to be compiled, and for whom.
struct Compilation<'a> {
    building: &'a Building<'a>,
    sources: &'a Sources<'a>,
    python: &'a BasePython,
    position: &'a Position<'a>,
}

impl Compilation<'_> {
    /// Looks for the bytecode of every layer, and compiles what is missing.
    fn all(&self) -> Result<(Vec<Found>, Outcome), Failure> {
        let found = self.found()?;
        if found.iter().all(|found| !matches!(found, Found::Missing)) {
            return Ok((found, Outcome::Cached));
        }
        // One compiler takes all processors; of two, each would wait for the other.
        let _lock = self.building.cache.lock("bytecode")?;
        let mut found = self.found()?;
        let missing: Vec<usize> = (0..found.len()).filter(|index| matches!(found[*index], Found::Missing)).collect();
        if missing.is_empty() {
            return Ok((found, Outcome::Cached));
        }
        if let Err(error) = self.building.sandbox.probe() {
            return match error {
                SandboxError::Unavailable { .. } => {
                    self.warn(&error.to_string());
                    Ok((found, Outcome::Done))
                }
                error => Err(ExecuteError::from(error).into()),
            };
        }
        let folder = Folder::new(self.building)?;
        let made = self.make(&folder, &missing, &mut found);
        // What lies there may belong to ids that only the sandbox can act for.
        let removed = self.building.sandbox.remove(&folder.target);
        made?;
        removed.map_err(ExecuteError::from)?;
        Ok((found, Outcome::Done))
    }

    /// Compiles what is `missing`. Nothing is remembered unless all of it was compiled.
    fn make(&self, folder: &Folder, missing: &[usize], found: &mut [Found]) -> Result<(), Failure> {
        let layers: Vec<&ImageLayer> = missing.iter().map(|index| &self.sources.layers[*index]).collect();
        let cancelled = || self.building.progress.is_cancelled();
        let extracted =
            modules::extract(&self.building.cache, &layers, self.sources.folder, &folder.sources, &cancelled)?;
        if extracted.iter().any(|modules| !modules.is_empty()) {
            modules::write_list(&folder.sources, &extracted)?;
            if let Some(reason) = self.run(folder)? {
                self.warn(&reason);
                return Ok(());
            }
        }
        let minor = self.python.interpreter.minor;
        let opened: Result<Vec<_>, _> =
            extracted.iter().map(|modules| Modules::open(&folder.sources, &folder.target, modules, minor)).collect();
        let compiled = match opened {
            Ok(compiled) => compiled,
            Err(error) => {
                self.warn(&error.to_string());
                return Ok(());
            }
        };
        for (index, compiled) in missing.iter().zip(&compiled) {
            self.building.check_cancelled()?;
            found[*index] = self.layer(*index, compiled)?;
        }
        Ok(())
    }

    fn warn(&self, reason: &str) {
        self.building.progress.warn(format!("there will be no bytecode: {reason}"));
    }

    fn found(&self) -> Result<Vec<Found>, Failure> {
        let cache = &self.building.cache;
        let found = self.sources.layers.iter().map(|package| {
            if let Some(layer) = cache.remembered_layer(self.key("bytecode", package))? {
                return Ok(Found::Layer(layer, Outcome::Cached));
            }
            let is_nothing =
                cache.finds_layers() && cache.record::<bool>(self.key("bytecode-none", package))?.is_some();
            Ok(if is_nothing { Found::Nothing } else { Found::Missing })
        });
        found.collect()
    }

    fn key(&self, kind: &'static str, package: &ImageLayer) -> Key {
        let parts = [
            FORMAT_VERSION.to_owned(),
            BYTECODE_VERSION.to_owned(),
            package.layer.diff_id.to_string(),
            self.sources.folder.to_owned(),
            self.python.interpreter.path.clone(),
            self.python.interpreter.version(),
            self.building.request.timestamp.to_string(),
        ];
        // The interpreter and the modules that it compiles with are what these made them.
        let below = self.position.below.iter().map(|layer| layer.layer.diff_id.to_string());
        let parts: Vec<String> = parts.into_iter().chain(below).collect();
        Key::new(kind, parts.iter().map(String::as_bytes))
    }

    /// Runs the compiler; why it cannot be run, if it cannot. An image without bytecode is slower, and whole.
    fn run(&self, folder: &Folder) -> Result<Option<String>, Failure> {
        let building = self.building;
        let stack = execute::stack(building, self.position.below)?;
        let interpreter = &self.python.interpreter.path;
        // No module of a package is imported: neither the folders of packages nor the working directory are looked in.
        let words = [interpreter, "-B", "-S", "-s", "-W", "ignore", "-c", COMPILE, SOURCES, TARGET];
        let kept = self.position.env.iter().filter(|(name, _)| matches!(name.as_str(), "PATH" | "LD_LIBRARY_PATH"));
        let mount =
            |source: &Path, target: &str, access| Mount { source: source.to_owned(), target: target.into(), access };
        let run = Run {
            root: stack.root(),
            argv: words.map(str::to_owned).into(),
            env: kept.cloned().chain([("PYTHONHASHSEED".to_owned(), "0".to_owned())]).collect(),
            cwd: PathBuf::from("/"),
            user: User::root(),
            mounts: vec![
                mount(&folder.sources, SOURCES, Access::ReadOnly),
                mount(&folder.target, TARGET, Access::ReadWrite),
            ],
            network: Network::None,
            hostname: "imagespec".to_owned(),
        };
        let mut last = String::new();
        let mut on_line = |line: Line| last = line.text;
        let cancelled = || building.progress.is_cancelled();
        let status = building.sandbox.run(&run, Output::Lines(&mut on_line), &cancelled);
        let removed = stack.remove(&building.sandbox);
        let status = match status {
            Ok(status) => status,
            Err(SandboxError::Cancelled) => return Err(Failure::Cancelled),
            Err(SandboxError::Inside(error @ sandbox::Failure::Program { .. })) => return Ok(Some(error.to_string())),
            Err(error) => return Err(ExecuteError::from(error).into()),
        };
        removed.map_err(ExecuteError::from)?;
        Ok((status.code != 0).then(|| format!("`{interpreter}` ended with exit code {}: {last}", status.code)))
    }

    /// Makes the layer of what came of the modules of a layer, and remembers it.
    fn layer(&self, index: usize, compiled: &Modules) -> Result<Found, Failure> {
        let package = &self.sources.layers[index];
        if compiled.is_empty() {
            self.building.cache.remember(self.key("bytecode-none", package), &true)?;
            return Ok(Found::Nothing);
        }
        let timestamp = self.building.request.timestamp;
        let (layer, outcome) =
            self.building
                .cache
                .layer::<Failure>(self.key("bytecode", package), timestamp, |writer| compiled.write(writer))?;
        Ok(Found::Layer(layer, outcome))
    }
}

/// What the compiler sees of this machine.
struct Folder {
    sources: PathBuf,
    target: PathBuf,
    _folder: tempfile::TempDir,
}

impl Folder {
    fn new(building: &Building<'_>) -> Result<Self, CacheError> {
        let parent = building.cache.temporary_folder();
        let failed = |source: io::Error| CacheError::Io { action: "write", path: parent.clone(), source };
        let folder = tempfile::Builder::new().prefix("bytecode-").tempdir_in(&parent).map_err(failed)?;
        let (sources, target) = (folder.path().join("modules"), folder.path().join("bytecode"));
        fs::create_dir(&sources).and_then(|()| fs::create_dir(&target)).map_err(failed)?;
        Ok(Self { sources, target, _folder: folder })
    }
}

#[cfg(test)]
mod tests;
