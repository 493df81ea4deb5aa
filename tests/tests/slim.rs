//! The program that was built without the bundled builders: it has everything but what a builder does.

use imagespec_tests::{DockerRegistry, TestEnv, snapshot};

const SPEC: &str = "base_image: scratch\nname: app\ncopy: [data.txt]\nenv: {A: b}\n";

fn project(env: TestEnv) -> TestEnv {
    env.write("app.yaml", SPEC);
    env.write("data.txt", "data\n");
    env
}
