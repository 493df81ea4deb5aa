//! One field of the spec after the other, as it is found in the image by other people's programs. Fields with a file of
//! tests of their own are not repeated: apt_packages and commands in execution.rs, platform in build.rs and emulation.rs,
//! requirements in python.rs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use imagespec_tests::{DockerRegistry, Finished, GuardedIndex, PASSWORD, Setup, Shared, TestEnv, USER, lint, outsider};
use serde_json::{Value, json};

/// A Debian with Python in `base`, for all tests here. Needs the network, for Debian's archive.
static DEBIAN: Shared<TestEnv> = Shared::new(|| {
    let env = TestEnv::with_debian();
    env.write("base.yaml", "name: base\npython_version: 3.11\n");
    let built = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    env
});

fn on(debian: &TestEnv, spec: &str) -> String {
    format!("name: app\nbase_image: oci:{}\n{spec}", debian.path().join("base").display())
}

fn build(env: &TestEnv, spec: &str, arguments: &[&str]) -> Finished {
    env.write("app.yaml", spec);
    let built = env.run_online(&[&["build", "app.yaml"], arguments].concat(), &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    built
}

fn run(env: &TestEnv, command: &[&str]) -> String {
    let ran = env.run_online(&[&["run", "app.yaml", "--"], command].concat(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// Builds `spec` into the layout `out` and unpacks it.
fn unpacked(env: &TestEnv, spec: &str) -> PathBuf {
    for folder in ["out", "bundle"] {
        let _ = fs::remove_dir_all(env.path().join(folder));
    }
    let built = build(env, spec, &["--output", "type=oci,dest=out"]);
    let out = env.path().join("out");
    assert_eq!(lint(&out), Vec::<String>::new());
    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let (image, bundle) = (format!("{}:{tag}", out.display()), env.path().join("bundle"));
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    bundle.join("rootfs/root")
}

/// The `config` of the image in the layout `out`.
fn config(env: &TestEnv) -> Value {
    let layout = format!("oci:{}", env.path().join("out").display());
    let config: Value = serde_json::from_str(&outsider("skopeo", &["inspect", "--config", &layout])).unwrap();
    config["config"].clone()
}

/// The files, links and folders beneath `folder`, sorted.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match fs::read_link(&path) {
            Ok(target) => found.push(format!("{name} -> {}", target.display())),
            Err(_) if path.is_dir() => {
                found.push(format!("{name}/"));
                found.extend(tree(&path).iter().map(|below| format!("{name}/{below}")));
            }
            Err(_) => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn copy_takes_folders_with_their_links_programs_and_empty_folders() {
    let env = TestEnv::new();
    env.write("data/deep/file.txt", "text\n");
    env.write("data/run", "#!/bin/sh\n");
    env.write("data/.hidden", "");
    env.write("not-copied", "");
    fs::set_permissions(env.path().join("data/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(env.path().join("data/deep/file.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(env.path().join("data/empty")).unwrap();
    symlink("deep/file.txt", env.path().join("data/latest")).unwrap();
    let root = unpacked(&env, "name: app\nbase_image: scratch\ncopy: [data]\n");
    assert_eq!(
        tree(&root),
        [
            "data/",
            "data/.hidden",
            "data/deep/",
            "data/deep/file.txt",
            "data/empty/",
            "data/latest -> deep/file.txt",
            "data/run"
        ]
    );
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data/run"), mode("data/deep/file.txt"), mode("data/empty")), (0o755, 0o644, 0o755));
}

#[test]
fn source_copy_mode_auto_takes_python_and_all_takes_what_is_not_ignored() {
    let env = TestEnv::new();
    for path in ["src/a.py", "src/pkg/b.pyi", "src/pkg/py.typed", "src/notes.txt", "src/skip/c.py", "src/.gitignore"] {
        env.write(path, if path.ends_with("ignore") { "skip/\n" } else { "" });
    }
    let files =
        |mode: &str| tree(&unpacked(&env, &format!("name: app\nbase_image: scratch\nsource_root: src\n{mode}")));
    let auto = ["a.py", "pkg/", "pkg/b.pyi", "pkg/py.typed"];
    assert_eq!(files("source_copy_mode: auto\n"), auto);
    assert_eq!(files(""), auto);
    assert_eq!(
        files("source_copy_mode: all\n"),
        [".gitignore", "a.py", "notes.txt", "pkg/", "pkg/b.pyi", "pkg/py.typed"]
    );
    env.write("app.yaml", "name: app\nbase_image: scratch\nsource_root: src\nsource_copy_mode: none\n");
    let plan: Value = serde_json::from_str(&env.stdout(&["plan", "app.yaml", "--format", "json"])).unwrap();
    assert_eq!(plan["steps"], json!([]));
}

#[test]
fn an_empty_entrypoint_removes_that_of_the_base_and_one_removes_its_arguments() {
    let env = TestEnv::new();
    env.write("base.yaml", "name: base\nbase_image: scratch\ncopy: [base.yaml]\nentrypoint: [/root/a]\ncmd: [b]\n");
    env.stdout(&["build", "base.yaml", "--output", "type=oci,dest=base"]);
    let of = |spec: &str| {
        unpacked(&env, &format!("name: app\nbase_image: oci:base\ncopy: [app.yaml]\n{spec}"));
        let config = config(&env);
        json!([config["Entrypoint"], config["Cmd"]])
    };
    assert_eq!(of(""), json!([["/root/a"], ["b"]]));
    assert_eq!(of("entrypoint: []\n"), json!([null, null]));
    assert_eq!(of("entrypoint: []\ncmd: [c]\n"), json!([null, ["c"]]));
    assert_eq!(of("entrypoint: [/root/x]\n"), json!([["/root/x"], null]));
    assert_eq!(of("cmd: [c]\n"), json!([["/root/a"], ["c"]]));
    assert_eq!(of("cmd: []\n"), json!([["/root/a"], null]));
}

#[test]
fn tag_format_wraps_the_hash_in_the_name_the_store_and_a_registry() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    let spec = "name: app\nbase_image: scratch\ncopy: [app.yaml]\ntag_format: v1-{spec_hash}-dev\n";
    let built = build(&env, spec, &[]);
    let name = format!("app:v1-{}-dev", env.stdout(&["hash", "app.yaml"]).trim());
    assert!(built.stdout.starts_with(&format!("{name}@sha256:")), "{}", built.stdout);
    assert_eq!(env.stdout(&["exists", "app.yaml"]), built.stdout);
    let target = format!("{}/team", registry.host());
    let pushed = build(&env, spec, &["--registry", &target]);
    assert_eq!(pushed.stdout, format!("{target}/{}", built.stdout));
    let repository = format!("docker://{target}/app");
    let tags: Value =
        serde_json::from_str(&outsider("skopeo", &["list-tags", "--tls-verify=false", &repository])).unwrap();
    assert_eq!(tags["Tags"], json!([name.strip_prefix("app:").unwrap()]));
}

#[test]
fn registry_config_lets_a_build_into_the_registry_of_its_base_and_of_its_image() {
    let registry = DockerRegistry::start(Setup::Password);
    let env = TestEnv::new();
    fs::create_dir(env.path().join("ci")).unwrap();
    fs::copy(registry.config(), env.path().join("ci/login.json")).unwrap();
    let target = format!("{}/team", registry.host());
    let access = format!("registry: {target}\nregistry_config: ci/login.json\n");
    env.write("base.yaml", &format!("name: base\nbase_image: scratch\ncopy: [base.yaml]\n{access}"));
    let base = env.stdout(&["build", "base.yaml"]);

    // A machine that has nothing of it, and nobody's login.
    let other = TestEnv::new();
    other.write("ci/login.json", &fs::read_to_string(registry.config()).unwrap());
    let spec = format!("name: app\nbase_image: {}\ncopy: [app.yaml]\n", base.trim());
    let pushed = build(&other, &format!("{spec}{access}"), &[]);
    let credentials = format!("{USER}:{PASSWORD}");
    let name = format!("docker://{}", pushed.stdout.trim().split_once('@').unwrap().0);
    let inspected = outsider("skopeo", &["inspect", "--tls-verify=false", "--creds", &credentials, &name]);
    assert_eq!(serde_json::from_str::<Value>(&inspected).unwrap()["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(other.stdout(&["exists", "app.yaml"]), pushed.stdout);
    assert!(!format!("{pushed:?}").contains(PASSWORD));

    other.write("app.yaml", &spec);
    let refused = other.run(&["build", "app.yaml", "--force"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    let missing = access.replace("login.json", "missing.json");
    other.write("app.yaml", &format!("{spec}{missing}"));
    let said = other.said(&["build", "app.yaml"]).replace(&registry.host(), "HOST");
    insta::assert_snapshot!(said, @"
    exit code 1
    error: cannot read `ci/missing.json`
      --> app.yaml:5:18
       |
     5 | registry_config: ci/missing.json
       |                  ^^^^^^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: name a Docker `config.json`, or leave it out to use that of your home folder
    ");
}

#[test]
fn pip_secret_mounts_let_a_build_into_an_index_and_reach_nothing_else() {
    let debian = DEBIAN.get();
    let index = GuardedIndex::start("guarded", &["1.0", "2.0"]);
    let host = index.host();
    let (name, _) = host.split_once(':').unwrap();
    let env = TestEnv::new();
    env.write("netrc", &format!("machine {name} login {USER} password {PASSWORD}\n"));
    env.write("url", &format!("http://{USER}:{PASSWORD}@{host}/simple\n"));
    let by_netrc = on(
        &debian,
        &format!(
            "packages: [guarded<2]\npip_index: http://{host}/simple\npip_secret_mounts: [{{id: login, target: /root/.netrc}}]\n"
        ),
    );
    env.write("app.yaml", &by_netrc);
    let refused = env.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("`login`"), "{}", refused.stderr);
    let built = build(&env, &by_netrc, &["--secret", "id=login,src=netrc", "--output", "type=oci,dest=out"]);
    assert!(!format!("{built:?}").contains(PASSWORD));
    build(&env, &by_netrc, &["--secret", "id=login,src=netrc"]);
    assert_eq!(run(&env, &["python", "-c", "import guarded; print(guarded.VERSION)"]), "1.0\n");
    let by_variable = on(&debian, "packages: [guarded]\npip_secret_mounts: [{id: login, env: UV_DEFAULT_INDEX}]\n");
    build(&env, &by_variable, &["--secret", "id=login,src=url"]);
    assert_eq!(run(&env, &["python", "-c", "import guarded; print(guarded.VERSION)"]), "2.0\n");
    // Neither the image nor the cache has it.
    for folder in ["out", "cache"] {
        let found = std::process::Command::new("grep").args(["-rl", PASSWORD]).arg(env.path().join(folder)).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    }
    // A wrong password is no reason to go to another index.
    env.write("netrc", &format!("machine {name} login {USER} password wrong\n"));
    let refused_before = index.refused_count();
    env.write("app.yaml", &by_netrc.replace("<2", "==2.0"));
    let denied = env.run_online(&["build", "app.yaml", "--no-cache", "--secret", "id=login,src=netrc"], &[]);
    assert_eq!(denied.code, 1);
    assert!(denied.stderr.contains("hint: say who you are to the index"), "{}", denied.stderr);
    assert!(index.refused_count() > refused_before);
}

#[test]
fn pip_extra_args_change_what_is_chosen_and_others_are_refused() {
    let debian = DEBIAN.get();
    let env = TestEnv::new();
    build(&env, &on(&debian, "packages: [idna>=3.4]\npip_extra_args: [--resolution, lowest]\n"), &[]);
    assert_eq!(run(&env, &["python", "-c", "import idna; print(idna.__version__)"]), "3.4\n");
    // As one line, too.
    build(&env, &on(&debian, "packages: [idna>=3.4]\npip_extra_args: --resolution lowest-direct\n"), &[]);
    assert_eq!(run(&env, &["python", "-c", "import idna; print(idna.__version__)"]), "3.4\n");
    build(&env, &on(&debian, "packages: [idna>=3.4]\n"), &[]);
    assert_ne!(run(&env, &["python", "-c", "import idna; print(idna.__version__)"]), "3.4\n");
    env.write("app.yaml", "name: app\npackages: [idna]\npip_extra_args: [--no-deps, --python, /bin/sh]\n");
    insta::assert_snapshot!(env.said(&["build", "app.yaml"]), @"
    exit code 1
    error: `--python` cannot stand in `pip_extra_args`
      --> app.yaml:3:29
       |
     3 | pip_extra_args: [--no-deps, --python, /bin/sh]
       |                             ^^^^^^^^
    hint: use `python_version` or `base_image`
    ");
}

#[test]
fn user_workdir_env_and_python_exec_are_what_a_program_finds() {
    let debian = DEBIAN.get();
    let env = TestEnv::new();
    let spec = on(
        &debian,
        "user: nobody:nogroup\nworkdir: /srv/app\nenv: {LEVEL: a b, EMPTY: \"\"}\npython_exec: /usr/bin/python3.11\n\
         commands: [id -u > /made-by; mkdir -p /srv/app/own]\nlabels: {team: search}\n",
    );
    build(&env, &spec, &["--output", "type=oci,dest=out"]);
    let config = config(&env);
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("nobody:nogroup"), &json!("/srv/app")));
    assert_eq!(config["Labels"]["team"], "search");
    build(&env, &spec, &[]);
    let told = run(
        &env,
        &["sh", "-c", "id -un; id -gn; pwd; echo \"$LEVEL|$EMPTY|$PYTHONPATH\"; cat /made-by; command -v python"],
    );
    // Commands run as root, whoever runs the image.
    assert_eq!(told, "nobody\nnogroup\n/srv/app\na b||/root\n0\n/opt/venv/bin/python\n");
    env.write("app.yaml", &on(&debian, "python_exec: /usr/bin/env\n"));
    let refused = env.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("\n 3 | python_exec: /usr/bin/env\n"), "{}", refused.stderr);
}
