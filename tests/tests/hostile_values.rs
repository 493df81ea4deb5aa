//! Values that would be something else to a shell or a Dockerfile go through a real engine, and are what they were.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use imagespec_tests::{Engine, HostileSpec, Kind, TestEnv, envd, skip};
use serde_json::Value;

/// How many specs are built.
const SEEDS: std::ops::Range<u64> = 1..5;
const SHELL: &str = "/bin/busybox";

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
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(reason) => return skip("Docker 20.10", &reason),
    };
    if !Path::new(SHELL).is_file() {
        return skip("hostile values", &format!("there is no `{SHELL}`; Debian's package busybox-static has it"));
    }
    let env = TestEnv::new();
    engine.docker(&["import", &base(env.path()).display().to_string(), "shell"]);
    for seed in SEEDS {
        let place = env.path().join(seed.to_string());
        let spec = HostileSpec::new(seed, "docker-archive:shell.tar");
        spec.write(&place);
        engine.docker(&["save", "--output", &place.join("shell.tar").display().to_string(), "shell"]);
        let file = format!("{seed}/hostile.json");
        let arguments = ["build", &file, "--builder", "docker", "--output", "type=docker"];
        let built = env.run_with(&arguments, &[("DOCKER_HOST", &engine.host())]);
        assert_eq!(built.code, 0, "seed {seed}: {}", built.stderr);
        let image = built.stdout.trim().split('@').next().unwrap();
        assert_eq!(differences(&engine, &spec, image, &place), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
#[ignore = "takes a minute; tests/slow runs it"]
fn hostile_values_come_through_envd_as_they_are() {
    let engine = match Engine::start(Kind::Docker26) {
        Ok(engine) => engine,
        Err(reason) => return skip("hostile values by envd", &reason),
    };
    let env = TestEnv::with_debian();
    let program = format!("program={}", envd().display());
    for seed in SEEDS {
        let place = env.path().join(seed.to_string());
        let spec = HostileSpec::new(seed, "bootstrap:debian/bookworm");
        spec.write(&place);
        let file = format!("{seed}/hostile.json");
        let arguments = ["build", &file, "--builder", "envd", "--builder-opt", &program, "--output", "type=docker"];
        let built = env.run_online(&arguments, &[("DOCKER_HOST", &engine.host())]);
        assert_eq!(built.code, 0, "seed {seed}: {}", built.stderr);
        let image = built.stdout.trim().split('@').next().unwrap();
        assert_eq!(differences(&engine, &spec, image, &place), Vec::<String>::new(), "seed {seed}");
    }
}

/// What is not in the image as it is in the spec.
fn differences(engine: &Engine, spec: &HostileSpec, image: &str, place: &Path) -> Vec<String> {
    let config: Value = serde_json::from_str(&engine.docker(&["inspect", image])).unwrap();
    let container = engine.docker(&["create", image]);
    let exported = place.join("image.tar");
    engine.docker(&["export", "--output", &exported.display().to_string(), container.trim()]);
    let files = files(&fs::read(exported).unwrap());
    spec.differences(&config[0]["Config"], &|path| files.get(path).cloned())
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
