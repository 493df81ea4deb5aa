//! Conda packages and channels that cannot be had.

use std::io;

use imagespec_core::digest::Digest;
use reqwest::StatusCode;

use super::told;
use crate::builder::Failure;
use crate::cache::CacheError;
use crate::conda::CondaError;
use crate::layer::LayerPath;

/// Field of the spec, kind and what the user reads.
fn said(error: CondaError) -> String {
    let failure = Failure::from(error).tell();
    format!("{} {:?}\n{}", failure.field.as_deref().unwrap_or("-"), failure.kind, failure.diagnostic().render())
}

fn package(file: &str) -> String {
    format!("{file}-1-0.conda")
}

#[test]
fn a_base_or_platform_that_conda_cannot_serve() {
    insta::assert_snapshot!(said(CondaError::NoGlibc), @"
    base_image Spec
    error: the base has no glibc, which conda packages are made for
    hint: take a `base_image` with glibc, such as a Debian, or leave it out to get one
    ");
    insta::assert_snapshot!(said(CondaError::Occupied { path: "opt/venv".to_owned() }), @"
    base_image Spec
    error: the base has something at `/opt/venv`, where the conda environment is to lie
    hint: take a `base_image` without a Python environment of imagespec, or ask for the packages in its own spec
    ");
    insta::assert_snapshot!(said(CondaError::Platform { platform: "linux/s390x".to_owned() }), @"
    platform Spec
    error: conda has no packages for linux/s390x
    hint: set `platform` to `linux/amd64` or `linux/arm64`
    ");
    let problem = "it is no Python 3";
    insta::assert_snapshot!(said(CondaError::Python { version: "2.7.18".to_owned(), problem }), @"
    python_version Spec
    error: conda's Python 2.7.18 cannot be used: it is no Python 3
    hint: set `python_version`, as in `python_version: 3.12`
    ");
}

#[test]
fn channels_that_are_none_are_gone_or_refuse() {
    insta::assert_snapshot!(said(CondaError::Channel { channel: "/srv".to_owned() }), @"
    conda_channels Spec
    error: `/srv` is no conda channel
    hint: check its spelling at https://anaconda.org; a folder is a channel after `conda index` made its repodata
    ");
    insta::assert_snapshot!(said(CondaError::Changed { path: "/srv/channel".into() }), @"
    conda_channels Spec
    error: the conda channel in `/srv/channel` changed while it was read
    hint: build again when nothing writes to it
    ");
    let (channel, subdir) = ("https://conda.example/team".to_owned(), "noarch".to_owned());
    insta::assert_snapshot!(said(CondaError::NotAChannel { channel, subdir }), @"
    conda_channels Spec
    error: `https://conda.example/team` is no conda channel: it has no `noarch/repodata.json`
    hint: check its spelling at https://anaconda.org; a folder is a channel after `conda index` made its repodata
    ");
    let host = || "conda.example".to_owned();
    let source = io::Error::from(io::ErrorKind::ConnectionRefused);
    insta::assert_snapshot!(said(CondaError::Unreachable { host: host(), source }), @"
    conda_channels Temporary
    error: cannot reach conda channel conda.example
    note: connection refused
    hint: check the network, or set `conda_mirrors` under `[builders.oci]` of `imagespec.toml` to a mirror that is reached
    ");
    insta::assert_snapshot!(said(CondaError::Status { host: host(), status: StatusCode::FORBIDDEN }), @"
    conda_channels Denied
    error: conda channel conda.example answered 403 Forbidden
    hint: say who you are to the channel: `rattler auth login HOST`, or `machine HOST login USER password PASSWORD` in the file that NETRC names
    ");
    insta::assert_snapshot!(said(CondaError::Status { host: host(), status: StatusCode::BAD_GATEWAY }), @"
    conda_channels Temporary
    error: conda channel conda.example answered 502 Bad Gateway
    ");
    insta::assert_snapshot!(said(CondaError::Malformed { problem: "failed to parse repodata.json".to_owned() }), @"
    conda_channels Spec
    error: what the conda channels say cannot be read: failed to parse repodata.json
    ");
    insta::assert_snapshot!(said(CondaError::Mirror { value: "mirror".to_owned() }), @r#"
    - Spec
    error: `mirror` in `conda_mirrors` is no URL that begins with `https://` or `http://`
    hint: write it as in `conda_mirrors = { "https://conda.anaconda.org" = "https://mirror.example/conda" }`, without credentials
    "#);
    insta::assert_snapshot!(said(CondaError::Credentials { path: "/home/ann/.rattler/credentials.json".into() }), @"
    - Spec
    error: cannot read the conda logins in `/home/ann/.rattler/credentials.json`
    hint: log in again: `rattler auth login` writes it
    ");
    insta::assert_snapshot!(said(CondaError::NotHandedOver { digest: Digest::of(b"") }), @"
    - Internal
    error: the path of conda channel sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 was not handed over
    ");
}

#[test]
fn packages_that_there_are_not_or_that_do_not_fit() {
    let unknown = |likely: Option<&str>| CondaError::Unknown {
        name: "nunpy".to_owned(),
        channels: "`conda-forge`".to_owned(),
        subdir: "linux-64".to_owned(),
        likely: likely.map(str::to_owned),
    };
    insta::assert_snapshot!(said(unknown(Some("numpy"))), @"
    conda_packages Spec
    error: no conda channel of `conda-forge` has a package `nunpy` for linux-64
    hint: did you mean `numpy`?
    ");
    insta::assert_snapshot!(said(unknown(None)), @"
    conda_packages Spec
    error: no conda channel of `conda-forge` has a package `nunpy` for linux-64
    hint: look for it at https://anaconda.org, and add the channel that has it to `conda_channels`
    ");
    let explanation = "The following packages are incompatible\n└─ a 1 would require\n   └─ b >=2, for which no candidates were found.";
    insta::assert_snapshot!(said(CondaError::Unsolvable { explanation: explanation.to_owned() }), @"
    conda_packages Spec
    error: the conda packages do not fit together:
           The following packages are incompatible
           └─ a 1 would require
              └─ b >=2, for which no candidates were found.
    hint: loosen a version, or change the order of `conda_channels`: the first that has a package is the one that it comes from
    ");
    insta::assert_snapshot!(said(CondaError::SpecUrl { spec: "a[url=https://x.example/a]".to_owned() }), @"
    conda_packages Spec
    error: `a[url=https://x.example/a]` names an address, which is no channel's
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    ");
    let source = "a=>=".parse::<rattler_conda_types::MatchSpec>().unwrap_err();
    insta::assert_snapshot!(said(CondaError::Spec { spec: "a=>=".to_owned(), source }), @"
    conda_packages Spec
    error: `a=>=` is no conda package
    note: unable to parse version spec: =>=
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    ");
    insta::assert_snapshot!(said(CondaError::NoDigest { file: package("a") }), @"
    conda_packages Spec
    error: the channel of conda package `a-1-0.conda` does not say its sha256
    hint: let a current `conda index` make the channel's repodata again
    ");
    insta::assert_snapshot!(said(CondaError::Format { file: "a-1-0.whl".to_owned() }), @"
    conda_packages Spec
    error: conda package `a-1-0.whl` is neither a .conda nor a .tar.bz2 archive
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let (name, wanted, installed) = ("six".to_owned(), "1.17.0".to_owned(), "1.16.0".to_owned());
    insta::assert_snapshot!(said(CondaError::OtherVersion { name, wanted, installed }), @"
    packages Spec
    error: `packages` has six 1.17.0, and conda installs six 1.16.0
    hint: ask for one version in both, or leave the package to one of them
    ");
}

#[test]
fn packages_that_cannot_be_fetched_or_laid_out() {
    let (file, host) = (package("a"), "conda.example".to_owned());
    let source = io::Error::from(io::ErrorKind::ConnectionReset);
    insta::assert_snapshot!(said(CondaError::Transfer { file: file.clone(), host: host.clone(), source }), @"
    conda_packages Temporary
    error: cannot read conda package `a-1-0.conda` from conda.example
    note: connection reset
    hint: check the network, or set `conda_mirrors` under `[builders.oci]` of `imagespec.toml` to a mirror that is reached
    ");
    let status = StatusCode::UNAUTHORIZED;
    insta::assert_snapshot!(said(CondaError::PackageStatus { file: file.clone(), host, status }), @"
    conda_packages Denied
    error: conda.example answered 401 Unauthorized for conda package `a-1-0.conda`
    hint: say who you are to the channel: `rattler auth login HOST`, or `machine HOST login USER password PASSWORD` in the file that NETRC names
    ");
    insta::assert_snapshot!(said(CondaError::TooLong { file: file.clone(), size_bytes_max: 5 }), @"
    conda_packages Spec
    error: conda package `a-1-0.conda` is longer than the 5 bytes that it may have
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let (expected, found) = (Digest::of(b"a"), Digest::of(b"b"));
    let wrong = CacheError::WrongDigest { what: file.clone(), expected, found };
    insta::assert_snapshot!(super::without_digests(&said(wrong.into())), @"
    conda_packages Spec
    error: content of `a-1-0.conda` has digest DIGEST instead of DIGEST
    hint: these are other bytes than were promised: try again, and if that does not help, ask whoever serves them
    ");
    let source = io::Error::other("unexpected end of file");
    insta::assert_snapshot!(said(CondaError::Archive { package: file.clone(), source }), @"
    conda_packages Spec
    error: conda package `a-1-0.conda` is no readable archive
    note: unexpected end of file
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let problem = "it is there twice";
    insta::assert_snapshot!(said(CondaError::Member { package: file.clone(), member: "lib/a".to_owned(), problem }), @"
    conda_packages Spec
    error: `lib/a` in conda package `a-1-0.conda` cannot be installed: it is there twice
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let source = LayerPath::new("../x").unwrap_err();
    insta::assert_snapshot!(said(CondaError::Path { package: file, source }), @"
    conda_packages Spec
    error: conda package `a-1-0.conda` has a path that leads astray
    note: `../x` is no path for a layer: it leads out with `..`
    hint: the package is broken: take another version of it, and tell its publisher
    ");
    let (path, one, other) = ("lib".to_owned(), "a".to_owned(), "b".to_owned());
    insta::assert_snapshot!(told(CondaError::Conflict { path, one, other }), @"
    error: `lib` is a file in conda package `a` and a folder in `b`
    hint: they cannot be together in one environment: take another version of one of them
    ");
    assert_eq!(Failure::from(CondaError::Cancelled).tell().kind, imagespec_core::builder::FailureKind::Cancelled);
}
