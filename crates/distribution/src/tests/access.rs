//! Who gets to see credentials: the registry that they are for, its token server, and nobody else.

use serde_json::json;

use super::{IMAGE_TYPE, client, client_with, manifest, registry, text};
use crate::testing::{Access, Answer, Fault, Registry, Request};
use crate::{Asker, Blob, Error, Existence, Pushed};

fn basic() -> Registry {
    let (username, password) = ("user".to_owned(), "hunter2".to_owned());
    Registry::start(Access::Basic { username, password }).expect("a port")
}

fn bearer() -> Registry {
    let (username, password) = ("user".to_owned(), "hunter2".to_owned());
    Registry::start(Access::Bearer { username, password }).expect("a port")
}

fn credentials_of(request: &Request) -> Option<&str> {
    request.header("authorization")
}

#[test]
fn a_stored_password_is_sent_at_once() {
    let registry = basic();
    registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "hunter2"}));
    assert!(matches!(client.exists(&registry.reference("team/x:a")), Existence::Yes { .. }));
    assert_eq!(registry.lines(), ["HEAD /v2/team/x/manifests/a"]);
}

#[test]
fn a_wrong_password_is_denied_and_not_tried_twice() {
    let registry = basic();
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "wrong"}));
    let Existence::Unknown(error) = client.exists(&registry.reference("team/x:a")) else { panic!("denied") };
    assert!(error.is_denied());
    let hint = error.hint().unwrap_or_default();
    assert!(hint.ends_with(" again: the user name or the password that is stored is not accepted"), "{hint}");
    assert!(!format!("{error} {error:?} {client:?}").contains("wrong"));
    assert_eq!(registry.lines().len(), 1);
}

#[test]
fn a_password_that_the_token_server_refuses_is_told_from_none() {
    let registry = bearer();
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "wrong"}));
    let Existence::Unknown(error) = client.exists(&registry.reference("team/x:a")) else { panic!("denied") };
    let Error::Answer(answer) = &error else { panic!("{error:?}") };
    assert_eq!((answer.status, answer.asker), (401, Asker::Account));
}

#[test]
fn one_token_serves_all_requests_for_a_repository() {
    let registry = bearer();
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "hunter2"}));
    let reference = registry.reference("team/x:a");
    for bytes in [b"one", b"two"] {
        let pushed = client.push_blob(&reference, Blob::of(bytes), None, &bytes.to_vec(), &mut |_| {});
        assert_eq!(pushed.expect("it is pushed"), Pushed::Uploaded);
    }
    assert_eq!(registry.lines().iter().filter(|line| line.contains("/token")).count(), 1);
    let token = &registry.requests()[1];
    assert_eq!(token.parameter("scope"), Some("repository:team/x:pull,push"));
    assert_eq!((token.parameter("service"), token.parameter("account")), (Some("registry"), Some("user")));
}

#[test]
fn many_threads_fetch_one_token() {
    let registry = bearer();
    registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    let client = client();
    let reference = registry.reference("team/x:a");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.pull_manifest(&reference).expect("it is pulled"));
        }
    });
    assert_eq!(registry.lines().iter().filter(|line| line.contains("/token")).count(), 1);
}

#[test]
fn a_token_that_is_no_longer_good_is_replaced() {
    let registry = bearer();
    registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    let (client, _folder) = client_with(&registry, &json!({"auth": "dXNlcjpodW50ZXIy"}));
    let reference = registry.reference("team/x:a");
    client.pull_manifest(&reference).expect("it is pulled");
    registry.revoke_tokens();
    client.pull_manifest(&reference).expect("it is pulled");
    assert_eq!(registry.lines().iter().filter(|line| line.contains("/token")).count(), 2);
}

#[test]
fn an_identity_token_is_posted_to_the_token_server_alone() {
    let registry = bearer();
    let (client, _folder) = client_with(&registry, &json!({"identitytoken": "hunter2"}));
    let pushed = client.push_blob(&registry.reference("team/x"), Blob::of(b"x"), None, &b"x".to_vec(), &mut |_| {});
    assert_eq!(pushed.expect("it is pushed"), Pushed::Uploaded);
    let seen = registry.requests();
    let posted: Vec<&Request> = seen.iter().filter(|request| request.path == "/token").collect();
    assert_eq!((posted.len(), posted[0].method.as_str()), (1, "POST"));
    assert!(seen.iter().all(|request| credentials_of(request).is_none_or(|text| !text.contains("hunter2"))));
}

