//! Mirrors that are gone, lack something or lie.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use imagespec_core::builder::Restart;
use imagespec_core::platform::Platform;

use super::{Answer, Server, nobody, told, without_digests};
use crate::bootstrap::{Bootstrap, BootstrapError, Mirror, Observer, Progress, ReleaseError, bootstrap};
use crate::cache::Cache;
use crate::emulation::CannotExecute;
use crate::sandbox::Sandbox;

/// The failure of making a base of `suite` from the mirror at `host`.
fn failure(host: &str, suite: &str) -> String {
    failure_for(host, suite, "linux/amd64", &[])
}

fn failure_for(host: &str, suite: &str, platform: &str, packages: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let wanted = Bootstrap {
        suite: suite.to_owned(),
        platform: platform.parse().unwrap(),
        packages: packages.iter().map(|package| (*package).to_owned()).collect(),
        locked: None,
    };
    let mirror = Mirror::of_project(&format!("http://{host}/debian"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let observer = Observer { now, progress: &|_: Progress| {}, cancelled: &|| false };
    // No test comes as far as to run something.
    let sandbox = Sandbox::new(Restart::bundled(PathBuf::from("/nonexistent")));
    let error = bootstrap(&cache, &sandbox, &wanted, &mirror, 0, observer).unwrap_err();
    without_digests(&told(error).replace(host, "HOST"))
}

/// Debian's archive, but for what `change` makes of it.
fn archive(change: impl Fn(&str, Vec<u8>) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |path| {
        let answer = reqwest::blocking::get(format!("http://deb.debian.org{path}")).unwrap();
        let status = answer.status().as_u16();
        match status {
            200 => change(path, answer.bytes().unwrap().to_vec()),
            _ => (status, Vec::new()),
        }
    })
}

/// The failure of a mirror that has Debian's archive but for what `change` makes of it.
fn failure_of(suite: &str, change: impl Fn(&str, Vec<u8>) -> Answer + Send + Sync + 'static) -> String {
    failure(&archive(change).host(), suite)
}

#[test]
fn a_mirror_that_is_not_reached_or_has_no_such_suite_is_named() {
    insta::assert_snapshot!(failure(&nobody(), "bookworm"), @"
    error: cannot fetch `http://HOST/debian/dists/bookworm/InRelease`
    note: Connection refused (os error 111)
    hint: check the network, or set `debian_mirror` under `[project]` of `imagespec.toml` to a mirror that is reached
    ");
    insta::assert_snapshot!(failure_of("bokworm", |_, body| (200, body)), @"
    error: the mirror `http://HOST/debian` has no suite `bokworm`
    hint: Debian's releases are `bullseye`, `bookworm` and `trixie`; a mirror may lack old or new ones
    ");
    let busy = Server::start(|_| (503, Vec::new()));
    insta::assert_snapshot!(failure(&busy.host(), "bookworm"), @"
    error: cannot fetch `http://HOST/debian/dists/bookworm/InRelease`: the server answered 503
    hint: check the network, or set `debian_mirror` under `[project]` of `imagespec.toml` to a mirror that is reached
    ");
}

#[test]
fn what_debian_does_not_have_is_named() {
    let archive = archive(|_, body| (200, body));
    insta::assert_snapshot!(failure_for(&archive.host(), "bookworm", "linux/loong64", &[]), @"
    error: Debian's `bookworm` has no packages for `loong64`
    hint: set `platform` to `linux/amd64` or `linux/arm64`, or name a `base_image`
    ");
    insta::assert_snapshot!(failure_for(&archive.host(), "bookworm", "linux/amd64", &["python2"]), @"error: Debian's `bookworm` has no package `python2`");
}

#[test]
fn a_release_that_debian_did_not_sign_is_not_believed() {
    let changed = failure_of("bookworm", |_, body| {
        let text = String::from_utf8(body).unwrap();
        (200, text.replacen("Origin: Debian", "Origin: Debiam", 1).into_bytes())
    });
    // Which of Debian's keys is named first changes with the years.
    let (before, after) = changed.split_once("signature by ").unwrap();
    let changed = format!("{before}signature by KEY{}", &after[after.find('\n').unwrap()..]);
    insta::assert_snapshot!(changed, @"
    error: the release of `bookworm` has a bad signature by KEY
    hint: the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` of `imagespec.toml` to another one, or try again later
    ");
    insta::assert_snapshot!(failure_of("bookworm", |_, _| (200, b"<html>log in to the airport's network</html>".to_vec())), @"
    error: the release of `bookworm` is not signed
    hint: the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` of `imagespec.toml` to another one, or try again later
    ");
    let large = Server::start(|_| (200, vec![b' '; 9 << 20]));
    insta::assert_snapshot!(failure(&large.host(), "bookworm"), @"
    error: `http://HOST/debian/dists/bookworm/InRelease` has more than 8388608 bytes
    hint: the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` of `imagespec.toml` to another one, or try again later
    ");
    let older = Server::start(|_| {
        let answer = reqwest::blocking::get("http://deb.debian.org/debian/dists/bullseye/InRelease").unwrap();
        (200, answer.bytes().unwrap().to_vec())
    });
    // It is `oldstable` or older, as time goes by.
    let older = failure(&older.host(), "bookworm");
    let (start, end) = (older.find("of `").unwrap(), older.find("bullseye").unwrap());
    let start = start + older[start + 4..].find("of `").unwrap() + 8;
    let older = older.replace(&older[start..end], "");
    insta::assert_snapshot!(older, @"
    error: the release of `bookworm` says that it is of `bullseye`
    hint: name the release by its code name, such as `bookworm`, or set another `debian_mirror` in `imagespec.toml`
    ");
}

#[test]
fn a_changed_index_and_a_changed_package_are_found_by_their_digests() {
    let flip = |mut body: Vec<u8>| {
        *body.last_mut().unwrap() ^= 1;
        (200, body)
    };
    let index = failure_of(
        "bookworm",
        move |path, body| {
            if path.contains("/binary-amd64/") { flip(body) } else { (200, body) }
        },
    );
    // Fetched by its digest.
    let start = index.find("by-hash/SHA256/").unwrap() + "by-hash/SHA256/".len();
    insta::assert_snapshot!(index.replace(&index[start..start + 64], "HEX"), @"
    error: content of `http://HOST/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/HEX` has digest DIGEST instead of DIGEST
    hint: the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` of `imagespec.toml` to another one, or try again later
    ");

    let package =
        failure_of("bookworm", move |path, body| if path.ends_with(".deb") { flip(body) } else { (200, body) });
    // All packages are changed, and fetched at once.
    let start = package.find("/pool/").unwrap();
    let end = start + package[start..].find('`').unwrap();
    let package = package.replace(&package[start..end], "/pool/…").replace("debian-security", "debian");
    insta::assert_snapshot!(package, @"
    error: content of `http://HOST/debian/pool/…` has digest DIGEST instead of DIGEST
    hint: the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` of `imagespec.toml` to another one, or try again later
    ");
}

#[test]
fn another_processor_is_refused_with_a_way_out() {
    let platform: Platform = "linux/arm64".parse().unwrap();
    let source = CannotExecute { image: platform.clone(), machine: Platform::linux_amd64() };
    let error = BootstrapError::CannotExecute { suite: "bookworm".to_owned(), platform, source };
    let told = crate::builder::Failure::from(error).tell();
    assert_eq!(told.field.as_deref(), Some("platform"));
    insta::assert_snapshot!(told.diagnostic().render(), @"
    error: `bootstrap:debian/bookworm` for linux/arm64 runs the packages' own scripts, which this machine cannot
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: install an emulator: Debian's packages qemu-user-static and binfmt-support; or name a `base_image` in a registry or `oci:DIR`, for which nothing needs to run
    ");
}

#[test]
fn a_release_that_is_too_old_is_refused_with_a_way_out() {
    let error = ReleaseError::Expired {
        suite: "bookworm-security".to_owned(),
        valid_until: "Sat, 28 Nov 2026 00:53:02 UTC".to_owned(),
        now: "Mon, 30 Nov 2026 08:00:00 UTC".to_owned(),
    };
    insta::assert_snapshot!(told(BootstrapError::from(error)), @"
    error: the release of `bookworm-security` was valid until Sat, 28 Nov 2026 00:53:02 UTC, and now it is Mon, 30 Nov 2026 08:00:00 UTC
    hint: the mirror may be out of date, so name another one; one that keeps old releases on purpose needs `debian_check_valid_until = false` under `[builders.oci]` in `imagespec.toml`
    ");
}
