//! Lines for developers that plugins say, said again with this program's tracing, under the plugin's own targets: the
//! filter that the user set decides.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use serde_json::Value;
use tracing::callsite::{Callsite, Identifier};
use tracing::field::FieldSet;
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};

/// So many targets are known at most: each is kept for ever, as tracing wants it.
const TARGETS_MAX: usize = 1000;

/// A place in the source of a plugin, as tracing knows places.
struct Place(OnceLock<Metadata<'static>>);

impl Callsite for Place {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("it is set when it is made")
    }
}

/// Whether anybody wants lines of `level` (1 for errors to 5 for traces) from `target`.
pub(crate) fn is_enabled(level: u8, target: &str) -> bool {
    let Some(metadata) = metadata(level, target) else { return false };
    tracing::dispatcher::get_default(|dispatch| dispatch.enabled(metadata))
}

/// Where lines go instead, in a worker: the filter is here, and whoever shows them is the program.
static ELSEWHERE: OnceLock<Elsewhere> = OnceLock::new();

type Elsewhere = Box<dyn Fn(&str) + Send + Sync>;

/// Has every line handed to `elsewhere` from now on.
pub(crate) fn forward(elsewhere: impl Fn(&str) + Send + Sync + 'static) {
    assert!(ELSEWHERE.set(Box::new(elsewhere)).is_ok(), "a process serves one conversation");
}

/// Says a line again. One that is not readable is dropped.
pub(crate) fn emit(json: &str) {
    if let Some(elsewhere) = ELSEWHERE.get() {
        return elsewhere(json);
    }
    let Ok(line) = serde_json::from_str::<Value>(json) else { return };
    let level = line["level"].as_u64().and_then(|level| u8::try_from(level).ok()).unwrap_or_default();
    let Some(metadata) = metadata(level, line["target"].as_str().unwrap_or("plugin")) else { return };
    let fields = line["fields"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, value)| format!(" {name}={}", value.as_str().unwrap_or_default()));
    let text: String = std::iter::once(line["message"].as_str().unwrap_or_default().to_owned()).chain(fields).collect();
    let text = text.replace(|character: char| character.is_control() && character != '\t', "\u{fffd}");
    tracing::dispatcher::get_default(|dispatch| {
        if dispatch.enabled(metadata) {
            let names = metadata.fields();
            let field = names.field("message").expect("it is the one field");
            let said = format_args!("{text}");
            let values = [(&field, Some(&said as &dyn tracing::Value))];
            dispatch.event(&tracing::Event::new(metadata, &names.value_set(&values)));
        }
    });
}

/// What tracing wants to know of a place: for each level and target one, that is made the first time.
fn metadata(level: u8, target: &str) -> Option<&'static Metadata<'static>> {
    static KNOWN: Mutex<Option<HashMap<(u8, String), &'static Metadata<'static>>>> = Mutex::new(None);
    let level_of = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let tracing_level = *level_of.get(usize::from(level).checked_sub(1)?)?;
    let mut known = KNOWN.lock().expect("nobody panics while it is held");
    let known = known.get_or_insert_default();
    let key = (level, target.to_owned());
    if let Some(metadata) = known.get(&key) {
        return Some(metadata);
    }
    if known.len() >= TARGETS_MAX {
        return None;
    }
    let place: &'static Place = Box::leak(Box::new(Place(OnceLock::new())));
    let fields = FieldSet::new(&["message"], Identifier(place));
    let target: &'static str = Box::leak(target.to_owned().into_boxed_str());
    let metadata =
        place.0.get_or_init(|| Metadata::new("plugin", target, tracing_level, None, None, None, fields, Kind::EVENT));
    known.insert(key, metadata);
    Some(metadata)
}
