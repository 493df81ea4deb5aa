//! Conda packages, from channels that the tests make of real programs: the Python is Debian's, moved to another prefix.
//! Needs the network, for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use imagespec_tests::{
    CondaChannel, CondaPackage, CondaPython, Finished, FolderServer, PLACEHOLDER, TestEnv, lint_above, outsider,
};
use serde_json::Value;

const CANARY: &str = "canary-8Xw2pQ";
fn shared() -> &'static CondaPython {
    static SHARED: LazyLock<CondaPython> =
        LazyLock::new(|| CondaPython::made_in(Path::new(env!("CARGO_TARGET_TMPDIR"))));
    &SHARED
}

/// Unpacks the image of `layout` that was just built.
fn unpack(layout: &Path, built: &Finished, bundle: &Path) -> PathBuf {
    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let image = format!("{}:{tag}", layout.display());
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    bundle.join("rootfs")
}

/// A small channel in `folder`: `greet` needs an `answer` that fits Python 3.11, and not the newest.
fn channel(folder: &Path) -> CondaChannel {
    let mut channel = CondaChannel::new(folder);
    channel.add(&shared().package("linux-64"));
    let greet = "from importlib.metadata import version\ndef main():\n    print('hello', version('greet'))\n";
    channel.add(
        &CondaPackage::new("greet", "1.5", "noarch")
            .depends("python >=3.8")
            .depends("answer >=2")
            .entry_point("greet = greet:main")
            .file("site-packages/greet/__init__.py", greet)
            .file("site-packages/greet-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.5\n")
            .file("share/note", "of greet"),
    );
    for (version, python) in [("1.0", "python"), ("2.0", "python <3.12"), ("3.0", "python >=3.12")] {
        channel.add_old(
            &CondaPackage::new("answer", version, "linux-64")
                .depends(python)
                .depends("__glibc >=2.17")
                .binary("bin/answer", &shared().program)
                .text("bin/question", format!("#!{PLACEHOLDER}/bin/python\nprint({version} * 21)\n"), 0o775)
                .program("bin/.answer-post-link.sh", "#!/bin/sh\ntouch $PREFIX/ran\n")
                .file("share/note", "of answer"),
        );
    }
    channel
}

fn build(env: &TestEnv, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    env.run_online(&[&["build", "app.yaml"], arguments].concat(), variables)
}

fn error(finished: &Finished) -> String {
    assert_ne!(finished.code, 0, "{}", finished.stdout);
    let (_, error) = finished.stderr.split_once("error: ").unwrap_or(("", &finished.stderr));
    error.to_owned()
}

fn with_base(fields: &str) -> String {
    format!("name: app\nbase_image: oci:{}\nplatform: linux/amd64\n{fields}", shared().base.display())
}

