//! `python_version` where neither the base nor its apt has it: a build of Python that uv fetches, from a mirror. The
//! archive in these tests is made of another Debian's Python, in the form of python-build-standalone. Needs the network,
//! for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::path::{Path, PathBuf};

use imagespec_tests::{Finished, TestEnv, lint, outsider};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The version that bookworm has. In its own place it is run on trixie, which has 3.13.
const VERSION: &str = "3.11.2";

/// Builds `spec` into the layout `folder`, and unpacks it.
fn unpacked(env: &TestEnv, spec: &str, folder: &str) -> PathBuf {
    env.write("unpacked.yaml", spec);
    let built = env.run_online(&["build", "unpacked.yaml", "--output", &format!("type=oci,dest={folder}")], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let image = format!("{}:{tag}", env.path().join(folder).display());
    let bundle = env.path().join(format!("{folder}-bundle"));
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    bundle.join("rootfs")
}

/// A mirror with the archive of one build, and the list that names it with `sha256`, or with its own.
struct Mirror {
    folder: PathBuf,
}

impl Mirror {
    fn new(env: &TestEnv) -> Self {
        let root = unpacked(env, "name: source\npython_version: 3.11\napt_packages: [libexpat1]\n", "source");
        let folder = env.path().join("mirror");
        let release = folder.join("20240101");
        let python = env.path().join("archive/python");
        for below in ["bin", "lib/pkgconfig"] {
            fs::create_dir_all(python.join(below)).unwrap();
        }
        fs::create_dir_all(&release).unwrap();
        let at = |path: PathBuf| path.display().to_string();
        outsider("cp", &["-a", &at(root.join("usr/bin/python3.11")), &at(python.join("bin"))]);
        outsider("cp", &["-aL", &at(root.join("usr/lib/python3.11")), &at(python.join("lib"))]);
        outsider("find", &[&at(python.join("lib")), "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+"]);
        fs::write(python.join("lib/pkgconfig/python3.pc"), "prefix=/install\n").unwrap();
        std::os::unix::fs::symlink("python3.11", python.join("bin/python3")).unwrap();
        let mirror = Self { folder };
        mirror.publish(env);
        mirror
    }

    /// Serves what is in `archive` now, under the one version.
    fn publish(&self, env: &TestEnv) {
        let archive = self.folder.join("20240101/build.tar.gz");
        let from = env.path().join("archive").display().to_string();
        outsider("tar", &["-czf", &archive.display().to_string(), "-C", &from, "python"]);
        self.list(&hex::encode(Sha256::digest(fs::read(archive).unwrap())));
    }

    fn list(&self, sha256: &str) {
        let build = |arch: &str| {
            format!(
                r#""cpython-{VERSION}-linux-{arch}-gnu": {{ "name": "cpython", "arch": {{ "family": "{arch}", "variant": null }},
                "os": "linux", "libc": "gnu", "major": 3, "minor": 11, "patch": 2, "prerelease": "", "variant": null,
                "url": "https://github.com/astral-sh/python-build-standalone/releases/download/20240101/build.tar.gz",
                "sha256": "{sha256}", "build": "20240101" }}"#
            )
        };
        let list = format!("{{ {}, {} }}", build("x86_64"), build("aarch64"));
        fs::write(self.folder.join("list.json"), list).unwrap();
    }

    fn build(&self, env: &TestEnv, arguments: &[&str], mirror: &str) -> Finished {
        let list = self.list_url();
        let variables = [("UV_PYTHON_INSTALL_MIRROR", mirror), ("UV_PYTHON_DOWNLOADS_JSON_URL", &list)];
        env.run_online(&[&["build", "app.yaml"], arguments].concat(), &variables)
    }

    fn list_url(&self) -> String {
        format!("file://{}", self.folder.join("list.json").display())
    }

    fn url(&self) -> String {
        format!("file://{}", self.folder.display())
    }
}

fn error_of(finished: &Finished, env: &TestEnv) -> String {
    let (_, error) = finished.stderr.split_once("error: ").expect("it is refused");
    error.replace(&env.path().display().to_string(), "FOLDER")
}

