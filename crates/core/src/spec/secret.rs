//! The entries of `secrets` and `pip_secret_mounts`. Values of secrets are never here.

use super::check;
use super::decode::Decoder;
use super::error::Refusal;
use super::field::Field;
use crate::document::{Entry, Node, Scalar, ScalarKind, Value};
use crate::place::Located;
use crate::plan::{SecretMount, SecretTarget};
use crate::suggestion;

/// Where a secret is found that says no other place.
const FOLDER: &str = "/run/secrets";
/// The keys of an entry.
pub(crate) const KEYS: [&str; 3] = ["id", "target", "env"];

/// Reads one entry: an id alone, or `{id, target}`, or `{id, env}`.
pub(crate) fn read(decoder: &mut Decoder, field: &Field, index: usize, node: &Node) -> Option<Located<SecretMount>> {
    match &node.value {
        Value::Scalar(Scalar { kind, text }) if *kind != ScalarKind::Null => {
            let id = Located { value: text.clone(), place: node.place.clone() };
            if let Err(refusal) = check::secret_id(&id.value) {
                decoder.refuse(field.name, &id, refusal);
                return None;
            }
            let target = SecretTarget::File(format!("{FOLDER}/{text}"));
            Some(id.map(|id| SecretMount { id, target }))
        }
        Value::Mapping(entries) => mapping(decoder, field, node, entries),
        Value::Sequence(items) => {
            // flytekit writes pairs of a file on this machine and a path in the image.
            let texts: Vec<_> = items.iter().filter_map(text).collect();
            let hint = match texts.as_slice() {
                [source, target] if items.len() == 2 => format!(
                    "write `{{id: NAME, target: {target}}}`, and give the file to the build by `--secret id=NAME,src={source}`"
                ),
                _ => format!("write `{}`", field.example),
            };
            decoder.wrong(&format!("{}[{index}]", field.name), "a mapping or an id", node, hint);
            None
        }
        Value::Scalar(_) => {
            decoder.wrong_entry(field, index, "a mapping or an id", node);
            None
        }
    }
}

fn mapping(decoder: &mut Decoder, field: &Field, node: &Node, entries: &[Entry]) -> Option<Located<SecretMount>> {
    let errors = decoder.errors.len();
    let (mut id, mut target, mut env) = (None, None, None);
    for Entry { key, value } in entries {
        let slot = match key.value.as_str() {
            "id" => &mut id,
            "target" => &mut target,
            "env" => &mut env,
            _ => {
                let suggestion = suggestion::closest(&key.value, KEYS);
                decoder.unknown_key(key, Some(field.name), suggestion, "an entry has `id` with `target` or `env`");
                continue;
            }
        };
        match text(value) {
            Some(text) => *slot = Some(Located { value: text.to_owned(), place: value.place.clone() }),
            None => {
                let name = format!("{}.{}", field.name, key.value);
                decoder.wrong(&name, "a text", value, format!("write `{}`", field.example));
            }
        }
    }
    check_each(decoder, field, &id, check::secret_id, "id");
    check_each(decoder, field, &target, check::absolute_path, "target");
    check_each(decoder, field, &env, check::environment_name, "env");
    if let (Some(_), Some(env)) = (&target, &env) {
        let refusal =
            Refusal::new("an entry has either `target` or `env`").hint("write two entries with the same `id` for both");
        decoder.refuse(&format!("{}.env", field.name), env, refusal);
    }
    if decoder.errors.len() > errors {
        return None;
    }
    let Some(id) = id else {
        decoder.missing(
            format!("an entry of `{}`", field.name),
            "id",
            &node.place,
            &format!("write `{}`", field.example),
        );
        return None;
    };
    let target = match (target, env) {
        (Some(target), _) => SecretTarget::File(target.value),
        (None, Some(env)) => SecretTarget::Environment(env.value),
        (None, None) => SecretTarget::File(format!("{FOLDER}/{}", id.value)),
    };
    Some(Located { value: SecretMount { id: id.value, target }, place: node.place.clone() })
}

fn check_each(
    decoder: &mut Decoder,
    field: &Field,
    text: &Option<Located<String>>,
    check: fn(&str) -> Result<(), Refusal>,
    key: &str,
) {
    if let Some(text) = text
        && let Err(refusal) = check::one_line(&text.value).and_then(|()| check(&text.value))
    {
        decoder.refuse(&format!("{}.{key}", field.name), text, refusal);
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(Scalar { kind, text }) if *kind != ScalarKind::Null => Some(text),
        _ => None,
    }
}
