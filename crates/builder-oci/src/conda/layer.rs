//! Layers of packages: big ones have one of their own, small ones share.

use std::collections::BTreeMap;

use imagespec_core::event::Outcome;
use imagespec_core::plan::VENV;
use rayon::prelude::*;

use super::archive::{Archive, Entry};
use super::contents::Contents;
use super::error::CondaError;
use super::package::{Change, Package, Placed};
use super::solution::{CondaPython, SolvedPackage};
use crate::builder::Building;
use crate::cache::{Cache, Key};
use crate::layer::{Attributes, FORMAT_VERSION, Layer, LayerPath, LayerWriter};

/// Raised whenever the same package would be laid out otherwise.
const CONDA_VERSION: &str = "1";

/// Opens a package that was fetched.
pub(super) fn open(cache: &Cache, solved: &SolvedPackage, python: &CondaPython) -> Result<Package, CondaError> {
    let name = solved.file_name();
    let absent = || CondaError::Absent { package: name.to_owned(), digest: solved.sha256 };
    let path = cache.verified_blob_path(solved.sha256)?.ok_or_else(absent)?;
    Package::new(Archive::open(&path, name, &cache.temporary_folder())?, solved, python, VENV)
}

/// What `packages` have, in their order; read once, and remembered.
pub(super) fn contents(
    building: &Building<'_>,
    packages: &[SolvedPackage],
    python: &CondaPython,
) -> Result<Vec<Contents>, CondaError> {
    let cache = &building.cache;
    let read = packages.par_iter().map(|solved| {
        let key = key("conda-contents", 0, std::slice::from_ref(&solved), python);
        if let Some(contents) = cache.record(key)? {
            return Ok(contents);
        }
        check_cancelled(building)?;
        let contents = Contents::of(&open(cache, solved, python)?, solved, python);
        cache.remember(key, &contents)?;
        Ok(contents)
    });
    read.collect()
}

/// The layers of `groups`, several at once.
pub(super) fn layers(
    building: &Building<'_>,
    groups: &[Vec<&SolvedPackage>],
    python: &CondaPython,
) -> Result<Vec<(Layer, Outcome)>, CondaError> {
    let timestamp = building.request.timestamp;
    let made = groups.par_iter().map(|group| {
        building.cache.layer(key("conda", timestamp, group, python), timestamp, |writer| {
            check_cancelled(building)?;
            let open = |solved: &&SolvedPackage| open(&building.cache, solved, python);
            let packages = group.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            write(writer, &packages)
        })
    });
    made.collect()
}

fn check_cancelled(building: &Building<'_>) -> Result<(), CondaError> {
    if building.progress.is_cancelled() { Err(CondaError::Cancelled) } else { Ok(()) }
}

/// A layer is a function of its packages, of where they come from, which conda's record says, and of Python's version.
fn key(kind: &'static str, timestamp: u64, group: &[&SolvedPackage], python: &CondaPython) -> Key {
    let time = timestamp.to_le_bytes();
    let fixed = [FORMAT_VERSION.as_bytes(), CONDA_VERSION.as_bytes(), VENV.as_bytes(), &time];
    let site = [python.site_packages.as_bytes()];
    let described: Vec<_> =
        group.iter().map(|solved| serde_json::to_string(solved).expect("a solved package is JSON")).collect();
    Key::new(kind, fixed.into_iter().chain(site).chain(described.iter().map(String::as_bytes)))
}

/// Writes the files of `packages`. Where two have one path, the later one has it.
pub(super) fn write(writer: &mut LayerWriter, packages: &[Package]) -> Result<(), CondaError> {
    // Compared by component, as the writer wants them.
    let mut order: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for (number, package) in packages.iter().enumerate() {
        order.extend(package.files.keys().map(|path| (path.split('/').collect(), number)));
    }
    let mut previous: Option<(Vec<&str>, usize, bool)> = None;
    for (components, number) in order {
        let path = components.join("/");
        let placed = &packages[number].files[&path];
        if let Some((above, one, false)) = &previous
            && components.starts_with(above)
        {
            let name = |number: usize| packages[number].archive.name.clone();
            return Err(CondaError::Conflict { path: above.join("/"), one: name(*one), other: name(number) });
        }
        write_one(writer, &packages[number], &path, placed)?;
        previous = Some((components, number, *placed == Placed::Folder));
    }
    Ok(())
}

fn write_one(writer: &mut LayerWriter, package: &Package, path: &str, placed: &Placed) -> Result<(), CondaError> {
    let archive = &package.archive;
    let path = LayerPath::new(&format!("{VENV}/{path}"))
        .map_err(|source| CondaError::Path { package: archive.name.clone(), source })?;
    match placed {
        Placed::Folder => writer.directory(&path, Attributes::root(0o755))?,
        Placed::Link(target) => writer.symlink(&path, target)?,
        Placed::Made { content, executable } => {
            writer.file(&path, mode(*executable), content.len() as u64, &mut content.as_slice())?;
        }
        Placed::Member { source, change } => {
            let Some(Entry::File { offset, size_bytes, executable }) = archive.entries.get(source) else {
                return Err(archive.member(source, "it is no file"));
            };
            if *change == Change::None {
                let mut content = archive.content(*offset, *size_bytes);
                writer.file(&path, mode(*executable), *size_bytes, &mut content)?;
            } else {
                let content = package.changed(source, change, VENV)?;
                writer.file(&path, mode(*executable), content.len() as u64, &mut content.as_slice())?;
            }
        }
    }
    Ok(())
}

fn mode(executable: bool) -> Attributes {
    Attributes::root(if executable { 0o755 } else { 0o644 })
}
