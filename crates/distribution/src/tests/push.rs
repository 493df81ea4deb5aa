//! Blobs and manifests, pushed to registries that forget, break off and know only a part of the protocol.

use std::io::{self, Read};

use super::{IMAGE_TYPE, client, content, manifest, registry, text};
use crate::testing::{Answer, Fault, Registry};
use crate::{Blob, BlobSource, Error, Pushed};

fn push(registry: &Registry, bytes: &[u8]) -> Result<Pushed, Error> {
    client().push_blob(&registry.reference("team/x"), Blob::of(bytes), None, &bytes.to_vec(), &mut |_| {})
}

/// Requests as `METHOD` and, for an upload, what they carried.
fn steps(registry: &Registry) -> Vec<String> {
    let requests = registry.requests();
    requests.iter().map(|request| format!("{} {}", request.method, request.body.len())).collect()
}

/// A source that must not be needed.
struct Forbidden;

impl BlobSource for Forbidden {
    fn open(&self, _offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        Err(io::Error::other("it was opened"))
    }
}

#[test]
fn a_small_blob_and_an_empty_one_are_sent_in_one_piece() {
    for bytes in [&b"hello"[..], b""] {
        let registry = registry();
        assert_eq!(push(&registry, bytes).expect("it is pushed"), Pushed::Uploaded);
        assert_eq!(registry.blob("team/x", Blob::of(bytes).digest).as_deref(), Some(bytes));
        assert_eq!(steps(&registry), ["HEAD 0", "POST 0", &format!("PUT {}", bytes.len())]);
    }
}

#[test]
fn a_blob_that_is_there_is_neither_read_nor_sent() {
    let registry = registry();
    registry.put_blob("team/x", b"hello");
    let reference = registry.reference("team/x");
    let pushed = client().push_blob(&reference, Blob::of(b"hello"), None, &Forbidden, &mut |_| {});
    assert_eq!(pushed.expect("it is there"), Pushed::Existed);
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let registry = registry();
    let digest = registry.put_blob("base/debian", b"hello");
    let (to, from) = (registry.reference("team/x"), registry.reference("base/debian"));
    let pushed = client().push_blob(&to, Blob::of(b"hello"), Some(&from), &Forbidden, &mut |_| {});
    assert_eq!(pushed.expect("it is mounted"), Pushed::Mounted);
    assert!(registry.blob("team/x", digest).is_some());
}

#[test]
fn a_blob_that_cannot_be_mounted_is_sent() {
    for fault in [None, Some(Fault::Answer(Answer::of(403)))] {
        let registry = registry();
        if let Some(fault) = fault {
            registry.inject("POST", "", fault);
        }
        let (to, from) = (registry.reference("team/x"), registry.reference("base/debian"));
        let pushed = client().push_blob(&to, Blob::of(b"hello"), Some(&from), &b"hello".to_vec(), &mut |_| {});
        assert_eq!(pushed.expect("it is sent"), Pushed::Uploaded);
    }
}

#[test]
fn a_big_upload_goes_on_where_it_broke() {
    let registry = registry();
    let bytes = content(7_000_000);
    registry.inject("PATCH", "", Fault::BreakRequest(4_000_000));
    let mut seen = Vec::new();
    let reference = registry.reference("team/x");
    let pushed = client().push_blob(&reference, Blob::of(&bytes), None, &bytes, &mut |sum| seen.push(sum));
    assert_eq!(pushed.expect("it is pushed"), Pushed::Uploaded);
    assert_eq!(steps(&registry), ["HEAD 0", "POST 0", "PATCH 4000000", "GET 0", "PATCH 3000000", "PUT 0"]);
    assert_eq!(registry.requests()[4].header("content-range"), Some("4000000-6999999"));
    assert!(registry.blob("team/x", Blob::of(&bytes).digest).is_some_and(|stored| stored == bytes));
    assert_eq!(seen.last(), Some(&7_000_000));
}

