//! `build --offline`: from the cache alone, in a network namespace without an interface. What fills the cache needs the
//! network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use imagespec_tests::{DockerRegistry, Finished, Setup, TestEnv};

fn digest(built: &Finished) -> &str {
    assert_eq!(built.code, 0, "{}", built.stderr);
    built.stdout.trim().split_once('@').unwrap().1
}

#[test]
fn what_was_built_once_is_built_again_without_a_network() {
    let env = TestEnv::new();
    let spec = "name: app\npython_version: 3.11\napt_packages: [jq]\npackages: [idna, pyyaml]\ncommands: [jq --version > version]\ncopy: [app.yaml]\nruntime_packages: [six]\n";
    env.write("app.yaml", spec);
    let online = env.run_online(&["build", "app.yaml"], &[]);
    let offline = ["build", "app.yaml", "--offline", "--output", "type=oci,dest=out"];
    assert_eq!(digest(&env.run_without_network(&offline)), digest(&online));

    assert_eq!(env.run_online(&["lock", "app.yaml"], &[]).code, 0);
    let locked = env.run_online(&["build", "app.yaml", "--locked"], &[]);
    let offline = [&offline[..], &["--locked"]].concat();
    assert_eq!(digest(&env.run_without_network(&offline)), digest(&locked));

    // Steps that were not made before run without a network: Debian packages come from the lists and archives of before.
    // An image with runtime packages would install them when it is run.
    let other = spec.replace("[jq]", "[libjq1]").replace("jq --version", "cat /proc/net/dev");
    env.write("app.yaml", &other.replace("runtime_packages: [six]\n", ""));
    let built = env.run_without_network(&["build", "app.yaml", "--offline"]);
    digest(&built);
    let ran = env.run_without_network(&["run", "app.yaml", "--", "cat", "version"]);
    let devices: Vec<_> = ran.stdout.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(devices, ["lo"]);
    // What was made without a network is nothing for those who have one.
    assert!(built.stderr.contains("warning: `run 1 command` has no network"), "{}", built.stderr);
    let online = env.run_online(&["build", "app.yaml", "--force"], &[]);
    assert_ne!(digest(&online), digest(&built));
}

#[test]
fn a_base_in_a_registry_is_known_by_its_tag() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = TestEnv::new();
    env.write("base.yaml", "name: base\nbase_image: scratch\ncopy: [base.yaml]\n");
    let pushed = env.run(&["build", "base.yaml", "--registry", &format!("{}/team", registry.host())]);
    digest(&pushed);
    let base = pushed.stdout.trim().split_once('@').unwrap().0;
    let spec = format!("name: app\nbase_image: {base}\ncopy: [app.yaml]\n");
    env.write("app.yaml", &spec);
    let online = env.run(&["build", "app.yaml", "--output", "type=oci,dest=one"]);
    drop(registry);
    let offline = env.run_without_network(&["build", "app.yaml", "--offline", "--output", "type=oci,dest=two"]);
    assert_eq!(digest(&offline), digest(&online));

    env.write("app.yaml", &spec.replace(base, "docker.io/library/debian:12"));
    let refused = env.run_without_network(&["build", "app.yaml", "--offline"]);
    assert_eq!(refused.code, 1);
    insta::assert_snapshot!(refused.stderr, @"
    error: base `debian:12` is not in the cache, and the build is offline
      --> app.yaml:2:13
       |
     2 | base_image: docker.io/library/debian:12
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");
}

#[test]
fn what_is_missing_is_named_and_nothing_is_pushed() {
    let env = TestEnv::new();
    let options = "builder_options: {debian_mirror: 'http://mirror.example/debian'}";
    env.write("app.yaml", &format!("name: app\nbase_image: bootstrap:debian/bookworm\n{options}\n"));
    let refused = env.run_without_network(&["build", "app.yaml", "--offline"]);
    assert_eq!(refused.code, 1);
    insta::assert_snapshot!(refused.stderr, @"
    error: `http://mirror.example/debian/dists/bookworm/InRelease` is not in the cache, and the build is offline
      --> app.yaml:2:13
       |
     2 | base_image: bootstrap:debian/bookworm
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: build it once without `--offline`, which keeps what it fetches
    ");
    let pushed = env.run(&["build", "app.yaml", "--offline", "--registry", "registry.example/team"]);
    assert_eq!(pushed.code, 2);
    insta::assert_snapshot!(pushed.stderr, @"
    error: `--offline` sends no packet, and `registry.example/team/app:zyzkrk2c7itnm2rrhllzbqrmchoalwwb` is pushed
    hint: pass `--no-push` to keep it in the store on this machine, or `--output type=oci,dest=DIR`
    ");
}