#[test]
fn a_python_that_neither_the_base_nor_its_apt_has_is_fetched_by_uv() {
    let env = TestEnv::new();
    let mirror = Mirror::new(&env);
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/trixie\napt_packages: [libexpat1]\n");
    let base = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(base.code, 0, "{}", base.stderr);
    env.write("app.yaml", "name: app\nbase_image: oci:base\npython_version: 3.11\npackages: [six==1.17.0]\n");

    let nobody = mirror.build(&env, &[], "http://127.0.0.1:1");
    assert_eq!(nobody.code, 75, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("error: Python 3.11.2 cannot be fetched\n"), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("UV_PYTHON_INSTALL_MIRROR"), "{}", nobody.stderr);

    let own_list = fs::read_to_string(mirror.folder.join("list.json")).unwrap();
    mirror.list(&"0".repeat(64));
    let other = error_of(&mirror.build(&env, &[], &mirror.url()), &env);
    assert!(other.starts_with("Python 3.11.2 cannot be fetched\n  --> app.yaml:3:17\n"), "{other}");
    assert!(
        other.contains("\nhint: the mirror, or something on the way to it, sends another file than uv knows"),
        "{other}"
    );
    fs::write(mirror.folder.join("list.json"), own_list).unwrap();

    let built = mirror.build(&env, &["--output", "type=oci,dest=out"], &mirror.url());
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains("fetch Python 3.11  3.11.2\n"), "{}", built.stderr);
    assert_eq!(lint(&env.path().join("out")), Vec::<String>::new());
    let stored = mirror.build(&env, &["--output", "type=oci,dest=again"], &mirror.url());
    assert_eq!(stored.code, 0, "{}", stored.stderr);
    assert!(stored.stderr.contains("  cached  fetch Python 3.11  3.11.2\n"), "{}", stored.stderr);
    let program = "import json, six, sys
