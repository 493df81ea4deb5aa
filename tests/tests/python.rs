//! Where Python packages come from and go to: lock files, bases that are not ours, other processors. Needs the network,
//! for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::path::Path;
use std::process::Command;

use imagespec_tests::{TestEnv, lint_above, output, skip};
use serde_json::Value;

/// `e_machine` of AArch64 (ELF header, bytes 18 and 19).
const ELF_MACHINE_AARCH64: [u8; 2] = [183, 0];

/// An image layout in `base` with the arm64 Debian that mmdebstrap unpacks; none of its programs has run.
fn arm64_base(env: &TestEnv) {
    let path = |name: &str| env.path().join(name).display().to_string();
    let (tar, layout, image) = (path("arm64.tar"), path("base"), format!("{}:latest", path("base")));
    let suite = ["--quiet", "--architectures=arm64", "--variant=extract", "--include=python3-minimal", "bookworm"];
    output(Command::new("mmdebstrap").args(suite).arg(&tar));
    for arguments in [
        vec!["init", "--layout", &layout],
        vec!["new", "--image", &image],
        vec!["raw", "add-layer", "--image", &image, &tar],
        vec!["config", "--image", &image, "--architecture", "arm64", "--os", "linux"],
    ] {
        output(Command::new("umoci").args(arguments));
    }
}

#[test]
fn an_arm64_image_is_built_from_wheels_without_emulation() {
    let env = TestEnv::new();
    arm64_base(&env);
    env.write("app.yaml", "name: app\nbase_image: oci:base\nplatform: linux/arm64\npackages: [pyyaml==6.0.2, idna]\n");
    let built = env.run_online(&["build", "app.yaml", "--output", "type=oci,dest=out"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let out = env.path().join("out");
    assert_eq!(lint_above(&out, &env.path().join("base")), Vec::<String>::new());
    let name = format!("oci:{}", out.display());
    let config = output(Command::new("skopeo").args(["--override-arch=arm64", "inspect", "--config", &name]));
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap()["architecture"], "arm64");

    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let bundle = env.path().join("bundle");
    let unpack = ["unpack", "--rootless", "--image", &format!("{}:{tag}", out.display())];
    output(Command::new("umoci").args(unpack).arg(&bundle));
    let packages = bundle.join("rootfs/opt/venv/lib/python3.11/site-packages");
    let extension = fs::read(packages.join("yaml/_yaml.cpython-311-aarch64-linux-gnu.so")).unwrap();
    assert_eq!(extension[18..20], ELF_MACHINE_AARCH64);
    assert!(packages.join("idna/__init__.py").is_file());
    assert_eq!(fs::read_link(bundle.join("rootfs/opt/venv/bin/python")).unwrap(), Path::new("/usr/bin/python3.11"));
}

#[test]
fn every_kind_of_lock_file_installs_what_it_locks_and_nothing_else() {
    let env = TestEnv::new();
    arm64_base(&env);
    let locks = Path::new(env!("CARGO_MANIFEST_DIR")).join("locks");
    for file in fs::read_dir(locks).unwrap() {
        let path = file.unwrap().path();
        env.write(path.file_name().unwrap().to_str().unwrap(), &fs::read_to_string(&path).unwrap());
    }
    // `six` is for Windows alone, and `iniconfig` for developers.
    for lock in ["uv.lock", "poetry.lock", "pylock.toml"] {
        env.write(
            "app.yaml",
            &format!("name: app\nbase_image: oci:base\nplatform: linux/arm64\nrequirements: {lock}\n"),
        );
        assert_eq!(package_layers(&env), ["idna 3.20"], "{lock}");
    }
    let spec = "name: app\nbase_image: oci:base\nplatform: linux/arm64\nrequirements: pylock.toml\n";
    env.write("app.yaml", spec);
    env.write("pylock.toml", "lock-version = \"1.0\"\nrequires-python = \">=3.12\"\n");
    let refused = env.run(&["build", "app.yaml"]);
    let (_, error) = refused.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!(error, @"
    the lock file is for Python >=3.12, and the image has 3.11.2
      --> app.yaml:4:15
       |
     4 | requirements: pylock.toml
       |               ^^^^^^^^^^^
    hint: lock again for that Python, or take a `python_version` or a `base_image` that fits
    ");
}

#[test]
fn sources_for_a_processor_that_this_machine_cannot_run_are_refused_by_name() {
    let mut handlers = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    if handlers.any(|handler| handler.file_name().to_string_lossy().contains("aarch64")) {
        return skip("the refusal of sources for arm64", "this machine runs programs for arm64");
    }
    let env = TestEnv::new();
    arm64_base(&env);
    let refused = |rest: &str| {
        env.write("app.yaml", &format!("name: app\nbase_image: oci:base\nplatform: linux/arm64\n{rest}"));
        let failed = env.run_online(&["build", "app.yaml"], &[]);
        failed.stderr.split_once("error: ").unwrap().1.to_owned()
    };
    insta::assert_snapshot!(refused("packages: ['demo @ git+https://git.example/demo']\n"), @"
    packages without a wheel must be built, and this machine cannot run the image's Python:
           demo @ git+https://git.example/demo
      --> app.yaml:4:12
       |
     4 | packages: ['demo @ git+https://git.example/demo']
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
    let hash = "49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491";
    let url = "https://files.pythonhosted.org/packages/a2/55/8f8cab2afd404cf578136ef2cc5dfb50baa1761b68c9da1fb1e4eed343c9/docopt-0.6.2.tar.gz";
    let lock = format!(
        "[[packages]]\nname = 'docopt'\nversion = '0.6.2'\nsdist = {{ url = '{url}', hashes = {{ sha256 = '{hash}' }} }}\n"
    );
    env.write("pylock.toml", &format!("lock-version = '1.0'\n{lock}"));
    insta::assert_snapshot!(refused("requirements: pylock.toml\n"), @"
    `docopt 0.6.2` has no wheel for the image and must be built, and this machine cannot run the image's Python
      --> app.yaml:4:15
       |
     4 | requirements: pylock.toml
       |               ^^^^^^^^^^^
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
}

/// Builds `app.yaml` and returns the titles of the layers with packages, but for bytecode, which an emulator makes.
fn package_layers(env: &TestEnv) -> Vec<String> {
    let built = env.run_online(&["build", "app.yaml", "--metadata-file", "metadata.json"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    let layers = metadata["images"][0]["layers"].as_array().unwrap();
    let titles = layers.iter().map(|layer| layer["title"].as_str().unwrap().to_owned());
    let others = ["base", "python environment"];
    titles.filter(|title| !others.contains(&title.as_str()) && !title.starts_with("bytecode of ")).collect()
}

#[test]
fn a_base_without_python_is_told_before_anything_is_resolved() {
    let env = TestEnv::new();
    env.write("bare.yaml", "name: bare\nbase_image: scratch\ncopy: [bare.yaml]\n");
    assert_eq!(env.run(&["build", "bare.yaml", "--output", "type=oci,dest=bare"]).code, 0);
    env.write("app.yaml", "name: app\nbase_image: oci:bare\npackages: [six]\n");
    let refused = env.run(&["build", "app.yaml"]);
    let (_, error) = refused.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!(error, @"
    no Python was found in the base
      --> app.yaml:2:13
       |
     2 | base_image: oci:bare
       |             ^^^^^^^^
    hint: take a `base_image` that has Python, or leave it out to get a Debian with one; `python_version` brings one to any base with a system in it
    ");
}
