//! Where the files of a package come to lie in the environment, and the record that conda keeps of it.
//!
//! Formats: `info/paths.json` (or `info/files`, `has_prefix` and `no_link` of older packages), `info/link.json` for the
//! programs of packages of pure Python, and `conda-meta/NAME-VERSION-BUILD.json`. Scripts of a package are not run.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use imagespec_core::digest::Digest;
use rattler_conda_types::package::{
    DistArchiveIdentifier, FileMode, Files, HasPrefix, IndexJson, LinkJson, NoArchLinks, NoLink, PackageFile, PathType,
    PathsJson,
};
use rattler_conda_types::prefix_record::{PathType as LinkedType, PathsEntry as LinkedPath};
use rattler_conda_types::{PackageRecord, PrefixRecord, RepoDataRecord};
use rattler_digest::{Md5Hash, Sha256Hash};

use super::archive::{Archive, Entry};
use super::error::CondaError;
use super::prefix;
use super::solution::{CondaPython, SolvedPackage};
use crate::wheel::launchers;

/// A file in which a path is put must be held in memory, before and after.
const REPLACED_SIZE_BYTES_MAX: usize = 2 << 30;
/// What a placeholder has at least. Real ones have up to 255; with a single `/` a file would grow ninefold.
const PLACEHOLDER_SIZE_BYTES_MIN: usize = 8;
/// Where a `.pyc` says how it is validated (PEP 552): the lowest bit means by hash, the next one that this is checked.
const PYC_FLAGS: usize = 4;

/// A package whose files have their places.
pub(super) struct Package {
    pub(super) archive: Archive,
    /// By path below the environment.
    pub(super) files: BTreeMap<String, Placed>,
}

/// What comes to lie at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placed {
    /// A file of the archive, by its path there.
    Member {
        /// The path in the archive.
        source: String,
        /// What happens to its content.
        change: Change,
    },
    /// A file that was made here.
    Made {
        /// Its content.
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link(String),
    /// An empty folder.
    Folder,
}

/// What happens to the content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The environment's path is put in.
    Prefix {
        /// What stands there instead.
        placeholder: String,
        /// How.
        mode: FileMode,
    },
    /// It is bytecode, whose source has another time in a layer: it is to be believed as it is.
    Bytecode,
}

impl Package {
    /// Gives every file of `archive`, which is `solved`, its place in the environment `venv` (`/opt/venv`).
    ///
    /// # Errors
    /// When the package is not the one that was solved, contradicts itself, or holds what cannot be installed.
    pub(super) fn new(
        archive: Archive,
        solved: &SolvedPackage,
        python: &CondaPython,
        venv: &str,
    ) -> Result<Self, CondaError> {
        let index: IndexJson = parsed(&archive, "info/index.json")?;
        if index.name.as_normalized() != solved.name
            || index.version.to_string() != solved.version
            || index.build.as_str() != solved.build
        {
            let problem = format!("it says that it is {} {} {}", index.name.as_source(), index.version, index.build);
            return Err(CondaError::Package { package: archive.name, problem });
        }
        let is_pure = index.noarch.is_python();
        let paths = paths(&archive)?;
        let mut package = Self { archive, files: BTreeMap::new() };
        let mut linked = Vec::with_capacity(paths.paths.len());
        for path in &paths.paths {
            let source = path.relative_path.to_str().unwrap_or_default();
            let below = if is_pure { place_of_pure(source, python) } else { source.to_owned() };
            let placeholder = path.prefix_placeholder.as_ref();
            let change = match placeholder {
                Some(placeholder) if !is_place(&placeholder.placeholder) => {
                    return Err(package.archive.member(source, "its placeholder is no absolute path of some length"));
                }
                Some(placeholder) => {
                    Change::Prefix { placeholder: placeholder.placeholder.clone(), mode: placeholder.file_mode }
                }
                None if below.ends_with(".pyc") => Change::Bytecode,
                None => Change::None,
            };
            let placed = package.placed(source, path.path_type, change)?;
            let sha256_in_prefix = match &placed {
                Placed::Member { change: Change::None, .. } => path.sha256,
                Placed::Member { source, change } => Some(hash(&package.changed(source, change, venv)?)),
                _ => None,
            };
            linked.push(LinkedPath {
                relative_path: below.clone().into(),
                original_path: None,
                path_type: path.path_type.into(),
                no_link: path.no_link,
                sha256: path.sha256,
                sha256_in_prefix,
                size_in_bytes: path.size_in_bytes,
                file_mode: placeholder.map(|placeholder| placeholder.file_mode),
                prefix_placeholder: placeholder.map(|placeholder| placeholder.placeholder.clone()),
            });
            if package.files.insert(below, placed).is_some() {
                return Err(package.archive.member(source, "another file comes to lie in its place"));
            }
        }
        if is_pure {
            package.add_launchers(python, venv, &mut linked)?;
        }
        package.add_record(index, solved, linked)?;
        Ok(package)
    }

