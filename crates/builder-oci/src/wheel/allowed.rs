//! Which digests the wheels of a package may have, as the requirements say. Pure.
//!
//! Source: pip's documentation, "Hash-checking Mode". What an index says of a file counts for nothing here: it may be
//! the index that somebody tampered with.

use std::collections::{BTreeMap, BTreeSet};

use imagespec_core::digest::Digest;
use imagespec_core::plan::Requirement;
use pep508_rs::{Requirement as Parsed, VerbatimUrl};
use url::Url;

use super::name::{Target, WheelName, normalize};
use super::pylock::{PylockError, environment};
use super::source::{Origin, SelectedSource};

/// The digests that wheels may have, by their package's normalised name. A package that is not in it may have any.
#[derive(Debug, Clone, Default)]
pub struct AllowedDigests {
    // Each requirement is one set, and a wheel is in all of them.
    by_package: BTreeMap<String, Vec<BTreeSet<Digest>>>,
    /// Of archives that requirements name by their URL alone.
    by_url: BTreeMap<String, BTreeSet<Digest>>,
}

impl AllowedDigests {
    /// What `requirements` say for `target`: of those with a marker, the ones that are true for it.
    ///
    /// # Errors
    /// When the target's Python version is none, or the digests of a requirement are all of another kind than sha256.
    pub fn new<'a>(
        requirements: impl IntoIterator<Item = &'a Requirement>,
        target: &Target,
    ) -> Result<Self, PylockError> {
        let environment = environment(target)?;
        let mut allowed = Self::default();
        for requirement in requirements {
            let (package, hashes) = match requirement.text.parse::<Parsed<VerbatimUrl>>() {
                Ok(parsed) if !parsed.marker.evaluate(&environment, &[]) => continue,
                Ok(parsed) => (parsed.name.to_string(), hashes(requirement)),
                // A URL without a name: its last part is the name of a wheel.
                Err(_) => match package_of_url(&requirement.text) {
                    Some(package) => (package, hashes(requirement)),
                    None => {
                        allowed.add_url(requirement);
                        continue;
                    }
                },
            };
            if hashes.is_empty() {
                continue;
            }
            let digests: BTreeSet<_> = hashes.iter().filter_map(|hash| hash.parse().ok()).collect();
            if digests.is_empty() {
                return Err(PylockError::OtherHashes { package });
            }
            allowed.by_package.entry(normalize(&package)).or_default().push(digests);
        }
        Ok(allowed)
    }

    fn add_url(&mut self, requirement: &Requirement) {
        let digests: BTreeSet<_> = hashes(requirement).iter().filter_map(|hash| hash.parse().ok()).collect();
        let url = requirement.text.split_whitespace().next().and_then(|word| Url::parse(word).ok());
        if let Some(url) = url.filter(|_| !digests.is_empty()) {
            self.by_url.insert(without_fragment(&url), digests);
        }
    }

    /// Whether what lies at the URL of `source` may have its digest.
    pub(super) fn check_at(&self, source: &SelectedSource) -> Result<(), PylockError> {
        let Origin::Archive { file_name, url, sha256, .. } = &source.origin else { return Ok(()) };
        match self.by_url.get(&without_fragment(url)) {
            Some(digests) if !digests.contains(sha256) => {
                Err(PylockError::NotAllowed { package: source.name.clone(), file: file_name.clone(), found: *sha256 })
            }
            _ => Ok(()),
        }
    }

    /// Whether a wheel of `package` may have `digest`.
    pub(super) fn contains(&self, package: &str, digest: Digest) -> bool {
        self.by_package.get(&normalize(package)).is_none_or(|sets| sets.iter().all(|set| set.contains(&digest)))
    }
}

/// The hashes behind a requirement and the one in its URL's fragment.
fn hashes(requirement: &Requirement) -> BTreeSet<String> {
    let word = requirement.text.split(" ; ").next().unwrap_or_default();
    let fragment = word.contains("://").then(|| word.split_once('#')).flatten().map(|(_, fragment)| fragment);
    let parts = fragment.into_iter().flat_map(|fragment| fragment.split('&'));
    let of_fragment = parts.filter_map(|part| {
        let (kind, digits) = part.trim().split_once('=')?;
        matches!(kind, "sha256" | "sha384" | "sha512").then(|| format!("{kind}:{}", digits.to_ascii_lowercase()))
    });
    let mut all: BTreeSet<_> = requirement.hashes.iter().cloned().collect();
    all.extend(of_fragment);
    all
}

fn without_fragment(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

/// `six` of `https://x.test/six-1.16.0-py3-none-any.whl#sha256=…`
fn package_of_url(text: &str) -> Option<String> {
    let url = Url::parse(text.split_whitespace().next()?).ok()?;
    let file_name = url.path_segments()?.next_back()?.replace("%2B", "+").replace("%2b", "+");
    Some(WheelName::new(&file_name).ok()?.normalized())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheel::Libc;

    const GOOD: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn allowed(requirements: &[(&str, &[&str])]) -> Result<AllowedDigests, PylockError> {
        let target =
            Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } };
        let requirement = |(text, hashes): &(&str, &[&str])| Requirement {
            text: (*text).to_owned(),
            hashes: hashes.iter().map(|hash| (*hash).to_owned()).collect(),
        };
        AllowedDigests::new(&requirements.iter().map(requirement).collect::<Vec<_>>(), &target)
    }

    #[test]
    fn a_digest_counts_where_its_requirement_does() {
        let good: Digest = GOOD.parse().unwrap();
        let other = Digest::of(b"other");
        let other_text = other.to_string();
        let hex = other.to_hex();
        let set = allowed(&[
            ("Py_Yaml==6 ; sys_platform == 'linux'", &[GOOD]),
            ("py-yaml==5 ; sys_platform == 'win32'", &[&other_text]),
            (&format!("https://x.test/six-1-py3-none-any.whl#sha256={hex}"), &[]),
            (&format!("attrs @ https://x.test/attrs-1-py3-none-any.whl#sha256={hex}&x=y"), &[]),
            ("free==1", &[]),
        ])
        .unwrap();
        assert!(set.contains("py.yaml", good) && !set.contains("py.yaml", other));
        assert!(set.contains("six", other) && !set.contains("six", good));
        assert!(set.contains("attrs", other) && !set.contains("attrs", good));
        assert!(set.contains("free", other));
    }

    #[test]
    fn what_several_requirements_say_counts_together() {
        let other = Digest::of(b"other").to_string();
        let set = allowed(&[("a==1", &[GOOD, &other]), ("a", &[GOOD])]).unwrap();
        assert!(set.contains("a", GOOD.parse().unwrap()) && !set.contains("a", Digest::of(b"other")));
    }

    #[test]
    fn hashes_that_no_index_has_are_refused() {
        let hash = format!("sha512:{}", "0".repeat(128));
        insta::assert_snapshot!(allowed(&[("a==1", &[&hash])]).unwrap_err(), @"the hashes of `a` are of other kinds than sha256");
    }
}
