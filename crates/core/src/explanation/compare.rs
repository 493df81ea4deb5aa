//! What two plans differ in. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::HashedPlan;
use super::parts::{Part, PartValue, parts};
use crate::plan::wire;
use crate::spec::Spec;

/// One reason why two hashes differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The field of the spec: `env`, or `base_image.env` for that of the spec beneath.
    pub field: String,
    /// Which of the field's values it is: a package, a variable, a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What happened to it.
    #[serde(flatten)]
    pub change: Change,
}

/// What happened to a part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// It was not there before.
    Added {
        /// What it is.
        after: PartValue,
    },
    /// It is there no more.
    Removed {
        /// What it was.
        before: PartValue,
    },
    /// It has another value.
    Value {
        /// What it was.
        before: PartValue,
        /// What it is.
        after: PartValue,
    },
    /// A file has another content, or a package of the same version has.
    Content {
        /// What it was.
        before: PartValue,
        /// What it is.
        after: PartValue,
    },
    /// A file may be executed now, or no more.
    Mode {
        /// Whether it may be now.
        executable: bool,
    },
    /// A package may have archives with other digests.
    Hashes {
        /// Those that it might have.
        before: Vec<String>,
        /// Those that it may have.
        after: Vec<String>,
    },
    /// A list has other values.
    List {
        /// Those that are there no more.
        removed: Vec<String>,
        /// Those that were not there.
        added: Vec<String>,
    },
    /// The same values in another order.
    Order {
        /// The order that they have now.
        after: Vec<String>,
    },
}

/// Why `after`, the plan of `spec`, has another hash than `before`: empty if it has the same.
pub fn compare(before: &HashedPlan, after: &HashedPlan, spec: &Spec) -> Vec<Difference> {
    let mut differences = Vec::new();
    if before.scheme() != after.scheme() {
        let text = |plan: &HashedPlan| PartValue::Text { text: plan.scheme().to_string() };
        let change = Change::Value { before: text(before), after: text(after) };
        differences.push(Difference { field: "hash scheme".to_owned(), subject: None, change });
    }
    let (before, after) = (before.as_short_as(after), after.as_short_as(before));
    let (before, after) = (before.locked_beside(&after), after.locked_beside(&before));
    let (old, new) = (parts(&before, spec), parts(&after, spec));
    let (old, new) = (by_name(&old), by_name(&new));
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let of = |part: &Part, change| Difference { field: part.field.clone(), subject: part.subject.clone(), change };
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old.value == new.value => {}
            (Some(old), Some(new)) => differences.extend(changes(old, new).into_iter().map(|change| of(new, change))),
            (Some(old), None) => differences.push(of(old, Change::Removed { before: old.value.clone() })),
            (None, Some(new)) => differences.push(of(new, Change::Added { after: new.value.clone() })),
            (None, None) => unreachable!("every name is that of a part"),
        }
    }
    if differences.is_empty() && before.plan() != after.plan() {
        let text = |plan: &HashedPlan| PartValue::Text { text: wire::canonical(plan.plan()) };
        let change = Change::Value { before: text(&before), after: text(&after) };
        differences.push(Difference { field: "plan".to_owned(), subject: None, change });
    }
    differences
}

type Name = (Vec<(usize, String)>, Option<String>);

fn by_name(parts: &[Part]) -> BTreeMap<Name, &Part> {
    parts.iter().map(|part| ((part.rank(), part.subject.clone()), part)).collect()
}

fn changes(old: &Part, new: &Part) -> Vec<Change> {
    let (before, after) = (old.value.clone(), new.value.clone());
    match (&old.value, &new.value) {
        (
            PartValue::File { digest: old_digest, size_bytes: old_size, executable: was },
            PartValue::File { digest, size_bytes, executable },
        ) => {
            let is_other = (old_digest, old_size) != (digest, size_bytes);
            let content = is_other.then_some(Change::Content { before, after });
            let mode = (was != executable).then_some(Change::Mode { executable: *executable });
            content.into_iter().chain(mode).collect()
        }
        (PartValue::Content { .. }, PartValue::Content { .. })
        | (PartValue::LeftOut { .. }, PartValue::LeftOut { .. }) => {
            vec![Change::Content { before, after }]
        }
        (PartValue::Locked { version: old, .. }, PartValue::Locked { version: new, .. }) if old == new => {
            vec![Change::Content { before, after }]
        }
        (PartValue::Package { text: old, hashes: before }, PartValue::Package { text: new, hashes: after })
            if old == new =>
        {
            vec![Change::Hashes { before: before.clone(), after: after.clone() }]
        }
        (PartValue::List { items: old }, PartValue::List { items: new }) => vec![of_lists(old, new)],
        _ => vec![Change::Value { before, after }],
    }
}

/// What differs between the values that both begin with and those that both end with.
fn of_lists(old: &[String], new: &[String]) -> Change {
    let sorted = |items: &[String]| {
        let mut items = items.to_vec();
        items.sort();
        items
    };
    if sorted(old) == sorted(new) {
        return Change::Order { after: new.to_vec() };
    }
    let first = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    Change::List { removed: old[..old.len() - last].to_vec(), added: new[..new.len() - last].to_vec() }
}
