//! Manifests and blobs, pulled over connections that break and from registries that lie.

use imagespec_core::digest::Digest;

use super::{IMAGE_TYPE, client, content, manifest, registry, text};
use crate::testing::{Answer, Fault, Registry};
use crate::{Blob, Client, ClientOptions, Document, Error};

fn pull(registry: &Registry, blob: Blob) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    client().pull_blob(&registry.reference("team/x"), blob, &mut bytes, &mut |_| {}).map(|()| bytes)
}

#[test]
fn a_blob_is_resumed_where_the_connection_broke() {
    let registry = registry();
    let bytes = content(3_000_000);
    let digest = registry.put_blob("team/x", &bytes);
    registry.inject("GET", "/blobs/", Fault::BreakAnswer(1_000_000));
    registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(503).header("Retry-After", "0")));
    registry.inject("GET", "/blobs/", Fault::BreakAnswer(500_000));
    let mut pulled = Vec::new();
    let mut seen = Vec::new();
    let blob = Blob { digest, size_bytes: bytes.len() as u64 };
    let reference = registry.reference("team/x");
    client().pull_blob(&reference, blob, &mut pulled, &mut |sum| seen.push(sum)).expect("it is pulled");
    assert!(pulled == bytes);
    assert!(seen.is_sorted() && seen.last() == Some(&3_000_000));
    let ranges: Vec<bool> = registry.requests().iter().map(|request| request.header("range").is_some()).collect();
    assert!(ranges.len() == 4 && !ranges[0] && ranges[3], "{ranges:?}");
}

#[test]
fn a_blob_is_completed_from_a_registry_that_knows_no_ranges() {
    let registry = registry();
    let bytes = content(400_000);
    let blob = Blob { digest: registry.put_blob("team/x", &bytes), size_bytes: 400_000 };
    registry.inject("GET", "/blobs/", Fault::BreakAnswer(300_000));
    registry.inject("GET", "/blobs/", Fault::IgnoreRange);
    assert!(pull(&registry, blob).expect("it is pulled") == bytes);
}

#[test]
fn an_empty_blob_is_pulled() {
    let registry = registry();
    registry.put_blob("team/x", b"");
    assert_eq!(pull(&registry, Blob::of(b"")).expect("it is pulled"), b"");
}

#[test]
fn attempts_at_a_blob_come_to_an_end() {
    let registry = registry();
    let blob = Blob::of(b"hello");
    registry.put_blob("team/x", b"hello");
    for _ in 0..9 {
        registry.inject("GET", "/blobs/", Fault::BreakAnswer(0));
    }
    assert!(pull(&registry, blob).expect_err("it breaks").is_temporary());
    assert_eq!(registry.lines().len(), 5);
}

#[test]
fn other_bytes_and_other_lengths_are_refused() {
    let registry = registry();
    let blob = Blob::of(b"hello");
    registry.put_blob("team/x", b"hello");
    registry.inject("GET", "/blobs/", Fault::Body(b"hullo".to_vec()));
    let error = pull(&registry, blob).expect_err("another digest");
    insta::assert_snapshot!(error, @"`sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` has the digest `sha256:7835066a1457504217688c8f5d06909c6591e0ca78c254ccf17450d0d999cab0`, expected `sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824`");
    registry.inject("GET", "/blobs/", Fault::Body(b"hello, world".to_vec()));
    let error = pull(&registry, blob).expect_err("longer");
    insta::assert_snapshot!(error, @"`sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` is longer than the 5 bytes that its descriptor says");
    registry.inject("GET", "/blobs/", Fault::Body(b"hell".to_vec()));
    let error = pull(&registry, blob).expect_err("shorter");
    insta::assert_snapshot!(error, @"`sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` is shorter than the 5 bytes that its descriptor says");
}

#[test]
fn a_blob_that_is_not_there_is_not_found() {
    let registry = registry();
    let error = pull(&registry, Blob::of(b"hello")).expect_err("none");
    assert!(error.is_not_found());
    insta::assert_snapshot!(text(&error, &registry), @"`GET http://HOST/v2/team/x/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` was answered with status 404, BLOB_UNKNOWN: blob unknown to registry");
}

