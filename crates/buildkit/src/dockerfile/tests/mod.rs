//! Whole Dockerfiles of whole specs, and what stands in the way of one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagespec_core::builder::{BuildRequest, CachePolicy, NetworkPolicy, SecretSource};
use imagespec_core::digest::Digest;
use imagespec_core::document::Format;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::lower::lower as plan;
use imagespec_core::platform::Platform;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;

use super::*;

mod values;
mod whole;

/// A folder with a spec, and what it reads.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    fn request(&self, spec: &str) -> BuildRequest {
        let read = |text: &str| Spec::parse("app.yaml", text.as_bytes(), Format::Yaml);
        let spec = read(spec).unwrap_or_else(|errors| panic!("{errors:?}"));
        let context = ResolveContext {
            root: self.folder.path(),
            spec_path: None,
            default_name: "app",
            host_platform: &Platform::linux_amd64(),
            load_spec: &|path| {
                let text = std::fs::read_to_string(path)?;
                read(&text).map_err(|errors| format!("{errors:?}").into())
            },
        };
        let resolved = resolve(&spec, self.folder.path(), &context).unwrap();
        let plan = plan(&resolved);
        BuildRequest {
            id: SpecId::of(&spec),
            spec_hash: SpecHash::of(&plan),
            name: "app".parse().unwrap(),
            plan,
            outputs: Vec::new(),
            files: resolved.files,
            base_paths: resolved.base_paths,
            options: BTreeMap::new(),
            secrets: BTreeMap::from([("token".to_owned(), SecretSource::Value("s3cret".to_owned()))]),
            cache: CachePolicy::Use,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            ssh_agent: None,
            network: NetworkPolicy::Online,
            cache_dir: PathBuf::from("/nonexistent"),
            timestamp: 0,
            registries: BTreeMap::new(),
            credential_files: Vec::new(),
        }
    }

    fn lower(&self, spec: &str) -> Result<Recipe, LowerError> {
        lower(&self.request(spec), &machine(), &uv(), &BTreeMap::new())
    }

    /// The Dockerfile of a spec, without the hashes at its end.
    fn dockerfile(&self, spec: &str) -> String {
        shown(&self.lower(spec).unwrap())
    }
}

fn machine() -> Machine {
    Machine::of([("HTTPS_PROXY".into(), "http://proxy.example:3128".into())])
}

fn uv() -> BTreeMap<String, UvProgram> {
    let program = |machine: &str| UvProgram {
        path: PathBuf::from(format!("/cache/uv-{machine}")),
        digest: Digest::of(machine.as_bytes()),
        size_bytes: 1,
    };
    ["x86_64", "aarch64"].into_iter().map(|machine| (machine.to_owned(), program(machine))).collect()
}

fn shown(recipe: &Recipe) -> String {
    let mut lines = Vec::new();
    for line in recipe.dockerfile.lines() {
        let cut = ["IMAGESPEC_ID=", "imagespec.id=", "imagespec.spec-hash="].iter().find_map(|name| {
            let (before, after) = line.split_once(name)?;
            Some(format!("{before}{name}…{}", if after.ends_with('\\') { " \\" } else { "" }))
        });
        lines.push(cut.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n")
}

fn steps(recipe: &Recipe) -> String {
    let steps = recipe.steps.iter().map(|step| {
        format!("[{} {}] {} ({})", step.stage, step.index, step.title, step.field.as_deref().unwrap_or("-"))
    });
    steps.collect::<Vec<_>>().join("\n")
}
