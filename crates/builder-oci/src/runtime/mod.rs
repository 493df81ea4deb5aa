//! Packages that are installed when a container starts: a small program before the image's entry point, and uv, which
//! installs them. Nothing of theirs is in the image.
//!
//! uv and not pip: it resolves as the build does, with the same rule for several indexes, in a tenth of the time, and
//! needs nothing of the image but its Python. It is the pinned one, in a layer that all such images share.

use std::fs::File;

use imagespec_core::event::Outcome;
use imagespec_core::plan::{PipStep, Plan, Step};
use imagespec_core::platform::Platform;
use serde_json::{Map, Value, json};

use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure};
use crate::cache::{CacheError, Key};
use crate::layer::{Attributes, FORMAT_VERSION, LayerError, LayerPath};
use crate::progress;
use crate::wheel::{Observer, ResolveError, Uv};

/// The program that stands before the entry point.
pub(crate) const START: &str = "/opt/imagespec/start";
/// The variable that names the packages, quoted as a shell does.
pub(crate) const VARIABLE: &str = "IMAGESPEC_RUNTIME_PACKAGES";

const SETTINGS: &str = "/opt/imagespec/settings.json";
const INSTALLER: &str = "/opt/imagespec/uv";
const PROGRAM: &str = include_str!("start.py");
/// Arguments of `uv pip compile` that `uv pip install` does not know or is given anyway, and whether a value follows.
const NOT_FOR_INSTALL: [(&str, bool); 3] =
    [("--no-deps", false), ("--no-emit-package", true), ("--unsafe-package", true)];

/// Why an image cannot install packages when it starts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// There is no uv for its processor.
    #[error("uv, which installs runtime packages, has no build for {machine}")]
    NoInstaller {
        /// The processor.
        machine: String,
    },
    /// uv cannot be had.
    #[error(transparent)]
    Uv(ResolveError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A layer cannot be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// The layers that an image with runtime packages needs; none for others.
pub(crate) fn layers(building: &Building<'_>, plan: &Plan, platform: &Platform) -> Result<Vec<ImageLayer>, Failure> {
    let count = plan.config.runtime_packages.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    building.progress.step(
        &format!("prepare {}", progress::count(count, "runtime package")),
        || Ok::<_, Failure>(made(building, plan, platform)?),
        |layers| {
            let is_cached = layers.iter().all(|layer| layer.outcome == Outcome::Cached);
            (if is_cached { Outcome::Cached } else { Outcome::Done }, String::new())
        },
    )
}

fn made(building: &Building<'_>, plan: &Plan, platform: &Platform) -> Result<Vec<ImageLayer>, RuntimeError> {
    let cache = &building.cache;
    let timestamp = building.request.timestamp;
    let time = timestamp.to_string();
    let cancelled = || building.progress.is_cancelled();
    let observer = Observer { received: &|_| {}, cancelled: &cancelled };
    let pinned = Uv::pinned(cache, platform.machine(), observer).map_err(|error| match error {
        ResolveError::NoUv { machine } => RuntimeError::NoInstaller { machine },
        error => RuntimeError::Uv(error),
    });
    let (program, digest) = pinned?;
    let key = Key::new("runtime-installer", [FORMAT_VERSION, &digest.to_string(), &time].map(str::as_bytes));
    let (installer, outcome) = cache.layer::<RuntimeError>(key, timestamp, |writer| {
        let failed = |source| CacheError::Io { action: "read", path: program.clone(), source };
        let mut file = File::open(&program).map_err(failed)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        Ok(writer.file(&path(INSTALLER), Attributes::root(0o755), size_bytes, &mut file)?)
    })?;
    let installer = own_layer(installer, outcome, "uv");
    let settings = settings(plan).to_string();
    let key = Key::new("runtime", [FORMAT_VERSION, PROGRAM, &settings, &time].map(str::as_bytes));
    let (start, outcome) = cache.layer::<RuntimeError>(key, timestamp, |writer| {
        for (file, mode, text) in [(SETTINGS, 0o644, settings.as_str()), (START, 0o755, PROGRAM)] {
            writer.file(&path(file), Attributes::root(mode), text.len() as u64, &mut text.as_bytes())?;
        }
        Ok(())
    })?;
    Ok(vec![installer, own_layer(start, outcome, "runtime packages")])
}

fn path(text: &str) -> LayerPath {
    LayerPath::new(text).expect("the paths of these files are proper ones")
}

/// What uv is told when a container starts: the indexes and arguments of the build.
fn settings(plan: &Plan) -> Value {
    let step = plan.steps.iter().find_map(|step| match step {
        Step::Pip(step) => Some(step),
        _ => None,
    });
    let mut env = Map::new();
    let mut arguments = Vec::new();
    if let Some(PipStep { index, extra_indexes, find_links, extra_args, .. }) = step {
        env.extend(index.iter().map(|index| ("UV_DEFAULT_INDEX".to_owned(), index.clone().into())));
        if !extra_indexes.is_empty() {
            env.insert("UV_INDEX".to_owned(), extra_indexes.join(" ").into());
        }
        if !find_links.is_empty() {
            env.insert("UV_FIND_LINKS".to_owned(), find_links.join(",").into());
        }
        arguments.clone_from(extra_args);
    }
    json!({ "arguments": arguments, "install_arguments": of_install(&arguments), "env": env })
}

/// Those of `arguments` that `uv pip install` is given, too.
fn of_install(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        match NOT_FOR_INSTALL.iter().find(|(known, _)| *known == name) {
            Some((_, takes_value)) if *takes_value && name == word => drop(words.next()),
            Some(_) => {}
            None => kept.push(word.clone()),
        }
    }
    kept
}

