//! The rules of docs/architecture.md that a program can check.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let own: BTreeSet<_> = metadata["packages"].as_array().unwrap().iter().map(name).collect();
    let edges = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        // What only tests need is no edge of the program.
        let dependencies = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        dependencies.map(name).filter(|name| own.contains(name)).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (name(package), edges(package))).collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let allowed = |name: &str| -> &[&str] {
        match name {
            "imagespec-distribution" => &["imagespec-core"],
            "imagespec-layout" => &["imagespec-core", "imagespec-distribution"],
            "imagespec-buildkit" => &["imagespec-core", "imagespec-distribution", "imagespec-layout"],
            "imagespec-builder-oci" => &["imagespec-core", "imagespec-distribution", "imagespec-layout"],
            "imagespec-builder-docker" | "imagespec-builder-envd" | "imagespec-builder-remote" => {
                &["imagespec-core", "imagespec-distribution", "imagespec-layout", "imagespec-buildkit"]
            }
            "imagespec-plugin-sdk" | "imagespec-plugin-host" => &["imagespec-core", "imagespec-plugin-abi"],
            "imagespec-plugin-noop" | "imagespec-tests-hostile" => &["imagespec-plugin-sdk"],
            "imagespec-plugin-docker" => &["imagespec-builder-docker", "imagespec-plugin-sdk"],
            "imagespec-plugin-envd" => &["imagespec-builder-envd", "imagespec-plugin-sdk"],
            "imagespec-plugin-remote" => &["imagespec-builder-remote", "imagespec-plugin-sdk"],
            "imagespec-plugin-oci" => &["imagespec-builder-oci", "imagespec-plugin-sdk"],
            "imagespec-cli" => &[
                "imagespec-core",
                "imagespec-distribution",
                "imagespec-builder-docker",
                "imagespec-builder-envd",
                "imagespec-builder-oci",
                "imagespec-builder-remote",
                "imagespec-plugin-host",
                "imagespec-plugin-sdk",
            ],
            "imagespec-benches" => {
                &["imagespec-core", "imagespec-distribution", "imagespec-builder-oci", "imagespec-builder-remote"]
            }
            _ => &[],
        }
    };
    let packages = packages();
    assert!(packages.len() >= 5);
    for (name, edges) in packages {
        for edge in edges {
            assert!(allowed(&name).contains(&edge.as_str()), "{name} must not depend on {edge}");
        }
    }
}

#[test]
fn every_crate_stands_in_the_architecture_page() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (name, _) in packages() {
        assert!(page.contains(&format!("## {name} ")), "{name} is missing in docs/architecture.md");
    }
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    let mut folders = ["crates", "plugins", "tests", "benches"].map(|folder| root().join(folder)).to_vec();
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                count += 1;
                assert!(fs::read_to_string(&path).unwrap().starts_with("//! "), "{}", path.display());
            }
        }
    }
    assert!(count > 50);
}