print(sys.version.split()[0], sys.prefix, sys.base_prefix, sys.executable)
print(open(json.__cached__, 'rb').read(8)[4], open(six.__cached__, 'rb').read(8)[4])
print(open(sys.base_prefix + '/lib/pkgconfig/python3.pc').read().strip())";
    let ran = env.run(&["run", "oci:out", "--", "python", "-c", program]);
    insta::assert_snapshot!(format!("{}{}", ran.stdout, ran.stderr), @"
    3.11.2 /opt/venv /opt/python/cpython-3.11.2 /opt/venv/bin/python
    1 1
    prefix=/opt/python/cpython-3.11.2
    ");
    // Nothing of this machine is in it.
    let (own, cache) = (env.path().display().to_string(), env.path().join("cache"));
    let layers = fs::read_dir(env.path().join("out/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    for layer in layers {
        assert!(!holds(&layer, &own), "{} names {own}", layer.display());
    }
    assert!(cache.is_dir());

    env.write("app.yaml", "name: app\nbase_image: oci:base\npython_version: 3.12\npackages: [six==1.17.0]\n");
    insta::assert_snapshot!(error_of(&mirror.build(&env, &[], &mirror.url()), &env), @"
    uv knows no build of Python 3.12 for x86_64 with glibc
      --> app.yaml:3:17
       |
     3 | python_version: 3.12
       |                 ^^^^
    hint: take another `python_version`; a newer uv on PATH knows newer ones, and UV_PYTHON_DOWNLOADS_JSON_URL may name a list of others
    ");
}

#[test]
fn a_python_is_locked_by_its_archive_and_found_without_a_network() {
    let env = TestEnv::new();
    let mirror = Mirror::new(&env);
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/trixie\napt_packages: [libexpat1]\n");
    let base = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(base.code, 0, "{}", base.stderr);
    env.write("app.yaml", "name: app\nbase_image: oci:base\nplatform: linux/amd64\npython_version: 3.11\n");
    let (url, list) = (mirror.url(), mirror.list_url());
    let variables = [("UV_PYTHON_INSTALL_MIRROR", url.as_str()), ("UV_PYTHON_DOWNLOADS_JSON_URL", list.as_str())];
    let written = env.run_online(&["lock", "app.yaml"], &variables);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let archive = fs::read(mirror.folder.join("20240101/build.tar.gz")).unwrap();
    let archive = format!("sha256:{}", hex::encode(Sha256::digest(archive)));
    let lock = fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    let (_, image) = lock.split_once("[[image]]\n").unwrap();
    assert_eq!(
        image,
        format!("platform = \"linux/amd64\"\npython = \"{VERSION}\"\npython_archive = \"{archive}\"\n"),
        "{lock}"
    );
    let locked = mirror.build(&env, &["--locked"], &url);
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let unlocked = mirror.build(&env, &[], &url);
    assert_eq!(unlocked.code, 0, "{}", unlocked.stderr);

    // Nobody can be asked for builds of Python or for their list.
    for (flags, online) in [(&["--locked"][..], &locked), (&[], &unlocked)] {
        let arguments = [&["build", "app.yaml", "--offline", "--output", "type=oci,dest=out"], flags].concat();
        let offline = env.run_without_network_with(&arguments, &variables);
        assert_eq!((offline.code, &offline.stdout), (0, &online.stdout), "{}", offline.stderr);
    }
    let other_list = format!("file://{}", mirror.folder.join("other.json").display());
    fs::copy(mirror.folder.join("list.json"), mirror.folder.join("other.json")).unwrap();
    let other = [("UV_PYTHON_DOWNLOADS_JSON_URL", other_list.as_str())];
    let refused = env.run_without_network_with(&["build", "app.yaml", "--offline", "--force"], &other);
    insta::assert_snapshot!(error_of(&refused, &env), @"
    the archive of Python 3.11.2 is not in the cache, and the build is offline
      --> app.yaml:4:17
       |
     4 | python_version: 3.11
       |                 ^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");

    // Another build of the same version. Who has the locked one, builds of it.
    fs::write(env.path().join("archive/python/lib/python3.11/another.py"), "").unwrap();
    mirror.publish(&env);
    let again = mirror.build(&env, &["--locked", "--output", "type=oci,dest=again"], &url);
    assert_eq!((again.code, &again.stdout), (0, &locked.stdout), "{}", again.stderr);
    let cache = env.path().join("other").display().to_string();
    let variables = [variables[0], variables[1], ("IMAGESPEC_CACHE_DIR", &cache)];
    let refused = env.run_online(&["build", "app.yaml", "--locked"], &variables);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
    let new = fs::read(mirror.folder.join("20240101/build.tar.gz")).unwrap();
    let new = format!("sha256:{}", hex::encode(Sha256::digest(new)));
    insta::assert_snapshot!(error_of(&refused, &env).replace(&archive, "LOCKED").replace(&new, "NEW"), @"
    Python 3.11.2 of archive LOCKED is locked for linux/amd64, and the image has 3.11.2 of archive NEW
      --> app.yaml:4:17
       |
     4 | python_version: 3.11
       |                 ^^^^
    hint: run `imagespec lock` again
    ");
}

#[test]
fn an_image_for_another_processor_gets_its_python_without_emulation() {
    let env = TestEnv::new();
    let mirror = Mirror::new(&env);
    let path = |name: &str| env.path().join(name).display().to_string();
    let (tar, layout, image) = (path("arm64.tar"), path("base"), format!("{}:latest", path("base")));
    outsider(
        "mmdebstrap",
        &["--quiet", "--architectures=arm64", "--variant=extract", "--include=libc6", "bookworm", &tar],
    );
    outsider("umoci", &["init", "--layout", &layout]);
    outsider("umoci", &["new", "--image", &image]);
    outsider("umoci", &["raw", "add-layer", "--image", &image, &tar]);
    outsider("umoci", &["config", "--image", &image, "--architecture", "arm64", "--os", "linux"]);
    env.write(
        "app.yaml",
        "name: app\nbase_image: oci:base\nplatform: linux/arm64\npython_version: 3.11.2\npackages: [six==1.17.0]\n",
    );
    let built = mirror.build(&env, &["--metadata-file", "metadata.json"], &mirror.url());
    assert_eq!(built.code, 0, "{}", built.stderr);
    let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    let layers = metadata["images"][0]["layers"].as_array().unwrap();
    let titles: Vec<_> = layers.iter().filter_map(|layer| layer["title"].as_str()).collect();
    // Where an emulator is, there is bytecode, too.
    let made: Vec<_> = titles.into_iter().filter(|title| !title.starts_with("bytecode")).collect();
    assert_eq!(made, ["base", "python 3.11.2", "python environment", "six 1.17.0"]);
}

/// Whether the content of a gzip layer, or of another file, has `text` in it.
fn holds(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    let mut content = Vec::new();
    let is_layer = bytes.starts_with(&[0x1f, 0x8b]);
    if is_layer {
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut content).unwrap();
    }
    let content = if is_layer { content } else { bytes };
    content.windows(text.len()).any(|window| window == text.as_bytes())
}
