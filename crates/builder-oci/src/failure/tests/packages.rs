//! Python packages that cannot be had: what uv says of real files, and what is wrong with locks and wheels.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use imagespec_core::builder::SecretSource;
use imagespec_core::plan::{PipInput, PipStep, SecretMount, SecretTarget};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Server, nobody, told, without_digests};
use crate::cache::Cache;
use crate::managed::{ArchiveError, ManagedError};
use crate::python::{PythonError, environment_of};
use crate::runtime::RuntimeError;
use crate::wheel::{
    AllowedDigests, Dependencies, Environment, Libc, Observer, PylockError, PythonBuildError, Resolution, ResolveError,
    SelectedWheel, Target, Uv, Wheel, WheelName, download, select,
};

fn target() -> Target {
    Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } }
}

/// A wheel with nothing but what a resolver looks at.
fn write_wheel(folder: &Path, file_name: &str, metadata: &str) {
    let mut parts = file_name.split('-');
    let (name, version) = (parts.next().unwrap(), parts.next().unwrap());
    let mut archive = ZipWriter::new(fs::File::create(folder.join(file_name)).unwrap());
    let members = [
        ("METADATA", format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")),
        ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n".to_owned()),
        ("RECORD", String::new()),
    ];
    for (member, text) in members {
        archive.start_file(format!("{name}-{version}.dist-info/{member}"), SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
}

/// What uv says to `requirements` with these variables alone.
fn resolved(uv: &Uv, cache: &Cache, requirements: &str, environment: &Environment) -> Result<String, ResolveError> {
    let resolution = Resolution {
        requirements,
        constraints: "",
        target: &target(),
        find_links: &[],
        extra_args: &[],
        dependencies: Dependencies::Followed,
        environment,
    };
    uv.resolve(cache, &resolution, Observer::NOBODY)
}

/// The failure of resolving `requirements` with the files in `folder` alone, or with `index`.
fn unresolved(uv: &Uv, cache: &Cache, requirements: &str, folder: &Path, index: Option<&str>) -> String {
    let folder = folder.display().to_string();
    let offline = ["--no-index".to_owned()];
    let resolution = Resolution {
        requirements,
        constraints: "",
        target: &target(),
        find_links: std::slice::from_ref(&folder),
        extra_args: if index.is_none() { &offline } else { &[] },
        dependencies: Dependencies::Followed,
        environment: &Environment::of_machine().with_indexes(index, &[]),
    };
    let error = uv.resolve(cache, &resolution, Observer::NOBODY).unwrap_err();
    told(PythonError::from(error)).replace(&folder, "FOLDER")
}

#[test]
fn uv_says_why_there_is_no_solution_and_never_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    write_wheel(&files, "app-1-py3-none-any.whl", "Requires-Dist: lib==1\n");
    write_wheel(&files, "lib-1-py3-none-any.whl", "");
    write_wheel(&files, "lib-2-py3-none-any.whl", "");
    write_wheel(&files, "windows-1-cp312-cp312-win_amd64.whl", "");
    write_wheel(&files, "modern-1-py3-none-any.whl", "Requires-Python: >=3.13\n");
    fs::write(files.join("source-1.tar.gz"), b"").unwrap();
    // Another version of it has other words.
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let failure = |requirements: &str| unresolved(&uv, &cache, requirements, &files, None);
    insta::assert_snapshot!(failure("app==1\nlib==2\n"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because all versions of app depend on lib==1 and you require app==1, we can conclude that you require lib==1.
                   And because you require lib==2, we can conclude that your requirements are unsatisfiable.
    ");
    insta::assert_snapshot!(failure("nonexistent==1\n"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because nonexistent was not found in the provided package locations and you require nonexistent==1, we can conclude that your requirements are unsatisfiable.
    ");
    insta::assert_snapshot!(failure("source==1\n"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because source==1 has no usable wheels and you require source==1, we can conclude that your requirements are unsatisfiable.
          hint: Wheels are required for `source` because building from source is disabled for all packages (i.e., with `--no-build`)
    hint: take a version of the package that has a wheel, or take `--only-binary` out of `pip_extra_args`
    ");
    insta::assert_snapshot!(failure("windows==1\n"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because windows==1 has no wheels with a matching Python implementation tag (e.g., `cp311`) and you require windows==1, we can conclude that your requirements are unsatisfiable.
          hint: You require CPython 3.11 (`cp311`), but we only found wheels for `windows` (v1) with the following Python implementation tag: `cp312`
    hint: take a version of the package that has a wheel, or take `--only-binary` out of `pip_extra_args`
    ");
    insta::assert_snapshot!(failure("modern==1\n"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because modern==1 requires Python >=3.13 and you require modern==1, we can conclude that your requirements are unsatisfiable.
    ");

    let host = nobody();
    let index = format!("http://joe:s3cret%21@{host}/simple");
    let unreachable = unresolved(&uv, &cache, "lib==3\n", &files, Some(&index)).replace(&host, "HOST");
    // How long it took differs from run to run.
    let (start, end) = unreachable.split_once(" retries in ").unwrap();
    let unreachable = format!("{start} retries{}", &end[end.find('\n').unwrap()..]);
    insta::assert_snapshot!(unreachable, @"
    error: the requirements cannot be resolved
    note: Request failed after 3 retries
            cause: Failed to fetch: http://HOST/simple/lib/
            cause: error sending request for url (http://HOST/simple/lib/)
            cause: client error (Connect)
            cause: tcp connect error
            cause: Connection refused (os error 111)
    hint: check the network, or whether the index needs a proxy
    ");
    let guarded = Server::start(|_| (401, b"who are you?".to_vec()));
    let index = format!("http://t0ken@{}/simple", guarded.host());
    let denied = unresolved(&uv, &cache, "lib==3\n", &files, Some(&index)).replace(&guarded.host(), "HOST");
    insta::assert_snapshot!(denied, @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because there is no version of lib==3 and you require lib==3, we can conclude that your requirements are unsatisfiable.
          hint: An index URL (http://HOST/simple) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)
    hint: say who you are to the index: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password PASSWORD`
    ");
    // uv shows this one as it is.
    let malformed = unresolved(&uv, &cache, "lib==3\n", &files, Some("http://joe:s3cret@[x/simple"));
    insta::assert_snapshot!(malformed, @"
    error: the requirements cannot be resolved
    note: invalid value 'http://****@[x/simple' for '--default-index <DEFAULT_INDEX>': invalid IPv6 address
          For more information, try '--help'.
    ");
}

#[test]
fn a_lock_that_cannot_be_used_says_which_package_and_why() {
    let failure = |packages: &str| {
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let text = format!("lock-version = \"1.0\"\n{}", packages.replace("HASH", hash));
        told(PythonError::from(select(&text, &target(), &AllowedDigests::default()).unwrap_err()))
    };
    let wheel = |url: &str, hashes: &str| {
        failure(&format!("[[packages]]\nname = \"a\"\nwheels = [{{ url = \"{url}\", hashes = {hashes} }}]"))
    };
    insta::assert_snapshot!(failure("[[packages]]\nversion = 1\n"), @"
    error: cannot read the lock file
    note: TOML parse error at line 3, column 11
            |
          3 | version = 1
            |           ^
          invalid type: integer `1`, expected a string
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(told(PythonError::from(select("lock-version = \"2.0\"", &target(), &AllowedDigests::default()).unwrap_err())), @"
    error: lock files of version `2.0` cannot be read; 1.0 can
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(failure("[[packages]]\nname = \"a\"\nmarker = \"bogus > 1\"\n"), @"
    error: cannot read marker `bogus > 1` of package `a`: Expected a quoted string or a valid marker name, found `bogus`
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(wheel("https://x.test/a-1-cp312-cp312-win_amd64.whl", "{ sha256 = \"HASH\" }"), @"
    error: package `a` has no wheel for Python 3.11 on x86_64 with glibc 2.36; it has `a-1-cp312-cp312-win_amd64.whl`
    hint: take a version of it, a `python_version` or a `platform` that it has a wheel for
    ");
    insta::assert_snapshot!(wheel("https://x.test/a-1-py3-none-any.whl", "{}"), @"
    error: a wheel of package `a` cannot be used: `a-1-py3-none-any.whl` has no sha256
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(wheel("https://x.test/a-1-py3-none-any.whl", "{ sha256 = \"00\" }"), @"
    error: a wheel of package `a` cannot be used: `00` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(wheel("https://x.test/b-1-py3-none-any.whl", "{ sha256 = \"HASH\" }"), @"
    error: a wheel of package `a` cannot be used: `b-1-py3-none-any.whl` is another package's
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(wheel("ftp://x.test/a-1-py3-none-any.whl", "{ sha256 = \"HASH\" }"), @"
    error: a wheel of package `a` cannot be used: `ftp` is no scheme to fetch from
    hint: make the lock file again with a current tool
    ");
    insta::assert_snapshot!(wheel("https://x.test/a.zip", "{ sha256 = \"HASH\" }"), @"
    error: a wheel of package `a` cannot be used: `a.zip` is no wheel file name: it does not end in `.whl`
    hint: make the lock file again with a current tool
    ");
    let twice = "[[packages]]\nname = \"a\"\nwheels = [{ url = \"https://x.test/a-1-py3-none-any.whl\", hashes = { sha256 = \"HASH\" } }]\n";
    insta::assert_snapshot!(failure(&twice.repeat(2)), @"
    error: package `a` stands twice in the lock file for Python 3.11 on x86_64 with glibc 2.36
    hint: make the lock file again with a current tool
    ");
}

#[test]
fn a_wheel_with_another_digest_than_the_requirements_allow_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let target = target();
    // Of six 1.17.0 as PyPI has it: the wheel, and the source, which is no wheel.
    let wheel = "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274";
    let source = "sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81";
    let select = |hashes: &[&str], dependencies| {
        let hashes = hashes.iter().map(|hash| (*hash).to_owned()).collect();
        let requirement = imagespec_core::plan::Requirement { text: "six==1.17.0".to_owned(), hashes };
        let text: String = requirement.hashes.iter().map(|hash| format!(" --hash={hash}")).collect();
        let resolution = Resolution {
            requirements: &format!("six==1.17.0{text}\n"),
            constraints: "",
            target: &target,
            find_links: &[],
            extra_args: &[],
            dependencies,
            environment: &Environment::of_machine(),
        };
        let lock = uv.resolve(&cache, &resolution, Observer::NOBODY).unwrap();
        let allowed = AllowedDigests::new([&requirement], &target).unwrap();
        select(&lock, &target, &allowed)
    };
    // As from requirements.txt, then as from poetry.lock.
    for dependencies in [Dependencies::Followed, Dependencies::Listed] {
        let selected = select(&[source, wheel], dependencies).unwrap().wheels;
        assert_eq!(selected[0].sha256.to_string(), wheel);
        insta::allow_duplicates! {
            insta::assert_snapshot!(told(PythonError::from(select(&[source], dependencies).unwrap_err())), @"
            error: `six-1.17.0-py2.py3-none-any.whl` of package `six` has digest sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274, which is none of those that the requirements allow
            hint: ask its publisher which digest is right; if this one is, make the hashes again: `uv pip compile --generate-hashes`, `pip-compile --generate-hashes` or `poetry lock`
            ");
        }
    }
}

#[test]
fn of_several_wheels_an_allowed_one_is_taken() {
    let hash = |text: &[u8]| imagespec_core::digest::Digest::of(text);
    let wheel = |name: &str, digest| {
        format!("{{ url = \"https://x.test/{name}\", hashes = {{ sha256 = \"{}\" }} }}", hash(digest).to_hex())
    };
    let (fits, any) = (wheel("a-1-cp311-cp311-linux_x86_64.whl", b"fits"), wheel("a-1-py3-none-any.whl", b"any"));
    let text = format!("lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nwheels = [{fits}, {any}]\n");
    let select = |digest| {
        let hashes = std::iter::once(hash(digest).to_string()).collect();
        let requirement = imagespec_core::plan::Requirement { text: "a==1".to_owned(), hashes };
        select(&text, &target(), &AllowedDigests::new([&requirement], &target()).unwrap())
    };
    assert_eq!(select(b"fits").unwrap().wheels[0].file_name.as_str(), "a-1-cp311-cp311-linux_x86_64.whl");
    assert_eq!(select(b"any").unwrap().wheels[0].file_name.as_str(), "a-1-py3-none-any.whl");
    assert!(matches!(select(b"none").unwrap_err(), PylockError::NotAllowed { .. }));
}

#[test]
fn a_wheel_that_does_not_come_or_is_another_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let failure = |host: &str, size_bytes: u64| {
        let wheel = SelectedWheel {
            name: "a".to_owned(),
            version: "1".to_owned(),
            file_name: WheelName::new("a-1-py3-none-any.whl").unwrap(),
            url: format!("http://joe:s3cret@{host}/a-1-py3-none-any.whl").parse().unwrap(),
            sha256: imagespec_core::digest::Digest::of(b"good"),
            size_bytes: Some(size_bytes),
        };
        let error = download(&cache, &[wheel], &Environment::default(), Observer::NOBODY).unwrap_err();
        without_digests(&told(PythonError::from(error)).replace(host, "HOST"))
    };
    let server = Server::start(|_| (200, b"evil".to_vec()));
    insta::assert_snapshot!(failure(&server.host(), 4), @"
    error: content of `a-1-py3-none-any.whl` has digest DIGEST instead of DIGEST
    hint: these are other bytes than were promised: try again, and if that does not help, ask whoever serves them
    ");
    insta::assert_snapshot!(failure(&server.host(), 3), @"error: `a-1-py3-none-any.whl` is longer than the 3 bytes that it may have");
    let guarded = Server::start(|_| (403, Vec::new()));
    insta::assert_snapshot!(failure(&guarded.host(), 4), @"
    error: 127.0.0.1 answered 403 Forbidden for `a-1-py3-none-any.whl`
    hint: say who you are to the index: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password PASSWORD`
    ");
    let empty = Server::start(|_| (404, Vec::new()));
    insta::assert_snapshot!(failure(&empty.host(), 4), @"error: 127.0.0.1 answered 404 Not Found for `a-1-py3-none-any.whl`");
    insta::assert_snapshot!(failure(&nobody(), 4), @"
    error: cannot fetch `a-1-py3-none-any.whl` from 127.0.0.1
    note: Connection refused (os error 111)
    hint: check the network, or whether the index needs a proxy
    ");
}

#[test]
fn a_file_that_is_no_wheel_is_the_fault_of_its_publisher() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.whl");
    fs::write(&path, b"PK\x05\x06 nothing").unwrap();
    let error = Wheel::open(&path, &WheelName::new("a-1-py3-none-any.whl").unwrap()).err().unwrap();
    insta::assert_snapshot!(told(PythonError::from(error)), @"
    error: wheel `a-1-py3-none-any.whl` is no readable archive
    note: invalid Zip archive: Unexpected end of zip::format::blocks::Zip32CDEBlock
    hint: the package is broken: take another version of it, and tell its publisher
    ");
}

#[test]
fn a_python_of_its_own_or_an_installer_that_cannot_be_had_is_told_with_a_way_out() {
    let told = |error: ManagedError| told(PythonError::from(error));
    insta::assert_snapshot!(told(ManagedError::NoLibc), @"
    error: the base has neither glibc nor musl, which builds of Python are made for
    hint: take a `base_image` with a system in it, or leave it out to get a Debian
    ");
    let version = "3.12.8".to_owned();
    let no_archive = PythonBuildError::NoArchive { program: "/usr/bin/uv".into(), version: version.clone() };
    insta::assert_snapshot!(told(no_archive.into()), @"
    error: `/usr/bin/uv` did not hand over the archive of Python 3.12.8
    hint: put uv 0.7 or newer on PATH, or none
    ");
    let source = ArchiveError::Malformed { problem: "it has no program `python/bin/python3.12`".to_owned() };
    insta::assert_snapshot!(told(ManagedError::Archive { version, source }), @"
    error: the archive of Python 3.12.8 cannot be laid out
    note: it has no program `python/bin/python3.12`
    hint: set UV_PYTHON_INSTALL_MIRROR to another mirror of python-build-standalone, or take a `base_image` that has it
    ");
    insta::assert_snapshot!(super::told(RuntimeError::NoInstaller { machine: "riscv64".to_owned() }), @"
    error: uv, which installs runtime packages, has no build for riscv64
    hint: take another `platform`, or put them into `packages`
    ");
}

#[test]
fn a_machine_or_target_that_uv_does_not_know_is_named() {
    insta::assert_snapshot!(told(PythonError::from(ResolveError::NoUv { machine: "riscv64".to_owned() })), @"
    error: uv 0.7 or newer is not on PATH, and there is none to fetch for riscv64
    hint: install uv 0.7 or newer and put it on PATH
    ");
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let target = Target { machine: "s390x".to_owned(), ..target() };
    let resolution = Resolution {
        requirements: "six\n",
        constraints: "",
        target: &target,
        find_links: &[],
        extra_args: &[],
        dependencies: Dependencies::Followed,
        environment: &Environment::of_machine(),
    };
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let error = uv.resolve(&cache, &resolution, Observer::NOBODY).unwrap_err();
    insta::assert_snapshot!(told(PythonError::from(error)), @"
    error: uv cannot resolve for Python 3.11 on s390x with glibc 2.36
    hint: take another `platform`, or install from a pylock.toml
    ");
}

#[test]
fn the_python_of_a_base_must_be_there_and_the_one_that_was_asked_for() {
    insta::assert_snapshot!(told(PythonError::Absent), @"
    error: no Python was found in the base
    hint: take a `base_image` that has Python, or leave it out to get a Debian with one; `python_version` brings one to any base with a system in it
    ");
    insta::assert_snapshot!(told(PythonError::Version { wanted: "3.12".to_owned(), found: "3.11.2".to_owned() }), @"
    error: the base has Python 3.11.2, and `python_version` asks for 3.12
    hint: leave `python_version` or `base_image` out
    ");
}

#[test]
fn a_network_that_fails_is_no_fault_of_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let failure = |host: &str| {
        let index = format!("http://{host}/simple");
        let environment = Environment::of_machine().with("UV_HTTP_RETRIES", "0").with_indexes(Some(&index), &[]);
        let error = resolved(&uv, &cache, "lib==3\n", &environment).unwrap_err();
        let failure = crate::builder::Failure::from(PythonError::from(error)).tell();
        format!("{:?}\n{}", failure.kind, failure.diagnostic().render().replace(host, "HOST"))
    };
    insta::assert_snapshot!(failure(&nobody()), @"
    Temporary
    error: the requirements cannot be resolved
    note: Failed to fetch: http://HOST/simple/lib/
            cause: error sending request for url (http://HOST/simple/lib/)
            cause: client error (Connect)
            cause: tcp connect error
            cause: Connection refused (os error 111)
    hint: check the network, or whether the index needs a proxy
    ");
    let busy = Server::start(|_| (503, Vec::new()));
    insta::assert_snapshot!(failure(&busy.host()), @"
    Temporary
    error: the requirements cannot be resolved
    note: Failed to fetch: http://HOST/simple/lib/
            cause: HTTP status server error (503 X) for url (http://HOST/simple/lib/)
    hint: check the network, or whether the index needs a proxy
    ");
    let guarded = Server::start(|_| (403, Vec::new()));
    insta::assert_snapshot!(failure(&guarded.host()), @"
    Denied
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because lib was not found in the package registry and you require lib==3, we can conclude that your requirements are unsatisfiable.
          hint: An index (http://HOST/simple) returned a 403 Forbidden error. Check that the index URL is correct and the credentials are valid.
    hint: say who you are to the index: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password PASSWORD`
    ");
    // What uv keeps lies where `imagespec cache` knows of it.
    assert!(folder.path().join("uv").read_dir().unwrap().next().is_some());
}

#[test]
fn one_who_wants_to_stop_does_not_wait_for_a_silent_server() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let is_asked = Arc::new(AtomicBool::new(false));
    let (silence, until) = mpsc::channel::<()>();
    let until = Mutex::new(until);
    let server = Server::start({
        let is_asked = Arc::clone(&is_asked);
        move |_| {
            is_asked.store(true, Ordering::SeqCst);
            // It answers when the test is over.
            let _ = until.lock().unwrap().recv();
            (200, Vec::new())
        }
    });
    let cancelled = || is_asked.load(Ordering::SeqCst);
    let observer = Observer { received: &|_| {}, cancelled: &cancelled };
    let start = Instant::now();
    let resolution = Resolution {
        requirements: "lib==3\n",
        constraints: "",
        target: &target(),
        find_links: &[],
        extra_args: &[],
        dependencies: Dependencies::Followed,
        environment: &Environment::of_machine().with_indexes(Some(&format!("http://{}/simple", server.host())), &[]),
    };
    assert!(matches!(uv.resolve(&cache, &resolution, observer), Err(ResolveError::Cancelled)));
    is_asked.store(false, Ordering::SeqCst);
    let wheel = SelectedWheel {
        name: "a".to_owned(),
        version: "1".to_owned(),
        file_name: WheelName::new("a-1-py3-none-any.whl").unwrap(),
        url: format!("http://{}/a-1-py3-none-any.whl", server.host()).parse().unwrap(),
        sha256: imagespec_core::digest::Digest::of(b"good"),
        size_bytes: None,
    };
    let stopped = download(&cache, &[wheel], &Environment::default(), observer);
    assert!(matches!(stopped, Err(crate::wheel::DownloadError::Cancelled)));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop(silence);
}

/// An index with one package, and its files, for `joe` with password `s3cret` alone.
fn guarded_index(folder: &Path) -> Server {
    let name = "lib-3-py3-none-any.whl";
    write_wheel(folder, name, "");
    let wheel = fs::read(folder.join(name)).unwrap();
    let digest = imagespec_core::digest::Digest::of(&wheel).to_hex();
    let page = format!("<!DOCTYPE html><html><body><a href=\"/files/{name}#sha256={digest}\">{name}</a></body></html>");
    Server::start_with_logins(move |path, login| match (path, login) {
        // `joe:s3cret`
        (_, login) if login != Some("Basic am9lOnMzY3JldA==") => (401, Vec::new()),
        ("/simple/lib/", _) => (200, page.clone().into_bytes()),
        (path, _) if path.starts_with("/files/") => (200, wheel.clone()),
        _ => (404, Vec::new()),
    })
}

#[test]
fn secrets_of_the_resolver_open_an_index_and_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded_index(folder.path());
    let step = |index: Option<String>, secrets| PipStep {
        input: PipInput::Requirements { requirements: [].into(), constraints: [].into() },
        index,
        extra_indexes: Vec::new(),
        find_links: Vec::new(),
        extra_args: Vec::new(),
        secrets,
    };
    let mount = |target| vec![SecretMount { id: "login".to_owned(), target }];
    let open = |step: &PipStep, secret: &str| {
        let given = [("login".to_owned(), SecretSource::Value(secret.to_owned()))].into();
        let (environment, secrets) = environment_of(&given, step)?;
        // Nothing of an earlier build is there.
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let uv = Uv::fetched(&cache, Observer::NOBODY)?;
        let lock = resolved(&uv, &cache, "lib==3\n", &environment)?;
        assert!(!lock.contains("s3cret"), "{lock}");
        let wheels = select(&lock, &target(), &AllowedDigests::default())?.wheels;
        download(&cache, &wheels, &environment, Observer::NOBODY)?;
        drop(secrets);
        Ok::<_, PythonError>(wheels[0].file_name.to_string())
    };
    let index = format!("http://{}/simple", server.host());
    let netrc = step(Some(index.clone()), mount(SecretTarget::File("/root/.netrc".to_owned())));
    let opened = open(&netrc, "machine 127.0.0.1 login joe password s3cret\n");
    assert_eq!(opened.unwrap(), "lib-3-py3-none-any.whl");
    let variable = step(None, mount(SecretTarget::Environment("UV_DEFAULT_INDEX".to_owned())));
    let opened = open(&variable, &index.replace("http://", "http://joe:s3cret@"));
    assert_eq!(opened.unwrap(), "lib-3-py3-none-any.whl");

    let denied = told(open(&netrc, "machine 127.0.0.1 login joe password wr0ng\n").unwrap_err());
    insta::assert_snapshot!(denied.replace(&server.host(), "HOST"), @"
    error: the requirements cannot be resolved
    note: No solution found when resolving dependencies
            cause: Because lib was not found in the package registry and you require lib==3, we can conclude that your requirements are unsatisfiable.
          hint: An index URL (http://HOST/simple) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)
    hint: say who you are to the index: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password PASSWORD`
    ");
    let elsewhere = step(Some(index), mount(SecretTarget::File("/run/secrets/login".to_owned())));
    insta::assert_snapshot!(told(open(&elsewhere, "x").unwrap_err()), @"
    error: secret `login` is to lie at `/run/secrets/login`, where the resolver reads no file
    hint: give it as a netrc file, as in `{id: netrc, target: /root/.netrc}`, or as a variable, as in `{id: index, env: UV_DEFAULT_INDEX}`; other files are for git alone
    ");
    insta::assert_snapshot!(told(environment_of(&[].into(), &netrc).map(drop).unwrap_err()), @"
    error: secret `login` is not given
    hint: pass `--secret id=login,src=FILE` or `--secret id=login,env=VARIABLE`
    ");
}
