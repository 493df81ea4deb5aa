//! A builder that builds nothing: the image of a spec that adds nothing to its base is the base.
//!
//! It is here to be read. docs/plugins.md walks through it.

use std::collections::BTreeSet;
use std::time::Instant;

use imagespec_plugin_sdk::core::builder::{
    BuildError, BuildRequest, Builder, Description, FailureKind, Feature, Session,
};
use imagespec_plugin_sdk::core::event::{Event, Outcome};
use imagespec_plugin_sdk::core::plan::Base;
use imagespec_plugin_sdk::core::report::Report;

imagespec_plugin_sdk::export_builder! { name: "noop", make: |_restart| Box::new(Noop) }

/// The builder.
struct Noop;

impl Builder for Noop {
    fn describe(&self) -> Description {
        Description {
            name: "noop".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "answers with the base and builds nothing".to_owned(),
            // What is not named here is refused before `build` is called: a spec with packages never comes here.
            features: BTreeSet::from([Feature::BaseRegistry, Feature::OutputStore, Feature::OutputRegistry]),
            options_schema: serde_json::json!({"type": "object", "properties": {}, "additionalProperties": false}),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        session.event(Event::StepStarted { step: 0, title: "look at the base".to_owned() });
        // Whoever asks a builder to stop hears that it did.
        if session.is_cancelled() {
            return Err(failure(FailureKind::Cancelled, "the build was cancelled"));
        }
        let Base::Registry(base) = &request.plan.base else {
            return Err(failure(FailureKind::Internal, "a base came that was not offered"));
        };
        let Some(digest) = base.digest() else {
            // A mistake of the user's: what is wrong, at which field, and what to do.
            let error = failure(FailureKind::Spec, &format!("the base `{}` has no digest", base.familiar()));
            return Err(error.field("base_image").hint("write it as `NAME@sha256:…`: nothing is looked up here"));
        };
        tracing::debug!(%digest, "the base is the image");
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let summary = base.familiar();
        session.event(Event::StepFinished { step: 0, duration_ms, outcome: Outcome::Cached, summary });
        // The image is another than the one that was asked for, and says so.
        Ok(Report { digest, images: Vec::new(), name: Some(base.clone()), duration_ms })
    }
}

fn failure(kind: FailureKind, message: &str) -> BuildError {
    BuildError { kind, message: message.to_owned(), causes: Vec::new(), hints: Vec::new(), field: None }
}
