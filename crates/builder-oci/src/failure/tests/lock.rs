//! Locks that cannot be followed any more, and builds that may not ask anybody.

use std::path::PathBuf;
use std::time::Duration;

use imagespec_core::builder::{NetworkPolicy, Restart};
use imagespec_core::digest::Digest;
use imagespec_core::lock::{LockedBase, LockedDeb};
use imagespec_core::platform::Platform;

use super::{Server, told};
use crate::apt::AptError;
use crate::base::BaseError;
use crate::bootstrap::{
    Bootstrap, Fetcher, Mirror, MirrorError, Observer, Progress, Selection, bootstrap, side_by_side,
};
use crate::cache::Cache;
use crate::conda::CondaError;
use crate::lock::LockFailure;
use crate::managed::ManagedError;
use crate::python::PythonError;
use crate::sandbox::Sandbox;
use crate::source::SourceError;
use crate::wheel::{self, Environment, PythonBuildError, WheelName, download};

fn locked() -> LockedBase {
    LockedBase::Bootstrap {
        snapshot: "20260711T101637Z".to_owned(),
        suites: vec!["http://deb.debian.org/debian bookworm".to_owned()],
        packages: vec![LockedDeb {
            name: "apt".to_owned(),
            version: "2.6.1".to_owned(),
            architecture: "amd64".to_owned(),
            location: "debian/pool/main/a/apt/apt_2.6.1_amd64.deb".to_owned(),
            sha256: Digest::of(b"apt"),
            size: 3,
        }],
    }
}

fn failure(host: &str, network: NetworkPolicy, locked: Option<Selection>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap().with_network(network);
    let (suite, platform) = ("bookworm".to_owned(), Platform::linux_amd64());
    let wanted = Bootstrap { suite, platform, packages: Vec::new(), locked };
    let mirror = Mirror::of_project(&format!("http://{host}/debian"));
    let observer = Observer { now: 0, progress: &|_: Progress| {}, cancelled: &|| false };
    let sandbox = Sandbox::new(Restart::bundled(PathBuf::from("/nonexistent")));
    told(bootstrap(&cache, &sandbox, &wanted, &mirror, 0, observer).unwrap_err()).replace(host, "HOST")
}

