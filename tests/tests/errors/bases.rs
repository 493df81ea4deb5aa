//! What `base_image` names.

use std::fs;

use imagespec_tests::{DockerRegistry, FixedServer, Setup, TestEnv, outsider};
use sha2::{Digest, Sha256};

use super::{failure, refused, shown, without_digests};

#[test]
fn bases_that_are_none_are_refused_where_they_are_named() {
    insta::assert_snapshot!(refused("base_image: Debian Bookworm\n"), @"
    exit 1
    error: `base_image` cannot be `Debian Bookworm`: a repository has lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) between `/`
      --> train.yaml:1:13
       |
     1 | base_image: Debian Bookworm
       |             ^^^^^^^^^^^^^^^
    hint: write a reference, as in `python:3.11-slim` or `ghcr.io/team/base@sha256:…`
    ");
    insta::assert_snapshot!(refused("base_image: oci:nowhere\n"), @"
    exit 1
    error: cannot read `nowhere`
      --> train.yaml:1:13
       |
     1 | base_image: oci:nowhere
       |             ^^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(refused("base_image: oci:.\n"), @"
    exit 1
    error: `.` is not an OCI image layout: it has no file `oci-layout`
      --> train.yaml:1:13
       |
     1 | base_image: oci:.
       |             ^^^^^
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(refused("base_image: docker-archive:base.tar\n"), @"
    exit 1
    error: cannot read `base.tar`
      --> train.yaml:1:13
       |
     1 | base_image: docker-archive:base.tar
       |             ^^^^^^^^^^^^^^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(refused("base_image: bootstrap:ubuntu/noble\n"), @"
    exit 1
    error: `base_image` cannot be `bootstrap:ubuntu/noble`: only Debian can be made from its packages
      --> train.yaml:1:13
       |
     1 | base_image: bootstrap:ubuntu/noble
       |             ^^^^^^^^^^^^^^^^^^^^^^
    hint: write the code name of a release, as in `bootstrap:debian/bookworm`
    ");
}

#[test]
fn a_layout_must_have_the_platform_and_be_whole() {
    let env = TestEnv::new();
    env.write("base.yaml", "base_image: scratch\nname: base\ncopy: [data.txt]\n");
    env.write("data.txt", "content\n");
    env.write("app.yaml", "base_image: oci:layout\nname: app\n");
    let layout = ["build", "base.yaml", "--platform", "linux/amd64", "--output", "type=oci,dest=layout"];
    assert_eq!(env.run(&layout).code, 0);
    let build = |platform: &str| failure(&env, &["build", "app.yaml", "--progress", "quiet", "--platform", platform]);
    insta::assert_snapshot!(build("linux/arm64"), @"
    exit 1
    error: base `oci:FOLDER/layout` has no image for linux/arm64; it has linux/amd64
      --> app.yaml:1:13
       |
     1 | base_image: oci:layout
       |             ^^^^^^^^^^
    hint: set `platform`, or take another `base_image`
    ");
    for entry in fs::read_dir(env.path().join("layout/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // The layer, which is gzip: a build that has it in its cache does not read it again.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
    let cache = env.path().join("other-cache").display().to_string();
    let arguments = ["build", "app.yaml", "--progress", "quiet", "--platform", "linux/amd64"];
    let corrupt = shown(&env, env.run_with(&arguments, &[("IMAGESPEC_CACHE_DIR", &cache)]));
    insta::assert_snapshot!(without_digests(&corrupt), @"
    exit 1
    error: content of `FOLDER/layout/blobs/sha256/DIGEST` has digest sha256:DIGEST instead of sha256:DIGEST
    hint: these are other bytes than were promised: try again, and if that does not help, ask whoever serves them
    ");
}

#[test]
fn a_layout_that_contradicts_itself_is_refused() {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: oci:layout\nname: app\n");
    env.write("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    let blob = |content: &str| {
        let hex = hex::encode(Sha256::digest(content));
        env.write(&format!("layout/blobs/sha256/{hex}"), content);
        serde_json::json!({ "mediaType": "application/x", "digest": format!("sha256:{hex}"), "size": content.len() })
    };
    let write = |config: &str, media_type: &str| {
        let mut layer = blob("layer");
        layer["mediaType"] = media_type.into();
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": blob(config), "layers": [layer] }).to_string();
        env.write(
            "layout/index.json",
            &serde_json::json!({ "schemaVersion": 2, "manifests": [blob(&manifest)] }).to_string(),
        );
    };
    let build = || failure(&env, &["build", "app.yaml", "--progress", "quiet", "--platform", "linux/amd64"]);
    let refused = |config: &str, media_type: &str| {
        write(config, media_type);
        build()
    };
    let tar = "application/vnd.oci.image.layer.v1.tar";
    insta::assert_snapshot!(refused("no JSON", tar), @"
    exit 1
    error: base `oci:FOLDER/layout` is not a proper image: its config: expected ident at line 1 column 2
      --> app.yaml:1:13
       |
     1 | base_image: oci:layout
       |             ^^^^^^^^^^
    hint: copy or push the image again with a current tool
    ");
    let config = "{\"os\":\"linux\",\"architecture\":\"amd64\"}";
    insta::assert_snapshot!(refused(config, tar), @"
    exit 1
    error: base `oci:FOLDER/layout` is not a proper image: 1 layers and 0 diff_ids
      --> app.yaml:1:13
       |
     1 | base_image: oci:layout
       |             ^^^^^^^^^^
    hint: copy or push the image again with a current tool
    ");
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let config = config.replace("}", &format!(",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{digest}\"]}}}}"));
    insta::assert_snapshot!(refused(&config, "application/zip"), @"
    exit 1
    error: base `oci:FOLDER/layout` is not a proper image: a layer of type `application/zip`
      --> app.yaml:1:13
       |
     1 | base_image: oci:layout
       |             ^^^^^^^^^^
    hint: copy or push the image again with a current tool
    ");
    let layer = hex::encode(Sha256::digest("layer"));
    // Its diff_id is wrong, too, but nothing has to look at that.
    write(&config, tar);
    fs::remove_file(env.path().join("layout/blobs/sha256").join(&layer)).unwrap();
    insta::assert_snapshot!(without_digests(&build()), @"
    exit 1
    error: cannot read `FOLDER/layout/blobs/sha256/DIGEST` of the base
      --> app.yaml:1:13
       |
     1 | base_image: oci:layout
       |             ^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: a part of the base is missing: copy it again
    ");
}

#[test]
fn a_base_that_is_not_what_its_digest_says_is_not_used() {
    let server = FixedServer::start("200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json", "{}");
    let env = TestEnv::new();
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    env.write("app.yaml", &format!("base_image: {}/base@sha256:{digest}\n", server.host()));
    let finished = env.run(&["build", "app.yaml", "--progress", "quiet"]);
    insta::assert_snapshot!(shown(&env, finished).replace(&server.host(), "HOST"), @"
    exit 1
    error: `HOST/base@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855` has the digest `sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`, expected `sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`
      --> app.yaml:1:13
       |
     1 | base_image: HOST/base@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852…
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: the registry, or a proxy before it, sends other bytes than were pushed: push the image again
    ");
}

#[test]
fn a_base_in_a_registry_must_exist_and_be_of_the_platform() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    env.write("base.yaml", "base_image: scratch\nname: base\n");
    let layout = ["build", "base.yaml", "--platform", "linux/amd64", "--output", "type=oci,dest=layout"];
    assert_eq!(env.run(&layout).code, 0);
    let target = format!("docker://{}/base:1", registry.host());
    let layout = format!("oci:{}", env.path().join("layout").display());
    outsider("skopeo", &["copy", "-q", "--dest-tls-verify=false", &layout, &target]);
    let build = |tag: &str| {
        env.write("app.yaml", &format!("name: app\nbase_image: {}/base:{tag}\n", registry.host()));
        let arguments = ["build", "app.yaml", "--progress", "quiet", "--platform", "linux/arm64"];
        failure(&env, &arguments).replace(&registry.host(), "127.0.0.1:12345")
    };
    insta::assert_snapshot!(build("1"), @"
    exit 1
    error: base `127.0.0.1:12345/base:1` has no image for linux/arm64; it has linux/amd64
      --> app.yaml:2:13
       |
     2 | base_image: 127.0.0.1:12345/base:1
       |             ^^^^^^^^^^^^^^^^^^^^^^
    hint: set `platform`, or take another `base_image`
    ");
    insta::assert_snapshot!(build("2"), @"
    exit 1
    error: `GET http://127.0.0.1:12345/v2/base/manifests/2` was answered with status 404, MANIFEST_UNKNOWN: manifest unknown
      --> app.yaml:2:13
       |
     2 | base_image: 127.0.0.1:12345/base:2
       |             ^^^^^^^^^^^^^^^^^^^^^^
    hint: its registry has no such image: check the spelling of its name and tag
    ");
}

/// What is not a real document's size is neither read nor blamed for another digest.
#[test]
fn a_config_of_a_base_is_bounded() {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: oci:layout\nname: app\n");
    env.write("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    let blob = |content: &str, size: usize| {
        let hex = hex::encode(Sha256::digest(content));
        env.write(&format!("layout/blobs/sha256/{hex}"), content);
        serde_json::json!({ "mediaType": "application/x", "digest": format!("sha256:{hex}"), "size": size })
    };
    let config = format!("{{\"os\":\"linux\",\"architecture\":\"amd64\"}}{}", " ".repeat(5 << 20));
    for size in [config.len(), 7] {
        let manifest =
            serde_json::json!({ "schemaVersion": 2, "config": blob(&config, size), "layers": [] }).to_string();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [blob(&manifest, manifest.len())] });
        env.write("layout/index.json", &index.to_string());
        let said = failure(&env, &["build", "app.yaml", "--progress", "quiet", "--platform", "linux/amd64"]);
        assert!(said.contains("larger than the 4194304 bytes that a document may have\n  --> app.yaml:1:13"), "{said}");
    }
}

#[test]
fn labels_that_say_what_a_base_stands_on_do_not_say_it_of_an_image_on_that_base() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    env.write("root.yaml", "base_image: scratch\nname: root\n");
    let pushed = env.run(&["build", "root.yaml", "--registry", &registry.host()]);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    env.write("base.yaml", &format!("base_image: {}\nname: base\n", pushed.stdout.split('@').next().unwrap()));
    env.write("app.yaml", "base_image: oci:layout\nname: app\n");
    let built = |spec: &str, layout: &str| {
        let finished = env.run(&["build", spec, "--output", &format!("type=oci,dest={layout}")]);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let inspected = env.run(&["inspect", &format!("oci:{layout}"), "--format", "json"]).stdout;
        (finished.stdout.trim().rsplit('@').next().unwrap().to_owned(), inspected)
    };
    let (base, inspected) = built("base.yaml", "layout");
    assert!(inspected.contains("org.opencontainers.image.base.name"), "{inspected}");
    let (_, inspected) = built("app.yaml", "out");
    assert!(!inspected.contains("org.opencontainers.image.base.name"), "{inspected}");
    assert!(inspected.contains(&format!("\"org.opencontainers.image.base.digest\": \"{base}\"")), "{inspected}");
}
