//! What every builder must do, and what this one does.

use std::sync::Mutex;

use @crate@::@type@;

use imagespec_plugin_sdk::Speaker;
use imagespec_plugin_sdk::core::boundary::{self, CallError, Door};
use serde_json::{Value, json};

const PINNED: &str =
    "alpine@sha256:beefdbd8a1da6d2915566fde36db9db0b524eb737fc57cd1367effd16dc0d06d";

#[test]
fn it_does_what_every_builder_must() {
    imagespec_plugin_sdk::conformance::check(@type@);
}

#[test]
fn it_greets_and_answers_with_the_base() {
    let (answer, events) = build(&request(PINNED, json!({"greeting": "good morning"})));
    assert_eq!(answer.unwrap()["digest"], PINNED.split_once('@').unwrap().1);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["step-started", "output", "step-finished"]);
    assert_eq!(events[1]["line"], "good morning");
}

#[test]
fn a_base_without_a_digest_is_refused_where_it_is_written() {
    let (answer, _) = build(&request("alpine:3.20", json!({})));
    let error = answer.unwrap_err();
    assert_eq!(
        (&error["kind"], &error["field"]),
        (&json!("spec"), &json!("base_image"))
    );
}

/// A request to build a spec that has `base_image` and nothing else.
fn request(base: &str, options: Value) -> String {
    json!({
        "version": boundary::REQUEST_VERSION,
        "plan": {
            "version": 1,
            "platforms": ["linux/amd64"],
            "base": {"kind": "registry", "reference": base},
            "steps": [],
            "config": {"workdir": "/root"},
        },
        "id": "test",
        "spec_hash": "test",
        "name": "test:1",
        "outputs": [{"type": "store"}],
        "files": {},
        "base_paths": {},
        "options": options,
        "secrets": {},
        "cache": "use",
        "network": "offline",
        "cache_dir": "/nowhere",
        "timestamp": 0,
        "registries": {},
        "credential_files": [],
    })
    .to_string()
}

/// What the builder answers, asked as imagespec asks it, and what it said before.
fn build(request: &str) -> (Result<Value, Value>, Vec<Value>) {
    let events = Mutex::new(Vec::new());
    let take = |event: &str| events.lock().unwrap().push(read(event));
    let speaker = Speaker::new(Box::new(@type@));
    let answer = match speaker.call(1, boundary::BUILD, request, &take) {
        Ok(report) => Ok(read(&report)),
        Err(CallError::Answered(error)) => Err(read(&error)),
        Err(CallError::Gone(error)) => panic!("{error}"),
    };
    (answer, events.into_inner().unwrap())
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
