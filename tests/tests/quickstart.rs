//! The main job: `examples/quickstart` becomes an image whose program runs, the same one on every machine, and goes
//! where images go. Needs the network, for Debian's archive and the package index.

use std::path::Path;

use imagespec_tests::{DockerRegistry, PASSWORD, Setup, TestEnv, lint, quickstart};

const IMAGE: [&str; 3] = ["imagespec.yaml", "--set", "name=quickstart"];

/// What the program prints when it succeeds.
fn output(env: &TestEnv, arguments: &[&str]) -> String {
    let finished = env.run_online(arguments, &[]);
    assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.stderr);
    finished.stdout
}

#[test]
fn the_quickstart_runs_and_is_the_same_image_from_two_checkouts_and_two_caches() {
    let environments = [quickstart(), quickstart()];
    let digests = environments.each_ref().map(|env| output(env, &[&["build"], &IMAGE[..]].concat()));
    assert_eq!(digests[0], digests[1]);

    let env = &environments[0];
    let ran = output(env, &[&["run"], &IMAGE[..]].concat());
    assert!(ran.starts_with("hello from Python 3.11."), "{ran}");
    assert!(ran.ends_with("mean age 11.5\n"), "{ran}");
    let exit = [&["run"], &IMAGE[..], &["--", "sh", "-c", "exit 7"]].concat();
    assert_eq!(env.run_online(&exit, &[]).code, 7);

    output(env, &["build", "imagespec.yaml", "--output", "type=oci,dest=out"]);
    assert_eq!(lint(&env.path().join("out")), Vec::<String>::new());

    for setup in [Setup::Open, Setup::TlsPassword] {
        is_pushed_once(env, setup);
    }
    is_a_base_whose_python_is_found_in_its_layers(env);
}

/// Pushed as it is; the second time the registry is asked, and nothing else is done.
fn is_pushed_once(env: &TestEnv, setup: Setup) {
    let registry = DockerRegistry::start(setup);
    let target = format!("{}/x", registry.host());
    let docker_config = registry.config().parent().expect("a file lies in a folder").display().to_string();
    let authority = registry.authority().display().to_string();
    let mut variables = vec![("DOCKER_CONFIG", docker_config.as_str())];
    if setup == Setup::TlsPassword {
        env.write("imagespec.toml", &format!("[registries.\"{}\"]\nca_bundle = \"{authority}\"\n", registry.host()));
    }
    let build = [&["build"], &IMAGE[..], &["--registry", &target]].concat();
    let first = env.run_online(&build, &variables);
    assert_eq!(first.code, 0, "{setup:?}: {}", first.stderr);
    assert!(first.stdout.starts_with(&format!("{target}/quickstart:")), "{}", first.stdout);

    let empty_cache = env.path().join(format!("never-made-{setup:?}")).display().to_string();
    variables.push(("IMAGESPEC_CACHE_DIR", &empty_cache));
    let second = env.run_online(&build, &variables);
    assert_eq!((second.code, second.stdout), (0, first.stdout));
    assert!(second.stderr.ends_with(" exists, nothing to build\n"), "{}", second.stderr);
    assert!(!Path::new(&empty_cache).exists(), "nothing but a question was needed");
    assert!(!format!("{}{}", first.stderr, second.stderr).contains(PASSWORD));
}

/// Another spec stands on the image in `out`; its layers are looked through once.
fn is_a_base_whose_python_is_found_in_its_layers(env: &TestEnv) {
    env.write("top.yaml", "name: top\nbase_image: oci:out\npackages: [six]\n");
    let first = env.run_online(&["build", "top.yaml"], &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.contains("look for Python in "), "{}", first.stderr);
    let import = ["run", "top.yaml", "--", "python", "-c", "import six, numpy, sys; print(six.__name__, sys.prefix)"];
    assert_eq!(output(env, &import), "six /opt/venv\n");
}
