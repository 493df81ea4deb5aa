//! Writes the recipe of a spec to a folder, to be tried by hand: `cargo run --example recipe -- SPEC FOLDER CACHE [ID=VALUE…]`.
//! Needs no engine. What is behind the folders are secrets.

#![expect(clippy::print_stdout, reason = "its steps are what it answers")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use imagespec_buildkit::{Machine, lower, uv::pinned_uv, wanted_uv};
use imagespec_core::builder::{BuildRequest, CachePolicy, NetworkPolicy, SecretSource};
use imagespec_core::document::Format;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::platform::Platform;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [spec, folder, cache, secrets @ ..] = arguments.as_slice() else {
        return Err("give a spec, a folder and a cache folder".into());
    };
    let path = std::fs::canonicalize(spec)?;
    let spec = read(&path)?;
    let directory = path.parent().ok_or("a file lies in a folder")?;
    let context = ResolveContext {
        root: directory,
        spec_path: Some(&path),
        default_name: "app",
        host_platform: &Platform::of_machine(std::env::consts::ARCH)?,
        load_spec: &|path| read(path).map_err(|error| error.to_string().into()),
    };
    let resolved = resolve(&spec, directory, &context)?;
    let plan = imagespec_core::lower::lower(&resolved);
    let mut uv = BTreeMap::new();
    for machine in wanted_uv(&plan) {
        let found = pinned_uv(Path::new(cache), machine, NetworkPolicy::Online, &|_| {}, &|| false)?;
        uv.extend(found.map(|found| (machine.to_owned(), found)));
    }
    let secrets = secrets.iter().filter_map(|secret| secret.split_once('='));
    let request = BuildRequest {
        id: SpecId::of(&spec),
        spec_hash: SpecHash::of(&plan),
        name: "app".parse()?,
        plan,
        outputs: Vec::new(),
        files: resolved.files,
        base_paths: resolved.base_paths,
        options: BTreeMap::new(),
        secrets: secrets.map(|(id, value)| (id.to_owned(), SecretSource::Value(value.to_owned()))).collect(),
        cache: CachePolicy::Use,
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        ssh_agent: None,
        network: NetworkPolicy::Online,
        cache_dir: PathBuf::from(cache),
        timestamp: 0,
        registries: BTreeMap::new(),
        credential_files: Vec::new(),
    };
    let recipe = lower(&request, &Machine::of(std::env::vars_os()), &uv, &BTreeMap::new())?;
    recipe.write(Path::new(folder))?;
    for step in &recipe.steps {
        println!("[{} {}] {} ({})", step.stage, step.index, step.title, step.field.as_deref().unwrap_or("-"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Spec, Box<dyn Error>> {
    let text = std::fs::read(path)?;
    Spec::parse(&path.display().to_string(), &text, Format::of(path).map_err(|error| format!("{error:?}"))?)
        .map_err(|errors| format!("{errors:?}").into())
}
