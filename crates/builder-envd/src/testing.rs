//! Requests made by hand, for the tests of this crate.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagespec_buildkit::UvProgram;
use imagespec_core::builder::{BuildRequest, CachePolicy, NetworkPolicy, Output};
use imagespec_core::digest::Digest;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::plan::Plan;
use imagespec_core::spec::Spec;

/// A request of a plan with these steps and this config, on an image of a registry.
pub(crate) fn request(steps: &str, config: &str) -> BuildRequest {
    on(r#"{"kind":"registry","reference":"docker.io/library/debian:12"}"#, steps, config)
}

/// The same on this base.
pub(crate) fn on(base: &str, steps: &str, config: &str) -> BuildRequest {
    let text =
        format!(r#"{{"version":1,"platforms":["linux/amd64"],"base":{base},"steps":[{steps}],"config":{{{config}}}}}"#);
    let plan = Plan::from_json(&text).unwrap();
    BuildRequest {
        id: SpecId::of(&Spec::default()),
        spec_hash: SpecHash::of(&plan),
        plan,
        name: "registry.example/team/app:1".parse().unwrap(),
        outputs: vec![Output::Registry],
        files: BTreeMap::from([(Digest::of(b"data"), PathBuf::from("/nowhere/data"))]),
        base_paths: BTreeMap::new(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cache: CachePolicy::Use,
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        network: NetworkPolicy::Online,
        cache_dir: PathBuf::from("/nowhere/cache"),
        timestamp: 0,
        registries: BTreeMap::new(),
        ssh_agent: None,
        credential_files: Vec::new(),
    }
}

/// A uv that is nowhere.
pub(crate) fn uv() -> UvProgram {
    UvProgram { path: PathBuf::from("/nowhere/uv"), digest: Digest::of(b"uv"), size_bytes: 2 }
}

/// `text` without the hash of the request's spec, its id and our version.
pub(crate) fn spec_hash_less(request: &BuildRequest, text: &str) -> String {
    let text = text.replace(&request.spec_hash.to_string(), "HASH").replace(&request.id.to_string(), "ID");
    text.replace(
        &format!("\"imagespec.version\": \"{}\"", env!("CARGO_PKG_VERSION")),
        "\"imagespec.version\": \"VERSION\"",
    )
}
