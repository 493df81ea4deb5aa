//! Every folder of `examples/` does what its readers expect. The quickstart, which needs the network, and the
//! fleet on Kubernetes have files of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imagespec_tests::{TestEnv, lint, outsider};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn every_example_has_a_test() {
    let folders = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        folders.collect::<BTreeSet<_>>(),
        ["files", "quickstart", "remote-kubernetes"].map(str::to_owned).into()
    );
}

#[test]
fn files_is_an_image_of_one_file_on_nothing() {
    let env = TestEnv::new();
    let spec = examples().join("files/imagespec.yaml").display().to_string();
    let built = env.run(&["build", &spec, "--output", "type=oci,dest=out"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let out = env.path().join("out");
    assert_eq!(lint(&out), Vec::<String>::new());
    let tag = built.stdout.split(['@', ':']).nth(1).unwrap();
    let bundle = env.path().join("bundle");
    let image = format!("{}:{tag}", out.display());
    outsider("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/root/greeting.txt")).unwrap(), "hello from an image\n");
}
