//! What the packages of an environment have where, before a layer is made: files that stand in each other's way, and
//! distributions of Python that the Python packages on top must know of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::CondaError;
use super::package::{Package, Placed};
use super::solution::{CondaPython, SolvedPackage};

/// What a package has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Contents {
    /// By path below the environment; whether it is a folder.
    pub(super) paths: BTreeMap<String, bool>,
    /// Distributions of Python: name and version.
    pub(super) distributions: BTreeMap<String, String>,
    /// Whether conda would run a script of it.
    pub(super) has_script: bool,
}

/// Files that two packages have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clobbered {
    pub(super) loser: String,
    pub(super) winner: String,
    pub(super) paths: Vec<String>,
}

impl Contents {
    /// What `package`, which is `solved`, has.
    pub(super) fn of(package: &Package, solved: &SolvedPackage, python: &CondaPython) -> Self {
        let paths = package.files.iter().map(|(path, placed)| (path.clone(), *placed == Placed::Folder)).collect();
        let infos = package.files.keys().filter_map(|path| {
            let folder = path.strip_prefix(&python.site_packages)?.strip_prefix('/')?.strip_suffix("/METADATA")?;
            let (name, version) = folder.strip_suffix(".dist-info")?.split_once('-')?;
            Some((normal(name), version.to_owned()))
        });
        Self { paths, distributions: infos.collect(), has_script: package.has_script(solved) }
    }
}

/// A distribution's name in its normal form (PEP 503).
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The files that several of `packages` have; the last of them, in this order, wins.
///
/// # Errors
/// When one package has a file where another one has a folder.
pub(super) fn clobbered(packages: &[(&str, &Contents)]) -> Result<Vec<Clobbered>, CondaError> {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for (position, (_, contents)) in packages.iter().enumerate() {
        for (path, is_folder) in &contents.paths {
            folders.extend(path.match_indices('/').map(|(end, _)| (&path[..end], position)));
            if *is_folder {
                folders.insert(path, position);
            } else if let Some(before) = owners.insert(path, position) {
                pairs.entry((before, position)).or_default().push(path.clone());
            }
        }
    }
    if let Some((path, one, other)) =
        owners.iter().find_map(|(path, one)| folders.get(path).map(|other| (path, one, other)))
    {
        let name = |position: &usize| packages[*position].0.to_owned();
        return Err(CondaError::Conflict { path: (*path).to_owned(), one: name(one), other: name(other) });
    }
    let name = |position: usize| packages[position].0.to_owned();
    let pairs = pairs.into_iter();
    Ok(pairs.map(|((loser, winner), paths)| Clobbered { loser: name(loser), winner: name(winner), paths }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(paths: &[&str]) -> Contents {
        let paths = paths.iter().map(|path| (path.trim_end_matches('/').to_owned(), path.ends_with('/'))).collect();
        Contents { paths, ..Contents::default() }
    }

    #[test]
    fn the_last_of_those_with_a_file_wins_and_a_file_in_a_folders_place_is_refused() {
        let (a, b) = (contents(&["bin/x", "lib/y", "empty/"]), contents(&["bin/x", "lib/z", "empty/"]));
        let found = clobbered(&[("a", &a), ("b", &b)]).unwrap();
        let expected = Clobbered { loser: "a".to_owned(), winner: "b".to_owned(), paths: vec!["bin/x".to_owned()] };
        assert_eq!(found, [expected]);
        let c = contents(&["lib"]);
        let error = clobbered(&[("a", &a), ("c", &c)]).unwrap_err();
        insta::assert_snapshot!(error, @"`lib` is a file in conda package `c` and a folder in `a`");
    }

    #[test]
    fn names_of_distributions_have_one_form() {
        assert_eq!(normal("Ruamel.yaml_clib"), "ruamel-yaml-clib");
    }
}
