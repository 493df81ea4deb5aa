//! Packages that are installed when a container starts: a small program before the image's entry point, what it is told, and
//! the variable that names the packages. The same for every builder. Pure.
//!
//! uv and not pip: it resolves as the build does, with the same rule for several indexes, in a tenth of the time, and
//! needs nothing of the image but its Python.

use serde_json::{Map, Value, json};

use crate::plan::{PipStep, Plan, Step};

/// The program that stands before the entry point.
pub const START: &str = "/opt/imagespec/start";
/// The file that tells it about indexes and arguments.
pub const SETTINGS: &str = "/opt/imagespec/settings.json";
/// The installer that it runs, a uv.
pub const INSTALLER: &str = "/opt/imagespec/uv";
/// The variable that names the packages, quoted as a shell does.
pub const VARIABLE: &str = "IMAGESPEC_RUNTIME_PACKAGES";
/// The text of the program at [`START`].
pub const PROGRAM: &str = include_str!("start.py");

/// Arguments of `uv pip compile` that `uv pip install` does not know or is given anyway, and whether a value follows.
const NOT_FOR_INSTALL: [(&str, bool); 3] =
    [("--no-deps", false), ("--no-emit-package", true), ("--unsafe-package", true)];

/// What uv is told when a container starts: the indexes and arguments of the build.
pub fn settings(plan: &Plan) -> Value {
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
pub fn variable(plan: &Plan, of_base: Option<&str>) -> Option<String> {
    let packages = &plan.config.runtime_packages;
    let words = of_base.map(str::to_owned).into_iter().chain(packages.iter().map(|package| quoted(package)));
    (!packages.is_empty()).then(|| words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "@%+=:,./-_".contains(character);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r#"'"'"'"#)) }
}

/// The entry point of an image of `plan`, with the program before it if the plan has runtime packages.
pub fn entrypoint(plan: &Plan, entrypoint: &[String]) -> Option<Vec<String>> {
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

    use super::*;
    use crate::plan::{Base, ImageConfig};
    use crate::platform::Platform;

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
