//! Spec → resolved spec: defaults filled in, and every file read that the spec names. Reads files, nothing else.
//!
//! Relative paths start at the folder of the file that says them. `copy` stays inside of that folder; `source_root`,
//! `requirements` and other specs may lie anywhere inside of the project's folder; a base (`oci:DIR`, `docker-archive:FILE`) may lie anywhere,
//! absolute paths included, because only its digest counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::conda::{channel_digest, local_channel};
use crate::digest::Digest;
use crate::files::{self, WantedFiles};
use crate::place::{Located, Place};
use crate::plan::{CopiedFile, ID_VARIABLE};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::requirements::{self, BadRequirement, PathProblem, Requirements};
use crate::spec::{BaseImage, SourceCopyMode, Spec};

mod arguments;
mod base;
mod blame;
mod cuda;
mod error;
mod fields;
mod name;

pub use base::{default_suite, oci_layout, suite_python};
pub use blame::is_unknown_debian_package;
pub use error::{ResolveError, ResolveProblem};
pub use name::{NameError, image_name, tag};

pub(crate) use fields::PYTHON_FIELDS;

/// Specs that stand on each other.
const NESTING_MAX: usize = 8;

/// Reads and parses the spec at an absolute path. The error is shown below ours, as what caused it.
pub type SpecLoader<'a> = dyn Fn(&Path) -> Result<Spec, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What the caller knows and a spec does not say.
pub struct ResolveContext<'a> {
    /// The project's folder, absolute: the one with `imagespec.toml`, else that of the spec. Nothing outside of it is read
    /// but bases.
    pub root: &'a Path,
    /// The spec's own file, absolute, if it has one: a base must not lead back to it.
    pub spec_path: Option<&'a Path>,
    /// The name of an image whose spec names none.
    pub default_name: &'a str,
    /// The platform to build for where a spec names none.
    pub host_platform: &'a Platform,
    /// Reads the spec that `base_image` may name.
    pub load_spec: &'a SpecLoader<'a>,
}

/// A spec with its defaults, and everything known about the files that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSpec {
    /// The spec as it was given to [`resolve`].
    pub spec: Spec,
    /// Name of the image.
    pub name: String,
    /// The platforms to build for, at least one.
    pub platforms: BTreeSet<Platform>,
    /// What the image stands on.
    pub base: ResolvedBase,
    /// What to install from Python's package index.
    pub requirements: Option<Requirements>,
    /// The index to look in, from the spec or a requirements file.
    pub pip_index: Option<String>,
    /// Conda channels as the plan calls them: those on this machine by the digest of their repodata.
    pub conda_channels: Vec<String>,
    /// Packages that are installed when a container starts, in their normal form.
    pub runtime_packages: BTreeSet<String>,
    /// What is copied, by path relative to `/root`.
    pub copied: BTreeMap<String, CopiedFile>,
    /// The files that the plan names by digest, those of nested specs included.
    pub files: BTreeMap<Digest, PathBuf>,
    /// Where bases and conda channels of the plan lie that are on this machine, those of nested specs included.
    pub base_paths: BTreeMap<Digest, PathBuf>,
}

/// What an image stands on, with what is on this machine already digested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvedBase {
    /// Nothing at all.
    Scratch,
    /// An image in a registry.
    Registry(Reference),
    /// The manifest or index of an OCI image layout.
    OciLayout(Digest),
    /// An archive made by `docker save`.
    DockerArchive(Digest),
    /// A small Debian of this release.
    Bootstrap(String),
    /// Another spec.
    Spec(Box<ResolvedSpec>),
}

/// Fills in the defaults of `spec` and reads every file that it names. `directory` is the spec's folder, absolute and
/// inside of the project's folder.
///
/// # Errors
/// When a file is missing or refused, or when fields contradict each other.
pub fn resolve(spec: &Spec, directory: &Path, context: &ResolveContext<'_>) -> Result<ResolvedSpec, ResolveError> {
    let mut open = Vec::new();
    // A path that cannot be followed is no path that a base could lead back to.
    open.extend(context.spec_path.and_then(|path| path.canonicalize().ok()));
    resolve_nested(spec, directory, context.default_name, context, &mut open, 0)
}

