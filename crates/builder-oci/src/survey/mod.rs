//! Finds the Python of a base and the version of its C library in the base's layers. Nothing is executed, so that it
//! works for every platform; each layer is read once and remembered by its digest.

mod folder;
mod layer;
mod program;
mod tree;

use std::io::{self, BufReader, Read};

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::plan::PythonStep;
use imagespec_layout::Compression;
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::base::{Cancelled, ImageLayer, UNPACKED_SIZE_BYTES_MAX};
use crate::builder::{Building, Failure};
use crate::cache::{Cache, Key};
use crate::compression;
use crate::image::PATH_DEFAULT;
use crate::layer::LayerPath;
use crate::output::fetch_layer;
use crate::progress;
use crate::python::{BasePython, PythonError};
use crate::sandbox;
use crate::wheel::{Interpreter, Libc};

pub(crate) use folder::Standing;
use layer::LayerSurvey;
use tree::{Program, Tree};

/// Names another survey of the same layer when what it looks for changes.
const FORMAT_VERSION: &[u8] = b"2";
/// The same of what is looked at for folders.
const FOLDERS_VERSION: &[u8] = b"1";
/// A PATH has some ten folders; what comes after these is not looked at.
const FOLDERS_MAX: usize = 64;
/// Versions of Python that are looked for by name where nothing is called `python3`.
const MINORS: std::ops::RangeInclusive<u16> = 8..=20;

/// Why a layer could not be looked through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    /// It is no proper layer.
    #[error("cannot look for Python in layer {digest} of the base")]
    Layer {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        source: sandbox::Failure,
    },
    /// It cannot be read.
    #[error("cannot read layer {digest} of the base")]
    Unreadable {
        /// Its digest.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
}

/// The Python that an image of the layers `beneath` and of `config` runs when somebody types `python3` or the
/// version that `step` asks for, or the one at the path that it names.
///
/// # Errors
/// When there is none, only other versions, or a layer cannot be had or read.
pub(crate) fn python(
    building: &Building<'_>,
    beneath: &[ImageLayer],
    config: &Map<String, Value>,
    step: &PythonStep,
) -> Result<BasePython, Failure> {
    let tree = tree(building, beneath)?;
    let wanted = step.version.as_deref();
    Ok(match &step.executable {
        Some(path) => named(&tree, path, wanted)?,
        None => choose(&tree, &search_path(config), wanted)?,
    })
}

/// Whether the layers `beneath` have Debian's apt.
///
/// # Errors
/// When a layer cannot be had or read.
pub(crate) fn has_apt(building: &Building<'_>, beneath: &[ImageLayer]) -> Result<bool, Failure> {
    Ok(tree(building, beneath)?.program("usr/bin/apt-get").is_some())
}

/// The C library that the layers `beneath` have, whether or not a Python is there.
///
/// # Errors
/// When a layer cannot be had or read.
pub(crate) fn libc(building: &Building<'_>, beneath: &[ImageLayer]) -> Result<Option<Libc>, Failure> {
    let tree = tree(building, beneath)?;
    Ok(oldest_glibc(&tree).or_else(|| oldest_musl(&tree)))
}

/// The number after `2.` of the glibc of the layers `beneath`, if they have one.
///
/// # Errors
/// When a layer cannot be had or read.
pub(crate) fn glibc(building: &Building<'_>, beneath: &[ImageLayer]) -> Result<Option<u16>, Failure> {
    Ok(libc(building, beneath)?.and_then(|libc| match libc {
        Libc::Glibc { minor } => Some(minor),
        Libc::Musl { .. } => None,
    }))
}

/// The layers `beneath` on top of one another.
fn tree(building: &Building<'_>, beneath: &[ImageLayer]) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    for survey in layers(building, beneath)? {
        tree.apply(&survey);
    }
    Ok(tree)
}

/// The surveys of all layers, those that were made earlier and those that are made now.
fn layers(building: &Building<'_>, layers: &[ImageLayer]) -> Result<Vec<LayerSurvey>, Failure> {
    let known: Vec<_> = layers.iter().map(|layer| building.cache.record(key(layer))).collect::<Result<_, _>>()?;
    if known.iter().all(Option::is_some) {
        return Ok(known.into_iter().flatten().collect());
    }
    building.progress.step(
        &format!("look for Python in {} of the base", progress::count(layers.len(), "layer")),
        || {
            for (layer, _) in layers.iter().zip(&known).filter(|(_, survey)| survey.is_none()) {
                building.check_cancelled()?;
                fetch_layer(building, layer)?;
            }
            let (cache, cancelled) = (&building.cache, || building.progress.is_cancelled());
            let made = layers.par_iter().zip(known).map(|(layer, known)| match known {
                Some(survey) => Ok(survey),
                None => survey(cache, layer, &cancelled),
            });
            made.collect()
        },
        |_| (Outcome::Done, String::new()),
    )
}

