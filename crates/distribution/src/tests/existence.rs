//! Whether an image exists, and what counts as not knowing.

use std::net::TcpListener;

use super::{IMAGE_TYPE, client, manifest, registry, text};
use crate::testing::{Answer, Fault, Registry};
use crate::{Blob, ConnectionProblem, Error, Existence};

fn unknown(registry: &Registry, name: &str) -> Error {
    match client().exists(&registry.reference(name)) {
        Existence::Unknown(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_that_is_there_is_found_in_one_round_trip() {
    let registry = registry();
    let digest = registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    let existence = client().exists(&registry.reference("team/x:a"));
    assert!(matches!(existence, Existence::Yes { digest: found } if found == digest), "{existence:?}");
    assert_eq!(registry.lines(), ["HEAD /v2/team/x/manifests/a"]);
}

#[test]
fn an_image_that_is_not_there_is_not_asked_for_twice() {
    let registry = registry();
    assert!(matches!(client().exists(&registry.reference("team/x:a")), Existence::No));
    assert_eq!(registry.lines(), ["HEAD /v2/team/x/manifests/a"]);
}

#[test]
fn a_registry_that_answers_head_badly_is_asked_with_get() {
    for fault in [Fault::Answer(Answer::of(405)), Fault::Answer(Answer::of(200))] {
        let registry = registry();
        let digest = registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
        registry.inject("HEAD", "", fault.clone());
        let existence = client().exists(&registry.reference("team/x:a"));
        assert!(matches!(existence, Existence::Yes { digest: found } if found == digest), "{existence:?}");
        registry.inject("HEAD", "", fault);
        let name = registry.reference("team/x:b");
        let existence = client().exists(&name);
        // Without a digest in its answer, HEAD said nothing; GET says that there is none.
        assert!(matches!(existence, Existence::No), "{existence:?}");
    }
}

#[test]
fn denied_is_unknown_and_the_hint_says_how_to_log_in() {
    let registry = registry();
    registry.inject("HEAD", "", Fault::Answer(Answer::of(401).header("WWW-Authenticate", "Basic realm=\"x\"")));
    let error = unknown(&registry, "team/x:a");
    assert!(error.is_denied() && !error.is_temporary());
    insta::assert_snapshot!(text(&error, &registry), @"`HEAD http://HOST/v2/team/x/manifests/a` was answered with status 401");
    let hint = error.hint().expect("a hint").replace(&registry.host(), "HOST");
    insta::assert_snapshot!(hint, @"run `docker login HOST`; a private image looks the same as one that does not exist");
}

#[test]
fn what_no_registry_may_ask_for_is_refused() {
    let refused = |challenge: &str| {
        let registry = registry();
        registry.inject("HEAD", "", Fault::Answer(Answer::of(401).header("WWW-Authenticate", challenge)));
        text(&unknown(&registry, "team/x:a"), &registry)
    };
    insta::assert_snapshot!(refused("Bearer realm=\"token server\""), @"registry `HOST` asks for authentication in a way that is refused: the token server's address is no URL");
    insta::assert_snapshot!(refused("Bearer realm=\"https://joe:hunter2@token.example\""), @"registry `HOST` asks for authentication in a way that is refused: the token server's address is no plain URL");
    insta::assert_snapshot!(refused("Bearer realm=\"ftp://token.example\""), @"registry `HOST` asks for authentication in a way that is refused: its token server does not use `https`");
}

#[test]
fn a_broken_server_is_unknown_after_a_second_attempt() {
    let registry = registry();
    for _ in 0..2 {
        registry.inject("HEAD", "", Fault::Answer(Answer::of(503)));
    }
    let error = unknown(&registry, "team/x:a");
    assert!(error.is_temporary() && !error.is_denied());
    assert_eq!(registry.lines().len(), 2);
}

#[test]
fn a_registry_that_asks_for_an_hour_is_not_waited_for() {
    let registry = registry();
    registry.inject("HEAD", "", Fault::Answer(Answer::of(429).header("Retry-After", "3600")));
    let error = unknown(&registry, "team/x:a");
    assert!(error.is_temporary());
    assert_eq!(registry.lines().len(), 1);
}

#[test]
fn nobody_listening_is_unknown_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let reference = format!("127.0.0.1:{port}/x:a").parse().expect("a reference");
    match client().exists(&reference) {
        Existence::Unknown(error @ Error::Connection { problem: ConnectionProblem::Refused, .. }) => {
            let text = error.to_string().replace(&port.to_string(), "PORT");
            insta::assert_snapshot!(text, @"cannot talk to `http://127.0.0.1:PORT/v2/x/manifests/a`: connection refused");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_no_registry_is_unknown_when_its_404_says_nothing_of_manifests() {
    let registry = registry();
    registry.inject("HEAD", "", Fault::Answer(Answer::of(405)));
    registry.inject("GET", "", Fault::Answer(Answer::of(404).body("<html>nothing here</html>")));
    assert!(unknown(&registry, "team/x:a").is_not_found());
}

#[test]
fn a_pinned_image_with_another_digest_is_unknown() {
    let registry = registry();
    let digest = registry.put_manifest("team/x", "a", IMAGE_TYPE, &manifest(Blob::of(b"{}")));
    registry.inject("HEAD", "", Fault::Header("Docker-Content-Digest", Blob::of(b"other").digest.to_string()));
    let error = unknown(&registry, &format!("team/x@{digest}"));
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
}