/// `open` holds the spec files that stand on each other and end here.
fn resolve_nested(
    spec: &Spec,
    directory: &Path,
    default_name: &str,
    context: &ResolveContext<'_>,
    open: &mut Vec<PathBuf>,
    depth: usize,
) -> Result<ResolvedSpec, ResolveError> {
    fields::check(spec)?;
    let root = if directory.starts_with(context.root) { context.root } else { directory };
    let requirements = requirements::read(root, directory, spec.requirements.as_ref(), &spec.packages)?;
    let mut files = BTreeMap::new();
    let mut base_paths = BTreeMap::new();
    let base = match &spec.base_image {
        None => ResolvedBase::Bootstrap(default_suite(value(spec.python_version.as_ref())).to_owned()),
        Some(base) => match &base.value {
            BaseImage::Scratch => ResolvedBase::Scratch,
            BaseImage::Registry(reference) => ResolvedBase::Registry(reference.clone()),
            BaseImage::Bootstrap { suite } => ResolvedBase::Bootstrap(suite.clone()),
            BaseImage::OciLayout(path) => {
                let found = oci_layout(directory, path);
                let (digest, folder) = found.map_err(|problem| ResolveError::new(problem, &base.place))?;
                base_paths.insert(digest, folder);
                ResolvedBase::OciLayout(digest)
            }
            BaseImage::DockerArchive(path) => {
                let (digest, file) = base::docker_archive(directory, path, &base.place)?;
                base_paths.insert(digest, file);
                ResolvedBase::DockerArchive(digest)
            }
            BaseImage::SpecFile(path) => {
                let nested = spec_file(path, &base.place, root, directory, context, open, depth)?;
                ResolvedBase::Spec(Box::new(nested))
            }
            BaseImage::Spec(nested) => {
                refuse_depth(depth, &base.place)?;
                let name = format!("{default_name}-base");
                ResolvedBase::Spec(Box::new(resolve_nested(nested, directory, &name, context, open, depth + 1)?))
            }
        },
    };
    fields::check_against_base(spec, &base)?;
    if let ResolvedBase::Spec(nested) = &base {
        files.extend(nested.files.clone());
        base_paths.extend(nested.base_paths.clone());
    }
    let conda_channels = channels(&spec.conda_channels, directory, &mut base_paths)?;
    let mut pip_index = value(spec.pip_index.as_ref()).map(str::to_owned);
    if let Some(requirements) = &requirements {
        pip_index = requirements.index(spec.pip_index.as_ref())?;
        if let Some(version) = image_python(spec, &base) {
            requirements.check_python(version)?;
        }
        files.extend(requirements.files.clone());
    }
    let mode = spec.source_copy_mode.as_ref().map_or(SourceCopyMode::Auto, |mode| mode.value);
    let source = spec.source_root.as_ref().map(|source_root| (source_root, mode));
    let collected = files::collect(&WantedFiles { root, directory, copy: &spec.copy, source })?;
    files.extend(collected.paths);
    let platforms = match spec.platform.as_slice() {
        [] => BTreeSet::from([context.host_platform.clone()]),
        listed => listed.iter().map(|platform| platform.value.clone()).collect(),
    };
    Ok(ResolvedSpec {
        spec: spec.clone(),
        name: value(spec.name.as_ref()).unwrap_or(default_name).to_owned(),
        platforms,
        base,
        requirements,
        pip_index,
        conda_channels,
        runtime_packages: runtime_packages(&spec.runtime_packages)?,
        copied: collected.entries,
        files,
        base_paths,
    })
}

