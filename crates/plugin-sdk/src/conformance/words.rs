//! Whether a builder copes with words that it does not know, and with what is no request at all.

use imagespec_core::boundary::{BUILD, FIND, LOCK, RENDER};
use imagespec_core::builder::{BuildError, Feature};
use serde_json::{Value, json};

use super::bench::{Bench, json, refused};
use super::subject::{Fault, Subject, is_panic, shortened, told};

/// A method of a later version.
pub(super) fn unknown_method(subject: &Subject) -> Result<(), Fault> {
    let conversation = subject.call("conformance-of-tomorrow", "{}")?;
    refuses(conversation.answer, "the method `conformance-of-tomorrow`, which there is not")?;
    subject.is_unchanged()
}

/// What is no request.
pub(super) fn malformed(subject: &Subject) -> Result<(), Fault> {
    let deep = "[".repeat(100_000);
    let requests = [
        ("no text at all", ""),
        ("half a document", r#"{"version":1,"plan":{"#),
        ("a list", "[1,2,3]"),
        ("nothing", "null"),
        ("a request without a plan", r#"{"version":1}"#),
        ("a request of version 999", r#"{"version":999,"plan":{}}"#),
        ("a hundred thousand brackets", &deep),
        ("text that is no JSON", "\u{0}\u{7f}\u{feff}version"),
    ];
    for (what, request) in requests {
        let conversation = subject.call(BUILD, request).map_err(|fault| fault.when(&format!("it was asked {what}")))?;
        refuses(conversation.answer, what)?;
    }
    subject.is_unchanged()
}

fn refuses(answer: Result<String, BuildError>, what: &str) -> Result<(), Fault> {
    match answer {
        Ok(text) => Err(Fault::Failed(format!("it was asked {what}, and answered `{}`", shortened(&text)))),
        Err(error) if is_panic(&error) => {
            Err(Fault::Failed(format!("it was asked {what}, and panicked: {}", told(&error))))
        }
        Err(_) => Ok(()),
    }
}

/// What there is, and this builder does not offer.
pub(super) fn unoffered(bench: &Bench) -> Result<(), Fault> {
    for (method, feature) in [(LOCK, Feature::Lock), (RENDER, Feature::Render)] {
        if !bench.claims(feature) {
            let request = json(&bench.request(bench.smallest(), "unoffered"))?;
            let what = format!("to {method}, which is not among its features");
            refuses(bench.subject.call(method, &request)?.answer, &what)?;
        }
    }
    if bench.claims(Feature::Find) {
        return Ok(());
    }
    let answer = bench.subject.call(FIND, &json(&bench.request(bench.smallest(), "unoffered"))?)?.answer;
    match answer.as_deref() {
        Ok("null") => Ok(()),
        _ => refuses(answer, "to find, which is not among its features"),
    }
}

/// A request of a later version, that has more to say.
pub(super) fn unknown_fields(bench: &Bench) -> Result<(), Fault> {
    let request = bench.request(bench.full(), "unknown-fields");
    let mut value: Value = serde_json::from_str(&json(&request)?).expect("a request is JSON");
    let news = json!({"of": ["tomorrow", 1, null]});
    value["conformance"] = news.clone();
    value["plan"]["conformance"] = news.clone();
    value["plan"]["config"]["conformance"] = news.clone();
    value["plan"]["base"]["conformance"] = news;
    let report = bench.answer(&value.to_string())?.map_err(|error| refused(&error))?;
    bench.compare(report.digest, "the request had fields that are unknown today")
}