#[test]
fn an_upload_that_the_registry_lost_starts_again() {
    let registry = registry();
    let bytes = content(6_000_000);
    registry.inject("PATCH", "", Fault::BreakRequest(1_000_000));
    registry.inject("GET", "/uploads/", Fault::Answer(Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "unknown")));
    assert_eq!(push(&registry, &bytes).expect("it is pushed"), Pushed::Uploaded);
    assert_eq!(steps(&registry)[3..], ["GET 0", "POST 0", "PATCH 6000000", "PUT 0"]);
}

#[test]
fn a_registry_without_patch_gets_the_blob_in_one_piece() {
    let registry = registry();
    let bytes = content(6_000_000);
    registry.inject("PATCH", "", Fault::Answer(Answer::of(405)));
    assert_eq!(push(&registry, &bytes).expect("it is pushed"), Pushed::Uploaded);
    assert_eq!(steps(&registry)[3..], ["POST 0", "PUT 6000000"]);
}

#[test]
fn a_lost_answer_to_the_last_request_does_not_send_the_blob_again() {
    let registry = registry();
    let bytes = content(6_000_000);
    registry.inject("PUT", "", Fault::LoseAnswer);
    assert_eq!(push(&registry, &bytes).expect("it is pushed"), Pushed::Uploaded);
    assert_eq!(steps(&registry)[2..], ["PATCH 6000000", "PUT 0", "HEAD 0"]);
}

#[test]
fn an_upload_is_tried_again_after_503_and_429() {
    let registry = registry();
    registry.inject("POST", "", Fault::Answer(Answer::of(503)));
    registry.inject("PUT", "", Fault::Answer(Answer::of(429).header("Retry-After", "0")));
    assert_eq!(push(&registry, b"hello").expect("it is pushed"), Pushed::Uploaded);
}

#[test]
fn a_source_that_is_too_short_or_fails_is_named_and_not_tried_again() {
    let registry = registry();
    let blob = Blob::of(b"hello");
    let reference = registry.reference("team/x");
    let error = client().push_blob(&reference, blob, None, &b"hell".to_vec(), &mut |_| {}).expect_err("short");
    assert!(matches!(error, Error::Source { .. }), "{error:?}");
    let error = client().push_blob(&reference, blob, None, &Forbidden, &mut |_| {}).expect_err("it fails");
    insta::assert_snapshot!(error, @"cannot read `sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824`, to be pushed");
}

#[test]
fn content_with_another_digest_is_refused_by_the_registry() {
    let registry = registry();
    let blob = Blob::of(b"hello");
    let reference = registry.reference("team/x");
    let error = client().push_blob(&reference, blob, None, &b"hullo".to_vec(), &mut |_| {}).expect_err("refused");
    insta::assert_snapshot!(text(&error, &registry), @"`PUT http://HOST/v2/team/x/blobs/uploads/1` was answered with status 400, DIGEST_INVALID: provided digest did not match uploaded content");
}

#[test]
fn a_manifest_is_pushed_by_digest_and_by_tag() {
    let registry = registry();
    let bytes = manifest(Blob::of(b"{}"));
    let tagged = registry.reference("team/x:a");
    let digest = Blob::of(&bytes).digest;
    registry.inject("PUT", "", Fault::Answer(Answer::of(500)));
    let pinned = tagged.with_digest(digest);
    assert_eq!(client().push_manifest(&pinned, IMAGE_TYPE, &bytes).expect("it is pushed"), digest);
    assert_eq!(registry.tag("team/x", "a"), None);
    assert_eq!(client().push_manifest(&tagged, IMAGE_TYPE, &bytes).expect("it is pushed"), digest);
    assert_eq!(registry.tag("team/x", "a"), Some(digest));
    let error = client().push_manifest(&tagged.with_digest(Blob::of(b"other").digest), IMAGE_TYPE, &bytes);
    assert!(matches!(error, Err(Error::Digest { .. })), "{error:?}");
}
