//! Which Python a tree of remarks has.

use std::collections::BTreeSet;

use super::layer::Remark;
use super::program::Facts;
use super::*;

const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

fn program(path: &str, facts: Facts) -> (String, Remark) {
    (path.to_owned(), Remark::Program { executable: true, facts })
}

fn python(path: &str, versions: &[(u16, u16)]) -> (String, Remark) {
    program(path, Facts { pythons: versions.iter().copied().collect(), ..Facts::default() })
}

fn link(path: &str, target: &str) -> (String, Remark) {
    (path.to_owned(), Remark::Symlink(target.to_owned()))
}

fn glibc(path: &str, minor: u16) -> (String, Remark) {
    program(path, Facts { glibc: Some(minor), ..Facts::default() })
}

fn chosen(layer: LayerSurvey, wanted: Option<&str>) -> String {
    let mut tree = Tree::default();
    tree.apply(&layer);
    match choose(&tree, &PATH.map(str::to_owned), wanted) {
        Ok(python) => format!("{} {} {:?}", python.interpreter.path, python.interpreter.version(), python.libc),
        Err(error) => error.to_string(),
    }
}

/// As Debian bookworm has it. `3.2.0` stands in its python3.11 as the version of something else.
fn debian() -> LayerSurvey {
    vec![
        link("bin", "usr/bin"),
        link("lib", "usr/lib"),
        link("usr/bin/python3", "python3.11"),
        python("usr/bin/python3.11", &[(2, 0), (11, 2)]),
        glibc("usr/lib/x86_64-linux-gnu/libc.so.6", 36),
    ]
}

#[test]
fn debians_python_is_found_by_either_way_to_name_its_version() {
    for wanted in [None, Some("3.11"), Some("3.11.2")] {
        assert_eq!(chosen(debian(), wanted), "/usr/bin/python3.11 3.11.2 Glibc { minor: 36 }");
    }
    insta::assert_snapshot!(chosen(debian(), Some("3.12")), @"the base has Python 3.11.2, and `python_version` asks for 3.12");
}

#[test]
fn of_two_pythons_the_first_on_path_is_taken_unless_another_is_wanted() {
    let mut layer = debian();
    layer.push(python("usr/local/bin/python3.12", &[(12, 4)]));
    layer.push(link("usr/local/bin/python3", "python3.12"));
    assert_eq!(chosen(layer.clone(), None), "/usr/local/bin/python3.12 3.12.4 Glibc { minor: 36 }");
    assert_eq!(chosen(layer.clone(), Some("3.11")), "/usr/bin/python3.11 3.11.2 Glibc { minor: 36 }");
    insta::assert_snapshot!(chosen(layer, Some("3.9")), @"the base has Python 3.12.4 and 3.11.2, and `python_version` asks for 3.9");
}

#[test]
fn a_python_that_is_named_is_the_one_that_is_taken() {
    let mut tree = Tree::default();
    tree.apply(&debian());
    tree.apply(&vec![python("opt/py/bin/python3.12", &[(12, 4)]), link("opt/py/bin/python", "python3.12")]);
    let found = |path, wanted| named(&tree, path, wanted).map(|python| python.interpreter.path);
    assert_eq!(found("/opt/py/bin/python", None).unwrap(), "/opt/py/bin/python3.12");
    insta::assert_snapshot!(found("/opt/py/bin/python", Some("3.11")).unwrap_err(), @"the base has Python 3.12.4, and `python_version` asks for 3.11");
    insta::assert_snapshot!(found("/usr/bin/perl", None).unwrap_err(), @"the base has no Python at `/usr/bin/perl`");
}

#[test]
fn a_python_that_is_a_shared_library_has_its_version_there() {
    let layer = vec![
        python("usr/local/bin/python3.13", &[]),
        link("usr/local/bin/python3", "python3.13"),
        python("opt/other/lib/libpython3.13.so.1.0", &[(13, 9)]),
        python("usr/local/lib/libpython3.13.so.1.0", &[(13, 1)]),
        python("usr/local/lib/libpython3.12.so.1.0", &[(12, 1)]),
        glibc("lib/x86_64-linux-gnu/libc-2.31.so", 31),
    ];
    assert_eq!(chosen(layer, None), "/usr/local/bin/python3.13 3.13.1 Glibc { minor: 31 }");
}

#[test]
fn alpines_python_runs_with_musl() {
    let facts = Facts { pythons: BTreeSet::from([(12, 7)]), is_for_musl: true, ..Facts::default() };
    let loader = Facts { musl: BTreeSet::from([2]), ..Facts::default() };
    let layer = vec![program("usr/bin/python3.12", facts), program("lib/ld-musl-x86_64.so.1", loader)];
    assert_eq!(chosen(layer, None), "/usr/bin/python3.12 3.12.7 Musl { minor: 2 }");
}

#[test]
fn a_base_without_python_or_c_library_is_told_apart() {
    insta::assert_snapshot!(chosen(vec![], None), @"no Python was found in the base");
    insta::assert_snapshot!(chosen(vec![python("usr/bin/python3.11", &[(11, 2)])], None), @"the base has `/usr/bin/python3.11`, but neither glibc nor musl, which wheels are made for");
    let script = vec![python("usr/bin/python3", &[])];
    insta::assert_snapshot!(chosen(script, None), @"no Python was found in the base");
}
