//! `base_image: docker-archive:FILE`, with files that other programs wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs::{self, File};
use std::io;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use imagespec_tests::{TestEnv, lint};
use serde_json::Value;

/// A folder with an image in the layout `layout` and the spec `top.yaml`, which stands on `base.tar`.
fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: scratch\nname: app\ncopy: [data]\nenv: {FROM_BASE: \"1\"}\n");
    env.write("data/deep/file.txt", "content\n");
    env.write("top.yaml", "base_image: docker-archive:base.tar\nname: top\ncopy: [top.txt]\nenv: {ON_TOP: \"1\"}\n");
    env.write("top.txt", "top\n");
    build(&env, "app.yaml", "type=oci,dest=layout");
    env
}

/// Builds and returns what was said.
fn build(env: &TestEnv, spec: &str, output: &str) -> String {
    let built = env.run(&["build", spec, "--output", output, "--metadata-file", "report.json"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    built.stderr
}

/// The digests of the layers that were built last.
fn layers(env: &TestEnv) -> Vec<String> {
    let report: Value = serde_json::from_slice(&fs::read(env.path().join("report.json")).unwrap()).unwrap();
    let layers = report["images"][0]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_archive_by_skopeo_is_a_base_and_is_read_once() {
    let env = project();
    let of_base = layers(&env);
    let (from, to) = (env.path().join("layout"), env.path().join("base.tar"));
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", &format!("oci:{}", from.display())])
        .arg(format!("docker-archive:{}:app:1", to.display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));

    build(&env, "top.yaml", "type=oci,dest=top");
    assert_eq!(lint(&env.path().join("top")), Vec::<String>::new());
    // Skopeo unpacked the layer. It is the same blob again, and not only the same content.
    assert_eq!(layers(&env)[..1], of_base);
    let name = format!("oci:{}", env.path().join("top").display());
    let inspected = Command::new("skopeo").args(["inspect", "--config", &name]).output().unwrap();
    let config: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let variables = config["config"]["Env"].as_array().unwrap();
    assert!(variables.contains(&"FROM_BASE=1".into()) && variables.contains(&"ON_TOP=1".into()), "{config}");

    let again = build(&env, "top.yaml", "type=oci,dest=top");
    assert!(again.contains("cached  base docker-archive:"), "{again}");
}

#[test]
fn our_own_archive_is_a_base_compressed_or_not() {
    let env = project();
    let of_base = layers(&env);
    build(&env, "app.yaml", "type=docker-archive,dest=base.tar");
    build(&env, "top.yaml", "type=oci,dest=plain");
    let plain = layers(&env);
    assert_eq!(plain[..1], of_base);

    let archive = env.path().join("base.tar");
    let packed = env.path().join("base.tar.gz");
    let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::fast());
    io::copy(&mut File::open(&archive).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    fs::rename(packed, archive).unwrap();
    let said = build(&env, "top.yaml", "type=oci,dest=compressed");
    assert!(said.contains(" s  base docker-archive:"), "{said}");
    assert_eq!(layers(&env), plain);
    assert_eq!(lint(&env.path().join("compressed")), Vec::<String>::new());
}

#[test]
fn an_archive_with_two_images_is_refused_by_their_names() {
    let env = TestEnv::new();
    env.write("top.yaml", "base_image: docker-archive:base.tar\nname: top\n");
    let image = |tag: &str| format!(r#"{{"Config":"config.json","RepoTags":["{tag}"],"Layers":[]}}"#);
    let manifest = format!("[{},{}]", image("app:1"), image("app:2"));
    let mut archive = tar::Builder::new(File::create(env.path().join("base.tar")).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(manifest.len() as u64);
    archive.append_data(&mut header, "manifest.json", manifest.as_bytes()).unwrap();
    archive.finish().unwrap();
    let built = env.run(&["build", "top.yaml"]);
    assert_eq!((built.code, built.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(built.stderr.replace(&env.path().display().to_string(), "FOLDER"), @"
    error: base `docker-archive:FOLDER/base.tar` holds 2 images: app:1, app:2
      --> top.yaml:1:13
       |
     1 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    hint: save one image alone: `docker save IMAGE`
    ");
}
