//! Values that would be something else to a shell or a Dockerfile go through the recipe of a spec and a real engine, and
//! are what they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use imagespec_buildkit::{Machine, lower};
use imagespec_core::builder::{BuildRequest, CachePolicy, NetworkPolicy};
use imagespec_core::document::Format;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::platform::Platform;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;
use imagespec_tests::{DockerEngine, HostileSpec, outsider, skip};
use serde_json::Value;

/// How many specs are built.
const SEEDS: std::ops::Range<u64> = 1..9;
const SHELL: &str = "/bin/busybox";
/// The client of Debian, which knows BuildKit without a plugin.
const CLIENT: &str = "/usr/bin/docker";

fn recipe(folder: &Path) -> imagespec_buildkit::Recipe {
    let text = fs::read(folder.join("hostile.json")).unwrap();
    let spec = Spec::parse("hostile.json", &text, Format::Json).unwrap_or_else(|errors| panic!("{errors:?}"));
    let context = ResolveContext {
        root: folder,
        spec_path: None,
        default_name: "hostile",
        host_platform: &Platform::of_machine(std::env::consts::ARCH).unwrap(),
        load_spec: &|path| Err(format!("nothing loads `{}`", path.display()).into()),
    };
    let resolved = resolve(&spec, folder, &context).unwrap();
    let plan = imagespec_core::lower::lower(&resolved);
    let request = BuildRequest {
        id: SpecId::of(&spec),
        spec_hash: SpecHash::of(&plan),
        name: "hostile".parse().unwrap(),
        plan,
        outputs: Vec::new(),
        files: resolved.files,
        base_paths: resolved.base_paths,
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cache: CachePolicy::Use,
        network: NetworkPolicy::Online,
        cache_dir: PathBuf::from("/nonexistent"),
        timestamp: 0,
        registries: BTreeMap::new(),
        credential_files: Vec::new(),
    };
    lower(&request, &Machine::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap()
}

/// A file system with a shell and a few programs.
fn base(folder: &Path) -> PathBuf {
    let path = folder.join("base.tar");
    let mut archive = tar::Builder::new(File::create(&path).unwrap());
    archive.append_path_with_name(fs::canonicalize(SHELL).unwrap(), "bin/busybox").unwrap();
    for name in ["sh", "cat"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    for folder in ["srv/", "root/", "tmp/", "etc/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    archive.into_inner().unwrap();
    path
}

#[test]
fn hostile_values_are_in_the_image_what_they_are_in_the_spec() {
    let engine = match DockerEngine::start() {
        Ok(engine) => engine,
        Err(reason) => return skip("Docker's engine", &reason),
    };
    if !Path::new(SHELL).is_file() {
        return skip("hostile values", &format!("there is no `{SHELL}`; Debian's package busybox-static has it"));
    }
    let folder = tempfile::tempdir().unwrap();
    engine.docker(&["import", &base(folder.path()).display().to_string(), "shell"]);
    for seed in SEEDS {
        let place = folder.path().join(seed.to_string());
        let spec = HostileSpec::new(seed, "shell");
        spec.write(&place);
        let (recipe, out) = (recipe(&place), place.join("out"));
        recipe.write(&out).unwrap();
        let mut build = vec!["build".to_owned(), "--network=none".to_owned(), "--quiet".to_owned()];
        for (name, value) in &recipe.build_arguments {
            build.extend(["--build-arg".to_owned(), format!("{name}={value}")]);
        }
        build.push(out.display().to_string());
        let host = format!("DOCKER_HOST=unix://{}", engine.socket().display());
        let words = [&["DOCKER_BUILDKIT=1".to_owned(), host, CLIENT.to_owned()], build.as_slice()].concat();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let image = outsider("env", &words);
        let image = image.trim();
        let config: Value = serde_json::from_str(&engine.docker(&["inspect", image])).unwrap();
        let container = engine.docker(&["create", image]);
        let exported = place.join("image.tar");
        engine.docker(&["export", "--output", &exported.display().to_string(), container.trim()]);
        let files = files(&fs::read(exported).unwrap());
        let differences = spec.differences(&config[0]["Config"], &|path| files.get(path).cloned());
        assert_eq!(differences, Vec::<String>::new(), "seed {seed}\n{}", recipe.dockerfile);
    }
}

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(String::from_utf8_lossy(&entry.path_bytes()).into_owned(), content);
    }
    files
}