fn spec_file(
    path: &Path,
    place: &Place,
    root: &Path,
    directory: &Path,
    context: &ResolveContext<'_>,
    open: &mut Vec<PathBuf>,
    depth: usize,
) -> Result<ResolvedSpec, ResolveError> {
    refuse_depth(depth, place)?;
    let written = path.display().to_string();
    let path = requirements::locate(root, directory, path)
        .map_err(|problem| ResolveError::new(ResolveProblem::from(problem), place))?;
    let real = path
        .canonicalize()
        .map_err(|source| ResolveError::new(PathProblem::Unreadable { path: written.clone(), source }.into(), place))?;
    if open.contains(&real) {
        return Err(ResolveError::new(ResolveProblem::Cycle { path: written }, place));
    }
    let spec = (context.load_spec)(&path)
        .map_err(|source| ResolveError::new(ResolveProblem::NestedSpec { path: written, source }, place))?;
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(context.default_name).to_owned();
    let folder = path.parent().expect("a file that was read lies in a folder").to_owned();
    open.push(real);
    let nested = resolve_nested(&spec, &folder, &name, context, open, depth + 1)?;
    open.pop();
    Ok(nested)
}

fn refuse_depth(depth: usize, place: &Place) -> Result<(), ResolveError> {
    if depth < NESTING_MAX {
        return Ok(());
    }
    Err(ResolveError::new(ResolveProblem::TooDeep { limit: NESTING_MAX }, place))
}

/// The Python version of the image, if the spec and its base say it.
fn image_python<'a>(spec: &'a Spec, base: &'a ResolvedBase) -> Option<&'a str> {
    let said = value(spec.python_version.as_ref());
    said.or_else(|| match base {
        // Conda brings its own Python, in a version that nobody knows yet.
        _ if !spec.conda_packages.is_empty() || spec.python_exec.is_some() => None,
        ResolvedBase::Bootstrap(suite) => suite_python(suite).map(|(minor, _)| minor),
        ResolvedBase::Spec(nested) => image_python(&nested.spec, &nested.base),
        _ => None,
    })
}

/// The channels as a plan calls them; where those on this machine lie goes to `folders`.
fn channels(
    channels: &[Located<String>],
    directory: &Path,
    folders: &mut BTreeMap<Digest, PathBuf>,
) -> Result<Vec<String>, ResolveError> {
    let named = |channel: &Located<String>| match local_channel(&channel.value) {
        None => Ok(channel.value.clone()),
        Some(path) => {
            // Without `.`, as people read it.
            let folder: PathBuf = directory.join(path).components().collect();
            let digest = channel_digest(&folder).map_err(|source| {
                let problem = ResolveProblem::Channel { path: channel.value.clone(), source };
                ResolveError::new(problem, &channel.place)
            })?;
            folders.insert(digest, folder);
            Ok(digest.to_string())
        }
    };
    channels.iter().map(named).collect()
}

fn runtime_packages(packages: &[Located<String>]) -> Result<BTreeSet<String>, ResolveError> {
    let normal = |package: &Located<String>| {
        requirements::normalize(&package.value).map_err(|BadRequirement { problem, .. }| {
            ResolveError::from(requirements::error_at(&package.place, problem))
        })
    };
    packages.iter().map(normal).collect()
}

fn value(field: Option<&Located<String>>) -> Option<&str> {
    field.map(|located| located.value.as_str())
}

impl ResolvedSpec {
    /// Where `field` was written: the field itself, or the first of its values. None if it was left out.
    pub fn place_of(&self, field: &str) -> Option<&Place> {
        fields::place_of(&self.spec, field)
    }

    /// Where to look after `field` came to nothing: of packages, at the one that `words` of the installer name, else at the key
    /// over them.
    pub fn place_of_failure(&self, field: &str, words: &str) -> Option<Place> {
        blame::place_of_failure(&self.spec, field, words)
    }
}

/// Variables that the user cannot set, because imagespec does.
const RESERVED_VARIABLES: [&str; 1] = [ID_VARIABLE];

#[cfg(test)]
mod tests;
