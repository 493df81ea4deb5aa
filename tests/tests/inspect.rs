//! `imagespec inspect` and `exists`: images in the store, in a registry and in a layout, and how they are named.

use imagespec_tests::{DockerRegistry, Setup, TestEnv, outsider, snapshot};
use serde_json::Value;

const SPEC: &str = "\
base_image: scratch
name: app
copy: [data.txt]
env: {DEBUG: 1}
entrypoint: [/root/run]
cmd: [--all, a b]
user: \"1000\"
labels: {team: search, owner: ann}
";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", SPEC);
    env.write("data.txt", "data\n");
    env
}

#[test]
fn an_image_of_the_store_is_shown_by_its_spec_and_by_the_name_that_build_prints() {
    let env = project();
    let built = env.stdout(&["build", "app.yaml"]);
    let by_spec = env.stdout(&["inspect", "app.yaml"]);
    snapshot!(by_spec, @r#"
    name         app:HASH
    digest       sha256:…
    platform     linux/amd64
    config       sha256:…
    id           HASH
    spec hash    HASH
    imagespec    0.1.0
    created      1970-01-01T00:00:00Z
    user         1000
    workdir      /root
    entrypoint   ["/root/run"]
    cmd          ["--all", "a b"]
    env          PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
                 DEBUG=1
                 IMAGESPEC_ID=HASH
    labels       owner=ann
                 team=search
    layers       1, N bytes
      sha256:…  N bytes  tar+gzip  imagespec: files
    "#);
    let by_name = env.stdout(&["inspect", built.trim()]);
    assert_eq!(by_name.lines().skip(1).collect::<Vec<_>>(), by_spec.lines().skip(1).collect::<Vec<_>>());
    assert_eq!(env.stdout(&["exists", built.trim()]), built);
}

#[test]
fn the_same_is_said_as_json() {
    let env = project();
    env.stdout(&["build", "app.yaml"]);
    snapshot!(env.stdout(&["inspect", "app.yaml", "--format", "json"]), @r#"
    {
      "name": "app:HASH",
      "digest": "sha256:…",
      "media_type": "application/vnd.oci.image.manifest.v1+json",
      "images": [
        {
          "platform": "linux/amd64",
          "digest": "sha256:…",
          "config_digest": "sha256:…",
          "created": "1970-01-01T00:00:00Z",
          "layers": [
            {
              "digest": "sha256:…",
              "size_bytes": N,
              "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
              "created_by": "imagespec: files"
            }
          ],
          "env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBUG=1",
            "IMAGESPEC_ID=HASH"
          ],
          "entrypoint": [
            "/root/run"
          ],
          "cmd": [
            "--all",
            "a b"
          ],
          "user": "1000",
          "workdir": "/root",
          "labels": {
            "imagespec.id": "HASH",
            "imagespec.spec-hash": "HASH",
            "imagespec.version": "0.1.0",
            "owner": "ann",
            "team": "search"
          }
        }
      ],
      "other_entries": 0
    }
    "#);
}

#[test]
fn a_layout_with_two_platforms_shows_both() {
    let env = project();
    env.stdout(&["build", "app.yaml", "--platform", "linux/amd64,linux/arm64", "--output", "type=oci,dest=out"]);
    let shown = env.stdout(&["inspect", "oci:out"]);
    let heads = ["name", "digest", "platforms", "manifest", "platform"];
    let lines = shown.lines().filter(|line| heads.iter().any(|head| line.split(' ').next() == Some(head)));
    snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    name         oci:out
    digest       sha256:…
    platforms    linux/amd64, linux/arm64
    manifest     sha256:…
    platform     linux/amd64
    manifest     sha256:…
    platform     linux/arm64
    ");
}

#[test]
fn an_image_of_a_registry_is_shown_without_its_layers_being_read() {
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    let built = project().stdout(&["build", "app.yaml", "--registry", &target]);
    let (name, digest) = built.trim().split_once('@').expect("name and digest");
    let other = TestEnv::new();
    let shown: Value = serde_json::from_str(&other.stdout(&["inspect", name, "--format", "json"])).expect("JSON");
    assert_eq!(shown["digest"], digest);
    assert_eq!(shown["images"][0]["labels"]["team"], "search");
    assert!(!other.path().join("cache").exists(), "nothing but questions was needed");
}

#[test]
fn an_image_that_somebody_else_made_is_shown_too() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    env.stdout(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    let layout = format!("oci:{}", env.path().join("out").display());
    let name = format!("{}/other:v2s2", registry.host());
    let target = format!("docker://{name}");
    outsider("skopeo", &["copy", "-q", "--dest-tls-verify=false", "--format", "v2s2", &layout, &target]);
    let shown = env.stdout(&["inspect", &name]);
    snapshot!(shown.lines().last().expect("a line").trim(), @"sha256:…  N bytes  tar.gzip  imagespec: files");
}

#[test]
fn what_cannot_be_found_says_where_it_was_looked_for() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    snapshot!(env.said(&["inspect", &format!("{}/team/app:1", registry.host())]), @"
    exit code 1
    error: `127.0.0.1:PORT/team/app:1` is neither in the store of this machine nor in `127.0.0.1:PORT`
    ");
    snapshot!(env.said(&["inspect", "app.yaml"]), @"
    exit code 1
    error: `app:HASH` is not built on this machine
    hint: `imagespec build app.yaml` builds it
    ");
    snapshot!(env.said(&["inspect", "missing.yaml"]), @"
    exit code 1
    error: cannot read `missing.yaml`
    note: No such file or directory (os error 2)
    hint: name a spec file by its path, or an image of `imagespec.toml` by its name
    ");
    snapshot!(env.said(&["inspect", "App"]), @"
    exit code 1
    error: `App` is not an image reference: a repository has lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) between `/`
    hint: name a spec file, an image of the project, `oci:DIR` or an image as `registry/name:tag`
    ");
    snapshot!(env.said(&["inspect", "oci:missing"]), @"
    exit code 1
    error: cannot read `missing`
    note: No such file or directory (os error 2)
    hint: `imagespec build --output type=oci,dest=DIR` and `skopeo copy` make layouts
    ");
    env.write("empty/file", "");
    snapshot!(env.said(&["inspect", "oci:empty"]), @"
    exit code 1
    error: `empty` is not an OCI image layout: it has no file `oci-layout`
    hint: `imagespec build --output type=oci,dest=DIR` and `skopeo copy` make layouts
    ");
    snapshot!(env.said(&["exists", "oci:empty"]), @"
    exit code 2
    error: `oci:empty` is a layout, and `exists` asks stores and registries
    hint: `imagespec inspect oci:empty` says what is in it
    ");
    snapshot!(env.said(&["inspect", "debian", "--set", "env.A=1"]), @"
    exit code 2
    error: `--set` changes a spec, and `debian` is none
    hint: leave it out
    ");
}

#[test]
fn a_layout_with_several_images_needs_a_tag() {
    let env = project();
    for tag in ["one", "two"] {
        let format = format!("tag_format={tag}-{{spec_hash}}");
        env.stdout(&["build", "app.yaml", "--set", &format, "--output", "type=oci,dest=out"]);
    }
    snapshot!(env.said(&["inspect", "oci:out"]), @"
    exit code 1
    error: `out` holds 2 images, and no tag says which
    hint: choose one of `oci:out:one-HASH`, `oci:out:two-HASH`
    ");
    let hash = env.stdout(&["hash", "app.yaml"]);
    let shown = env.stdout(&["inspect", &format!("oci:out:two-{}", hash.trim())]);
    assert!(shown.starts_with("name         oci:out:two-"), "{shown}");
}

#[test]
fn a_word_without_an_ending_is_an_image_of_the_project_if_there_is_one() {
    let env = project();
    env.write("imagespec.toml", "[images.app]\nspec = \"app.yaml\"\n");
    env.stdout(&["build"]);
    assert!(env.stdout(&["inspect", "app"]).starts_with("name         app:"));
    assert_eq!(env.stdout(&["exists", "app"]), env.stdout(&["exists", "app.yaml"]));
    snapshot!(env.said(&["name", "apq"]), @"
    exit code 1
    error: no image is called `apq`
    hint: did you mean `app`?
    ");
}

#[test]
fn a_document_that_was_changed_on_disk_is_refused() {
    let env = project();
    let built = env.stdout(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    let digest = built.trim().rsplit(':').next().expect("a digest");
    let blob = format!("out/blobs/sha256/{digest}");
    let text = std::fs::read_to_string(env.path().join(&blob)).expect("the manifest is there");
    env.write(&blob, &text.replace("schemaVersion\":2", "schemaVersion\":3"));
    let said = env.said(&["inspect", "oci:out"]).replace(&env.path().display().to_string(), "FOLDER");
    insta::with_settings!({filters => vec![(r"[0-9a-f]{64}", "…")]}, {
        insta::assert_snapshot!(said, @"
        exit code 1
        error: content of `FOLDER/out/blobs/sha256/…` has digest sha256:… instead of sha256:…
        ");
    });
}
