//! Builders, and what they are asked for.

use imagespec_tests::TestEnv;

use super::{failure, refused};

#[test]
fn all_that_the_builder_cannot_do_is_refused_before_any_work() {
    insta::assert_snapshot!(refused("base_image: debian\nruntime_packages: [ipdb]\n"), @"
    exit 1
    error: builder `oci` cannot do `runtime_packages`
      --> train.yaml:2:20
       |
     2 | runtime_packages: [ipdb]
       |                    ^^^^
    hint: no builder that is installed can; `imagespec builders` lists them
    ");
}

#[test]
fn a_builder_that_there_is_not_is_named_with_those_that_there_are() {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: scratch\nbuilder: kaniko\n");
    insta::assert_snapshot!(failure(&env, &["build", "train.yaml"]), @"
    exit 1
    error: there is no builder `kaniko`
    hint: there is `oci`
    ");
}
