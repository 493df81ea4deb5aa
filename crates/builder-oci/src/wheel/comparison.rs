//! Layers of real wheels against what uv installs, file for file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::cache::Cache;
use crate::layer::{Layer, LayerPath};

type Tree = BTreeMap<String, (u32, Vec<u8>)>;

fn tree_of_folder(root: &Path) -> Tree {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(root).unwrap().display().to_string();
            (path, (entry.metadata().unwrap().permissions().mode() & 0o777, fs::read(entry.path()).unwrap()))
        })
        .collect()
}

fn tree_of_layer(cache: &Cache, layer: Layer, below: &str, tree: &mut Tree) {
    let blob = cache.open_blob(layer.digest).unwrap().unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = path.strip_prefix(below).unwrap().trim_start_matches('/').to_owned();
        tree.insert(path, (entry.header().mode().unwrap(), content));
    }
}

/// What uv installs and we do not, or with other content; documented where wheels are laid out.
fn is_of_the_installer(path: &str) -> bool {
    ["/INSTALLER", "/REQUESTED", "/direct_url.json", "/uv_cache.json"].iter().any(|end| path.ends_with(end))
}

/// RECORD without the rows of files that depend on the installer.
fn comparable(path: &str, content: &[u8]) -> Vec<u8> {
    if !path.ends_with(".dist-info/RECORD") {
        return content.to_vec();
    }
    let text = std::str::from_utf8(content).unwrap();
    let lines = text.lines().filter(|line| !is_of_the_installer(line.split(',').next().unwrap_or_default()));
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

fn comparable_tree(tree: &Tree) -> Tree {
    tree.iter()
        .filter(|(path, _)| !is_of_the_installer(path) && path.as_str() != ".lock")
        .map(|(path, (mode, content))| (path.clone(), (*mode, comparable(path, content))))
        .collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// numpy has compiled modules and libraries, greenlet headers, ruff a program, pip a program with a Python version
/// in its name, flask dependencies that are resolved.
const REQUIREMENTS: &str = "numpy==2.1.3\ngreenlet==3.1.1\nruff==0.8.0\npip==24.0\nflask==3.1.0\nsix==1.17.0\n";

#[test]
fn layers_hold_file_for_file_what_uv_installs() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let venv = folder.path().join("venv");
    let uv = Uv::fetched(&cache, Observer::NOBODY).unwrap();
    let target =
        Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } };
    let resolution = Resolution {
        requirements: REQUIREMENTS,
        constraints: "",
        target: &target,
        find_links: &[],
        extra_args: &[],
        dependencies: Dependencies::Followed,
        environment: &Environment::of_machine(),
    };
    let wheels =
        select(&uv.resolve(&cache, &resolution, Observer::NOBODY).unwrap(), &target, &AllowedDigests::default())
            .unwrap();
    download(&cache, &wheels, &Environment::default(), Observer::NOBODY).unwrap();

    run(Command::new(uv.program()).args(["venv", "--quiet", "--python", "3.11"]).arg(&venv));
    let before = tree_of_folder(&venv);
    let mut install = Command::new(uv.program());
    install.args(["pip", "install", "--quiet", "--no-deps", "--link-mode", "copy", "--python"]);
    install.arg(venv.join("bin/python"));
    install.args(wheels.iter().map(|wheel| format!("{}=={}", wheel.name, wheel.version)));
    run(&mut install);
    let mut expected = tree_of_folder(&venv);
    expected.retain(|path, _| !before.contains_key(path));

    let root = LayerPath::new(venv.to_str().unwrap()).unwrap();
    let weighed: Vec<_> = wheels
        .iter()
        .map(|wheel| Weighed { name: wheel.name.clone(), size_bytes: wheel.size_bytes.unwrap() })
        .collect();
    let mut found = Tree::new();
    for layer_of in assign(&weighed, 100) {
        let members: Vec<_> = layer_of.iter().map(|&i| (wheels[i].file_name.clone(), wheels[i].sha256)).collect();
        let (made, _) = layer(&cache, &members, &Scheme::new(root.clone(), 11), 0).unwrap();
        tree_of_layer(&cache, made, root.as_str(), &mut found);
    }
    let (expected, found) = (comparable_tree(&expected), comparable_tree(&found));
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (path, wanted) in &expected {
        assert!(found[path] == *wanted, "{path} differs");
    }
    assert!(expected.len() > 1000);
}