#[test]
fn python_comes_from_a_channel_on_this_machine_and_pip_installs_on_top() {
    let env = TestEnv::new();
    let mut channel = channel(&env.path().join("channel"));
    // Of six, which python-dateutil needs, conda brings a version that is not the newest.
    channel.add(
        &CondaPackage::new("six", "1.16.0", "noarch")
            .depends("python")
            .file("site-packages/six.py", "__version__ = '1.16.0'\nfrom types import ModuleType\ntext_type = str\n")
            .file("site-packages/six-1.16.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\n"),
    );
    env.write(
        "app.yaml",
        &with_base(
            "python_version: 3.11
conda_packages: [greet, six]
conda_channels: [./channel]
packages: [idna, python-dateutil]
env: {LD_LIBRARY_PATH: /opt/venv/lib}
entrypoint: [greet]
",
        ),
    );
    let first = build(&env, &["--output", "type=oci,dest=out"], &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(lint_above(&env.path().join("out"), &shared().base), Vec::<String>::new());
    let warnings: Vec<_> = first.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    warning: conda packages `greet` and `answer` both have 1 file, such as `share/note`; those of `answer` are used
    warning: conda package `answer` has a script that conda runs after it is installed; it is not run here
    ");

    let root = unpack(&env.path().join("out"), &first, &env.path().join("bundle"));
    let venv = root.join("opt/venv");
    let text = |path: &str| fs::read_to_string(venv.join(path)).unwrap();
    let mode = |path: &str| fs::metadata(venv.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(text("bin/question"), "#!/opt/venv/bin/python\nprint(2.0 * 21)\n");
    assert_eq!((mode("bin/question"), mode("lib/python3.11/os.py")), (0o755, 0o644));
    assert_eq!(fs::read_link(venv.join("bin/python")).unwrap(), Path::new("python3.11"));
    assert_eq!(fs::read(venv.join("bin/answer")).unwrap().len(), shared().program.len());
    assert!(
        !venv.join("pyvenv.cfg").exists() && !venv.join("ran").exists() && venv.join("conda-meta/history").exists()
    );
    let record: Value = serde_json::from_str(&text("conda-meta/answer-2.0-h0_0.json")).unwrap();
    assert_eq!(record["url"], "file:///local-channel/linux-64/answer-2.0-h0_0.tar.bz2");
    assert_eq!(record["channel"], "file:///local-channel/");
    // What conda brought is not installed again.
    assert!(!text("lib/python3.11/site-packages/six.py").contains("Utilities"));
    assert!(venv.join("lib/python3.11/site-packages/dateutil").is_dir());

    for (program, expected) in [
        (vec!["greet"], "hello 1.5\n"),
        (vec!["answer"], "/opt/venv/share\n"),
        (vec!["question"], "42.0\n"),
        (vec!["python", "-c", "import idna, six, sys; print(six.__version__, sys.prefix)"], "1.16.0 /opt/venv\n"),
        (
            vec!["sh", "-c", "echo $CONDA_PREFIX $PATH"],
            "/opt/venv /opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
        ),
    ] {
        let ran = env.run_online(&[vec!["run", "oci:out", "--"], program.clone()].concat(), &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{program:?} {}", ran.stderr);
    }

    // Elsewhere, with another cache and the channel in another place: the same image.
    let there = TestEnv::new();
    outsider("cp", &["-r", &env.path().join("channel").display().to_string(), &there.path().display().to_string()]);
    there.write("app.yaml", &fs::read_to_string(env.path().join("app.yaml")).unwrap());
    let second = build(&there, &["--output", "type=oci,dest=out"], &[]);
    assert_eq!(second.stdout, first.stdout, "{}", second.stderr);
    // And a channel that says something else is another image.
    channel.add(&CondaPackage::new("another", "1", "noarch").file("share/another", ""));
    let third = build(&env, &["--output", "type=oci,dest=out"], &[]);
    assert_ne!(third.stdout.split('@').next(), first.stdout.split('@').next(), "{}", third.stderr);
}

#[test]
fn an_arm64_image_needs_no_emulation_and_a_small_change_makes_one_layer() {
    let env = TestEnv::new();
    let mut channel = CondaChannel::new(&env.path().join("channel"));
    channel.add(&shared().package("linux-aarch64"));
    channel.add(&CondaPackage::new("tool", "1.0", "linux-aarch64").text("etc/tool.conf", PLACEHOLDER, 0o644));
    // Nothing of this base can run here.
    let (layout, image) =
        (env.path().join("base").display().to_string(), format!("{}/base:latest", env.path().display()));
    let library = fs::read_dir(shared().usr.join("lib/x86_64-linux-gnu")).unwrap().flatten();
    let libc = library.map(|entry| entry.path()).find(|path| path.ends_with("libc.so.6")).unwrap();
    let tree = env.path().join("tree/usr/lib/aarch64-linux-gnu");
    fs::create_dir_all(&tree).unwrap();
    fs::copy(libc, tree.join("libc.so.6")).unwrap();
    let tar = env.path().join("base.tar").display().to_string();
    outsider("tar", &["-C", &env.path().join("tree").display().to_string(), "-cf", &tar, "usr"]);
    for arguments in [
        vec!["init", "--layout", &layout],
        vec!["new", "--image", &image],
        vec!["raw", "add-layer", "--image", &image, &tar],
        vec!["config", "--image", &image, "--architecture", "arm64", "--os", "linux"],
    ] {
        outsider("umoci", &arguments);
    }
    let spec = "name: app\nbase_image: oci:base\nplatform: linux/arm64\nconda_channels: [./channel]\n";
    env.write("app.yaml", &format!("{spec}conda_packages: [tool]\n"));
    let built = build(&env, &["--output", "type=oci,dest=out"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let root = unpack(&env.path().join("out"), &built, &env.path().join("bundle"));
    assert_eq!(fs::read_to_string(root.join("opt/venv/etc/tool.conf")).unwrap(), "/opt/venv");

    // A build that is killed leaves nothing behind that the next one stumbles over.
    for point in ["resolved", "layer-begun", "blob-written", "blob-named", "record-written"] {
        let cache = env.path().join(point).display().to_string();
        let killed = build(&env, &[], &[("IMAGESPEC_CACHE_DIR", &cache), ("IMAGESPEC_KILL_AT", point)]);
        assert_eq!(killed.code, -1, "{point}");
        let again = build(&env, &[], &[("IMAGESPEC_CACHE_DIR", &cache)]);
        assert_eq!((again.code, &again.stdout), (0, &built.stdout), "{point}: {}", again.stderr);
    }

    channel.add(&CondaPackage::new("tool", "1.1", "linux-aarch64").text("etc/tool.conf", "new", 0o644));
    let built = build(&env, &["--metadata-file", "metadata.json"], &[]);
    let report: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    let layers = report["images"][0]["layers"].as_array().unwrap();
    let made: Vec<_> = layers.iter().filter(|layer| layer["outcome"] == "done").map(|layer| &layer["title"]).collect();
    assert_eq!(made, ["tool 1.1"], "{}", built.stderr);
}

#[test]
fn a_channel_asks_for_a_login_which_appears_nowhere_and_a_mirror_stands_in() {
    let env = TestEnv::new();
    channel(&env.path().join("channel/team"));
    // `ann:canary-8Xw2pQ`
    let login = "Basic YW5uOmNhbmFyeS04WHcycFE=";
    let server = FolderServer::start(&env.path().join("channel"), Some(login));
    let host = server.host();
    env.write("app.yaml", &with_base(&format!("conda_packages: [answer]\nconda_channels: ['http://{host}/team']\n")));
    let refused = build(&env, &[], &[("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]);
    let said = error(&refused).replace(&shared().base.display().to_string(), "BASE");
    insta::assert_snapshot!(said.replace(&host, "HOST"), @"
    conda channel 127.0.0.1 answered 401 Unauthorized
      --> app.yaml:5:18
       |
     5 | conda_channels: ['http://HOST/team']
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: say who you are to the channel: `rattler auth login HOST`, or `machine HOST login USER password PASSWORD` in the file that NETRC names
    ");

    let netrc = env.path().join("netrc");
    fs::write(&netrc, format!("machine 127.0.0.1 login ann password {CANARY}\n")).unwrap();
    let netrc = netrc.display().to_string();
    let direct = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1"), ("IMAGESPEC_LOG", "trace")];
    let by_netrc = build(&env, &["--output", "type=oci,dest=out"], &[&direct[..], &[("NETRC", &netrc)]].concat());
    assert_eq!(by_netrc.code, 0, "{}", by_netrc.stderr);

    // A token of a channel server stands in the path, `/t/TOKEN/…`; the mirror is the one that asks for it.
    let folder = env.path().join("with-token");
    fs::create_dir_all(folder.join(format!("t/{CANARY}"))).unwrap();
    let mirror = folder.join(format!("t/{CANARY}/mirror"));
    outsider("cp", &["-r", &env.path().join("channel").display().to_string(), &mirror.display().to_string()]);
    let tokens = FolderServer::start(&folder, None);
    let credentials = env.path().join("credentials.json");
    fs::write(&credentials, format!("{{\"127.0.0.1\": {{\"CondaToken\": \"{CANARY}\"}}}}")).unwrap();
    env.write(
        "imagespec.toml",
        &format!("[builders.oci.conda_mirrors]\n\"http://{host}\" = \"http://{}/mirror\"\n", tokens.host()),
    );
    let other = env.path().join("other").display().to_string();
    let credentials = credentials.display().to_string();
    let variables = [("RATTLER_AUTH_FILE", credentials.as_str()), ("IMAGESPEC_CACHE_DIR", other.as_str())];
    let asked_before = server.asked().len();
    let by_token = build(&env, &["--output", "type=oci,dest=out2"], &[&direct[..], &variables].concat());
    assert_eq!(by_token.stdout, by_netrc.stdout, "{}", by_token.stderr);
    assert_eq!(server.asked().len(), asked_before);
    assert!(tokens.asked().iter().all(|path| path.starts_with(&format!("/t/{CANARY}/mirror/team/"))));

    // A wrong package is refused, whoever sent it.
    let package = mirror.join("team/linux-64/answer-2.0-h0_0.tar.bz2");
    fs::write(&package, vec![0; fs::metadata(&package).unwrap().len().try_into().unwrap()]).unwrap();
    let third = env.path().join("third").display().to_string();
    let variables = [variables[0], ("IMAGESPEC_CACHE_DIR", third.as_str())];
    let refused = build(&env, &[], &[&direct[..], &variables].concat());
    let said = error(&refused);
    assert!(said.starts_with("content of `answer-2.0-h0_0.tar.bz2` has digest sha256:"), "{said}");

    for finished in [&by_netrc, &by_token, &refused] {
        assert!(
            !finished.stderr.contains(CANARY) && !finished.stderr.contains("YW5uOmNhbmFyeS04WHcycFE"),
            "{}",
            finished.stderr
        );
    }
    for folder in ["out", "out2", "cache", "other", "third"] {
        let path = env.path().join(folder).display().to_string();
        let found = Command::new("grep").args(["-rl", CANARY, &path]).output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
    }
}

#[test]
fn what_cannot_be_solved_or_read_is_said_at_its_field() {
    let env = TestEnv::new();
    let made = channel(&env.path().join("channel"));
    let refused = |fields: &str| {
        env.write("app.yaml", &with_base(fields));
        let finished = build(&env, &[], &[("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]);
        error(&finished).replace(&env.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!(refused("conda_packages: [anser]\nconda_channels: [./channel]\n"), @"
    no conda channel of `FOLDER/channel` has a package `anser` for linux-64
      --> app.yaml:4:18
       |
     4 | conda_packages: [anser]
       |                  ^^^^^
    hint: did you mean `answer`?
    ");
    let unfit = refused("conda_packages: ['answer>=9']\nconda_channels: [./channel]\n");
    assert!(unfit.starts_with("the conda packages do not fit together:\n") && unfit.contains("answer >=9"), "{unfit}");
    insta::assert_snapshot!(refused("python_version: 3.11\nconda_packages: [answer=3]\nconda_channels: [./channel]\n"), @"
    the conda packages do not fit together:
           answer 3.* cannot be installed because there are no viable options:
           └─ answer 3.0 would require
              └─ python >=3.12, for which no candidates were found.
      --> app.yaml:5:18
       |
     5 | conda_packages: [answer=3]
       |                  ^^^^^^^^
    hint: loosen a version, or change the order of `conda_channels`: the first that has a package is the one that it comes from
    ");
    insta::assert_snapshot!(refused("conda_packages: ['answer[url=\"https://x.example/a-1-0.conda\"]']\nconda_channels: [./channel]\n"), @r#"
    `answer[url="https://x.example/a-1-0.conda"]` names an address, which is no channel's
      --> app.yaml:4:18
       |
     4 | conda_packages: ['answer[url="https://x.example/a-1-0.conda"]']
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    "#);
    insta::assert_snapshot!(refused("conda_packages: [answer]\nconda_channels: [./nowhere]\n"), @"
    `./nowhere` is no conda channel
      --> app.yaml:5:18
       |
     5 | conda_channels: [./nowhere]
       |                  ^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: name a folder with a `repodata.json` in `noarch`, as `conda index` makes it
    ");
    insta::assert_snapshot!(refused("conda_packages: [answer]\nconda_channels: ['http://127.0.0.1:1/team']\n"), @"
    cannot reach conda channel 127.0.0.1
      --> app.yaml:5:18
       |
     5 | conda_channels: ['http://127.0.0.1:1/team']
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^
    note: Connection refused (os error 111)
    hint: check the network, or set `conda_mirrors` under `[builders.oci]` of `imagespec.toml` to a mirror that is reached
    ");
    let empty = FolderServer::start(&env.path().join("home"), None);
    let fields = format!("conda_packages: [answer]\nconda_channels: ['http://{}/team']\n", empty.host());
    insta::assert_snapshot!(refused(&fields).replace(&empty.host(), "HOST"), @"
    `http://HOST/team` is no conda channel: it has no `noarch/repodata.json`
      --> app.yaml:5:18
       |
     5 | conda_channels: ['http://HOST/team']
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: check its spelling at https://anaconda.org; a folder is a channel after `conda index` made its repodata
    ");
    insta::assert_snapshot!(refused("conda_packages: [answer]\npython_exec: /usr/bin/python3\n"), @"
    `python_exec` cannot stand beside `conda_packages`
      --> app.yaml:5:14
       |
     5 | python_exec: /usr/bin/python3
       |              ^^^^^^^^^^^^^^^^
    hint: remove it: with `conda_packages`, Python comes from conda, in the version that `python_version` says
    ");
    fs::write(made.package_path("linux-64", "answer-2.0-h0_0.tar.bz2"), "other").unwrap();
    let wrong = refused("conda_packages: [answer]\nconda_channels: [./channel]\n");
    assert!(wrong.starts_with("content of `answer-2.0-h0_0.tar.bz2` has digest sha256:"), "{wrong}");
}

#[test]
fn an_image_stands_on_a_conda_environment_and_the_environment_on_nothing_of_its_kind() {
    let env = TestEnv::new();
    channel(&env.path().join("channel"));
    env.write("env.yaml", &with_base("conda_packages: [answer]\nconda_channels: [./channel]\n"));
    env.write("app.yaml", "name: app\nbase_image: env.yaml\nplatform: linux/amd64\npackages: [idna]\nenv: {LD_LIBRARY_PATH: /opt/venv/lib}\n");
    let built = build(&env, &["--output", "type=oci,dest=out"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let ran = env.run_online(&["run", "oci:out", "--", "python", "-c", "import idna, sys; print(idna.__file__)"], &[]);
    assert_eq!(ran.stdout, "/opt/venv/lib/python3.11/site-packages/idna/__init__.py\n", "{}", ran.stderr);

    env.write("app.yaml", "name: app\nbase_image: env.yaml\nplatform: linux/amd64\nconda_packages: [answer]\nconda_channels: [./channel]\n");
    insta::assert_snapshot!(error(&build(&env, &[], &[])), @"
    the base has something at `/opt/venv`, where the conda environment is to lie
      --> app.yaml:2:13
       |
     2 | base_image: env.yaml
       |             ^^^^^^^^
    hint: take a `base_image` without a Python environment of imagespec, or ask for the packages in its own spec
    ");
}

#[test]
fn a_locked_environment_stays_the_same_when_its_channel_goes_on() {
    let env = TestEnv::new();
    let mut channel = channel(&env.path().join("served/team"));
    let server = FolderServer::start(&env.path().join("served"), None);
    let host = server.host();
    let spec = with_base(&format!("conda_packages: [answer]\nconda_channels: ['http://{host}/team']\n"));
    env.write("app.yaml", &spec);
    let direct = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
    let in_cache = |cache: &str| env.path().join(cache).display().to_string();
    let other = in_cache("other");
    let elsewhere = [direct[0], direct[1], ("IMAGESPEC_CACHE_DIR", other.as_str())];
    let written = env.run_online(&["lock", "app.yaml"], &direct);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let lock = fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    let file = channel.package_path("linux-64", "answer-2.0-h0_0.tar.bz2");
    let sha256 = outsider("sha256sum", &[&file.display().to_string()]);
    let (sha256, _) = sha256.split_once(' ').unwrap();
    let size = fs::metadata(&file).unwrap().len();
    let (_, image) = lock.split_once("[[image]]\n").unwrap();
    let (answer, python) = image.split_once("\n[[image.conda]]\nname = \"python\"").unwrap();
    assert_eq!(
        answer,
        format!(
            "platform = \"linux/amd64\"\npython = \"3.11.2\"\n\n[[image.conda]]\nname = \"answer\"\nversion = \"2.0\"\nbuild = \"h0_0\"\nsubdir = \"linux-64\"\nurl = \"http://{host}/team/linux-64/answer-2.0-h0_0.tar.bz2\"\nsha256 = \"sha256:{sha256}\"\nsize = {size}\n"
        ),
        "{lock}"
    );
    assert!(!python.contains("[["), "{lock}");
    let locked = build(&env, &["--locked"], &direct);
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let unlocked = build(&env, &[], &direct);
    assert_eq!(unlocked.code, 0, "{}", unlocked.stderr);

    channel.add(&CondaPackage::new("answer", "2.5", "linux-64").depends("python").file("share/note", "newer"));
    let before = server.asked().len();
    let again = build(&env, &["--locked"], &elsewhere);
    assert_eq!((again.code, &again.stdout), (0, &locked.stdout), "{}", again.stderr);
    let mut asked = server.asked()[before..].to_vec();
    asked.sort();
    assert_eq!(asked, ["/team/linux-64/answer-2.0-h0_0.tar.bz2", "/team/linux-64/python-3.11.2-h0_0.conda"]);
    let newer = build(&env, &[], &elsewhere);
    assert_eq!(newer.code, 0, "{}", newer.stderr);
    assert_ne!(newer.stdout, unlocked.stdout);

    // What was locked is gone.
    fs::remove_file(file).unwrap();
    let third = in_cache("third");
    let lost = build(&env, &["--locked"], &[direct[0], direct[1], ("IMAGESPEC_CACHE_DIR", &third)]);
    insta::assert_snapshot!(error(&lost).replace(&host, "HOST"), @"
    version 2.0 of conda package `answer` is locked, and no longer at `http://HOST/team/linux-64/answer-2.0-h0_0.tar.bz2`
      --> app.yaml:4:18
       |
     4 | conda_packages: [answer]
       |                  ^^^^^^
    hint: run `imagespec lock` again for the present version; `conda_mirrors` under `[builders.oci]` of `imagespec.toml` may name a mirror that still has it
    ");

    // A channel on this machine is in the plan itself by what it says, so that a lock is for that alone.
    env.write("app.yaml", &with_base("conda_packages: [answer]\nconda_channels: [./served/team]\n"));
    assert_eq!(env.run_online(&["lock", "app.yaml"], &[]).code, 0);
    let lock = fs::read_to_string(env.path().join("app.yaml.lock")).unwrap();
    assert!(lock.contains("url = \"file:///local-channel/linux-64/answer-2.5-h0_0.conda\""), "{lock}");
    let local = build(&env, &["--locked"], &[("IMAGESPEC_CACHE_DIR", &third)]);
    assert_eq!(local.code, 0, "{}", local.stderr);
    channel.add(&CondaPackage::new("answer", "2.6", "linux-64").depends("python"));
    let moved = error(&build(&env, &["--locked"], &[]));
    assert!(
        moved.starts_with("the spec moved away from lock file `app.yaml.lock`\nnote: `conda_channels` "),
        "{moved}"
    );
}

#[test]
fn a_channel_that_was_asked_once_need_not_be_asked_again() {
    let env = TestEnv::new();
    channel(&env.path().join("served/team"));
    let server = FolderServer::start(&env.path().join("served"), None);
    let host = server.host();
    let spec = |packages: &str| {
        let channels = format!("conda_channels: ['http://{host}/team']\n");
        env.write("app.yaml", &with_base(&format!("conda_packages: [{packages}]\n{channels}packages: [idna]\n")));
    };
    let refused = || {
        let said = error(&env.run_without_network(&["build", "app.yaml", "--offline"]));
        said.replace(&shared().base.display().to_string(), "BASE").replace(&host, "HOST")
    };
    spec("answer");
    insta::assert_snapshot!(refused(), @"
    what `http://HOST/team` says of these packages is not in the cache, and the build is offline
      --> app.yaml:4:18
       |
     4 | conda_packages: [answer]
       |                  ^^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let online = build(&env, &[], &[("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]);
    assert_eq!(online.code, 0, "{}", online.stderr);
    drop(server);
    let offline = ["build", "app.yaml", "--offline", "--output", "type=oci,dest=out"];
    let again = env.run_without_network(&offline);
    assert_eq!((again.code, &again.stdout), (0, &online.stdout), "{}", again.stderr);
    assert!(again.stderr.contains("cached  solve 2 conda packages  2 packages\n"), "{}", again.stderr);
    // What is known of the channel says what else there is, and a package that was not fetched is named.
    spec("greet");
    insta::assert_snapshot!(refused(), @"
    `greet-1.5-h0_0.conda` is not in the cache, and the build is offline
      --> app.yaml:4:18
       |
     4 | conda_packages: [greet]
       |                  ^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    spec("grete");
    insta::assert_snapshot!(refused(), @"
    no conda channel of `http://HOST/team` has a package `grete` for linux-64
      --> app.yaml:4:18
       |
     4 | conda_packages: [grete]
       |                  ^^^^^
    hint: did you mean `greet`?
    ");

    // A channel on this machine is no network.
    env.write("app.yaml", &with_base("conda_packages: [greet]\nconda_channels: [./served/team]\n"));
    let local = env.run_without_network(&offline);
    assert_eq!(local.code, 0, "{}", local.stderr);
}
