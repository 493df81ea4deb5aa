//! The main job: `examples/quickstart` becomes an image whose program runs, the same one on every machine. Needs the
//! network, for Debian's archive and the package index.

use imagespec_tests::{lint, network_variables, quickstart};

#[test]
fn the_quickstart_runs_and_is_the_same_image_from_two_checkouts_and_two_caches() {
    let variables = network_variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let environments = [quickstart(), quickstart()];
    let digests = environments.each_ref().map(|env| {
        let built = env.run_with(&["build", "imagespec.yaml", "--set", "name=quickstart"], &variables);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built.stdout
    });
    assert_eq!(digests[0], digests[1]);

    let env = &environments[0];
    let ran = env.run_with(&["run", "imagespec.yaml", "--set", "name=quickstart"], &variables);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("hello from Python 3.11."), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("mean age 11.5\n"), "{}", ran.stdout);

    let command = ["run", "imagespec.yaml", "--set", "name=quickstart", "--", "sh", "-c", "exit 7"];
    assert_eq!(env.run_with(&command, &variables).code, 7);

    let output = ["build", "imagespec.yaml", "--output", "type=oci,dest=out"];
    assert_eq!(env.run_with(&output, &variables).code, 0);
    assert_eq!(lint(&env.path().join("out")), Vec::<String>::new());
}