fn key(layer: &ImageLayer) -> Key {
    Key::new("survey", [FORMAT_VERSION, layer.layer.digest.to_string().as_bytes()])
}

fn survey(cache: &Cache, layer: &ImageLayer, cancelled: Cancelled<'_>) -> Result<LayerSurvey, Failure> {
    let digest = layer.layer.digest;
    let survey = layer::survey(content(cache, layer, cancelled)?);
    let survey = survey.map_err(|source| SurveyError::Layer { digest, source })?;
    cache.remember(key(layer), &survey)?;
    Ok(survey)
}

/// What an image of `layers` has at `path` and the folders above it, the outermost first.
///
/// # Errors
/// When a layer cannot be had or read.
pub(crate) fn folders(
    building: &Building<'_>,
    layers: &[ImageLayer],
    path: &LayerPath,
) -> Result<Vec<Standing>, Failure> {
    let digests: Vec<_> = layers.iter().map(|layer| layer.layer.digest.to_string()).collect();
    let parts = [FOLDERS_VERSION, path.as_str().as_bytes()].into_iter().chain(digests.iter().map(String::as_bytes));
    let key = Key::new("folders", parts);
    if let Some(standings) = building.cache.record(key)? {
        return Ok(standings);
    }
    let paths = folder::paths(path);
    let mut standings = vec![Standing::Absent; paths.len()];
    building.progress.step(
        &format!("look for `/{path}` in {}", progress::count(layers.len(), "layer")),
        || {
            for layer in layers {
                building.check_cancelled()?;
                fetch_layer(building, layer)?;
            }
            let (cache, cancelled) = (&building.cache, || building.progress.is_cancelled());
            let read = layers.par_iter().map(|layer| {
                let digest = layer.layer.digest;
                let changes = folder::changes(content(cache, layer, &cancelled)?, &paths);
                changes.map_err(|source| Failure::from(SurveyError::Layer { digest, source }))
            });
            for changes in read.collect::<Result<Vec<_>, _>>()? {
                changes.apply(&mut standings);
            }
            Ok::<_, Failure>(())
        },
        |()| (Outcome::Done, String::new()),
    )?;
    building.cache.remember(key, &standings)?;
    Ok(standings)
}

/// The uncompressed content of a layer that is in the cache.
fn content<'a>(
    cache: &Cache,
    layer: &ImageLayer,
    cancelled: Cancelled<'a>,
) -> Result<BufReader<Guarded<'a, Box<dyn Read>>>, Failure> {
    let digest = layer.layer.digest;
    let unreadable = |source| SurveyError::Unreadable { digest, source };
    let blob = cache.open_blob(digest)?.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
    let compression = Compression::of(&layer.media_type).expect("a base's layers have media types that are known");
    let content = compression::open(compression, blob).map_err(unreadable)?;
    let guarded = Guarded { content, left_bytes: UNPACKED_SIZE_BYTES_MAX, cancelled };
    Ok(BufReader::with_capacity(256 << 10, guarded))
}

/// A layer's content, until there is more of it than any layer has, or the user asks to stop.
struct Guarded<'a, R> {
    content: R,
    left_bytes: u64,
    cancelled: Cancelled<'a>,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.content.read(buffer)?;
        let left = self.left_bytes.checked_sub(count as u64);
        let too_large = || format!("it unpacks to more than {} GiB", UNPACKED_SIZE_BYTES_MAX >> 30);
        self.left_bytes = left.ok_or_else(|| io::Error::other(too_large()))?;
        Ok(count)
    }
}

/// The folders in which the base looks for programs.
fn search_path(config: &Map<String, Value>) -> Vec<String> {
    let env = config.get("config").and_then(|config| config.get("Env")).and_then(Value::as_array);
    let mut variables = env.into_iter().flatten().filter_map(Value::as_str);
    let path = variables.find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(PATH_DEFAULT);
    path.split(':').filter(|folder| folder.starts_with('/')).take(FOLDERS_MAX).map(str::to_owned).collect()
}

