//! Parts of a hash and differences between two, as text and as JSON.

use imagespec_core::event::size;
use imagespec_core::explanation::{Change, Difference, Part, PartValue};
use imagespec_core::hash::SpecHash;
use serde_json::{Value, json};

use crate::prepare::Prepared;
use crate::text::{printable, shortened};

/// Characters of a value that are shown.
const VALUE_CHARACTERS_MAX: usize = 100;
/// Characters of a digest that are shown, as tools show them.
const DIGEST_CHARACTERS: usize = "sha256:".len() + 12;

/// One of two that are compared.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) scheme: u64,
    /// None where the image carries a part of its plan only.
    pub(crate) spec_hash: Option<SpecHash>,
}

/// What two plans differ in.
pub(crate) struct Comparison {
    pub(crate) before: Side,
    pub(crate) after: Side,
    pub(crate) differences: Vec<Difference>,
    /// Fields that differ and do not count.
    pub(crate) uncounted: Vec<&'static str>,
}

impl Comparison {
    /// For people, a line for each difference, grouped by field.
    pub(crate) fn text(&self) -> String {
        let width = width(self.differences.iter().map(|difference| difference.field.as_str()));
        let mut text = self.before.line("before", width) + &self.after.line("after", width) + "\n";
        if self.before.scheme != self.after.scheme {
            text.push_str("hashes of two schemes differ even where the specs are the same\n");
        }
        if self.differences.is_empty() {
            text.push_str("the same: nothing that counts differs\n");
        }
        let mut last = "";
        for difference in &self.differences {
            for line in lines(difference) {
                let field = if difference.field == last { "" } else { &difference.field };
                text.push_str(&format!("{:<width$}  {line}\n", printable(field)));
                last = &difference.field;
            }
        }
        if !self.uncounted.is_empty() {
            text.push_str(&format!("differs and does not count: {}\n", self.uncounted.join(", ")));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        to_text(&json!({
            "same": self.differences.is_empty(),
            "before": self.before.json(),
            "after": self.after.json(),
            "differences": self.differences,
            "uncounted": self.uncounted,
        }))
    }
}

impl Side {
    fn line(&self, which: &str, width: usize) -> String {
        let hash = self.spec_hash.as_ref().map(SpecHash::as_str);
        let hash = hash.filter(|hash| !self.name.contains(hash)).map(|hash| format!("  {hash}")).unwrap_or_default();
        format!("{which:<width$}  {}{hash}\n", printable(&self.name))
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "spec_hash": self.spec_hash, "scheme": self.scheme })
    }
}

/// What the hash of a spec is made of, for people.
pub(crate) fn composition(prepared: &Prepared, parts: &[Part]) -> String {
    let width = width(parts.iter().map(|part| part.field.as_str()));
    let line = |name: &str, value: &str| format!("{name:<width$}  {value}\n");
    let mut text = line("name", &prepared.name.familiar()) + &line("spec hash", prepared.spec_hash.as_str()) + "\n";
    let mut last = "";
    for part in parts {
        let items = match (&part.value, &part.subject) {
            (PartValue::List { items }, None) => items.iter().map(|item| shown(item)).collect(),
            (value, Some(subject)) => vec![named(subject, value)],
            (value, None) => vec![describe(value)],
        };
        for item in items {
            let field = if part.field == last { "" } else { &part.field };
            text.push_str(&line(&printable(field), &item));
            last = &part.field;
        }
    }
    text
}

/// The same for programs.
pub(crate) fn composition_json(prepared: &Prepared, parts: &[Part]) -> String {
    to_text(&json!({ "name": prepared.name.familiar(), "spec_hash": prepared.spec_hash, "parts": parts }))
}

