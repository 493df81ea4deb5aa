//! Which packages a base consists of: the required ones, those that were asked for, and what they depend on (Debian
//! policy, 7). Pure and deterministic. Recommended packages are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use debversion::Version;

use super::packages::{Package, PackageTable, PackagesError, Stanza};

/// Why no set of packages was found.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// A package that was asked for does not exist.
    #[error("Debian's `{suite}` has no package `{package}`")]
    Unknown {
        /// The suite.
        suite: String,
        /// The package.
        package: String,
    },
    /// None of the alternatives of a dependency exists.
    #[error("package `{package}` depends on `{dependency}`, which `{suite}` has not")]
    Unsatisfied {
        /// The suite.
        suite: String,
        /// The package.
        package: String,
        /// Its dependency with all alternatives.
        dependency: String,
    },
    /// Two packages exclude one another.
    #[error("packages `{package}` and `{other}` exclude one another")]
    Conflict {
        /// The package that says so.
        package: String,
        /// The one that it excludes.
        other: String,
    },
    /// A package of the set is described wrongly.
    #[error(transparent)]
    Packages(#[from] PackagesError),
}

/// One alternative of a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency<'a> {
    name: &'a str,
    /// `>=` and the like, with the version.
    bound: Option<(&'a str, &'a str)>,
}

/// The packages of a base of `suite`, sorted by name: the required ones, `asked`, and all that they depend on.
pub(super) fn solve(table: &PackageTable<'_>, asked: &[String], suite: &str) -> Result<Vec<Package>, SolveError> {
    let mut selection =
        Selection { table, chosen: BTreeMap::new(), provided: BTreeMap::new(), pending: VecDeque::new() };
    for name in table.required() {
        selection.choose(name);
    }
    for name in asked {
        let exists = selection.satisfy(&Dependency { name, bound: None });
        if !exists {
            return Err(SolveError::Unknown { suite: suite.to_owned(), package: name.clone() });
        }
    }
    while let Some(stanza) = selection.pending.pop_front() {
        for field in ["Pre-Depends", "Depends"] {
            for group in stanza.field(field).into_iter().flat_map(|list| list.split(',')) {
                selection.satisfy_group(stanza, group.trim(), suite)?;
            }
        }
    }
    selection.refuse_conflicts()?;
    Ok(selection.chosen.values().map(Stanza::package).collect::<Result<_, _>>()?)
}

struct Selection<'t, 'a> {
    table: &'t PackageTable<'a>,
    chosen: BTreeMap<&'a str, Stanza<'a>>,
    /// What the chosen packages provide, with the version if they say one.
    provided: BTreeMap<&'a str, BTreeSet<(Option<&'a str>, &'a str)>>,
    pending: VecDeque<Stanza<'a>>,
}

