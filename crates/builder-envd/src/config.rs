//! What an image says of itself, as every builder has it say: envd's own config is taken for its layers alone. Pure.
//!
//! envd keeps neither the base's labels, arguments, ports nor its PATH, puts its own labels on the image (with paths of this
//! machine in them) and sets LANG and LC_ALL. Formats: OCI image-spec, "Image Configuration" and "Image Manifest".

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{Base, ID_VARIABLE, Plan, Step, VENV};
use imagespec_layout::{CONFIG, Compression, Image, MANIFEST};
use serde_json::{Map, Value, json};

use crate::lower::TOOLS_HISTORY;

/// Digest and name of the image beneath (OCI image-spec, "Annotations").
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// PATH of an image that says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is wrong with what envd made.
#[derive(Debug, thiserror::Error)]
#[error("what envd made is not the image that was asked for: {problem}")]
pub(crate) struct ConfigError {
    problem: &'static str,
}

/// A base, as its registry or layout has it.
#[derive(Debug, Clone)]
pub(crate) struct KnownBase {
    /// Digest of its manifest, or of the layout that the plan names.
    pub(crate) digest: Digest,
    /// Its config.
    pub(crate) config: Value,
    /// How many layers it has.
    pub(crate) layers: usize,
}

impl KnownBase {
    /// An image that is one.
    pub(crate) fn of(image: &Image, digest: Digest) -> Self {
        let config = serde_json::from_slice(&image.config).unwrap_or_default();
        Self { digest, config, layers: image.layers.len() }
    }
}

/// The image of `request`, of the layers of the one that envd made on `base`.
///
/// # Errors
/// When that does not stand on the base, or its documents are none of an image.
pub(crate) fn finished(made: &Image, base: &KnownBase, request: &BuildRequest) -> Result<Image, ConfigError> {
    let wrong = |problem| ConfigError { problem };
    let mut config: Value = serde_json::from_slice(&made.config).map_err(|_| wrong("its config is no JSON"))?;
    let manifest: Value = serde_json::from_slice(&made.manifest).map_err(|_| wrong("its manifest is no JSON"))?;
    let mut descriptors = descriptors(&manifest).ok_or_else(|| wrong("its layers are of an unknown kind"))?;
    let mut layers = made.layers.clone();
    let own = list(&config["rootfs"]["diff_ids"]);
    let beneath = list(&base.config["rootfs"]["diff_ids"]);
    if !own.starts_with(beneath) || own.len() != layers.len() || descriptors.len() != layers.len() {
        return Err(wrong("its lowest layers are not those of the base"));
    }
    if let Some((entry, layer)) = tools_layer(&config, layers.len()) {
        layers.remove(layer);
        descriptors.remove(layer);
        remove(&mut config["rootfs"]["diff_ids"], layer);
        remove(&mut config["history"], entry);
    }
    config["config"] = described(base, request);
    let config = serde_json::to_vec(&config).expect("a JSON value has only string keys");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": Digest::of(&config).to_string(), "size": config.len() },
        "layers": descriptors,
    });
    let manifest = serde_json::to_vec(&manifest).expect("a JSON value has only string keys");
    Ok(Image { manifest, config, layers })
}

/// The layers that a manifest names, in the words of OCI: the same bytes have another name in those of Docker.
fn descriptors(manifest: &Value) -> Option<Vec<Value>> {
    let of = |layer: &Value| {
        let media_type = Compression::of(layer["mediaType"].as_str()?)?.media_type();
        Some(json!({ "mediaType": media_type, "digest": layer["digest"], "size": layer["size"] }))
    };
    list(&manifest["layers"]).iter().map(of).collect()
}

/// The layer with what our scripts needed, and nothing else: its place in the history and among the layers. What is
/// removed above it is removed all the same.
fn tools_layer(config: &Value, layers: usize) -> Option<(usize, usize)> {
    let history = list(&config["history"]);
    let filled = |(_, entry): &(usize, &Value)| entry["empty_layer"] != true;
    if history.iter().enumerate().filter(filled).count() != layers {
        // Who is who is not known, and some megabytes harm nobody.
        return None;
    }
    let mut filled = history.iter().enumerate().filter(filled).enumerate();
    let is_tools = |entry: &Value| entry["created_by"].as_str().is_some_and(|by| by == TOOLS_HISTORY);
    let (layer, (entry, _)) = filled.find(|(_, (_, entry))| is_tools(entry))?;
    Some((entry, layer))
}