/// The packages of `plan` as the variable has them, after those that the base's own variable has.
pub(crate) fn variable(plan: &Plan, of_base: Option<&str>) -> Option<String> {
    let packages = &plan.config.runtime_packages;
    let words = of_base.map(str::to_owned).into_iter().chain(packages.iter().map(|package| quoted(package)));
    (!packages.is_empty()).then(|| words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "@%+=:,./-_".contains(character);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r#"'"'"'"#)) }
}

/// The entry point of an image of `plan`, with the program before it if the plan has runtime packages.
pub(crate) fn entrypoint(plan: &Plan, entrypoint: &[String]) -> Option<Vec<String>> {
    if plan.config.runtime_packages.is_empty() {
        return None;
    }
    // A base may have runtime packages, too.
    let rest = entrypoint.iter().skip_while(|word| *word == START).cloned();
    Some([START.to_owned()].into_iter().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use imagespec_core::plan::{Base, ImageConfig};

    use super::*;

    fn plan(packages: &[&str]) -> Plan {
        let runtime_packages = packages.iter().map(|package| (*package).to_owned()).collect();
        Plan {
            platforms: BTreeSet::from([Platform::linux_amd64()]),
            base: Base::Scratch,
            steps: Vec::new(),
            config: ImageConfig { runtime_packages, ..ImageConfig::default() },
            lock: BTreeMap::new(),
        }
    }

    #[test]
    fn the_variable_names_the_packages_as_a_shell_reads_them() {
        let packages = plan(&["ipdb", "rich>=13,<15 ; python_version > '3.8'"]);
        insta::assert_snapshot!(variable(&packages, None).unwrap(), @r#"ipdb 'rich>=13,<15 ; python_version > '"'"'3.8'"'"''"#);
        assert_eq!(variable(&plan(&["ipdb"]), Some("a 'b ; c'")).as_deref(), Some("a 'b ; c' ipdb"));
        assert_eq!(variable(&plan(&[]), Some("a")), None);
    }

    #[test]
    fn what_installs_gets_the_arguments_that_it_knows() {
        let words =
            ["--no-deps", "--index-strategy", "unsafe-best-match", "--no-emit-package", "a", "--pre", "-f", "b"];
        let further = ["--unsafe-package=c", "--no-index"];
        let arguments: Vec<_> = words.into_iter().chain(further).map(str::to_owned).collect();
        assert_eq!(of_install(&arguments), ["--index-strategy", "unsafe-best-match", "--pre", "-f", "b", "--no-index"]);
    }

    #[test]
    fn the_program_stands_before_any_entry_point_once() {
        let of = |packages: &[&str], words: &[&str]| {
            entrypoint(&plan(packages), &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a"], &[]), Some(vec![START.to_owned()]));
        assert_eq!(of(&["a"], &["x", "y"]), Some([START, "x", "y"].map(str::to_owned).into()));
        assert_eq!(of(&["a"], &[START, "x"]), Some([START, "x"].map(str::to_owned).into()));
        assert_eq!(of(&[], &["x"]), None);
    }
}