/// The Python at `path`, which must be of the `wanted` version.
fn named(tree: &Tree, path: &str, wanted: Option<&str>) -> Result<BasePython, PythonError> {
    let absent = || PythonError::NotAt { path: path.to_owned() };
    let (true_path, program) = tree.program(path).ok_or_else(absent)?;
    let interpreter = interpreter(tree, &true_path, program).ok_or_else(absent)?;
    if let Some(wanted) = wanted
        && !interpreter.is_version(wanted)
    {
        return Err(PythonError::Version { wanted: wanted.to_owned(), found: interpreter.version() });
    }
    let libc = libc_of(tree, program).ok_or(PythonError::NoLibc { python: interpreter.path.clone() })?;
    Ok(BasePython { interpreter, libc, archive: None })
}

fn choose(tree: &Tree, folders: &[String], wanted: Option<&str>) -> Result<BasePython, PythonError> {
    let mut names = vec!["python3".to_owned(), "python".to_owned()];
    if let Some(short) = wanted.and_then(|wanted| wanted.split('.').nth(1)) {
        names.insert(0, format!("python3.{short}"));
    }
    names.extend(MINORS.rev().map(|minor| format!("python3.{minor}")));
    let mut others = Vec::new();
    for path in names.iter().flat_map(|name| folders.iter().map(move |folder| format!("{folder}/{name}"))) {
        let Some((path, program)) = tree.program(&path) else { continue };
        let Some(interpreter) = interpreter(tree, &path, program) else { continue };
        if wanted.is_none_or(|wanted| interpreter.is_version(wanted)) {
            let libc = libc_of(tree, program).ok_or(PythonError::NoLibc { python: interpreter.path.clone() })?;
            return Ok(BasePython { interpreter, libc, archive: None });
        }
        if !others.contains(&interpreter.version()) {
            others.push(interpreter.version());
        }
    }
    match wanted {
        Some(wanted) if !others.is_empty() => {
            Err(PythonError::Version { wanted: wanted.to_owned(), found: others.join(" and ") })
        }
        _ => Err(PythonError::Absent),
    }
}

/// What the program at the true path `path` is, if its version can be told.
fn interpreter(tree: &Tree, path: &str, program: &Program) -> Option<Interpreter> {
    if !program.executable {
        return None;
    }
    let (prefix, name) = path.rsplit_once("/bin/").unwrap_or(("", path.rsplit('/').next()?));
    // `python3.7m` is an old way to say `python3.7`.
    let minor = name.strip_prefix("python3.").and_then(|minor| minor.trim_end_matches('m').parse::<u16>().ok());
    let only = |program: &Program| {
        let mut fitting = program.facts.pythons.iter().filter(|(found, _)| minor.is_none_or(|minor| minor == *found));
        fitting.next().filter(|_| fitting.next().is_none()).copied()
    };
    // A program that is built with a shared library has everything there, its version too.
    let is_library = |name: &str| match minor {
        Some(minor) => {
            let rest = name.strip_prefix("libpython3.").and_then(|rest| rest.strip_prefix(&minor.to_string()));
            rest.is_some_and(|rest| rest.starts_with(".so") || rest.starts_with("m.so"))
        }
        None => false,
    };
    let beside = format!("{prefix}/lib");
    let library = || {
        let mut libraries: Vec<_> = tree.programs(is_library).collect();
        libraries.sort_by_key(|(path, _)| !path.starts_with(&beside));
        libraries.first().and_then(|(_, library)| only(library))
    };
    let (minor, patch) = only(program).or_else(library)?;
    Some(Interpreter { path: format!("/{path}"), minor, patch })
}

/// The C library that `python` runs with.
fn libc_of(tree: &Tree, python: &Program) -> Option<Libc> {
    if python.facts.is_for_musl { oldest_musl(tree) } else { oldest_glibc(tree) }
}

/// The oldest, if there are several: what runs there runs on the others.
fn oldest_glibc(tree: &Tree) -> Option<Libc> {
    let libraries = tree.programs(|name| name.starts_with("libc"));
    libraries.filter_map(|(_, library)| library.facts.glibc).min().map(|minor| Libc::Glibc { minor })
}

fn oldest_musl(tree: &Tree) -> Option<Libc> {
    let loaders = tree.programs(|name| name.starts_with("ld-musl-"));
    loaders.flat_map(|(_, loader)| &loader.facts.musl).min().map(|minor| Libc::Musl { minor: *minor })
}

#[cfg(test)]
mod tests;
