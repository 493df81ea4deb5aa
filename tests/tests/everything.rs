//! One spec that asks for everything at once, built by root, by an ordinary user, and by the builder that is a file. Needs the network, for Debian's archive
//! and the package index.

use std::fs;
use std::path::Path;

use imagespec_tests::{
    CondaChannel, CondaPackage, CondaPython, FolderServer, OrdinaryUser, TestEnv, holders, lint_above,
    network_variables, outsider, plugin, repository, skip,
};

const CANARY: &str = "canary-Vb7Qm";
const PROGRAM: &str = "import os, demo, docopt, greet, idna
lines = [greet.HELLO, demo.WHAT, docopt.__version__, open('/srv/secret').read().strip(), str(os.getuid())]
print(*lines, open('/root/data/labels.csv').read().strip())
";

/// The spec and all that it reads. What serves the repository must live as long as it is built.
fn project(env: &TestEnv) -> FolderServer {
    let python = CondaPython::made_in(Path::new(env!("CARGO_TARGET_TMPDIR")));
    outsider("cp", &["-r", &python.base.display().to_string(), &env.path().join("base").display().to_string()]);
    let mut channel = CondaChannel::new(&env.path().join("channel"));
    channel.add(&python.package("linux-64"));
    let hello = CondaPackage::new("greet", "1.5", "noarch").depends("python >=3.8");
    channel.add(&hello.file("site-packages/greet/__init__.py", "HELLO = 'conda'\n"));

    let served = env.path().join("served");
    let project = "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n[project]\nname = 'demo'\nversion = '1'\n";
    let files = [("packages/demo/pyproject.toml", project), ("packages/demo/demo/__init__.py", "WHAT = 'git'\n")];
    let commit = repository(&served, "demo", &files);
    let server = FolderServer::start(&served, None);
    env.write(
        "app.yaml",
        &format!(
            "name: app
base_image: oci:base
platform: linux/amd64
python_version: 3.11
apt_packages: [git]
conda_packages: [greet]
conda_channels: [./channel]
packages: [idna, docopt==0.6.2, 'git+http://{}/demo.git@{commit}#subdirectory=packages/demo']
copy: [data, app.py]
commands: ['sha256sum < /run/secret | cut -c1-8 > /srv/secret']
secrets: [{{id: token, target: /run/secret}}]
env: {{LD_LIBRARY_PATH: /opt/venv/lib}}
user: 1000:1000
entrypoint: [python, /root/app.py]
",
            server.host()
        ),
    );
    env.write("app.py", PROGRAM);
    env.write("data/labels.csv", "a,b\n");
    server
}

#[test]
fn a_spec_with_everything_is_the_same_image_for_root_an_ordinary_user_and_a_loaded_builder_and_its_program_runs() {
    let env = TestEnv::new();
    let _server = project(&env);
    let secret = ["--secret", "id=token,env=TOKEN"];
    let build = |env: &TestEnv, cache: &str, arguments: &[&str]| {
        let cache = env.path().join(cache).display().to_string();
        let variables = [("TOKEN", CANARY), ("IMAGESPEC_CACHE_DIR", cache.as_str())];
        let built = env.run_online(&[&["build", "app.yaml"], arguments, &secret[..]].concat(), &variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built
    };
    let first = build(&env, "cache", &["--output", "type=oci,dest=out"]);
    let second = build(&env, "other-cache", &[]);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(lint_above(&env.path().join("out"), &env.path().join("base")), Vec::<String>::new());
    let ran = env.run_online(&["run", "oci:out"], &[]);
    assert_eq!(ran.stdout, "conda git 0.6.2 f8e4d5c2 1000 a,b\n", "{}", ran.stderr);

    // The program has no builder inside: it finds the same one as a file, and runs it in a worker.
    plugin(&env.path().join("home/.local/share/imagespec/plugins"), "oci");
    let loaded = build(&env.as_slim(), "cache-of-loaded", &[]);
    assert_eq!(loaded.stdout, first.stdout, "{}", loaded.stderr);

    assert!(!format!("{first:?}{second:?}{ran:?}{loaded:?}").contains(CANARY));
    assert_eq!(holders(env.path(), CANARY.as_bytes()), Vec::<String>::new());

    let user = match OrdinaryUser::new() {
        Ok(user) => user,
        Err(reason) => return skip("an ordinary user", &reason),
    };
    for cache in ["cache", "other-cache", "cache-of-loaded"] {
        fs::remove_dir_all(env.path().join(cache)).unwrap();
    }
    let mut command = user.command(&env, &[&["build", "app.yaml"], &secret[..]].concat());
    let built = command.envs(network_variables()).env("TOKEN", CANARY).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert_eq!(String::from_utf8_lossy(&built.stdout), first.stdout, "{said}");
    let ran = user.command(&env, &["run", "app.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "conda git 0.6.2 f8e4d5c2 1000 a,b\n", "{said}");
}
