//! A builder that does what its option `do` says, and nothing of it is good. With HOSTILE_WHILE_LOADED it does so before
//! anybody asks it to build.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use imagespec_plugin_sdk::core::builder::{
    BuildError, BuildRequest, Builder, Description, FailureKind, Feature, Session,
};
use imagespec_plugin_sdk::core::digest::Digest;
use imagespec_plugin_sdk::core::event::{Event, Outcome, Unit};
use imagespec_plugin_sdk::core::hash::SpecHash;
use imagespec_plugin_sdk::core::plan::Base;
use imagespec_plugin_sdk::core::report::Report;

imagespec_plugin_sdk::export_builder! { name: "hostile", make: |_restart| Box::new(Hostile) }

/// The builder.
pub struct Hostile;

impl Builder for Hostile {
    fn describe(&self) -> Description {
        if let Ok(deed) = std::env::var("HOSTILE_WHILE_LOADED") {
            do_it(&deed, None);
        }
        Description {
            name: "hostile".to_owned(),
            version: "6.6.6".to_owned(),
            summary: "a pleasure to work with".to_owned(),
            features: BTreeSet::from([
                Feature::BaseScratch,
                Feature::BaseOciLayout,
                Feature::BaseNested,
                Feature::Render,
                Feature::Find,
                Feature::CacheExport,
                Feature::Ssh,
                Feature::OutputStore,
            ]),
            options_schema: serde_json::json!({
                "type": "object",
                "properties": { "do": { "type": "string" }, "events": { "type": "integer" } },
                "additionalProperties": false,
            }),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        for number in 0..request.options.get("events").and_then(serde_json::Value::as_u64).unwrap_or_default() {
            session.event(Event::StepProgress { step: 0, done: number, total: None, unit: Unit::Items });
        }
        let deed = deed(request);
        if deed == "gossip" {
            gossip(request, session);
        }
        do_it(deed, Some(session));
        let message = "the image was not made".to_owned();
        match session.is_cancelled() {
            true => Err(BuildError {
                kind: FailureKind::Cancelled,
                message,
                causes: Vec::new(),
                hints: Vec::new(),
                field: None,
            }),
            // Nothing was made, which a report must admit by the name of what there is instead.
            false => {
                let name = (deed != "lie").then(|| request.name.clone());
                Ok(Report { digest: Digest::of(b""), images: Vec::new(), name, duration_ms: 0 })
            }
        }
    }

    fn find(&self, request: &BuildRequest, session: &dyn Session) -> Result<Option<Report>, BuildError> {
        let deed = deed(request);
        if deed == "gossip" {
            let message = format!("asked for {} of {}", SpecHash::of(&request.plan), request.spec_hash);
            session.event(Event::Notice { message });
        }
        match deed {
            "keep" => {
                let name = Some(request.name.clone());
                Ok(Some(Report { digest: Digest::of(b"kept"), images: Vec::new(), name, duration_ms: 0 }))
            }
            "be deaf" => Err(BuildError::of(FailureKind::Machine, "nobody answers").hint("speak up")),
            _ => Ok(None),
        }
    }

    fn render(
        &self,
        request: &BuildRequest,
        folder: Option<&Path>,
        session: &dyn Session,
    ) -> Result<String, BuildError> {
        if let Some(folder) = folder {
            fs::write(folder.join("recipe"), "half of it").expect("it can be written");
        }
        do_it(deed(request), Some(session));
        let base = match &request.plan.base {
            Base::OciLayout { .. } => "a layout",
            _ => "nothing",
        };
        let text = format!("an image on {base}, with {} secrets\n", request.secrets.len());
        if let Some(folder) = folder {
            fs::write(folder.join("recipe"), &text).expect("it can be written");
        }
        Ok(text)
    }
}

fn deed(request: &BuildRequest) -> &str {
    request.options.get("do").and_then(|deed| deed.as_str()).unwrap_or_default()
}

/// Tells everybody what it was asked.
fn gossip(request: &BuildRequest, session: &dyn Session) {
    let tell = |message: String| session.event(Event::Notice { message });
    tell(format!("plan {} of {}", SpecHash::of(&request.plan), request.spec_hash));
    tell(format!("cache to {:?}, ssh agent {:?}", request.cache_to, request.ssh_agent));
    let mut base = &request.plan.base;
    while let Base::Plan(plan) = base {
        base = &plan.base;
    }
    if let Base::OciLayout { digest } = base {
        let index = request.base_paths.get(digest).map(|folder| fs::read_to_string(folder.join("index.json")));
        let has_it = index.is_some_and(|index| index.is_ok_and(|index| index.contains(&digest.to_string())));
        tell(format!("base is a layout, which is {}", if has_it { "there" } else { "not there" }));
    }
    session.event(Event::StepStarted { step: 0, title: "gossip".to_owned() });
    let (outcome, summary) = (Outcome::Done, String::new());
    session.event(Event::StepFinished { step: 0, duration_ms: 0, outcome, summary });
}

fn do_it(deed: &str, session: Option<&dyn Session>) {
    let event = |event| {
        if let Some(session) = session {
            session.event(event);
        }
    };
    match deed {
        // What a bug in a C library does.
        "segfault" => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "panic" => panic!("at the disco"),
        "overflow" => drop(overflow(0)),
        "hang" => loop {
            thread::sleep(Duration::from_secs(3600));
        },
        "flood" => loop {
            event(Event::Notice { message: "buy now".to_owned() });
        },
        "print" => {
            println!("registry.example/evil:latest");
            // It would go on as if nothing had been.
            thread::sleep(Duration::from_secs(3600));
        }
        "complain" => {
            std::io::stderr().write_all(b"malloc(): corrupted top size\n\x1b[2J").expect("it can be written");
            std::process::abort();
        }
        "command" => event(Event::Notice { message: "\u{1b}]0;owned\u{7}".to_owned() }),
        "leave a child" => drop(Command::new("sleep").arg("3600").spawn().expect("there is a `sleep`")),
        "trace" => {
            tracing::debug!(answer = 42, "said by the builder");
            tracing::trace!("said by nobody");
        }
        "lie" | "gossip" | "keep" | "be deaf" => {}
        other => assert_eq!(other, "", "there is no such deed"),
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> [u64; 1024] {
    let mut frame = overflow(depth + 1);
    frame[0] += depth;
    frame
}