/// What is said of a difference: `+ pandas>=2`.
fn lines(difference: &Difference) -> Vec<String> {
    let subject = difference.subject.as_deref();
    let all = |value: &PartValue| match subject {
        Some(subject) => named(subject, value),
        None => describe(value),
    };
    let signed = |sign: char, value: &PartValue| match (value, subject) {
        (PartValue::List { items }, None) => items.iter().map(|item| format!("{sign} {}", shown(item))).collect(),
        (value, _) => vec![format!("{sign} {}", all(value))],
    };
    let name = subject.map(|subject| format!("{} ", shown(subject))).unwrap_or_default();
    let prefix = subject.map(|subject| format!("{}: ", shown(subject))).unwrap_or_default();
    match &difference.change {
        Change::Added { after } => signed('+', after),
        Change::Removed { before } => signed('-', before),
        Change::Value { before, after } => {
            let prefix = match after {
                // The name is a part of the text.
                PartValue::Package { .. } => "",
                PartValue::Locked { .. } => &name,
                _ => &prefix,
            };
            vec![format!("~ {prefix}{} → {}", describe(before), describe(after))]
        }
        Change::Content { before, after } => vec![format!("~ {name}({})", content(before, after))],
        Change::Mode { executable } => {
            let mode = if *executable { "executable now" } else { "no longer executable" };
            vec![format!("~ {prefix}{mode}")]
        }
        Change::Hashes { .. } => vec![format!("~ {name}(hashes)")],
        Change::List { removed, added } => {
            let of = |sign: char, items: &[String]| -> Vec<_> {
                items.iter().map(|item| format!("{sign} {prefix}{}", shown(item))).collect()
            };
            [of('-', removed), of('+', added)].concat()
        }
        Change::Order { after } => {
            vec![format!("~ {prefix}in another order: {}", shown(&after.join(", ")))]
        }
    }
}

fn content(before: &PartValue, after: &PartValue) -> String {
    match (before, after) {
        (PartValue::File { size_bytes: old, .. }, PartValue::File { size_bytes: new, .. }) if old != new => {
            format!("content, {} → {}", size(*old), size(*new))
        }
        (PartValue::LeftOut { count: old, .. }, PartValue::LeftOut { count: new, .. }) if old != new => {
            format!("{old} → {new}, too many for the image to list")
        }
        (PartValue::LeftOut { count, .. }, _) => format!("some of {count}, too many for the image to list"),
        (PartValue::Locked { version, .. }, _) => format!("{} with other content", shown(version)),
        _ => "content".to_owned(),
    }
}

/// A value with its name, which some values have in them.
fn named(subject: &str, value: &PartValue) -> String {
    let subject = shown(subject);
    match value {
        PartValue::Package { .. } => describe(value),
        PartValue::Member => subject,
        PartValue::Text { .. } => format!("{subject} = {}", describe(value)),
        PartValue::Link { .. } => format!("{subject} → {}", describe(value)),
        PartValue::Directory => format!("{subject}/"),
        _ => format!("{subject}  {}", describe(value)),
    }
}

fn describe(value: &PartValue) -> String {
    let digest = |digest: &str| digest.chars().take(DIGEST_CHARACTERS).collect::<String>();
    match value {
        PartValue::Text { text } if text.is_empty() => "\"\"".to_owned(),
        PartValue::Text { text } | PartValue::Package { text, .. } => shown(text),
        PartValue::Member => String::new(),
        PartValue::Locked { version, .. } => shown(version),
        PartValue::Words { words } => shown(&format!("{words:?}")),
        PartValue::List { items } => shown(&items.join(", ")),
        PartValue::File { digest: of, size_bytes, executable } => {
            let mode = if *executable { ", executable" } else { "" };
            format!("{}  {}{mode}", shown(&digest(of)), size(*size_bytes))
        }
        PartValue::Link { target } => shown(target),
        PartValue::Directory => "an empty folder".to_owned(),
        PartValue::Content { digest: of } => shown(&digest(of)),
        PartValue::LeftOut { digest: of, count } => {
            format!("{}  {count}, too many for the image to list", digest(&of.to_string()))
        }
    }
}

/// Words of a plan, which somebody else may have written.
fn shown(text: &str) -> String {
    printable(&shortened(text, VALUE_CHARACTERS_MAX))
}

fn width<'a>(fields: impl Iterator<Item = &'a str>) -> usize {
    fields.map(|field| printable(field).chars().count()).max().unwrap_or_default().clamp("spec hash".len(), 40)
}

fn to_text(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("what is explained has only string keys")
}
