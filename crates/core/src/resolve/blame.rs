//! Where to look in a spec after an installer failed: at the package that it speaks of. Pure.
//!
//! Words of uv 0.7 and later ("Because NAME was not found …"), and of apt-get since 1.0 ("Unable to locate package NAME").

use super::fields::{name_of, place_of};
use crate::place::{Located, Place};
use crate::requirements::normal_text;
use crate::spec::Spec;

/// What stands before a name in the words of uv, and after it.
const UV: [(&str, &str); 11] = [
    ("", " was not found in "),
    ("", " has no "),
    ("", " have no "),
    ("there is no version of ", ""),
    ("there are no versions of ", ""),
    ("only the following versions of ", ""),
    ("Failed to build `", ""),
    ("Failed to fetch `", ""),
    ("Failed to download `", ""),
    ("Failed to download and build `", ""),
    ("/simple/", "/"),
];
/// A name that the user gave is behind one of these as well, where uv tells how it came to a package that he did not name.
const REQUIRED: (&str, &str) = ("you require ", "");
/// The same of apt-get.
const APT: [(&str, &str); 6] = [
    ("Unable to locate package ", ""),
    ("Package '", "' has no installation candidate"),
    ("Couldn't find any package by glob '", ""),
    ("Couldn't find any package by regex '", ""),
    ("' for '", "' was not found"),
    ("unmet dependencies: ", " : "),
];
/// apt-get did not see all that its mirrors have, so that it cannot know what there is.
const APT_BLIND: [&str; 2] = ["Failed to fetch", "Some index files failed to download"];

/// Whether apt-get says that there is no package of some name, and saw all that its mirrors have.
pub fn is_unknown_debian_package(words: &str) -> bool {
    let known = ["Unable to locate package", "has no installation candidate", "Couldn't find any package"];
    known.iter().any(|known| words.contains(known)) && !APT_BLIND.iter().any(|blind| words.contains(blind))
}

/// Where to look after `field` came to nothing for which its installer found `words`: at the one package that they name, else at
/// the key over all of them.
pub(super) fn place_of_failure(spec: &Spec, field: &str, words: &str) -> Option<Place> {
    let words = flowing(words);
    let one = |place: Option<&Place>| place.cloned();
    match field {
        "packages" => {
            let entries = &spec.packages;
            let named = |patterns: &[(&str, &str)]| {
                let named = names(&words, patterns).map(|(at, name)| (at, name_of(&normal_text(name))));
                first_of(entries, named, name_of)
            };
            let found = named(&UV).or_else(|| named(&[REQUIRED])).or_else(|| quoted(entries, &words)).cloned();
            // A builder does not know whether packages were listed in the spec or in a file that it names.
            found.or_else(|| one(spec.requirements.as_ref().map(|file| &file.place))).or_else(|| over(entries, field))
        }
        "apt_packages" => {
            let entries = &spec.apt_packages;
            let found = first_of(entries, names(&words, &APT).map(|(at, name)| (at, debian(name))), debian);
            found.cloned().or_else(|| over(entries, field))
        }
        field => one(place_of(spec, field)),
    }
}

/// Words without line ends and the frame that uv draws around them.
fn flowing(words: &str) -> String {
    let words = words.split_whitespace().filter(|word| !word.chars().all(|letter| "×╰─▶│├".contains(letter)));
    words.collect::<Vec<_>>().join(" ")
}

/// The names in `words` that `patterns` surround, each with where it stands.
fn names<'w>(words: &'w str, patterns: &[(&str, &str)]) -> impl Iterator<Item = (usize, &'w str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.+".contains(letter);
    let found = patterns.iter().flat_map(move |(before, after)| {
        let named =
            words.match_indices(if before.is_empty() { *after } else { *before }).filter_map(move |(at, found)| {
                if before.is_empty() {
                    let head = words[..at].rsplit(' ').next().unwrap_or_default();
                    return Some((at - head.len(), head));
                }
                let rest = &words[at + found.len()..];
                let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
                (after.is_empty() || rest[end..].starts_with(after)).then_some((at, &rest[..end]))
            });
        named.collect::<Vec<_>>()
    });
    found.collect::<Vec<_>>().into_iter()
}

/// The place of the entry that is named first.
fn first_of(
    entries: &[Located<String>],
    named: impl Iterator<Item = (usize, String)>,
    name_of: impl Fn(&str) -> String,
) -> Option<&Place> {
    let known = named.filter_map(|(at, name)| {
        let entry = entries.iter().find(|entry| name_of(&entry.value) == name)?;
        Some((at, &entry.place))
    });
    known.min_by_key(|(at, _)| *at).map(|(_, place)| place)
}

/// The place of the entry that stands in `words` as it was written, with more than a name.
fn quoted<'s>(entries: &'s [Located<String>], words: &str) -> Option<&'s Place> {
    let says_more = |entry: &&Located<String>| entry.value.contains(['@', '=', '<', '>', '~', '!']);
    let found = entries.iter().filter(says_more).filter_map(|entry| {
        let at = words.find(&flowing(&entry.value))?;
        Some((at, &entry.place))
    });
    found.min_by_key(|(at, _)| *at).map(|(_, place)| place)
}