/// What is run, where, by whom, and whose it is: the base's, and what the plan says.
fn described(base: &KnownBase, request: &BuildRequest) -> Value {
    let plan = &request.plan;
    let mut config = base.config["config"].as_object().cloned().unwrap_or_default();
    // They were for whoever built on the base.
    config.remove("OnBuild");
    let of_base = |name: &str| list(&base.config["config"][name]).iter().filter_map(Value::as_str).map(str::to_owned);
    config.insert("Env".to_owned(), variables(of_base("Env").collect(), plan, request).into());
    config.insert("WorkingDir".to_owned(), plan.config.workdir.clone().into());
    let mut set = |name: &str, words: &Vec<String>| match words.is_empty() {
        true => drop(config.remove(name)),
        false => drop(config.insert(name.to_owned(), words.clone().into())),
    };
    if let Some(entrypoint) = &plan.config.entrypoint {
        set("Entrypoint", entrypoint);
        // The base's arguments were meant for the base's entry point.
        set("Cmd", &Vec::new());
    }
    if let Some(cmd) = &plan.config.cmd {
        set("Cmd", cmd);
    }
    config.insert("Labels".to_owned(), labels(base, request).into());
    config.into()
}

/// The variables of the base, those of the plan, PATH, and last the one that says which spec it is.
fn variables(mut env: Vec<String>, plan: &Plan, request: &BuildRequest) -> Vec<String> {
    let mut set = |name: &str, value: &str| {
        let entry = format!("{name}={value}");
        match env.iter_mut().find(|entry| entry.split('=').next() == Some(name)) {
            Some(there) => *there = entry,
            None => env.push(entry),
        }
    };
    for (name, value) in plan.config.env.iter().filter(|(name, _)| *name != "PATH" && *name != ID_VARIABLE) {
        set(name, value);
    }
    let has_conda = plan.steps.iter().any(|step| matches!(step, Step::Conda(_)));
    if has_conda && !plan.config.env.contains_key("CONDA_PREFIX") {
        set("CONDA_PREFIX", VENV);
    }
    let beneath = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH).to_owned();
    let path = plan.config.env.get("PATH").cloned().unwrap_or(beneath);
    let bin = format!("{VENV}/bin");
    let is_first = path.split(':').next() == Some(&bin);
    let path = if plan.python().is_some() && !is_first { format!("{bin}:{path}") } else { path };
    env.retain(|entry| !entry.starts_with("PATH=") && !entry.starts_with(&format!("{ID_VARIABLE}=")));
    env.insert(0, format!("PATH={path}"));
    env.push(format!("{ID_VARIABLE}={}", request.id));
    env
}