#[test]
fn a_cancelled_pull_stops() {
    let registry = registry();
    registry.put_blob("team/x", b"hello");
    let client = Client::new(ClientOptions::default(), &|| true);
    let error = client.pull_blob(&registry.reference("team/x"), Blob::of(b"hello"), &mut Vec::new(), &mut |_| {});
    assert!(error.is_err_and(|error| error.is_cancelled()));
}

#[test]
fn a_manifest_is_verified_against_its_own_and_the_registrys_digest() {
    let registry = registry();
    let bytes = manifest(Blob::of(b"{}"));
    let digest = registry.put_manifest("team/x", "a", IMAGE_TYPE, &bytes);
    let reference = registry.reference("team/x:a");
    let pulled = client().pull_manifest(&reference).expect("it is pulled");
    assert_eq!((pulled.digest, pulled.bytes == bytes), (digest, true));
    assert!(matches!(pulled.document(), Ok(Document::Image(_))));
    let other = Digest::of(b"other");
    registry.inject("GET", "/manifests/", Fault::Header("Docker-Content-Digest", other.to_string()));
    assert!(matches!(client().pull_manifest(&reference), Err(Error::Digest { expected, .. }) if expected == other));
    registry.inject("GET", "/manifests/", Fault::Body(b"{}".to_vec()));
    let pinned = reference.with_digest(digest);
    assert!(matches!(client().pull_manifest(&pinned), Err(Error::Digest { expected, .. }) if expected == digest));
}

#[test]
fn a_manifest_over_four_mebibytes_is_not_read() {
    let registry = registry();
    registry.put_manifest("team/x", "a", IMAGE_TYPE, &vec![b' '; 4 * 1024 * 1024 + 1]);
    let error = client().pull_manifest(&registry.reference("team/x:a")).expect_err("too large");
    insta::assert_snapshot!(text(&error, &registry), @"`http://HOST/v2/team/x/manifests/a` is larger than 4194304 bytes");
}

#[test]
fn schema_1_and_documents_that_are_two_things_at_once_are_refused() {
    let registry = registry();
    let refused = |tag: &str, media_type: &str, document: serde_json::Value| {
        registry.put_manifest("team/x", tag, media_type, document.to_string().as_bytes());
        let error = client().pull_manifest(&registry.reference(&format!("team/x:{tag}"))).expect_err("refused");
        assert!(matches!(error, Error::UnsupportedManifest { .. }), "{error:?}");
        text(&error, &registry)
    };
    let old = serde_json::json!({"schemaVersion": 1, "name": "x", "fsLayers": []});
    insta::assert_snapshot!(refused("a", IMAGE_TYPE, old), @"`HOST/team/x:a` has a manifest of the type `application/vnd.docker.distribution.manifest.v1+json`, which is not supported");
    registry.put_manifest("team/x", "z", IMAGE_TYPE, b"<html>");
    let error = client().pull_manifest(&registry.reference("team/x:z")).expect_err("no JSON");
    insta::assert_snapshot!(text(&error, &registry), @"the manifest of `HOST/team/x:z` cannot be read");
    refused("b", IMAGE_TYPE, serde_json::json!({"schemaVersion": 2, "layers": [], "manifests": []}));
    refused("c", IMAGE_TYPE, serde_json::json!({"schemaVersion": 2, "manifests": []}));
    refused("d", "text/html", serde_json::json!({"schemaVersion": 2, "layers": []}));
}

#[test]
fn the_image_for_a_platform_is_pulled_through_an_index() {
    let registry = registry();
    let bytes = manifest(Blob::of(b"{}"));
    let digest = registry.put_manifest("team/x", "unused", IMAGE_TYPE, &bytes);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [{
        "mediaType": IMAGE_TYPE, "digest": digest, "size": bytes.len(),
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
    }]});
    registry.put_manifest("team/x", "a", media_type, index.to_string().as_bytes());
    let reference = registry.reference("team/x:a");
    let (pulled, _) = client().pull_image(&reference, &"linux/arm64".parse().expect("a platform")).expect("an image");
    assert_eq!(pulled.digest, digest);
    let error = client().pull_image(&reference, &"linux/amd64".parse().expect("a platform")).expect_err("none");
    insta::assert_snapshot!(error, @"there is no image for `linux/amd64`, only for `linux/arm64/v8`");
}
