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
    insta::assert_snapshot!(said(CondaError::NoGlibc), @"");
    insta::assert_snapshot!(said(CondaError::Occupied { path: "opt/venv".to_owned() }), @"");
    insta::assert_snapshot!(said(CondaError::Platform { platform: "linux/s390x".to_owned() }), @"");
    let problem = "it is no Python 3";
    insta::assert_snapshot!(said(CondaError::Python { version: "2.7.18".to_owned(), problem }), @"");
}

#[test]
fn channels_that_are_none_are_gone_or_refuse() {
    insta::assert_snapshot!(said(CondaError::Channel { channel: "/srv".to_owned() }), @"");
    insta::assert_snapshot!(said(CondaError::Changed { path: "/srv/channel".into() }), @"");
    let (channel, subdir) = ("https://conda.example/team".to_owned(), "noarch".to_owned());
    insta::assert_snapshot!(said(CondaError::NotAChannel { channel, subdir }), @"");
    let host = || "conda.example".to_owned();
    let source = io::Error::from(io::ErrorKind::ConnectionRefused);
    insta::assert_snapshot!(said(CondaError::Unreachable { host: host(), source }), @"");
    insta::assert_snapshot!(said(CondaError::Status { host: host(), status: StatusCode::FORBIDDEN }), @"");
    insta::assert_snapshot!(said(CondaError::Status { host: host(), status: StatusCode::BAD_GATEWAY }), @"");
    insta::assert_snapshot!(said(CondaError::Malformed { problem: "failed to parse repodata.json".to_owned() }), @"");
    insta::assert_snapshot!(said(CondaError::Mirror { value: "mirror".to_owned() }), @"");
    insta::assert_snapshot!(said(CondaError::Credentials { path: "/home/ann/.rattler/credentials.json".into() }), @"");
    insta::assert_snapshot!(said(CondaError::NotHandedOver { digest: Digest::of(b"") }), @"");
}

#[test]
fn packages_that_there_are_not_or_that_do_not_fit() {
    let unknown = |likely: Option<&str>| CondaError::Unknown {
        name: "nunpy".to_owned(),
        channels: "`conda-forge`".to_owned(),
        subdir: "linux-64".to_owned(),
        likely: likely.map(str::to_owned),
    };
    insta::assert_snapshot!(said(unknown(Some("numpy"))), @"");
    insta::assert_snapshot!(said(unknown(None)), @"");
    let explanation = "The following packages are incompatible\n└─ a 1 would require\n   └─ b >=2, for which no candidates were found.";
    insta::assert_snapshot!(said(CondaError::Unsolvable { explanation: explanation.to_owned() }), @"");
    insta::assert_snapshot!(said(CondaError::SpecUrl { spec: "a[url=https://x.example/a]".to_owned() }), @"");
    let source = "a=>=".parse::<rattler_conda_types::MatchSpec>().unwrap_err();
    insta::assert_snapshot!(said(CondaError::Spec { spec: "a=>=".to_owned(), source }), @"");
    insta::assert_snapshot!(said(CondaError::NoDigest { file: package("a") }), @"");
    insta::assert_snapshot!(said(CondaError::Format { file: "a-1-0.whl".to_owned() }), @"");
    let (name, wanted, installed) = ("six".to_owned(), "1.17.0".to_owned(), "1.16.0".to_owned());
    insta::assert_snapshot!(said(CondaError::OtherVersion { name, wanted, installed }), @"");
}

#[test]
fn packages_that_cannot_be_fetched_or_laid_out() {
    let (file, host) = (package("a"), "conda.example".to_owned());
    let source = io::Error::from(io::ErrorKind::ConnectionReset);
    insta::assert_snapshot!(said(CondaError::Transfer { file: file.clone(), host: host.clone(), source }), @"");
    let status = StatusCode::UNAUTHORIZED;
    insta::assert_snapshot!(said(CondaError::PackageStatus { file: file.clone(), host, status }), @"");
    insta::assert_snapshot!(said(CondaError::TooLong { file: file.clone(), size_bytes_max: 5 }), @"");
    let (expected, found) = (Digest::of(b"a"), Digest::of(b"b"));
    let wrong = CacheError::WrongDigest { what: file.clone(), expected, found };
    insta::assert_snapshot!(super::without_digests(&said(wrong.into())), @"");
    let source = io::Error::other("unexpected end of file");
    insta::assert_snapshot!(said(CondaError::Archive { package: file.clone(), source }), @"");
    let problem = "it is there twice";
    insta::assert_snapshot!(said(CondaError::Member { package: file.clone(), member: "lib/a".to_owned(), problem }), @"");
    let source = LayerPath::new("../x").unwrap_err();
    insta::assert_snapshot!(said(CondaError::Path { package: file, source }), @"");
    let (path, one, other) = ("lib".to_owned(), "a".to_owned(), "b".to_owned());
    insta::assert_snapshot!(told(CondaError::Conflict { path, one, other }), @"");
    assert_eq!(Failure::from(CondaError::Cancelled).tell().kind, imagespec_core::builder::FailureKind::Cancelled);
}
