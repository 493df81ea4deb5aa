//! Builders, and what they are asked for.

use imagespec_tests::TestEnv;

use super::failure;

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
