//! A plan as it is hashed and as an image carries it: `{"kind": "plan", "plan": …, "scheme": 1}`. Pure.

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::hash::{self, SCHEME, SpecHash};
use crate::plan::{Plan, wire};

/// How long the document may be that an image carries. Registries' clients read configs of up to 4 MiB.
const CARRIED_SIZE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The member that stands in place of a part that was left out.
const LEFT_OUT: &str = "imagespec.left-out";

/// A plan with the number of the scheme that it is hashed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedPlan {
    scheme: u64,
    plan: Map<String, Value>,
}

/// A document that holds no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPlan {
    /// Not the members of a plan.
    #[error("it has no plan in it")]
    Shape,
    /// A step or a base of no known form.
    #[error("its plan is damaged")]
    Damaged,
}

/// What stands in place of a part of the plan that is too long to be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Digest of the part's canonical JSON.
    pub(super) digest: Digest,
    /// Its entries.
    pub(super) count: u64,
}

impl HashedPlan {
    /// The plan without its secrets, as it is hashed.
    pub fn of(plan: &Plan) -> Self {
        let value = serde_json::to_value(wire::hashed(plan)).expect("a plan has only string keys");
        let Value::Object(plan) = value else { unreachable!("a plan is written as an object") };
        Self { scheme: u64::from(SCHEME), plan }
    }

    /// Reads what an image carries, or a plan as `imagespec plan --format json` prints it.
    ///
    /// # Errors
    /// When `value` is neither.
    pub fn from_json(value: Value) -> Result<Self, NotAPlan> {
        let Value::Object(mut document) = value else { return Err(NotAPlan::Shape) };
        let (scheme, plan) = match (document.get("scheme").and_then(Value::as_u64), document.remove("plan")) {
            (Some(scheme), Some(Value::Object(plan))) => (scheme, plan),
            (None, None) if document.contains_key("steps") => (u64::from(SCHEME), document),
            _ => return Err(NotAPlan::Shape),
        };
        let mut hashed = Self { scheme, plan };
        check(&hashed.plan)?;
        forget_secrets(&mut hashed.plan);
        Ok(hashed)
    }

    /// The number of the scheme that it is hashed by.
    pub fn scheme(&self) -> u64 {
        self.scheme
    }

    /// Its hash. None of a plan with parts left out.
    pub fn hash(&self) -> Option<SpecHash> {
        let document = self.document();
        (!holds_left_out(&document)).then(|| hash::of_document(&document))
    }

    /// The document that images carry: it is what is hashed, but the longest parts are left out of one that would be too
    /// long for the config of an image.
    pub fn carried(&self) -> Value {
        let mut document = self.document();
        while wire::canonical(&document).len() > CARRIED_SIZE_BYTES_MAX {
            leave_longest_out(&mut document);
        }
        document.sort_all_objects();
        document
    }

    pub(super) fn plan(&self) -> &Map<String, Value> {
        &self.plan
    }

    /// The same, with the parts left out that `other` leaves out.
    pub(super) fn as_short_as(&self, other: &Self) -> Self {
        let mut plan = Value::Object(self.plan.clone());
        shorten(&mut plan, &Value::Object(other.plan.clone()));
        match plan {
            Value::Object(plan) => Self { scheme: self.scheme, plan },
            _ => self.clone(),
        }
    }

    /// The same, with one word for each lock that `other` has none for: what it holds would be no difference of
    /// versions.
    pub(super) fn locked_beside(&self, other: &Self) -> Self {
        let mut plan = self.plan.clone();
        name_lock(&mut plan, &other.plan);
        Self { scheme: self.scheme, plan }
    }

    fn document(&self) -> Value {
        json!({ "kind": "plan", "plan": self.plan, "scheme": self.scheme })
    }
}

impl LeftOut {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let left_out = value.as_object().filter(|object| object.len() == 1)?.get(LEFT_OUT)?;
        let digest = left_out.get("digest")?.as_str()?.parse().ok()?;
        Some(Self { digest, count: left_out.get("count")?.as_u64()? })
    }
}

/// The members that everything here relies on.
fn check(plan: &Map<String, Value>) -> Result<(), NotAPlan> {
    let has_steps = plan.get("steps").and_then(Value::as_array).is_some_and(|steps| {
        steps.iter().all(|step| step.get("kind").is_some_and(Value::is_string) || LeftOut::of(step).is_some())
    });
    let base = plan.get("base").and_then(Value::as_object).ok_or(NotAPlan::Damaged)?;
    match base.get("plan") {
        Some(Value::Object(nested)) if !nested.contains_key(LEFT_OUT) => check(nested)?,
        _ => {}
    }
    if has_steps && plan.get("config").is_some_and(Value::is_object) { Ok(()) } else { Err(NotAPlan::Damaged) }
}

fn forget_secrets(plan: &mut Map<String, Value>) {
    for step in plan.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten() {
        step.as_object_mut().into_iter().for_each(|step| drop(step.shift_remove("secrets")));
    }
    if let Some(Value::Object(nested)) = plan.get_mut("base").and_then(|base| base.get_mut("plan")) {
        forget_secrets(nested);
    }
}

fn holds_left_out(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.contains_key(LEFT_OUT) || members.values().any(holds_left_out),
        Value::Array(items) => items.iter().any(holds_left_out),
        _ => false,
    }
}

fn left_out(value: &Value) -> Value {
    let count = value.as_object().map(Map::len).or(value.as_array().map(Vec::len)).unwrap_or(1);
    let digest = Digest::of(wire::canonical(value).as_bytes()).to_string();
    json!({ LEFT_OUT: { "count": count, "digest": digest } })
}

/// Goes down to the longest child for as long as that has most of what its parent has, and leaves out what it comes to.
fn leave_longest_out(value: &mut Value) {
    let length = wire::canonical(value).len();
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Object(members) => Box::new(members.values_mut()),
        Value::Array(items) => Box::new(items.iter_mut()),
        _ => Box::new(std::iter::empty()),
    };
    match children.max_by_key(|child| wire::canonical(child).len()) {
        Some(longest) if wire::canonical(longest).len() > length / 2 => leave_longest_out(longest),
        _ => *value = left_out(value),
    }
}

fn name_lock(plan: &mut Map<String, Value>, other: &Map<String, Value>) {
    if !other.contains_key("lock")
        && let Some(lock) = plan.get_mut("lock")
    {
        *lock = "locked".into();
    }
    let nested = plan.get_mut("base").and_then(|base| base.get_mut("plan"));
    if let (Some(Value::Object(nested)), Some(Value::Object(other))) =
        (nested, other.get("base").and_then(|base| base.get("plan")))
    {
        name_lock(nested, other);
    }
}

/// Leaves out of `value` what `other` leaves out. Steps are found by their kind.
fn shorten(value: &mut Value, other: &Value) {
    if LeftOut::of(other).is_some() {
        if LeftOut::of(value).is_none() {
            *value = left_out(value);
        }
        return;
    }
    match (value, other) {
        (Value::Object(members), Value::Object(others)) => {
            for (name, member) in members {
                others.get(name).into_iter().for_each(|other| shorten(member, other));
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            for item in items.iter_mut().filter(|item| item.get("kind").is_some()) {
                let other = others.iter().find(|other| other.get("kind") == item.get("kind"));
                other.into_iter().for_each(|other| shorten(item, other));
            }
        }
        _ => {}
    }
}