#[test]
fn an_identity_token_follows_no_redirect_to_another_host() {
    let (registry, elsewhere) = (bearer(), bearer());
    let place = format!("http://{}/token", elsewhere.host());
    registry.inject("POST", "/token", Fault::Answer(Answer::of(307).header("Location", place)));
    let (client, _folder) = client_with(&registry, &json!({"identitytoken": "hunter2"}));
    let pushed = client.push_blob(&registry.reference("team/x"), Blob::of(b"x"), None, &b"x".to_vec(), &mut |_| {});
    assert!(matches!(pushed, Err(Error::Redirect { .. })), "{pushed:?}");
    assert_eq!(elsewhere.lines(), [""; 0]);
}

#[test]
fn without_credentials_reading_works_and_writing_is_denied() {
    let registry = bearer();
    registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    client().pull_manifest(&registry.reference("team/x:a")).expect("it is pulled");
    let pushed = client().push_blob(&registry.reference("team/x"), Blob::of(b"x"), None, &b"x".to_vec(), &mut |_| {});
    assert!(pushed.expect_err("denied").is_denied());
}

#[test]
fn a_redirected_download_takes_no_credentials_along() {
    let (registry, storage) = (basic(), Registry::start(Access::Open).expect("a port"));
    let blob = Blob::of(b"hello");
    storage.put_blob("team/x", b"hello");
    let place = format!("http://{}/v2/team/x/blobs/{}?X-Signature=abc", storage.host(), blob.digest);
    registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(307).header("Location", place)));
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "hunter2"}));
    let mut bytes = Vec::new();
    client.pull_blob(&registry.reference("team/x"), blob, &mut bytes, &mut |_| {}).expect("it is pulled");
    assert_eq!(bytes, b"hello");
    assert!(registry.requests().iter().all(|request| credentials_of(request).is_some()));
    assert_eq!(storage.requests().iter().map(credentials_of).collect::<Vec<_>>(), [None]);
}

#[test]
fn an_upload_at_another_host_takes_no_credentials_along_not_even_when_it_asks() {
    let (registry, storage) = (basic(), basic());
    let place = format!("http://{}/v2/team/x/blobs/uploads/1", storage.host());
    registry.inject("POST", "/uploads/", Fault::Answer(Answer::of(202).header("Location", place)));
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "hunter2"}));
    let pushed = client.push_blob(&registry.reference("team/x"), Blob::of(b"x"), None, &b"x".to_vec(), &mut |_| {});
    assert!(pushed.expect_err("the other host denies").is_denied());
    assert_eq!(storage.requests().iter().map(credentials_of).collect::<Vec<_>>(), [None]);
}

#[test]
fn a_redirect_that_returns_brings_no_credentials_back() {
    let (registry, elsewhere) = (basic(), Registry::start(Access::Open).expect("a port"));
    let blob = Blob::of(b"hello");
    registry.put_blob("team/x", b"hello");
    let path = format!("/v2/team/x/blobs/{}", blob.digest);
    let there = format!("http://{}{path}", elsewhere.host());
    let back = format!("http://{}{path}", registry.host());
    registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(302).header("Location", there)));
    elsewhere.inject("GET", "/blobs/", Fault::Answer(Answer::of(302).header("Location", back)));
    let (client, _folder) = client_with(&registry, &json!({"username": "user", "password": "hunter2"}));
    let pulled = client.pull_blob(&registry.reference("team/x"), blob, &mut Vec::new(), &mut |_| {});
    assert!(pulled.expect_err("denied").is_denied());
    assert_eq!(credentials_of(&registry.requests()[1]), None);
}

#[test]
fn places_that_are_no_web_address_and_endless_redirects_are_refused() {
    let registry = registry();
    let blob = Blob::of(b"hello");
    let pull = || client().pull_blob(&registry.reference("team/x"), blob, &mut Vec::new(), &mut |_| {});
    registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(307).header("Location", "file:///etc/passwd")));
    insta::assert_snapshot!(text(&pull().expect_err("a file"), &registry), @"registry `HOST` redirects `http://HOST/v2/team/x/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` in a way that is refused: it leads neither to `https` nor to `http`");
    registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(307)));
    insta::assert_snapshot!(text(&pull().expect_err("nowhere"), &registry), @"registry `HOST` redirects `http://HOST/v2/team/x/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` in a way that is refused: it names no place");
    for _ in 0..10 {
        registry.inject("GET", "/blobs/", Fault::Answer(Answer::of(307).header("Location", "?again")));
    }
    insta::assert_snapshot!(text(&pull().expect_err("a circle"), &registry), @"registry `HOST` redirects `http://HOST/v2/team/x/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824` in a way that is refused: too many redirects");
}
