//! Lines for developers, forwarded to the program: tracing's statics are each library's own, so that the program's
//! subscriber never sees what a plugin says. Spans are not forwarded.

use std::fmt::{self, Debug};

use imagespec_plugin_abi::{Host, RStr};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

/// A subscriber that asks the program who wants a line, and gives it to it.
pub(crate) struct Forward {
    host: Host,
}

impl Forward {
    /// Makes it the subscriber of this library, if that has none.
    pub(crate) fn install(host: Host) {
        // One that the author installed stays.
        let _ = tracing::subscriber::set_global_default(Self { host });
    }
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (self.host.trace_enabled)(number(*metadata.level()), RStr::from_str(metadata.target()))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = json!({
            "level": number(*metadata.level()),
            "target": metadata.target(),
            "message": fields.message,
            "fields": fields.others,
        });
        (self.host.trace)(RStr::from_str(&line.to_string()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, &value);
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: &dyn fmt::Display) {
        match field.name() {
            "message" => self.message = value.to_string(),
            name => drop(self.others.insert(name.to_owned(), value.to_string().into())),
        }
    }
}
