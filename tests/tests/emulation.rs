//! Images for another processor, whose programs run by an emulator. Needs the network, for Debian's archive and the
//! package index, and a kernel that takes an emulator; where it does not, the tests say so.

use std::process::Command;

use imagespec_tests::{Emulation, TestEnv, output, tell_skipped};

/// What to emulate with, or nothing.
fn emulation() -> Option<Emulation> {
    Emulation::arm64().inspect_err(|why| tell_skipped("execution for another processor", why)).ok()
}

/// A Debian for each of two processors in `base-amd64` and `base-arm64`, unpacked and not configured.
fn bases(env: &TestEnv) {
    for architecture in ["amd64", "arm64"] {
        let path = |name: &str| env.path().join(format!("{name}-{architecture}")).display().to_string();
        let (tar, layout, image) = (path("tar") + ".tar", path("base"), format!("{}:latest", path("base")));
        let suite = ["--quiet", "--variant=extract", "--include=python3-minimal,busybox-static"];
        let architectures = format!("--architectures={architecture}");
        // No package's own script has run, so that even a shell is missing.
        let links = "--extract-hook=for name in sh cat mkdir rm ln; do ln -s busybox \"$1/bin/$name\"; done";
        output(Command::new("mmdebstrap").args(suite).args([&architectures, links, "bookworm", &tar]));
        for arguments in [
            vec!["init", "--layout", &layout],
            vec!["new", "--image", &image],
            vec!["raw", "add-layer", "--image", &image, &tar],
            vec!["config", "--image", &image, "--architecture", architecture, "--os", "linux"],
        ] {
            output(Command::new("umoci").args(arguments));
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn commands_run_by_an_emulator_and_the_image_runs_on_both_processors() {
    let Some(emulation) = emulation() else { return };
    let env = TestEnv::new();
    bases(&env);
    // What is native and what is emulated are told apart by the programs themselves.
    let machine = "import os, platform; print(platform.machine(), os.getuid())";
    for architecture in ["amd64", "arm64"] {
        env.write(
            "app.yaml",
            &format!(
                "name: app\nbase_image: oci:base-{architecture}\nplatform: linux/{architecture}\npackages: [idna]\n\
                 commands:\n  - python -c '{machine}' > machine\n  - mkdir folder && rm -r /usr/share/doc && ln machine folder/same\n"
            ),
        );
        let built = emulation.run(&env, &["build", "app.yaml"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let again = emulation.run(&env, &["build", "app.yaml", "--force", "--no-cache"]);
        assert_eq!(again.stdout, built.stdout, "the same image is made again: {}", again.stderr);
        let run = |command: &[&str]| {
            let ran = emulation.run(&env, &[["run", "app.yaml", "--"].as_slice(), command].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            ran.stdout
        };
        let name = if architecture == "amd64" { "x86_64" } else { "aarch64" };
        assert_eq!(run(&["cat", "folder/same"]), format!("{name} 0\n"));
        assert_eq!(run(&["python", "-c", "import idna, platform; print(platform.machine())"]), format!("{name}\n"));
    }
}

#[test]
#[ignore = "takes minutes; `tests/slow` runs it"]
#[cfg(target_arch = "x86_64")]
fn a_whole_debian_for_another_processor_is_made_with_its_packages() {
    let Some(emulation) = emulation() else { return };
    let env = TestEnv::new();
    env.write(
        "app.yaml",
        "name: app\nplatform: [linux/amd64, linux/arm64]\npython_version: 3.11\npackages: [pyyaml]\napt_packages: [jq]\n\
         commands: [jq --version > /version]\n",
    );
    let built = emulation.run(&env, &["build", "app.yaml"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    for (platform, machine) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let report = "import platform, yaml; print(platform.machine(), open('/version').read().strip())";
        let ran = emulation.run(&env, &["run", "app.yaml", "--platform", platform, "--", "python", "-c", report]);
        assert_eq!((ran.code, ran.stdout), (0, format!("{machine} jq-1.6\n")), "{}", ran.stderr);
    }
    let again = emulation.run(&env, &["build", "app.yaml", "--force", "--no-cache"]);
    assert_eq!(again.stdout, built.stdout, "{}", again.stderr);
}
