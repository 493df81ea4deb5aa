//! Puts an image together: config and manifest over a base and further layers. Pure.

use std::collections::BTreeMap;

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::explanation::HashedPlan;
use imagespec_core::plan::{ID_VARIABLE, ImageConfig, Plan, Step, VENV};
use imagespec_core::platform::Platform;
use imagespec_core::runtime;
use imagespec_layout::{CONFIG, INDEX, MANIFEST};
use serde_json::{Map, Value, json};

use crate::base::{BaseImage, ImageLayer};
use crate::inspect::HISTORY_PREFIX;
use crate::python::BasePython;

/// A finished image: its documents as bytes and its layers.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// What it runs on.
    pub(crate) platform: Platform,
    /// The manifest (OCI image-spec, "Image Manifest").
    pub(crate) manifest: Vec<u8>,
    /// Digest of the manifest.
    pub(crate) digest: Digest,
    /// The config (OCI image-spec, "Image Configuration").
    pub(crate) config: Vec<u8>,
    /// Digest of the config.
    pub(crate) config_digest: Digest,
    /// Digest of the base's manifest.
    pub(crate) base_digest: Option<Digest>,
    /// The layers, lowest first.
    pub(crate) layers: Vec<ImageLayer>,
    /// The Python beneath, for an image that stands on this one.
    pub(crate) python: Option<BasePython>,
    /// The distributions of Python that conda installed in it, with their versions.
    pub(crate) distributions: BTreeMap<String, String>,
}

/// Digest and name of the image beneath (OCI image-spec, "Annotations").
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// The member of a config that holds the plan. No label: those reach every container, and images that others make of
/// this one; containerd takes none of more than 4 KiB. Programs ignore a member that they do not know (OCI image-spec,
/// "Image Configuration").
pub(crate) const PLAN: &str = "imagespec.plan";
pub(crate) const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Adds `layers` and the plan's config to `base`.
pub(crate) fn assemble(
    request: &BuildRequest,
    plan: &Plan,
    platform: &Platform,
    base: BaseImage,
    layers: Vec<ImageLayer>,
) -> Image {
    let created = rfc3339(request.timestamp);
    let labels = own_labels(request, &base);
    let mut all = base.layers.clone();
    let mut history = base.config.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    // A base that was made here, and is no image by itself, has no history yet.
    if base.config.is_empty() {
        history.extend(base.layers.iter().map(|layer| created_by(&created, layer)));
    }
    for layer in layers {
        history.push(created_by(&created, &layer));
        all.push(layer);
    }
    let mut config = base.config.clone();
    config.insert("created".into(), created.into());
    config.insert("architecture".into(), platform.architecture().into());
    config.insert("os".into(), platform.os().into());
    match platform.variant() {
        Some(variant) => config.insert("variant".into(), variant.into()),
        None => config.shift_remove("variant"),
    };
    let base_config = config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let container = container_config(base_config, plan, &request.id.to_string(), &labels);
    config.insert("config".into(), container.into());
    let diff_ids: Vec<_> = all.iter().map(|layer| layer.layer.diff_id.to_string()).collect();
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    config.insert("history".into(), history.into());
    config.insert(PLAN.into(), HashedPlan::of(plan).carried());
    let config = to_bytes(&Value::Object(config));
    let config_digest = Digest::of(&config);
    let descriptors: Vec<_> = all
        .iter()
        .map(|layer| {
            json!({
                "mediaType": layer.media_type,
                "digest": layer.layer.digest.to_string(),
                "size": layer.layer.size_bytes,
            })
        })
        .collect();
    let manifest = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config_digest.to_string(), "size": config.len() },
        "layers": descriptors,
        "annotations": labels,
    }));
    Image {
        platform: platform.clone(),
        digest: Digest::of(&manifest),
        manifest,
        config,
        config_digest,
        base_digest: base.digest,
        layers: all,
        python: base.python,
        distributions: base.distributions,
    }
}

/// A line of the history (OCI image-spec, "Image Configuration", property `history`).
fn created_by(created: &str, layer: &ImageLayer) -> Value {
    json!({ "created": created, "created_by": format!("{HISTORY_PREFIX}{}", layer.title) })
}