/// The name in what apt-get takes: `NAME`, `NAME=VERSION`, `NAME/RELEASE`, `NAME:ARCHITECTURE`.
fn debian(package: &str) -> String {
    let end = package.find(['=', '/', ':']).unwrap_or(package.len());
    package[..end].trim_end_matches('.').to_owned()
}

/// The one entry, or the key over several.
fn over(entries: &[Located<String>], key: &str) -> Option<Place> {
    let first = &entries.first()?.place;
    if entries.len() == 1 {
        return Some(first.clone());
    }
    Some(key_over(first, key).unwrap_or_else(|| first.clone()))
}

/// Where `key` stands that the value at `place` belongs to: `packages:`, `packages = `, `"packages":`.
fn key_over(place: &Place, key: &str) -> Option<Place> {
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let lines: Vec<_> = place.source.text.lines().take(place.line).collect();
    for (index, line) in lines.iter().enumerate().rev() {
        let is_its_own = index + 1 == place.line;
        let end = match is_its_own {
            true => line.char_indices().nth(place.column - 1).map_or(line.len(), |(at, _)| at),
            false => line.len(),
        };
        let found = line[..end].rmatch_indices(key).find(|(at, _)| {
            let rest = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            !line[..*at].ends_with(is_word) && rest.starts_with([':', '='])
        });
        if let Some((at, _)) = found {
            let column = line[..at].chars().count() + 1;
            return Some(Place { line: index + 1, column, length: key.chars().count(), ..place.clone() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;

    /// The line and the marked text.
    fn marked(text: &str, field: &str, words: &str) -> String {
        let spec = Spec::parse("train.yaml", text.as_bytes(), Format::Yaml).unwrap();
        let place = place_of_failure(&spec, field, words).unwrap();
        let shown: String = place.line_text().chars().skip(place.column - 1).take(place.length).collect();
        format!("{}: {shown}", place.line)
    }

    const LISTED: &str = "conda_packages: [x]\npackages:\n  - six\n  - Foo_Typo>=1\n  - lib==2\n  - app==1\n";

    #[test]
    fn the_package_that_uv_speaks_of_is_marked() {
        let marked = |words: &str| marked(LISTED, "packages", words);
        let framed = "  × No solution found when resolving dependencies:\n  ╰─▶ Because foo-typo was not found in the package registry and you require\n      foo-typo>=1 and six, we can conclude that your requirements are unsatisfiable.\n";
        insta::assert_snapshot!(marked(framed), @"4: Foo_Typo>=1");
        insta::assert_snapshot!(marked("Because only six<2 is available and there is no version of lib==2"), @"5: lib==2");
        insta::assert_snapshot!(marked("Failed to build `foo-typo==1.0`"), @"4: Foo_Typo>=1");
        insta::assert_snapshot!(marked("Failed to fetch: `https://pypi.org/simple/lib/`"), @"5: lib==2");
        // That one nobody named: it is a dependency.
        insta::assert_snapshot!(marked("Because missing was not found in the package registry and app==1 depends on missing, and you require app==1"), @"6: app==1");
        insta::assert_snapshot!(marked("these must be looked into:\n  app==1\n"), @"6: app==1");
        insta::assert_snapshot!(marked("the disk is full"), @"2: packages");
        insta::assert_snapshot!(marked("because sixty was not found in the registry"), @"2: packages");
    }

    #[test]
    fn the_package_that_apt_speaks_of_is_marked() {
        let marked = |words: &str| marked("name: x\napt_packages: [jq, curll, g++=4.0, b.c]\n", "apt_packages", words);
        insta::assert_snapshot!(marked("E: Unable to locate package curll"), @"2: curll");
        insta::assert_snapshot!(marked("E: Version '4.0' for 'g++' was not found"), @"2: g++=4.0");
        insta::assert_snapshot!(marked("E: Package 'jq' has no installation candidate"), @"2: jq");
        insta::assert_snapshot!(marked("E: Unable to locate package b.c\nE: Couldn't find any package by glob 'b.c'"), @"2: b.c");
        insta::assert_snapshot!(marked("The following packages have unmet dependencies:\n jq : Depends: libjq1"), @"2: jq");
        insta::assert_snapshot!(marked("E: Failed to fetch http://x"), @"2: apt_packages");
    }

    #[test]
    fn one_package_alone_is_the_one_and_a_file_stands_for_its_own() {
        insta::assert_snapshot!(marked("packages: [six]\n", "packages", "no answer"), @"1: six");
        let both = "packages: [six]\nrequirements: requirements.txt\n";
        insta::assert_snapshot!(marked(both, "packages", "Because lib was not found in the package registry"), @"2: requirements.txt");
        insta::assert_snapshot!(marked(both, "packages", "Because six was not found in the package registry"), @"1: six");
        insta::assert_snapshot!(marked("name: x\n", "name", ""), @"1: x");
    }
}
