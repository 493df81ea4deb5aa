//! Bases that other tools made: a Debian from mmdebstrap, in a layout, in an archive as `docker save` writes it, and in a
//! registry; with Python 3.11 and with none. Needs the network, for Debian's archive and the package index.

use imagespec_tests::{DockerRegistry, Setup, TestEnv, outsider};

/// A Debian of mmdebstrap, as the OCI layout `NAME`.
fn debian(env: &TestEnv, name: &str, packages: &str) {
    let path = |name: &str| env.path().join(name).display().to_string();
    let (tar, layout, image) = (path("tree.tar"), path(name), format!("{}:latest", path(name)));
    outsider("mmdebstrap", &["--quiet", "--variant=apt", &format!("--include={packages}"), "bookworm", &tar]);
    outsider("umoci", &["init", "--layout", &layout]);
    outsider("umoci", &["new", "--image", &image]);
    outsider("umoci", &["raw", "add-layer", "--image", &image, &tar]);
    outsider("umoci", &["config", "--image", &image, "--architecture", "amd64", "--os", "linux"]);
}

#[test]
#[ignore = "takes minutes; `tests/slow` runs it"]
fn a_debian_of_another_tool_gets_packages_wherever_it_lies_with_python_and_without() {
    let env = TestEnv::new();
    let registry = DockerRegistry::start(Setup::Open);
    for (name, packages) in [("with", "python3,ca-certificates"), ("without", "ca-certificates")] {
        debian(&env, name, packages);
        let layout = format!("oci:{}:latest", env.path().join(name).display());
        let archive = format!("docker-archive:{}:{name}:1", env.path().join(format!("{name}.tar")).display());
        outsider("skopeo", &["copy", "--quiet", &layout, &archive]);
        let pushed = format!("docker://{}/{name}:1", registry.host());
        outsider("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &layout, &pushed]);
        let in_registry = format!("{}/{name}:1", registry.host());
        for base in [format!("oci:{name}"), format!("docker-archive:{name}.tar"), in_registry] {
            let fields = "python_version: 3.11\napt_packages: [jq]\npackages: [six==1.17.0]\ncommands: [jq --version > /srv/jq]\n";
            env.write("app.yaml", &format!("name: app\nbase_image: '{base}'\nplatform: linux/amd64\n{fields}"));
            let built = env.run_online(&["build", "app.yaml"], &[]);
            assert_eq!(built.code, 0, "{base}: {}", built.stderr);
            let look = "import six, sys; print(six.__version__, sys.version[:4], open('/srv/jq').read().strip())";
            let ran = env.run_online(&["run", "app.yaml", "--", "python", "-c", look], &[]);
            assert_eq!(ran.stdout, "1.17.0 3.11 jq-1.6\n", "{base}: {}", ran.stderr);
        }
    }
}
