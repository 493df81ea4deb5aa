//! Packages that cannot be built from source.

use imagespec_core::builder::FailureKind;

use super::told;
use crate::builder::Failure;
use crate::emulation::CannotExecute;
use crate::source::SourceError;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_build_lacks_is_told_with_what_to_do() {
    let package = || "lib 1.0".to_owned();
    insta::assert_snapshot!(told(SourceError::NoGit { package: package() }), @"");
    let gcc = lines("building\nerror: command 'gcc' failed: No such file or directory");
    insta::assert_snapshot!(told(SourceError::Failed { package: package(), code: 1, lines: gcc }), @"");
    insta::assert_snapshot!(told(SourceError::NoFolder { package: package(), subdirectory: "a/b".to_owned() }), @"");
    let found = "`other-1.0-py3-none-any.whl`, which is another package or version".to_owned();
    insta::assert_snapshot!(told(SourceError::OtherWheel { package: package(), found }), @"");
    let commit = "90a4455c2cc2b3e171dfff69f605f47d48ea1ff1".to_owned();
    let unknown = lines("fatal: remote error: upload-pack: not our ref 90a4455c2cc2b3e171dfff69f605f47d48ea1ff1");
    insta::assert_snapshot!(told(SourceError::NoCommit { package: package(), commit, lines: unknown }), @"");
    let machine = |name: &str| name.parse().unwrap();
    let source = || CannotExecute { image: machine("linux/arm64"), machine: machine("linux/amd64") };
    insta::assert_snapshot!(told(SourceError::CannotBuild { package: package(), source: source() }), @"");
    let why = "lib @ git+https://git.example/lib".to_owned();
    insta::assert_snapshot!(told(SourceError::CannotResolve { why, source: source() }), @"");
}

#[test]
fn a_repository_that_wants_to_know_who_asks_is_denied_and_shown_at_its_package() {
    let lines = lines("fatal: could not read Username for 'https://git.example': terminal prompts disabled");
    let error = Failure::from(SourceError::NotFetched { package: "lib 1.0".to_owned(), lines }).tell();
    assert_eq!((error.kind, error.field.as_deref()), (FailureKind::Denied, Some("packages[lib]")));
}
