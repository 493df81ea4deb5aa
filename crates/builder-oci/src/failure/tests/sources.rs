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
    insta::assert_snapshot!(told(SourceError::NoGit { package: package() }), @"
    error: `lib 1.0` comes from a git repository, and the image has no `git`
    hint: add `git` to `apt_packages`
    ");
    let gcc = lines("building\nerror: command 'gcc' failed: No such file or directory");
    insta::assert_snapshot!(told(SourceError::Failed { package: package(), code: 1, lines: gcc }), @"
    error: `lib 1.0` cannot be built (exit code 1):
           building
           error: command 'gcc' failed: No such file or directory
    hint: add `build-essential` and `python3-dev` to `apt_packages`, or take a version that has a wheel
    ");
    insta::assert_snapshot!(told(SourceError::NoFolder { package: package(), subdirectory: "a/b".to_owned() }), @"
    error: `a/b` is no folder in the sources of `lib 1.0`
    hint: check what stands behind `#subdirectory=`
    ");
    let found = "`other-1.0-py3-none-any.whl`, which is another package or version".to_owned();
    insta::assert_snapshot!(told(SourceError::OtherWheel { package: package(), found }), @"
    error: the build of `lib 1.0` made `other-1.0-py3-none-any.whl`, which is another package or version
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let commit = "90a4455c2cc2b3e171dfff69f605f47d48ea1ff1".to_owned();
    let unknown = lines("fatal: remote error: upload-pack: not our ref 90a4455c2cc2b3e171dfff69f605f47d48ea1ff1");
    insta::assert_snapshot!(told(SourceError::NoCommit { package: package(), commit, lines: unknown }), @"
    error: the repository of `lib 1.0` has no commit `90a4455c2cc2b3e171dfff69f605f47d48ea1ff1`:
           fatal: remote error: upload-pack: not our ref 90a4455c2cc2b3e171dfff69f605f47d48ea1ff1
    hint: check the branch, tag or commit behind the `@`; an abbreviated commit is looked for in branches and tags alone
    ");
    let machine = |name: &str| name.parse().unwrap();
    let source = || CannotExecute { image: machine("linux/arm64"), machine: machine("linux/amd64") };
    insta::assert_snapshot!(told(SourceError::CannotBuild { package: package(), source: source() }), @"
    error: `lib 1.0` has no wheel for the image and must be built, and this machine cannot run the image's Python
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
    let why = "lib @ git+https://git.example/lib".to_owned();
    insta::assert_snapshot!(told(SourceError::CannotResolve { why, source: source() }), @"
    error: packages without a wheel must be built, and this machine cannot run the image's Python:
           lib @ git+https://git.example/lib
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
}

#[test]
fn a_repository_that_wants_to_know_who_asks_is_denied_and_shown_at_its_package() {
    let lines = lines("fatal: could not read Username for 'https://git.example': terminal prompts disabled");
    let error = Failure::from(SourceError::NotFetched { package: "lib 1.0".to_owned(), lines }).tell();
    assert_eq!((error.kind, error.field.as_deref()), (FailureKind::Denied, Some("packages[lib]")));
}
