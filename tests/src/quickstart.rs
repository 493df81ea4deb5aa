//! The example that newcomers begin with, as a test's input.

use std::fs;
use std::path::Path;

use crate::TestEnv;

/// A folder with `examples/quickstart`.
pub fn quickstart() -> TestEnv {
    let env = TestEnv::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for file in ["imagespec.yaml", "report.py"] {
        env.write(file, &fs::read_to_string(example.join(file)).expect("the example is there"));
    }
    env
}

/// The variables by which a machine says how it reaches the network.
pub fn network_variables() -> Vec<(String, String)> {
    let is_network = |name: &str| {
        let name = name.to_lowercase();
        name == "path" || name.ends_with("_proxy") || name.starts_with("ssl_cert") || name.starts_with("uv_")
    };
    std::env::vars().filter(|(name, _)| is_network(name)).collect()
}
