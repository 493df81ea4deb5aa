//! The program that was built without the bundled builders: it has everything but what a builder does.

use imagespec_tests::{DockerRegistry, Setup, TestEnv, snapshot};

fn project(env: TestEnv) -> TestEnv {
    env.write("app.yaml", "base_image: scratch\nname: app\ncopy: [data.txt]\nenv: {A: b}\n");
    env.write("data.txt", "data\n");
    env
}

#[test]
fn help_plans_and_hashes_are_those_of_the_usual_program() {
    let (usual, slim) = (project(TestEnv::new()), project(TestEnv::slim()));
    let commands: [&[&str]; 9] = [
        &["--version"],
        &["--help"],
        &["build", "--help"],
        &["schema"],
        &["completions", "bash"],
        &["plan", "app.yaml"],
        &["plan", "app.yaml", "--format", "json"],
        &["name", "app.yaml", "--registry", "127.0.0.1:1/team"],
        &["hash", "app.yaml"],
    ];
    for arguments in commands {
        // Help names the file that was started.
        assert_eq!(slim.stdout(arguments).replace("imagespec-slim", "imagespec"), usual.stdout(arguments));
    }
}

#[test]
fn no_builder_is_inside_and_a_build_says_what_to_do() {
    let env = project(TestEnv::slim());
    assert_eq!(env.stdout(&["builders", "--format", "json"]), "[]\n");
    snapshot!(env.said(&["build", "app.yaml"]), @"
    exit code 1
    error: there is no builder `oci`
    hint: there is none at all: `imagespec plugin add PATH` adds one that is a file
    ");
    snapshot!(env.said(&["lock", "app.yaml"]), @"
    exit code 1
    error: there is no builder `oci`
    hint: there is none at all: `imagespec plugin add PATH` adds one that is a file
    ");
}

#[test]
fn what_needs_the_store_or_a_sandbox_is_refused() {
    let env = project(TestEnv::slim());
    snapshot!(env.said(&["run", "app.yaml"]), @"
    exit code 1
    error: cannot run programs: this program was built without the bundled builders
    hint: take an `imagespec` that was built with its default features
    ");
    snapshot!(env.said(&["inspect", "app.yaml"]), @"
    exit code 1
    error: cannot inspect images: this program was built without the bundled builders
    hint: take an `imagespec` that was built with its default features
    ");
    snapshot!(env.said(&["cache", "du"]), @"
    exit code 1
    error: cannot look after the cache: this program was built without the bundled builders
    hint: take an `imagespec` that was built with its default features
    ");
    snapshot!(env.said(&["explain", "app.yaml", "--against", "oci:out"]), @"
    exit code 1
    error: cannot read `oci:out`: this program was built without the bundled builders
    hint: compare with a spec, or with what `imagespec plan --format json` printed
    ");
    assert!(!env.path().join("cache").exists());
}

#[test]
fn explain_goes_without_images() {
    let env = project(TestEnv::slim());
    let alone = env.run(&["explain", "app.yaml"]);
    assert_eq!(alone.code, 0);
    snapshot!(alone.stderr, @"this program was built without the bundled builders, so no image is compared with, and this is all that counts");
    env.write("before.json", &env.stdout(&["plan", "app.yaml", "--format", "json"]));
    let text = env.stdout(&["explain", "app.yaml", "--against", "before.json", "--set", "env.A=c"]);
    assert!(text.contains("~ A: b → c"), "{text}");
}

#[test]
fn a_registry_is_asked_and_no_store() {
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    let (usual, slim) = (project(TestEnv::new()), project(TestEnv::slim()));
    assert_eq!(slim.run(&["exists", "app.yaml", "--registry", &target]).code, 1);
    let built = usual.stdout(&["build", "app.yaml", "--registry", &target]);
    assert_eq!(slim.stdout(&["exists", "app.yaml", "--registry", &target]), built);
    assert_eq!(slim.stdout(&["exists", built.trim()]), built);
    snapshot!(slim.said(&["exists", "app.yaml"]), @"
    exit code 3
    error: cannot tell whether `app:HASH` exists
    note: this program was built without the bundled builders, and looks into no store
    hint: pass `--registry HOST/PATH` to ask a registry
    ");
}

#[test]
fn doctor_tells_what_it_can() {
    let env = TestEnv::slim();
    let text = env.stdout(&["doctor"]).replace(&env.path().display().to_string(), "FOLDER");
    snapshot!(text, @"
    cache
      ok    FOLDER/cache
    sandbox
      warn  not looked for: it is the affair of a builder, and none is inside this program
    engine
      warn  not looked for: it is the affair of a builder, and none is inside this program
    logins
      ok    none, which public images do without
            hint: `docker login HOST` makes one
    ");
}
