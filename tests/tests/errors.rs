//! Errors as a user reads them.

use imagespec_tests::TestEnv;

fn stderr(spec: &str, arguments: &[&str]) -> String {
    let env = TestEnv::new();
    env.write("train.yaml", spec);
    let finished = env.run(arguments);
    assert_ne!(finished.code, 0);
    assert_eq!(finished.stdout, "");
    finished.stderr
}

#[test]
fn a_typo_is_shown_where_it_stands() {
    insta::assert_snapshot!(stderr("python_version: 3.10\npakages: [six]\n", &["build", "train.yaml"]), @"
    error: unknown key `pakages`
      --> train.yaml:2:1
       |
     2 | pakages: [six]
       | ^^^^^^^
    hint: did you mean `packages`?
    ");
}

#[test]
fn what_the_builder_cannot_do_is_refused_before_any_work() {
    insta::assert_snapshot!(stderr("base_image: debian\ncommands: [make]\n", &["build", "train.yaml"]), @"
    error: builder `oci` cannot do `commands`
      --> train.yaml:2:12
       |
     2 | commands: [make]
       |            ^^^^
    hint: `imagespec builders` lists the others
    ");
}

#[test]
fn an_unknown_builder_and_an_unknown_output_say_what_there_is() {
    insta::assert_snapshot!(stderr("base_image: scratch\n", &["build", "train.yaml", "--builder", "ocl"]), @"
    error: there is no builder `ocl`
    hint: there is `oci`
    ");
    insta::assert_snapshot!(stderr("base_image: scratch\n", &["build", "train.yaml", "--output", "type=zip"]), @"
    error: `--output type=zip` has no type that is known
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
}
