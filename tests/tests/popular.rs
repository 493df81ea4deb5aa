//! Packages that nearly everybody installs: an image for each, in which it is imported. Needs the network.

use std::io::Write;

use imagespec_tests::{Finished, TestEnv};
use serde_json::Value;

/// Name on the index, and what is imported.
const PACKAGES: [(&str, &str); 44] = [
    ("aiohttp", "aiohttp"),
    ("attrs", "attr"),
    ("beautifulsoup4", "bs4"),
    ("boto3", "boto3"),
    ("botocore", "botocore"),
    ("certifi", "certifi"),
    ("cffi", "cffi"),
    ("charset-normalizer", "charset_normalizer"),
    ("click", "click"),
    ("cryptography", "cryptography.hazmat.primitives.ciphers.aead"),
    ("fastapi", "fastapi"),
    ("filelock", "filelock"),
    ("fsspec", "fsspec"),
    ("google-auth", "google.auth"),
    ("grpcio", "grpc"),
    ("httpx", "httpx"),
    ("idna", "idna"),
    ("jinja2", "jinja2"),
    ("jsonschema", "jsonschema"),
    ("lxml", "lxml.etree"),
    ("markupsafe", "markupsafe"),
    ("matplotlib", "matplotlib.pyplot"),
    ("numpy", "numpy"),
    ("openai", "openai"),
    ("packaging", "packaging"),
    ("pandas", "pandas"),
    ("pillow", "PIL.Image"),
    ("platformdirs", "platformdirs"),
    ("protobuf", "google.protobuf"),
    ("psutil", "psutil"),
    ("pyarrow", "pyarrow"),
    ("pydantic", "pydantic"),
    ("pygments", "pygments"),
    ("pyjwt", "jwt"),
    ("python-dateutil", "dateutil"),
    ("pyyaml", "yaml"),
    ("requests", "requests"),
    ("rich", "rich"),
    ("s3fs", "s3fs"),
    ("scikit-learn", "sklearn.linear_model"),
    ("scipy", "scipy.optimize"),
    ("setuptools", "setuptools"),
    ("sqlalchemy", "sqlalchemy"),
    ("urllib3", "urllib3"),
];

/// What a row of the table says of `package`.
fn row(env: &TestEnv, package: &str, module: &str) -> Result<String, Finished> {
    let succeeded = |finished: Finished| if finished.code == 0 { Ok(finished) } else { Err(finished) };
    env.write("app.yaml", &format!("name: app\npython_version: 3.11\npackages: [\"{package}\"]\n"));
    succeeded(env.run_online(&["build", "app.yaml", "--metadata-file", "report.json"], &[]))?;
    let program = format!("import {module}, importlib.metadata as metadata; print(metadata.version({package:?}))");
    let ran = succeeded(env.run_online(&["run", "app.yaml", "--", "python", "-c", &program], &[]))?;
    let report = std::fs::read(env.path().join("report.json")).expect("the report is there");
    let report: Value = serde_json::from_slice(&report).expect("the report is JSON");
    let layers = report["images"][0]["layers"].as_array().expect("an image has layers");
    // The first one is the Debian beneath.
    let size_bytes: u64 = layers.iter().skip(1).filter_map(|layer| layer["size_bytes"].as_u64()).sum();
    let megabytes = size_bytes as f64 / 1e6;
    Ok(format!("| {package} | {} | `{module}` | {megabytes:.1} MB |\n", ran.stdout.trim()))
}

#[test]
#[ignore = "takes minutes; `tests/popular` runs it"]
fn popular_packages_are_imported_in_images_of_their_own() {
    let env = TestEnv::with_debian();
    let mut failures = String::new();
    let mut table = "| package | version | imported | with what it requires |\n| --- | --- | --- | --- |\n".to_owned();
    for (package, module) in PACKAGES {
        match row(&env, package, module) {
            Ok(row) => table.push_str(&row),
            Err(Finished { stderr, .. }) => failures.push_str(&format!("{package}: {stderr}\n")),
        }
    }
    // Past the test's capture: the table is what one runs it for.
    std::io::stdout().write_all(table.as_bytes()).expect("stdout is open");
    assert!(failures.is_empty(), "{failures}");
}