    /// The content of a file of the archive as it stands in the environment `venv`.
    pub(super) fn changed(&self, source: &str, change: &Change, venv: &str) -> Result<Vec<u8>, CondaError> {
        let Some(Entry::File { offset, size_bytes, .. }) = self.archive.entries.get(source) else {
            return Err(self.archive.member(source, "it is no file"));
        };
        let too_long = || self.archive.member(source, "it is too long for a path to be put in");
        if *size_bytes > REPLACED_SIZE_BYTES_MAX as u64 {
            return Err(too_long());
        }
        let mut content = Vec::new();
        let unreadable = |source| CondaError::Archive { package: self.archive.name.clone(), source };
        self.archive.content(*offset, *size_bytes).read_to_end(&mut content).map_err(unreadable)?;
        match change {
            Change::None => Ok(content),
            Change::Bytecode => {
                if content.get(PYC_FLAGS..PYC_FLAGS + 4) == Some(&[0; 4]) {
                    content[PYC_FLAGS] = 1;
                }
                Ok(content)
            }
            Change::Prefix { placeholder, mode: FileMode::Text } => {
                prefix::text(&content, placeholder.as_bytes(), venv.as_bytes(), REPLACED_SIZE_BYTES_MAX)
                    .map_err(|_| too_long())
            }
            Change::Prefix { placeholder, mode: FileMode::Binary } => {
                prefix::binary(&content, placeholder.as_bytes(), venv.as_bytes())
                    .map_err(|_| self.archive.member(source, "its placeholder is shorter than `/opt/venv`"))
            }
        }
    }

    fn placed(&self, source: &str, kind: PathType, change: Change) -> Result<Placed, CondaError> {
        match (self.archive.entries.get(source), kind) {
            (Some(Entry::File { .. }), _) => Ok(Placed::Member { source: source.to_owned(), change }),
            (Some(Entry::Link { target }), _) => Ok(Placed::Link(target.clone())),
            (Some(Entry::Folder), _) | (None, PathType::Directory) => Ok(Placed::Folder),
            (None, _) => Err(self.archive.member(source, "it is listed and not there")),
        }
    }

    /// The programs of a package of pure Python.
    fn add_launchers(
        &mut self,
        python: &CondaPython,
        venv: &str,
        linked: &mut Vec<LinkedPath>,
    ) -> Result<(), CondaError> {
        if self.archive.info("info/link.json").is_none() {
            return Ok(());
        }
        let link: LinkJson = parsed(&self.archive, "info/link.json")?;
        let NoArchLinks::Python(points) = link.noarch else { return Ok(()) };
        let lines: Vec<_> = points
            .entry_points
            .iter()
            .map(|point| format!("{} = {}:{}\n", point.command, point.module, point.function))
            .collect();
        let text = format!("[console_scripts]\n{}", lines.concat());
        let launchers = launchers(&text, &format!("{venv}/bin/python"), python.minor).map_err(|line| {
            let problem = format!("its entry point `{}` is not `name = module:function`", line.escape_debug());
            CondaError::Package { package: self.archive.name.clone(), problem }
        })?;
        for (name, text) in launchers {
            let below = format!("bin/{name}");
            linked.push(LinkedPath {
                relative_path: below.clone().into(),
                original_path: None,
                path_type: LinkedType::UnixPythonEntryPoint,
                no_link: false,
                sha256: Some(hash(text.as_bytes())),
                sha256_in_prefix: None,
                size_in_bytes: Some(text.len() as u64),
                file_mode: None,
                prefix_placeholder: None,
            });
            if self.files.insert(below, Placed::Made { content: text.into_bytes(), executable: true }).is_some() {
                return Err(self.archive.member(&name, "another file comes to lie in its place"));
            }
        }
        Ok(())
    }