fn labels(base: &KnownBase, request: &BuildRequest) -> Map<String, Value> {
    let mut labels = base.config["config"]["Labels"].as_object().cloned().unwrap_or_default();
    // What the base says of what it stands on itself.
    labels.remove(BASE_DIGEST);
    labels.remove(BASE_NAME);
    labels.extend(request.plan.config.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())));
    let mut own = json!({
        "imagespec.id": request.id.to_string(),
        "imagespec.spec-hash": request.spec_hash.to_string(),
        "imagespec.version": env!("CARGO_PKG_VERSION"),
        BASE_DIGEST: base.digest.to_string(),
    });
    if let Base::Registry(reference) = &request.plan.base {
        own[BASE_NAME] = reference.to_string().into();
    }
    labels.extend(own.as_object().cloned().unwrap_or_default());
    labels
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn remove(value: &mut Value, index: usize) {
    if let Some(list) = value.as_array_mut().filter(|list| index < list.len()) {
        list.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{request, spec_hash_less};

    const BASE: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin","OWN=base","GREETING=old",
        "IMAGESPEC_ID=old"],"Entrypoint":["base"],"Cmd":["of","the base"],"User":"daemon","WorkingDir":"/old","ExposedPorts":
        {"80/tcp":{}},"OnBuild":["RUN x"],"Labels":{"of.the.base":"kept","org.opencontainers.image.base.name":"old"}},
        "rootfs":{"type":"layers","diff_ids":["sha256:base"]}}"#;

    fn image(config: &Value, layers: usize) -> Image {
        let blobs: Vec<_> =
            (0..layers).map(|number| imagespec_distribution::Blob::of(number.to_string().as_bytes())).collect();
        let kind = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let descriptors: Vec<_> = blobs
            .iter()
            .map(|blob| json!({"mediaType": kind, "digest": blob.digest.to_string(), "size": blob.size_bytes}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": {}, "layers": descriptors}).to_string();
        Image { manifest: manifest.into(), config: config.to_string().into(), layers: blobs }
    }

    fn made(history: &[&str]) -> Image {
        let diff_ids: Vec<_> = (0..history.len())
            .map(|number| match number {
                0 => "sha256:base".to_owned(),
                number => format!("sha256:{number}"),
            })
            .collect();
        let history: Vec<_> = history.iter().map(|by| json!({"created_by": by})).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "history": history,
            "config": {"Env": ["LANG=C.UTF-8", "PATH=/usr/bin:/opt/venv/bin"], "Labels": {"ai.tensorchord.envd.vendor": "envd"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        image(&config, history.len())
    }

    fn base() -> KnownBase {
        KnownBase::of(&image(&serde_json::from_str(BASE).unwrap(), 1), Digest::of(b"the base"))
    }

    #[test]
    fn the_config_is_the_bases_with_what_the_plan_says() {
        let request = request(
            r#"{"kind":"python"}"#,
            r#""env":{"GREETING":"a b","PYTHONPATH":"/root"},"workdir":"/srv","cmd":["-v"],"labels":{"own":"label"}"#,
        );
        let finished = finished(&made(&["pulled", "mount / from exec bash -c x"]), &base(), &request).unwrap();
        let config: Value = serde_json::from_slice(&finished.config).unwrap();
        insta::assert_snapshot!(spec_hash_less(&request, &serde_json::to_string_pretty(&config["config"]).unwrap()), @r#"
        {
          "Env": [
            "PATH=/opt/venv/bin:/usr/bin:/bin",
            "OWN=base",
            "GREETING=a b",
            "PYTHONPATH=/root",
            "IMAGESPEC_ID=ID"
          ],
          "Entrypoint": [
            "base"
          ],
          "Cmd": [
            "-v"
          ],
          "User": "daemon",
          "WorkingDir": "/srv",
          "ExposedPorts": {
            "80/tcp": {}
          },
          "Labels": {
            "of.the.base": "kept",
            "own": "label",
            "imagespec.id": "ID",
            "imagespec.spec-hash": "HASH",
            "imagespec.version": "VERSION",
            "org.opencontainers.image.base.digest": "sha256:1a4b384c68bfc25050134f1c855abcdf536e3e14c140329a8a40cdaa80e79eb2",
            "org.opencontainers.image.base.name": "docker.io/library/debian:12"
          }
        }
        "#);
        assert_eq!((&config["os"], finished.layers.len()), (&json!("linux"), 2));
    }

    #[test]
    fn nothing_is_left_of_the_layer_with_our_tools() {
        let request = request("", r#""workdir":"/root","entrypoint":["sh"]"#);
        let history = ["pulled", "copy /tools/.imagespec /", "mount / from exec bash -c echo copy /tools/.imagespec /"];
        let made = made(&history);
        let finished = finished(&made, &base(), &request).unwrap();
        assert_eq!(finished.layers, [made.layers[0], made.layers[2]]);
        let config: Value = serde_json::from_slice(&finished.config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:base", "sha256:2"]));
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
        // The entry point is another one, and the arguments were the base's.
        assert_eq!((&config["config"]["Entrypoint"], &config["config"]["Cmd"]), (&json!(["sh"]), &Value::Null));
        let manifest: Value = serde_json::from_slice(&finished.manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(manifest["config"]["digest"], finished.config_digest().to_string());
    }

    #[test]
    fn an_image_of_something_else_is_refused() {
        let request = request("", r#""workdir":"/root""#);
        let other = image(&json!({"rootfs": {"diff_ids": ["sha256:other"]}}), 1);
        let error = finished(&other, &base(), &request).unwrap_err();
        assert_eq!(
            error.to_string(),
            "what envd made is not the image that was asked for: its lowest layers are not those of the base"
        );
        assert!(finished(&Image { config: b"?".to_vec(), ..other }, &base(), &request).is_err());
    }
}
