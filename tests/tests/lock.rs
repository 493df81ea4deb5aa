//! `imagespec lock` and `build --locked`: the same image whatever tags, indexes and archives have by then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::io::Write;
use std::path::Path;

use imagespec_tests::{DockerRegistry, Finished, FolderServer, Setup, TestEnv, outsider};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// Without padding, as RECORD has digests (RFC 4648, section 5).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let groups = bits.as_bytes().chunks(6).map(|group| format!("{:0<6}", String::from_utf8_lossy(group)));
    groups.map(|group| char::from(ALPHABET[usize::from_str_radix(&group, 2).unwrap()])).collect()
}

/// Adds a version of the package `demo` to the index in `folder`.
fn publish_wheel(folder: &Path, version: &str) {
    let page = folder.join("simple/demo/index.html");
    fs::create_dir_all(page.parent().unwrap()).unwrap();
    let file = format!("demo-{version}-py3-none-any.whl");
    let path = page.with_file_name(&file);
    let mut archive = ZipWriter::new(fs::File::create(&path).unwrap());
    let metadata = format!("Metadata-Version: 2.1\nName: demo\nVersion: {version}\n");
    let wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned();
    let mut members = vec![
        ("demo.py".to_owned(), format!("VERSION = {version:?}\n")),
        (format!("demo-{version}.dist-info/METADATA"), metadata),
        (format!("demo-{version}.dist-info/WHEEL"), wheel),
    ];
    let name = format!("demo-{version}.dist-info/RECORD");
    let lines = members
        .iter()
        .map(|(member, text)| format!("{member},sha256={},{}\n", base64(&Sha256::digest(text.as_bytes())), text.len()));
    let record: String = lines.chain([format!("{name},,\n")]).collect();
    members.push((name, record));
    for (member, text) in members {
        archive.start_file(member, SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let mut text = fs::read_to_string(&page).unwrap_or_default();
    text.push_str(&format!("<a href=\"{file}#sha256={}\">{file}</a>\n", sha256(&path)));
    fs::write(page, text).unwrap();
}

/// Puts a version of the Debian package `greeting`, which needs `greeting-data`, into the archive in `folder`.
fn publish_deb(folder: &Path, version: &str) {
    let archive = folder.join("apt");
    let mut index = String::new();
    for (name, depends) in [("greeting", "Depends: greeting-data\n"), ("greeting-data", "")] {
        let tree = folder.join(format!("{name}-{version}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/share/greeting")).unwrap();
        fs::create_dir_all(&archive).unwrap();
        fs::write(tree.join("usr/share/greeting").join(name), format!("{version}\n")).unwrap();
        let fields = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n{depends}Description: a test\n"
        );
        fs::write(tree.join("DEBIAN/control"), &fields).unwrap();
        let deb = archive.join(format!("{name}_{version}_all.deb"));
        let words = ["--root-owner-group", "--build", &tree.display().to_string(), &deb.display().to_string()];
        outsider("dpkg-deb", &words);
        let file = deb.file_name().unwrap().to_str().unwrap();
        let size = fs::metadata(&deb).unwrap().len();
        index.push_str(&format!("{fields}Filename: ./{file}\nSize: {size}\nSHA256: {}\n\n", sha256(&deb)));
    }
    fs::write(archive.join("Packages"), index).unwrap();
    let listed =
        format!("{} {}", sha256(&archive.join("Packages")), fs::metadata(archive.join("Packages")).unwrap().len());
    fs::write(archive.join("Release"), format!("Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n {listed} Packages\n"))
        .unwrap();
}

fn image(built: &Finished) -> &str {
    assert_eq!(built.code, 0, "{}", built.stderr);
    built.stdout.trim()
}

#[test]
fn a_locked_image_stays_the_same_when_index_and_archive_go_on() {
    let env = TestEnv::new();
    let served = tempfile::tempdir().unwrap();
    let server = FolderServer::start(served.path(), None);
    publish_wheel(served.path(), "1.0");
    publish_deb(served.path(), "1.0");
    let host = server.host();
    env.write(
        "base.yaml",
        &format!(
            "base_image: bootstrap:debian/bookworm\npython_version: 3.11\ncommands:\n  - rm -f /etc/apt/sources.list.d/* /etc/apt/sources.list\n  - echo 'deb [trusted=yes] http://{host}/apt ./' > /etc/apt/sources.list\n"
        ),
    );
    env.write(
        "app.yaml",
        &format!(
            "name: app\nbase_image: base.yaml\napt_packages: [greeting]\npip_index: http://{host}/simple\npackages: [demo]\n"
        ),
    );
    let other = env.path().join("other").display().to_string();
    let locked = env.run_online(&["lock", "app.yaml"], &[]);
    assert_eq!((locked.code, locked.stdout.as_str()), (0, "app.yaml.lock\n"), "{}", locked.stderr);
    let text = fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    for part in [
        "\"greeting-data\"",
        "\"python3.11-minimal\"",
        "demo-1.0-py3-none-any.whl",
        "python = \"3.11.2\"",
        "snapshot = \"20",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let first = env.run_online(&["build", "app.yaml", "--locked"], &[]);
    let unlocked = env.run_online(&["build", "app.yaml"], &[]);
    assert_ne!(image(&first), image(&unlocked));

    publish_wheel(served.path(), "2.0");
    publish_deb(served.path(), "2.0");
    let build = ["build", "app.yaml", "--locked"];
    let second = env.run_online(&build, &[("IMAGESPEC_CACHE_DIR", &other)]);
    assert_eq!(image(&second), image(&first), "{}", second.stderr);
    let newer = env.run_online(&["build", "app.yaml"], &[("IMAGESPEC_CACHE_DIR", &other)]);
    assert_ne!(image(&newer), image(&unlocked));

    let show = "cat /usr/share/greeting/greeting*; python -c 'import demo; print(demo.VERSION)'; apt-mark showauto greeting greeting-data";
    let ran = |flags: &[&str]| {
        let words = [&["run", "app.yaml"], flags, &["--", "sh", "-c", show]].concat();
        env.run_online(&words, &[("IMAGESPEC_CACHE_DIR", &other)])
    };
    assert_eq!(ran(&["--locked"]).stdout, "1.0\n1.0\n1.0\ngreeting-data\n");
    assert_eq!(ran(&[]).stdout, "2.0\n2.0\n2.0\ngreeting-data\n");
    // The name, the hash and whether it exists are those of the locked image, too.
    let name = env.run(&["name", "app.yaml", "--locked"]);
    assert!(image(&first).starts_with(name.stdout.trim()), "{}", name.stdout);
    assert!(name.stdout.contains(env.run(&["hash", "app.yaml", "--locked"]).stdout.trim()));
    assert_eq!(env.run(&["exists", "app.yaml", "--locked"]).stdout.trim(), image(&first));

    // What was locked is gone.
    fs::remove_file(served.path().join("apt/greeting_1.0_all.deb")).unwrap();
    fs::remove_dir_all(&other).unwrap();
    let lost = env.run_online(&build, &[("IMAGESPEC_CACHE_DIR", &other)]);
    let (_, error) = lost.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!(error.replace(&host, "HOST"), @"
    version 1.0 of Debian package `greeting` is locked, and no longer at `http://HOST/apt/./greeting_1.0_all.deb`
      --> app.yaml:3:16
       |
     3 | apt_packages: [greeting]
       |                ^^^^^^^^
    hint: run `imagespec lock` again for the present version; a base whose apt uses a snapshot keeps the old one
    ");

    let again = env.run_online(&["lock", "app.yaml"], &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let text = fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    assert!(text.contains("demo-2.0-py3-none-any.whl"), "{text}");
}

#[test]
fn a_base_is_locked_by_its_digest_and_a_tag_that_moves_changes_nothing() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    let host = registry.host();
    let publish = |content: &str| {
        env.write("content", content);
        env.write("base.yaml", "name: base\nbase_image: scratch\ncopy: [content]\n");
        let pushed = env.run(&["build", "base.yaml", "--registry", &format!("{host}/team")]);
        let from = format!("docker://{}", image(&pushed).split('@').next().unwrap());
        let to = format!("docker://{host}/team/base:stable");
        outsider("skopeo", &["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
        pushed.stdout.trim().split_once('@').unwrap().1.to_owned()
    };
    let old = publish("old");
    env.write("app.yaml", &format!("name: app\nbase_image: {host}/team/base:stable\ncopy: [app.yaml]\n"));
    assert_eq!(env.run(&["lock", "app.yaml"]).code, 0);
    let first = env.run(&["build", "app.yaml", "--locked"]);
    let new = publish("new");
    assert_ne!(old, new);

    let other = env.path().join("other").display().to_string();
    let variables = [("IMAGESPEC_CACHE_DIR", other.as_str())];
    let locked = ["build", "app.yaml", "--locked", "--metadata-file", "metadata.json"];
    assert_eq!(image(&env.run_with(&locked, &variables)), image(&first));
    let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["images"][0]["base_digest"], old);
    let unlocked = ["build", "app.yaml", "--metadata-file", "metadata.json"];
    assert_eq!(env.run_with(&unlocked, &variables).code, 0);
    let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["images"][0]["base_digest"], new);
}

#[test]
fn a_spec_that_moved_away_from_its_lock_is_told_what_moved() {
    let env = TestEnv::new();
    let spec = "name: app\nbase_image: scratch\ncopy: [app.yaml]\nplatform: [linux/amd64, linux/arm64]\n";
    env.write("app.yaml", spec);
    let error = |arguments: &[&str]| {
        let refused = env.run(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
        refused.stderr
    };
    let build = ["build", "app.yaml", "--locked"];
    insta::assert_snapshot!(error(&build), @"
    error: `app.yaml` is not locked: there is no `app.yaml.lock`
    hint: `imagespec lock app.yaml` writes it
    ");
    assert_eq!(env.run(&["lock", "app.yaml"]).stdout, "app.yaml.lock\n");
    let first = env.run(&build);
    image(&first);

    // A file and the config are no matter of the lock, and neither is a platform less.
    env.write("app.yaml", &format!("{spec}env: {{DEBUG: '1'}}\n"));
    assert_ne!(image(&env.run(&build)), image(&first));
    image(&env.run(&["build", "app.yaml", "--locked", "--platform", "linux/arm64"]));

    env.write("app.yaml", &spec.replace("scratch", "bootstrap:debian/bookworm\npackages: [pandas]"));
    insta::assert_snapshot!(error(&build), @"
    error: the spec moved away from lock file `app.yaml.lock`
    note: `base_image` gained `bootstrap:debian/bookworm`
    note: `base_image` gained `ca-certificates`
    note: `base_image` gained `python3`
    note: `base_image` lost `scratch`
    note: `packages` gained `pandas`
    note: `python_version` gained `any`
    hint: `imagespec lock app.yaml` writes it anew
    ");
    insta::assert_snapshot!(error(&["hash", "app.yaml", "--locked"]), @"
    error: the spec moved away from lock file `app.yaml.lock`
    note: `base_image` gained `bootstrap:debian/bookworm`
    note: `base_image` gained `ca-certificates`
    note: `base_image` gained `python3`
    note: `base_image` lost `scratch`
    note: `packages` gained `pandas`
    note: `python_version` gained `any`
    hint: `imagespec lock app.yaml` writes it anew
    ");
    env.write("app.yaml", spec);
    env.write("app.yaml.lock", "version = 1\n[spec]\nplatform = 3\n");
    insta::assert_snapshot!(error(&build), @"
    error: cannot read lock file `app.yaml.lock`: invalid type: integer `3`, expected a sequence
      --> app.yaml.lock:3:12
       |
     3 | platform = 3
       |            ^
    hint: `imagespec lock app.yaml` writes it anew
    ");
    let reference = env.run(&["exists", "docker.io/library/debian:12", "--locked"]);
    insta::assert_snapshot!(reference.stderr, @"
    error: `--locked` changes a spec, and `docker.io/library/debian:12` is none
    hint: leave it out
    ");
    assert_eq!(reference.code, 2);
}

#[test]
fn an_image_without_a_file_is_locked_beside_the_project_file() {
    let env = TestEnv::new();
    env.write(
        "imagespec.toml",
        "[images.serve]\nbase_image = \"scratch\"\ncopy = [\"imagespec.toml\"]\nplatform = \"linux/arm64\"\n",
    );
    let locked = env.run(&["lock", "serve"]);
    assert_eq!((locked.code, locked.stdout.as_str()), (0, "imagespec.serve.lock\n"), "{}", locked.stderr);
    insta::assert_snapshot!(fs::read_to_string(env.path().join("imagespec.serve.lock")).unwrap(), @r#"
    # What the image is made of. `imagespec lock` writes this file and `imagespec build --locked` builds of it.
    version = 1

    [spec]
    base_image = ["scratch"]
    platform = ["linux/arm64"]

    [[image]]
    platform = "linux/arm64"
    "#);
    image(&env.run(&["build", "--locked"]));
}

#[test]
fn packages_that_the_base_has_already_are_locked_as_nothing_to_install() {
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\nbase_image: bootstrap:debian/bookworm\napt_packages: [bash]\n");
    let locked = env.run_online(&["lock", "app.yaml"], &[]);
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let built = env.run_online(&["build", "app.yaml", "--locked"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}

#[test]
fn a_package_without_a_wheel_is_locked_on_a_debian_that_is_made_for_it() {
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\npython_version: 3.11\npackages: [docopt]\n");
    let locked = env.run_online(&["lock", "app.yaml"], &[]);
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let lock = std::fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    assert!(lock.contains("49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491"), "{lock}");
    let built = env.run_online(&["build", "app.yaml", "--locked"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}
