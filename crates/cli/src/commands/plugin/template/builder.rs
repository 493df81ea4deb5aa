//! The builder `@name@`: the image of a spec that adds nothing to its base is the base, and it says hello.
//!
//! It is a beginning that builds and runs. Make [`Builder::build`] do what you want, and have [`Builder::describe`] name
//! the features that it has.

use std::collections::BTreeSet;
use std::time::Instant;

use imagespec_plugin_sdk::core::builder::{
    BuildError, BuildRequest, Builder, Description, FailureKind, Feature, Session,
};
use imagespec_plugin_sdk::core::event::{Event, Outcome};
use imagespec_plugin_sdk::core::plan::Base;
use imagespec_plugin_sdk::core::report::Report;
use serde_json::{Value, json};

/// What users choose it by.
pub const NAME: &str = "@name@";

/// What it says unless it is told otherwise.
const GREETING: &str = "hello";

/// The builder. It is called from several threads at once, and keeps nothing from one build to the next.
pub struct @type@;

impl Builder for @type@ {
    fn describe(&self) -> Description {
        Description {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "answers with the base and says hello".to_owned(),
            // A spec that needs more is refused before `build` is called, with the line that asks for it.
            features: BTreeSet::from([
                Feature::BaseRegistry,
                Feature::OutputStore,
                Feature::OutputRegistry,
            ]),
            // imagespec checks what users set against it: names, types and, where there is one, `enum`.
            options_schema: json!({
                "type": "object",
                "properties": {
                    "greeting": {
                        "type": "string",
                        "description": "what it says; `hello` by default",
                    },
                },
                "additionalProperties": false,
            }),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        let options = &request.options;
        let greeting = options
            .get("greeting")
            .and_then(Value::as_str)
            .unwrap_or(GREETING);

        // Users see events. A step that began and has not ended is shown as running.
        let (step, title) = (0, format!("greet {}", request.name.familiar()));
        session.event(Event::StepStarted { step, title });
        session.event(Event::Output {
            step,
            line: greeting.to_owned(),
        });

        // Ask often, before each piece of work: whoever asks a builder to stop wants it to stop soon.
        if session.is_cancelled() {
            return Err(failure(FailureKind::Cancelled, "the build was cancelled"));
        }

        let Base::Registry(base) = &request.plan.base else {
            let message = "a base came that was not offered";
            return Err(failure(FailureKind::Internal, message));
        };
        let Some(digest) = base.digest() else {
            // A mistake of the user's: what is wrong, in which field of the spec, and what to do.
            let message = format!("the base `{}` has no digest", base.familiar());
            let error = failure(FailureKind::Spec, &message).field("base_image");
            return Err(error.hint("write it as `NAME@sha256:…`: nothing is looked up here"));
        };
        // Developers see this, with `RUST_LOG=@crate@=debug`.
        tracing::debug!(%digest, "the base is the image");

        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (outcome, summary) = (Outcome::Done, base.familiar());
        session.event(Event::StepFinished {
            step,
            duration_ms,
            outcome,
            summary,
        });
        // `name` says that the image is another one than the request asked for. A builder that makes images answers
        // `None`, and one entry of `images` for each platform.
        Ok(Report {
            digest,
            images: Vec::new(),
            name: Some(base.clone()),
            duration_ms,
        })
    }
}

fn failure(kind: FailureKind, message: &str) -> BuildError {
    let (message, causes, hints) = (message.to_owned(), Vec::new(), Vec::new());
    BuildError {
        kind,
        message,
        causes,
        hints,
        field: None,
    }
}