impl<'a> Selection<'_, 'a> {
    fn choose(&mut self, name: &str) {
        let Some(stanza) = self.table.get(name) else { return };
        if self.chosen.insert(stanza.name(), stanza).is_some() {
            return;
        }
        for provided in provides(&stanza) {
            let version = provided.bound.map(|(_, version)| version);
            self.provided.entry(provided.name).or_default().insert((version, stanza.name()));
        }
        self.pending.push_back(stanza);
    }

    fn satisfy_group(&mut self, stanza: Stanza<'a>, group: &str, suite: &str) -> Result<(), SolveError> {
        if group.is_empty() {
            return Ok(());
        }
        let alternatives: Vec<Dependency<'_>> = group.split('|').map(dependency).collect();
        // What is there already wins over what is written first.
        if alternatives.iter().any(|alternative| self.is_satisfied(alternative)) {
            return Ok(());
        }
        for alternative in &alternatives {
            if self.satisfy(alternative) {
                return Ok(());
            }
        }
        Err(SolveError::Unsatisfied {
            suite: suite.to_owned(),
            package: stanza.name().to_owned(),
            dependency: group.to_owned(),
        })
    }

    fn is_satisfied(&self, wanted: &Dependency<'_>) -> bool {
        let by_itself = self.chosen.get(wanted.name).is_some_and(|stanza| admits(wanted, Some(stanza.version())));
        by_itself
            || self
                .provided
                .get(wanted.name)
                .is_some_and(|provided| provided.iter().any(|(version, _)| admits(wanted, *version)))
    }

    /// Chooses a package for a dependency: the one of that name, else the first one that provides it, by priority and
    /// name.
    fn satisfy(&mut self, wanted: &Dependency<'_>) -> bool {
        if let Some(stanza) = self.table.get(wanted.name)
            && admits(wanted, Some(stanza.version()))
        {
            self.choose(wanted.name);
            return true;
        }
        let candidates = self.table.providers(wanted.name).iter().filter(|name| {
            self.table.get(name).is_some_and(|stanza| {
                provides(&stanza).any(|provided| {
                    provided.name == wanted.name && admits(wanted, provided.bound.map(|(_, version)| version))
                })
            })
        });
        let best = candidates.min_by_key(|name| (self.table.get(name).map_or(u8::MAX, |stanza| rank(&stanza)), **name));
        let Some(best) = best.copied() else { return false };
        self.choose(best);
        true
    }

    fn refuse_conflicts(&self) -> Result<(), SolveError> {
        for (name, stanza) in &self.chosen {
            for field in ["Conflicts", "Breaks"] {
                for excluded in stanza.field(field).into_iter().flat_map(|list| list.split(',')).map(dependency) {
                    let by_name = self
                        .chosen
                        .get_key_value(excluded.name)
                        .filter(|(_, other)| admits(&excluded, Some(other.version())));
                    let by_provision = self.provided.get(excluded.name).and_then(|provided| {
                        provided.iter().find(|(version, other)| other != name && admits(&excluded, *version))
                    });
                    let other = by_name.map(|(other, _)| *other).or(by_provision.map(|(_, other)| *other));
                    if let Some(other) = other.filter(|other| other != name) {
                        return Err(SolveError::Conflict { package: (*name).to_owned(), other: other.to_owned() });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The more a system needs it, the lower.
fn rank(stanza: &Stanza<'_>) -> u8 {
    match stanza.field("Priority") {
        Some("required") => 0,
        Some("important") => 1,
        Some("standard") => 2,
        _ => 3,
    }
}

fn provides<'a>(stanza: &Stanza<'a>) -> impl Iterator<Item = Dependency<'a>> + use<'a> {
    stanza.field("Provides").into_iter().flat_map(|list| list.split(',')).map(dependency)
}

/// `name:architecture (relation version) [architectures]`, the architectures being of no concern in an index of one.
fn dependency(text: &str) -> Dependency<'_> {
    let text = text.trim();
    let (name, rest) = text.split_at(text.find(['(', '[', ' ']).unwrap_or(text.len()));
    let name = name.split(':').next().unwrap_or_default();
    let bound = rest
        .trim_start()
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inner, _)| inner.split_at(inner.find(|letter| !"<>=".contains(letter)).unwrap_or(inner.len())))
        .map(|(relation, version)| (relation, version.trim()));
    Dependency { name, bound }
}

/// Whether a package of a `version`, or without one, is what a dependency wants (Debian policy, 7.1).
fn admits(wanted: &Dependency<'_>, version: Option<&str>) -> bool {
    let Some((relation, bound)) = wanted.bound else { return true };
    let (Some(Ok(version)), Ok(bound)) = (version.map(Version::parse_lenient), Version::parse_lenient(bound)) else {
        return false;
    };
    match relation {
        ">=" => version >= bound,
        "<=" => version <= bound,
        "=" => version == bound,
        ">>" => version > bound,
        "<<" => version < bound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_has_a_name_and_perhaps_a_bound() {
        for (text, name, bound) in [
            ("libc6 (>= 2.36)", "libc6", Some((">=", "2.36"))),
            (" python3:any ", "python3", None),
            ("libgcc-s1 (>>1:3.0~rc1) [amd64]", "libgcc-s1", Some((">>", "1:3.0~rc1"))),
            ("", "", None),
            ("a (", "a", None),
        ] {
            assert_eq!(dependency(text), Dependency { name, bound }, "{text}");
        }
    }

    #[test]
    fn a_version_is_compared_as_dpkg_does() {
        for (text, version, expected) in [
            ("a (>= 1.0)", Some("1.0~rc1"), false),
            ("a (<< 2)", Some("1:0"), false),
            ("a (= 1.0-1)", Some("1.0-1"), true),
            ("a (>= 1)", None, false),
            ("a", None, true),
            ("a (>= é)", Some("1"), false),
        ] {
            assert_eq!(admits(&dependency(text), version), expected, "{text} {version:?}");
        }
    }
}