    /// What conda and its kin read to know what is installed. It names no path of the machine that builds.
    fn add_record(
        &mut self,
        index: IndexJson,
        solved: &SolvedPackage,
        linked: Vec<LinkedPath>,
    ) -> Result<(), CondaError> {
        let wrong =
            |problem: &str| CondaError::Package { package: self.archive.name.clone(), problem: problem.to_owned() };
        let index = IndexJson { subdir: Some(solved.subdir.clone()), ..index };
        let sha256 = Sha256Hash::from(*solved.sha256.as_bytes());
        let package_record = PackageRecord::from_index_json(index, solved.size_bytes, Some(sha256), None::<Md5Hash>)
            .map_err(|_| wrong("it says for no platform"))?;
        let identifier = DistArchiveIdentifier::try_from_filename(solved.file_name());
        let channel = solved.url.as_str().rsplitn(3, '/').nth(2).map(|channel| format!("{channel}/"));
        let record = RepoDataRecord {
            package_record,
            identifier: identifier.ok_or_else(|| wrong("its file name is none of a package"))?,
            url: solved.url.clone(),
            channel,
        };
        let record = PrefixRecord::from_repodata_record(record, linked);
        let name = record.file_name();
        if name.contains('/') {
            return Err(wrong("its name or version is none"));
        }
        let content = serde_json::to_vec_pretty(&record).expect("a record is JSON");
        self.files.insert(format!("conda-meta/{name}"), Placed::Made { content, executable: false });
        Ok(())
    }

    /// Whether it has a script that conda would run.
    pub(super) fn has_script(&self, solved: &SolvedPackage) -> bool {
        let scripts = ["post-link", "pre-link"].map(|kind| format!("bin/.{}-{kind}.sh", solved.name));
        scripts.iter().any(|script| self.files.contains_key(script))
    }
}

/// Where the file of a package of pure Python comes to lie.
fn place_of_pure(source: &str, python: &CondaPython) -> String {
    match (source.strip_prefix("site-packages/"), source.strip_prefix("python-scripts/")) {
        (Some(rest), _) => format!("{}/{rest}", python.site_packages),
        (_, Some(rest)) => format!("bin/{rest}"),
        _ => source.to_owned(),
    }
}

/// Whether `placeholder` can be the place of an environment. Packages of pure Python may be made on Windows, at `C:\…`.
fn is_place(placeholder: &str) -> bool {
    let is_absolute = placeholder.starts_with('/') || placeholder.get(1..2) == Some(":");
    is_absolute && placeholder.len() >= PLACEHOLDER_SIZE_BYTES_MIN
}

fn parsed<T: PackageFile>(archive: &Archive, path: &'static str) -> Result<T, CondaError> {
    let content = archive.info(path).ok_or_else(|| archive.member(path, "it is not there"))?;
    T::from_slice(content).map_err(|_| archive.member(path, "it cannot be read"))
}

/// What is installed, from whichever files say so.
fn paths(archive: &Archive) -> Result<PathsJson, CondaError> {
    if archive.info("info/paths.json").is_some() {
        return parsed(archive, "info/paths.json");
    }
    let has = |path| archive.info(path).is_some();
    let files: Files = parsed(archive, "info/files")?;
    let has_prefix: Option<HasPrefix> =
        has("info/has_prefix").then(|| parsed(archive, "info/has_prefix")).transpose()?;
    let no_link: Option<NoLink> = has("info/no_link").then(|| parsed(archive, "info/no_link")).transpose()?;
    let kind = |path: &Path| match path.to_str().and_then(|path| archive.entries.get(path)) {
        Some(Entry::File { .. }) => Ok(PathType::HardLink),
        Some(Entry::Link { .. }) => Ok(PathType::SoftLink),
        Some(Entry::Folder) => Ok(PathType::Directory),
        None => Err(archive.member(&path.display().to_string(), "it is listed and not there")),
    };
    PathsJson::from_deprecated(files, has_prefix, no_link, None, kind)
}

fn hash(content: &[u8]) -> Sha256Hash {
    Sha256Hash::from(*Digest::of(content).as_bytes())
}
