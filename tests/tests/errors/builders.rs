//! Builders, and what they are asked for.

use imagespec_tests::TestEnv;

use super::{failure, refused};

#[test]
fn a_builder_that_there_is_not_is_named_with_those_that_there_are() {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: scratch\nbuilder: kaniko\n");
    insta::assert_snapshot!(failure(&env, &["build", "train.yaml"]), @"
    exit 1
    error: there is no builder `kaniko`
      --> train.yaml:2:10
       |
     2 | builder: kaniko
       |          ^^^^^^
    hint: the builders are `docker`, `envd`, `oci`, `remote`; `imagespec plugin add PATH` adds one that is a file
    ");
}

#[test]
fn a_configuration_that_no_builder_reads_is_refused() {
    insta::assert_snapshot!(refused("base_image: scratch\nbuilder_config: ci/buildkit.yaml\n"), @"
    exit 1
    error: builder `oci` takes no `builder_config`
      --> train.yaml:2:17
       |
     2 | builder_config: ci/buildkit.yaml
       |                 ^^^^^^^^^^^^^^^^
    hint: what can be set goes to `builder_options`
    ");
}