/// The index over the images of several platforms (OCI image-spec, "Image Index").
pub(crate) fn index(images: &[Image]) -> Vec<u8> {
    let manifests: Vec<_> = images
        .iter()
        .map(|image| {
            let mut platform = Map::new();
            platform.insert("architecture".into(), image.platform.architecture().into());
            platform.insert("os".into(), image.platform.os().into());
            if let Some(variant) = image.platform.variant() {
                platform.insert("variant".into(), variant.into());
            }
            json!({
                "mediaType": MANIFEST,
                "digest": image.digest.to_string(),
                "size": image.manifest.len(),
                "platform": platform,
            })
        })
        .collect();
    to_bytes(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
}

fn container_config(
    mut config: Map<String, Value>,
    plan: &Plan,
    id: &str,
    labels: &Map<String, Value>,
) -> Map<String, Value> {
    let wanted: &ImageConfig = &plan.config;
    let mut env = environment(&config, plan);
    let of_base = env.iter().find(|(name, _)| name == runtime::VARIABLE).map(|(_, value)| value.as_str());
    if let Some(packages) = runtime::variable(plan, of_base) {
        set_variable(&mut env, runtime::VARIABLE, &packages);
    }
    // The last thing set, so that a nested spec's id does not stand in the way.
    env.push((ID_VARIABLE.to_owned(), id.to_owned()));
    config.insert("Env".into(), env.iter().map(|(name, value)| format!("{name}={value}")).collect());
    config.insert("WorkingDir".into(), wanted.workdir.clone().into());
    if let Some(user) = &wanted.user {
        config.insert("User".into(), user.clone().into());
    }
    if let Some(entrypoint) = &wanted.entrypoint {
        set_or_remove(&mut config, "Entrypoint", entrypoint);
        // The base's arguments were meant for the base's entry point.
        config.shift_remove("Cmd");
    }
    if let Some(cmd) = &wanted.cmd {
        set_or_remove(&mut config, "Cmd", cmd);
    }
    let words = config.get("Entrypoint").and_then(Value::as_array).into_iter().flatten();
    let words: Vec<_> = words.filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(entrypoint) = runtime::entrypoint(plan, &words) {
        config.insert("Entrypoint".into(), entrypoint.into());
    }
    let mut all = config.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    // They say what the base stands on, which is not what this image stands on.
    all.retain(|name, _| !matches!(name.as_str(), BASE_DIGEST | BASE_NAME));
    all.extend(wanted.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())));
    all.extend(labels.clone());
    all.sort_keys();
    config.insert("Labels".into(), all.into());
    config
}

/// The variables of an image of `plan` on a base with this container `config`, but for the id.
pub(crate) fn environment(config: &Map<String, Value>, plan: &Plan) -> Vec<(String, String)> {
    let inherited = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut env: Vec<(String, String)> = inherited
        .iter()
        .filter_map(|entry| entry.as_str()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        set_variable(&mut env, "PATH", PATH_DEFAULT);
    }
    // What its activation scripts would set first of all; they are not run.
    if plan.steps.iter().any(|step| matches!(step, Step::Conda(_))) {
        set_variable(&mut env, "CONDA_PREFIX", VENV);
    }
    for (name, value) in &plan.config.env {
        set_variable(&mut env, name, value);
    }
    let bin = format!("{VENV}/bin");
    if plan.python().is_some()
        && let Some((_, path)) = env.iter_mut().find(|(name, _)| name == "PATH")
        && path.split(':').next() != Some(&bin)
    {
        *path = format!("{bin}:{path}");
    }
    env.retain(|(name, _)| name != ID_VARIABLE);
    env
}

fn set_variable(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn set_or_remove(config: &mut Map<String, Value>, key: &str, words: &[String]) {
    if words.is_empty() {
        config.shift_remove(key);
    } else {
        config.insert(key.into(), words.into());
    }
}

/// Labels and annotations that every image gets.
fn own_labels(request: &BuildRequest, base: &BaseImage) -> Map<String, Value> {
    let mut labels = Map::new();
    labels.insert("imagespec.id".into(), request.id.to_string().into());
    labels.insert("imagespec.spec-hash".into(), request.spec_hash.to_string().into());
    labels.insert("imagespec.version".into(), env!("CARGO_PKG_VERSION").into());
    if let Some(digest) = base.digest {
        labels.insert(BASE_DIGEST.into(), digest.to_string().into());
    }
    if let Some(reference) = &base.reference {
        labels.insert(BASE_NAME.into(), reference.to_string().into());
    }
    labels
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value has only string keys")
}

/// `seconds` since 1970 as RFC 3339 in UTC. Civil-from-days after Howard Hinnant's public description.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use imagespec_core::plan::{Base, PythonStep, Step};

    use super::*;

    #[test]
    fn the_environment_comes_first_on_path_whoever_set_it() {
        let plan = |steps: Vec<Step>, path: Option<&str>| Plan {
            platforms: BTreeSet::from([Platform::linux_amd64()]),
            base: Base::Scratch,
            steps,
            config: ImageConfig {
                env: path.map(|path| ("PATH".to_owned(), path.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
                ..ImageConfig::default()
            },
            lock: BTreeMap::new(),
        };
        let python = || vec![Step::Python(PythonStep { version: None, executable: None })];
        let base = |path: &str| serde_json::from_value(json!({ "Env": [format!("PATH={path}")] })).unwrap();
        let path = |config: &Map<String, Value>, plan: &Plan| environment(config, plan)[0].1.clone();
        assert_eq!(path(&Map::new(), &plan(Vec::new(), None)), PATH_DEFAULT);
        assert_eq!(path(&base("/a:/b"), &plan(python(), None)), "/opt/venv/bin:/a:/b");
        assert_eq!(path(&base("/a:/b"), &plan(python(), Some("/mine"))), "/opt/venv/bin:/mine");
        assert_eq!(path(&base("/opt/venv/bin:/a"), &plan(python(), None)), "/opt/venv/bin:/a");
    }

    #[test]
    fn seconds_become_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