#[test]
fn a_mirror_that_went_on_is_told_with_the_snapshot_that_has_the_package() {
    let server = Server::start(|_| (404, Vec::new()));
    let selection = Selection::of_lock(&locked()).unwrap();
    assert_eq!(selection.lock(), locked());
    insta::assert_snapshot!(failure(&server.host(), NetworkPolicy::Online, Some(selection)), @r#"
    error: the mirror `http://HOST/debian` has no version 2.6.1 of package `apt`, which is locked
    hint: run `imagespec lock` again for the present version; to build with the locked one, set `debian_mirror = "http://snapshot.debian.org/archive/debian/20260711T101637Z"` and `debian_check_valid_until = false` under `[builders.oci]` of `imagespec.toml`
    "#);
    let error = AptError::Lost {
        package: "jq".to_owned(),
        version: "1.6-2.1".to_owned(),
        address: "http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1_amd64.deb".to_owned(),
    };
    insta::assert_snapshot!(told(error), @"
    error: version 1.6-2.1 of Debian package `jq` is locked, and no longer at `http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1_amd64.deb`
    hint: run `imagespec lock` again for the present version; a base whose apt uses a snapshot keeps the old one
    ");
    let error = AptError::NotLockable { package: "jq".to_owned(), problem: "its address is not on the web" };
    insta::assert_snapshot!(told(error), @"
    error: Debian package `jq` cannot be locked: its address is not on the web
    hint: build without `--locked`, or take it from a mirror on the web
    ");
}

#[test]
fn another_python_and_a_lock_that_lacks_something_are_told() {
    let (locked, found, platform) = ("3.11.2".to_owned(), "3.11.9".to_owned(), Platform::linux_amd64());
    insta::assert_snapshot!(told(LockFailure::Python { locked, found, platform: platform.clone() }), @"
    error: Python 3.11.2 is locked for linux/amd64, and the image has 3.11.9
    hint: run `imagespec lock` again
    ");
    insta::assert_snapshot!(told(LockFailure::Missing { part: "base", platform }), @"
    error: the lock says no base for linux/amd64
    hint: run `imagespec lock` again
    ");
}

#[test]
fn one_who_is_offline_is_told_what_is_missing() {
    insta::assert_snapshot!(failure("HOST", NetworkPolicy::Offline, None), @"
    error: `http://HOST/debian/dists/bookworm/InRelease` is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    insta::assert_snapshot!(failure("HOST", NetworkPolicy::Offline, Selection::of_lock(&locked())), @"
    error: `http://HOST/debian/pool/main/a/apt/apt_2.6.1_amd64.deb` is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap().with_network(NetworkPolicy::Offline);
    let wheel = wheel::SelectedWheel {
        name: "idna".to_owned(),
        version: "3.20".to_owned(),
        file_name: WheelName::new("idna-3.20-py3-none-any.whl").unwrap(),
        url: "https://x.test/idna-3.20-py3-none-any.whl".parse().unwrap(),
        sha256: Digest::of(b"idna"),
        size_bytes: None,
    };
    let error = download(&cache, &[wheel], &Environment::default(), wheel::Observer::NOBODY).unwrap_err();
    insta::assert_snapshot!(told(PythonError::from(error)), @"
    error: `idna-3.20-py3-none-any.whl` is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let error = BaseError::Offline { what: "base `python:3.11`".to_owned() };
    insta::assert_snapshot!(told(error), @"
    error: base `python:3.11` is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let fetcher = Fetcher::new(&cache, &|| false).unwrap();
    let error = fetcher.blob("http://x.test/jq.deb", Digest::of(b"jq"), 2, &|_| {}).unwrap_err();
    assert!(matches!(error, MirrorError::Offline { .. }));
    insta::assert_snapshot!(told(AptError::from(error)), @"
    error: `http://x.test/jq.deb` is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
}

#[test]
fn of_several_transfers_one_that_fails_ends_all() {
    let items: Vec<u32> = (0..10_000).collect();
    let result = side_by_side(&items, |item| {
        std::thread::park_timeout(Duration::from_micros(10));
        if *item == 3 { Err(*item) } else { Ok(()) }
    });
    assert_eq!(result, Err(3));
    assert_eq!(side_by_side(&[1, 2], |_: &i32| Ok::<_, ()>(())), Ok(()));
}

#[test]
fn what_was_never_solved_built_or_fetched_is_named_to_one_who_is_offline() {
    insta::assert_snapshot!(told(CondaError::Offline { what: "what `conda-forge` says of these packages".to_owned() }), @"
    error: what `conda-forge` says of these packages is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    insta::assert_snapshot!(told(SourceError::Offline { package: "docopt 0.6.2".to_owned() }), @"
    error: `docopt 0.6.2` must be built, which was not done before, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    insta::assert_snapshot!(told(SourceError::OfflineResolve { why: "demo @ git+https://x.test/demo.git".to_owned() }), @"
    error: packages without a wheel must be looked into, which was not done before, and the build is offline:
           demo @ git+https://x.test/demo.git
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let error = PythonBuildError::Offline { version: "3.12.8".to_owned() };
    insta::assert_snapshot!(told(PythonError::from(ManagedError::from(error))), @"
    error: the archive of Python 3.12.8 is not in the cache, and the build is offline
    hint: build it once without `--offline`, which keeps what it fetches
    ");
}

#[test]
fn a_conda_package_that_is_locked_and_gone_is_named_with_its_version() {
    let (package, version) = ("numpy".to_owned(), "2.1.0".to_owned());
    let address = "https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.0-py311_0.conda".to_owned();
    insta::assert_snapshot!(told(CondaError::Lost { package, version, address }), @"
    error: version 2.1.0 of conda package `numpy` is locked, and no longer at `https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.0-py311_0.conda`
    hint: run `imagespec lock` again for the present version; `conda_mirrors` under `[builders.oci]` of `imagespec.toml` may name a mirror that still has it
    ");
}
