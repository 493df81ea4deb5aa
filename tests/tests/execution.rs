//! What executes: apt, commands and their secrets, in the sandbox and on real packages. Needs the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use imagespec_tests::{Finished, TestEnv, holders, lint_above, outsider};

const SECRET: &str = "canary-kQ4vZ";

/// A Debian in `base`, as `imagespec` makes it.
fn debian(env: &TestEnv) {
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/bookworm\n");
    let built = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}

fn build(env: &TestEnv, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let secret = ["--secret", "id=token,env=TOKEN_OF_TEST"];
    let arguments = [&["build", "app.yaml"], arguments, &secret].concat();
    env.run_online(&arguments, &[&[("TOKEN_OF_TEST", SECRET)], variables].concat())
}

/// Unpacks the image of the layout `out` into `bundle`.
fn unpack(env: &TestEnv, built: &Finished) -> std::path::PathBuf {
    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let (image, bundle) = (format!("{}:{tag}", env.path().join("out").display()), env.path().join("bundle"));
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    bundle.join("rootfs")
}

#[test]
fn apt_and_commands_make_the_same_layers_from_two_caches_and_keep_their_secrets() {
    let env = TestEnv::with_debian();
    debian(&env);
    env.write(
        "app.yaml",
        "name: app
base_image: oci:base
apt_packages: [python3-yaml, jq]
commands:
  - echo $TOKEN | sha256sum > hash; cat /run/token
  - rm -rf /usr/share/doc && mkdir /usr/share/doc && echo new > /usr/share/doc/note
  - rm /usr/bin/jq && install -m 4755 /bin/true /usr/local/bin/setuid && ln /usr/local/bin/setuid /usr/local/bin/twin
secrets:
  - {id: token, env: TOKEN}
  - {id: token, target: /run/token}
",
    );
    let output = ["--output", "type=oci,dest=out"];
    let first = build(&env, &output, &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.contains("  | ****\n"), "{}", first.stderr);
    let other = env.path().join("other").display().to_string();
    let second = build(&env, &[], &[("IMAGESPEC_CACHE_DIR", &other)]);
    assert_eq!((second.code, &second.stdout), (0, &first.stdout), "{}", second.stderr);
    assert_eq!(lint_above(&env.path().join("out"), &env.path().join("base")), Vec::<String>::new());

    let root = unpack(&env, &first);
    assert_eq!(fs::read_to_string(root.join("usr/share/doc/note")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(root.join("usr/share/doc")).unwrap().count(), 1, "what lay there is hidden");
    assert!(!root.join("usr/bin/jq").exists());
    assert!(root.join("usr/lib/python3/dist-packages/yaml/__init__.py").is_file());
    let setuid = fs::metadata(root.join("usr/local/bin/setuid")).unwrap();
    assert_eq!(setuid.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(setuid.ino(), fs::metadata(root.join("usr/local/bin/twin")).unwrap().ino());
    for absent in ["run/token", "var/log/dpkg.log", "var/log/apt/history.log", "var/cache/apt/pkgcache.bin"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
    assert_eq!(fs::read_dir(root.join("var/lib/apt/lists")).map_or(0, Iterator::count), 0);

    // The plan that the image carries says neither what secrets are called nor where they stand.
    let layout = format!("oci:{}", env.path().join("out").display());
    let config = outsider("skopeo", &["inspect", "--config", "--raw", &layout]);
    assert!(config.contains("imagespec.plan") && !config.contains("secrets"), "{config}");

    assert!(!format!("{first:?}{second:?}").contains(SECRET));
    assert_eq!(holders(env.path(), SECRET.as_bytes()), Vec::<String>::new());
}

#[test]
fn a_base_without_python_gets_debians() {
    let env = TestEnv::with_debian();
    debian(&env);
    env.write("app.yaml", "name: app\nbase_image: oci:base\npython_version: 3.11\npackages: [six]\n");
    let built = env.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let command = ["run", "app.yaml", "--", "python", "-c", "import six, sys; print(sys.prefix, sys.version[:4])"];
    assert_eq!(env.run_online(&command, &[]).stdout, "/opt/venv 3.11\n");
}

#[test]
fn a_failing_command_is_shown_with_its_exit_code_and_last_lines_and_leaves_nothing() {
    let env = TestEnv::with_debian();
    debian(&env);
    env.write("app.yaml", "name: app\nbase_image: oci:base\ncommands: [cd, 'echo about to fail with $TOKEN; exit 7']\nsecrets: [{id: token, env: TOKEN}]\n");
    let failed = build(&env, &[], &[]);
    let (_, error) = failed.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!(error, @r#"
    `echo about to fail with $TOKEN; exit 7` ended with exit code 7:
           about to fail with ****
      --> app.yaml:3:16
       |
     3 | commands: [cd, 'echo about to fail with $TOKEN; exit 7']
       |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    assert_eq!(fs::read_dir(env.path().join("cache/tmp")).unwrap().count(), 0);

    let unknown = "name: app\nbase_image: oci:base\napt_packages: [jq, no-such-package]\n";
    env.write("app.yaml", unknown);
    let failed = env.run_online(&["build", "app.yaml"], &[]);
    let (_, error) = failed.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!(error, @"
    apt-get cannot install the packages (exit code 100):
           E: Unable to locate package no-such-package
      --> app.yaml:3:20
       |
     3 | apt_packages: [jq, no-such-package]
       |                    ^^^^^^^^^^^^^^^
    hint: check the names at https://packages.debian.org, and whether the image's mirror is reached
    ");
}

#[test]
fn what_cannot_execute_on_a_base_is_told() {
    let env = TestEnv::with_debian();
    env.write("bare.yaml", "name: bare\nbase_image: scratch\ncopy: [bare.yaml]\n");
    assert_eq!(env.run(&["build", "bare.yaml", "--output", "type=oci,dest=bare"]).code, 0);
    let refused = |spec: &str, arguments: &[&str]| {
        env.write("app.yaml", spec);
        let finished = env.run(&[&["build", "app.yaml"], arguments].concat());
        assert_eq!(finished.stdout, "");
        finished.stderr.split_once("error: ").unwrap().1.to_owned()
    };
    let secret = "base_image: oci:bare\ncommands: [make]\nsecrets: [{id: token, env: TOKEN}]\n";
    insta::assert_snapshot!(refused(secret, &[]), @"
    secret `token`, listed under `secrets`, is not given
      --> app.yaml:3:11
       |
     3 | secrets: [{id: token, env: TOKEN}]
       |           ^
    hint: add `--secret id=token,src=FILE` or `--secret id=token,env=VARIABLE`
    ");
    insta::assert_snapshot!(refused("base_image: oci:bare\ncommands: [make]\n", &[]), @"
    the base has no `/bin/sh`, which `make` is run by
      --> app.yaml:2:12
       |
     2 | commands: [make]
       |            ^^^^
    hint: take a `base_image` with a system in it
    ");
    insta::assert_snapshot!(refused("base_image: oci:bare\napt_packages: [git]\n", &[]), @"
    the base has no apt-get: `apt_packages` needs a Debian or an Ubuntu
      --> app.yaml:2:16
       |
     2 | apt_packages: [git]
       |                ^^^
    hint: take a Debian or an Ubuntu as `base_image`, or leave it out
    ");
    env.write("bare.yaml", "name: bare\nbase_image: scratch\ncopy: [bare.yaml]\nplatform: linux/arm64\n");
    assert_eq!(env.run(&["build", "bare.yaml", "--output", "type=oci,dest=arm"]).code, 0);
    insta::assert_snapshot!(refused("base_image: oci:arm\nplatform: linux/arm64\napt_packages: [git]\n", &[]), @"
    Debian packages are installed by the image's own apt-get, which this machine cannot run
      --> app.yaml:3:16
       |
     3 | apt_packages: [git]
       |                ^^^
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
    insta::assert_snapshot!(refused("base_image: oci:arm\nplatform: linux/arm64\ncommands: [make]\n", &[]), @"
    `make` must run, and this machine cannot run it
      --> app.yaml:3:12
       |
     3 | commands: [make]
       |            ^^^^
    note: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
}

#[test]
fn what_the_programs_of_one_image_leave_for_apt_reaches_no_other_image() {
    let env = TestEnv::with_debian();
    debian(&env);
    // An apt-get that puts another archive of the same length where apt keeps what it fetched.
    env.write(
        "evil.yaml",
        r#"name: evil
base_image: oci:base
commands:
  - mv /usr/bin/apt-get /usr/bin/apt-get.real
  - |
    printf '%s\n' '#!/bin/sh' '/usr/bin/apt-get.real "$@" || exit' 'for deb in /var/cache/apt/archives/hello_*.deb; do' '  size=$(stat -c %s "$deb"); mkdir -p /tmp/evil/DEBIAN' '  dpkg-deb -f "$deb" | grep -v ^Depends > /tmp/evil/DEBIAN/control; echo evil > /tmp/evil/evil' '  dpkg-deb -b /tmp/evil /tmp/evil.deb; cp /tmp/evil.deb "$deb"; truncate -s "$size" "$deb"' 'done 2>/dev/null' 'true' > /usr/bin/apt-get
  - chmod 755 /usr/bin/apt-get
"#,
    );
    env.write("poison.yaml", "name: poison\nbase_image: evil.yaml\napt_packages: [hello]\n");
    let poisoned = env.run_online(&["build", "poison.yaml"], &[]);
    assert_eq!(poisoned.code, 0, "{}", poisoned.stderr);
    env.write("clean.yaml", "name: clean\nbase_image: oci:base\napt_packages: [hello, time]\n");
    let clean = env.run_online(&["build", "clean.yaml"], &[]);
    assert_eq!(clean.code, 0, "{}", clean.stderr);
    let ran = env.run_online(&["run", "clean.yaml", "--", "sh", "-c", "hello; ls /evil"], &[]);
    assert!(ran.stdout == "Hello, world!\n" && ran.stderr.contains("No such file"), "{ran:?}");
}
