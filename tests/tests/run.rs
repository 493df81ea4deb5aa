//! `imagespec run`: programs in images of the store, of a layout and of a registry, whoever made them.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use imagespec_tests::{DockerRegistry, Setup, TestEnv, outsider, snapshot};

/// An image whose one program is Debian's static busybox.
fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        "app.yaml",
        "base_image: scratch\nname: app\ncopy: [busybox]\nenv: {GREETING: hello}\n\
         cmd: [/root/busybox, sh, -c, 'echo $GREETING from $PWD']\n",
    );
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    let busybox = busybox.expect("busybox-static is installed: `tests/run` does that");
    fs::copy(busybox, env.path().join("busybox")).expect("a file can be copied");
    env
}

#[test]
fn a_program_runs_in_an_image_of_the_store_by_spec_and_by_name() {
    let env = project();
    snapshot!(env.said(&["run", "app.yaml"]), @"
    exit code 1
    error: `app:HASH` is not built on this machine
    hint: `imagespec build app.yaml` builds it
    ");
    let built = env.stdout(&["build", "app.yaml"]);
    assert_eq!(env.stdout(&["run", "app.yaml"]), "hello from /root\n");
    assert_eq!(env.stdout(&["run", built.trim()]), "hello from /root\n");
    assert_eq!(env.stdout(&["run", "app.yaml", "--", "/root/busybox", "echo", "a b"]), "a b\n");
    assert_eq!(env.run(&["run", "app.yaml", "--", "/root/busybox", "sh", "-c", "exit 7"]).code, 7);
}

#[test]
fn a_layout_is_run_for_this_machine_and_for_no_other() {
    let env = project();
    let arguments = ["build", "app.yaml", "--platform", "linux/amd64,linux/arm64", "--output", "type=oci,dest=out"];
    env.stdout(&arguments);
    assert_eq!(env.stdout(&["run", "oci:out"]), "hello from /root\n");
    snapshot!(env.said(&["run", "oci:out", "--platform", "linux/s390x"]), @"
    exit code 1
    error: there is no image for `linux/s390x`, only for `linux/amd64`, `linux/arm64`
    hint: `--platform linux/amd64` takes that one
    ");
    snapshot!(env.said(&["run", "oci:out", "--platform", "linux/amd64,linux/arm64"]), @"
    exit code 2
    error: one platform is run at a time
    hint: pass one `--platform`
    ");
    snapshot!(env.said(&["run", "oci:out", "--set", "env.A=1"]), @"
    exit code 2
    error: `--set` changes a spec, and `oci:out` is none
    hint: leave it out
    ");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_image_for_another_processor_is_refused_before_anything_runs() {
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        return;
    }
    let env = project();
    env.stdout(&["build", "app.yaml", "--platform", "linux/arm64", "--output", "type=oci,dest=out"]);
    snapshot!(env.said(&["run", "oci:out"]), @"
    exit code 1
    error: the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
    hint: take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
    ");
    env.stdout(&["build", "app.yaml", "--platform", "linux/arm64"]);
    let by_spec = env.said(&["run", "app.yaml", "--platform", "linux/arm64"]);
    assert!(by_spec.starts_with("exit code 1\nerror: the image is for `linux/arm64`"), "{by_spec}");
    assert!(!env.path().join("cache/snapshots").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
}

#[test]
fn an_image_of_a_registry_is_pulled_once_whatever_its_form() {
    let env = project();
    env.stdout(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    let layout = format!("oci:{}", env.path().join("out").display());
    // From plain archives, so that they are compressed anew.
    let plain = format!("dir:{}", env.path().join("plain").display());
    outsider("skopeo", &["copy", "-q", "--dest-decompress", &layout, &plain]);
    let forms: [(&str, &[&str], &str); 3] = [
        ("docker", &["--format", "v2s2", &layout], "docker.image.rootfs.diff.tar.gzip"),
        ("gzip", &[&layout], "oci.image.layer.v1.tar+gzip"),
        ("zstd", &["--dest-compress-format", "zstd", &plain], "oci.image.layer.v1.tar+zstd"),
    ];
    for (tag, options, media_type) in forms {
        // One for each form, for skopeo takes a layer that is there in another form already.
        let registry = DockerRegistry::start(Setup::Open);
        let name = format!("{}/other:{tag}", registry.host());
        let target = format!("docker://{name}");
        outsider("skopeo", &[&["copy", "-q", "--dest-tls-verify=false"], options, &[&target]].concat());
        let inspected = env.stdout(&["inspect", &name, "--format", "json"]);
        assert!(inspected.contains(media_type), "{inspected}");
        let other = TestEnv::new();
        let first = other.run(&["run", &name]);
        assert_eq!((first.code, first.stdout.as_str()), (0, "hello from /root\n"), "{tag}: {}", first.stderr);
        insta::allow_duplicates! {
            snapshot!(first.stderr, @"T s  fetch layer 1 of 1  N bytes");
        }
        let second = other.run(&["run", &name]);
        assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("hello from /root\n", ""), "{tag}");
    }
}

#[test]
fn the_image_of_a_spec_that_was_pushed_is_run_on_another_machine() {
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    project().stdout(&["build", "app.yaml", "--registry", &target]);
    let other = project();
    assert_eq!(other.stdout(&["run", "app.yaml", "--registry", &target]), "hello from /root\n");
}

#[test]
fn what_cannot_be_run_says_why() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    env.stdout(&["build", "app.yaml", "--set", "cmd="]);
    snapshot!(env.said(&["run", "app.yaml", "--set", "cmd="]), @"
    exit code 1
    error: the image names no program to run
    hint: name one: `imagespec run app.yaml -- CMD`
    ");
    snapshot!(env.said(&["run", &format!("{}/team/app:1", registry.host())]), @"
    exit code 1
    error: `127.0.0.1:PORT/team/app:1` is neither in the store of this machine nor in `127.0.0.1:PORT`
    ");
    env.stdout(&["build", "app.yaml"]);
    snapshot!(env.said(&["run", "app.yaml", "--", "/root/nothing"]), @"
    exit code 127
    error: cannot start `/root/nothing`
    note: No such file or directory (os error 2)
    hint: the image lacks the program, or the interpreter or loader that it is started by
    ");
}

#[test]
fn a_file_that_is_no_program_ends_with_126() {
    let env = project();
    env.write("note.txt", "no program\n");
    env.write("note.yaml", "base_image: scratch\nname: note\ncopy: [note.txt]\n");
    env.stdout(&["build", "note.yaml"]);
    snapshot!(env.said(&["run", "note.yaml", "--", "/root/note.txt"]), @"
    exit code 126
    error: cannot start `/root/note.txt`
    note: Permission denied (os error 13)
    hint: name a program for this processor, or a script with `#!`, that the user may execute
    ");
}

#[test]
fn an_unknown_user_is_told_what_to_do_and_users_have_a_home() {
    let env = project();
    let echo = ["--", "/root/busybox", "sh", "-c", "echo $HOME"];
    let home = |settings: &[&str]| {
        env.stdout(&[&["build", "app.yaml"], settings].concat());
        env.run(&[&["run", "app.yaml"], settings, &echo].concat())
    };
    assert_eq!(home(&[]).stdout, "/root\n");
    assert_eq!(home(&["--set", "env.HOME=/srv"]).stdout, "/srv\n");
    let unknown = home(&["--set", "user=ann"]);
    snapshot!(unknown.stderr, @"
    error: the image has no user or group `ann`
    hint: set `user` to one that the image's /etc/passwd has, or to a number, which needs no entry there
    ");
}

#[test]
fn a_working_directory_is_in_the_image_and_keeps_what_the_base_has() {
    let env = project();
    env.stdout(&["build", "app.yaml", "--output", "type=oci,dest=base"]);
    env.write("top.yaml", "base_image: oci:base\nname: top\nworkdir: /srv/app\n");
    env.stdout(&["build", "top.yaml", "--output", "type=oci,dest=top"]);
    assert_eq!(env.stdout(&["run", "oci:top", "--", "/root/busybox", "pwd"]), "/srv/app\n");
    let bundle = env.path().join("bundle").display().to_string();
    let tag = outsider(
        "sh",
        &[
            "-c",
            &format!(
                "grep -o '\"org.opencontainers.image.ref.name\":\"[^\"]*' {}/top/index.json",
                env.path().display()
            ),
        ],
    );
    let image = format!("{}:{}", env.path().join("top").display(), tag.trim().rsplit('"').next().unwrap_or_default());
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
    assert!(Path::new(&bundle).join("rootfs/srv/app").is_dir());
    // What the base has is not brought again.
    env.write("again.yaml", "base_image: oci:top\nname: again\nworkdir: /srv\n");
    let layers = |image: &str| env.stdout(&["inspect", image, "--format", "json"]).matches("\"diff_id\"").count();
    env.stdout(&["build", "again.yaml", "--output", "type=oci,dest=again"]);
    assert_eq!(layers("oci:again"), layers("oci:top"));
}

/// A hostile image claims that its layer has the content of another one.
#[test]
fn a_layer_that_is_not_what_the_config_says_is_not_unpacked_under_that_name() {
    let env = project();
    env.stdout(&["build", "app.yaml", "--output", "type=oci,dest=out"]);
    let layout = format!("oci:{}", env.path().join("out").display());
    let bad = format!("oci:{}:bad", env.path().join("bad").display());
    outsider("skopeo", &["copy", "-q", &layout, &bad]);
    let blobs = env.path().join("bad/blobs/sha256");
    let read = |digest: &str| fs::read_to_string(blobs.join(&digest[7..])).expect("a document of the layout");
    let write = |text: &str| {
        let digest = outsider("sh", &["-c", &format!("printf %s '{text}' | sha256sum")])[..64].to_owned();
        fs::write(blobs.join(&digest), text).expect("a document can be written");
        format!("sha256:{digest}")
    };
    let index = fs::read_to_string(env.path().join("bad/index.json")).expect("an index");
    let named = |text: &str, after: &str| {
        let start =
            text[text.find(after).expect("a key")..].find("sha256:").expect("a digest") + text.find(after).unwrap_or(0);
        text[start..start + 71].to_owned()
    };
    let manifest_digest = named(&index, "manifests");
    let manifest = read(&manifest_digest);
    let config_digest = named(&manifest, "\"config\"");
    let config = read(&config_digest);
    let claimed = format!("sha256:{}", "a".repeat(64));
    let lie = write(&config.replace(&named(&config, "diff_ids"), &claimed));
    let manifest = write(&manifest.replace(&config_digest, &lie));
    let text = index.replace(&manifest_digest, &manifest);
    fs::write(env.path().join("bad/index.json"), text).expect("the index can be written");
    snapshot!(env.said(&["run", "oci:bad"]), @"
    exit code 1
    error: the content of layer `sha256:…` has the digest sha256:… instead of sha256:…
    ");
    assert!(!env.path().join("cache/snapshots").join("a".repeat(64)).exists());
    assert_eq!(fs::read_dir(env.path().join("cache/tmp")).expect("the folder is there").count(), 0);
}

#[test]
fn the_cache_is_not_cleaned_under_a_program_that_runs() {
    let env = project();
    env.stdout(&["build", "app.yaml"]);
    let mut running = env
        .command(&["run", "app.yaml", "--", "/root/busybox", "sh", "-c", "echo ready; /root/busybox cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut ready = [0; 6];
    std::io::Read::read_exact(running.stdout.as_mut().expect("a pipe"), &mut ready).expect("the program is ready");
    for command in [&["cache", "prune", "--older-than", "0s"][..], &["cache", "clear"]] {
        let said = env.said(command).replace(&env.path().display().to_string(), "FOLDER");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @"
            exit code 75
            error: the cache in `FOLDER/cache` is in use by another imagespec process
            hint: try again when it has ended
            ");
        }
    }
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    assert_eq!(env.run(&["cache", "clear"]).code, 0);
}
