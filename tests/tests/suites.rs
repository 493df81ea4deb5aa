//! `base_image: bootstrap:debian/SUITE` for the releases beside the default one, with a package that is compiled. Needs
//! the network, for Debian's archive and the package index.

use imagespec_tests::{TestEnv, lint};

const REPORT: &str = "import ssl, sys, yaml; print(sys.version_info[:2], yaml.safe_load('a: [1, 2]'))";

fn builds_and_runs(suite: &str, printed: &str) {
    let environments = [TestEnv::new(), TestEnv::new()];
    let digests = environments.each_ref().map(|env| {
        env.write("app.yaml", &format!("base_image: bootstrap:debian/{suite}\nname: app\npackages: [pyyaml]\n"));
        let built = env.run_online(&["build", "app.yaml"], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built.stdout
    });
    assert_eq!(digests[0], digests[1]);
    let env = &environments[0];
    let ran = env.run_online(&["run", "app.yaml", "--", "python", "-c", REPORT], &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, printed), "{}", ran.stderr);
    assert_eq!(env.run_online(&["build", "app.yaml", "--output", "type=oci,dest=out"], &[]).code, 0);
    assert_eq!(lint(&env.path().join("out")), Vec::<String>::new());
}

#[test]
#[ignore = "takes a minute; `tests/slow` runs it"]
fn bullseye_has_python_3_9_and_two_machines_make_the_same_image() {
    builds_and_runs("bullseye", "(3, 9) {'a': [1, 2]}\n");
}

#[test]
#[ignore = "takes a minute; `tests/slow` runs it"]
fn trixie_has_python_3_13_and_two_machines_make_the_same_image() {
    builds_and_runs("trixie", "(3, 13) {'a': [1, 2]}\n");
}
