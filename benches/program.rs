//! What a user waits for at the prompt, process start included.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use criterion::{Criterion, criterion_group, criterion_main};
use imagespec_benches::{large_spec, program};

const SMALL: &str = "base_image: scratch\nname: small\ncopy: [small.yaml]\n";

fn run(folder: &Path, arguments: &[&str]) {
    let status = Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("IMAGESPEC_CACHE_DIR", folder.join("cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts");
    assert!(status.success(), "{arguments:?} ended with {status}");
}

fn program_runs(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("small.yaml"), SMALL).expect("written");
    fs::write(folder.path().join("large.yaml"), large_spec(500)).expect("written");
    // What is measured afterwards is that this image is found.
    run(folder.path(), &["build", "small.yaml"]);
    let mut group = criterion.benchmark_group("program");
    for (name, arguments) in [
        ("version", &["--version"][..]),
        ("hash of a small spec", &["hash", "small.yaml"]),
        ("hash of a large spec", &["hash", "large.yaml"]),
        ("second build against the store", &["build", "small.yaml"]),
        ("build of a small spec", &["build", "small.yaml", "--force", "--no-cache"]),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| run(folder.path(), arguments)));
    }
}

/// The same packages with their bytecode made and found. Needs the network, for the base and the package index.
fn bytecode(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("app.yaml"), "name: app\npackages: [numpy==2.4.6]\n").expect("written");
    let cache = folder.path().join("cache");
    let build = || {
        // With the variables of this machine, by which it may reach the network.
        let status = Command::new(program())
            .args(["build", "app.yaml", "--force"])
            .current_dir(folder.path())
            .env("IMAGESPEC_CACHE_DIR", &cache)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the program starts");
        assert!(status.success(), "the build ended with {status}");
    };
    build();
    let mut group = criterion.benchmark_group("bytecode of numpy");
    group.sample_size(10);
    group.bench_function("compiled", |bencher| {
        bencher.iter(|| {
            fs::remove_dir_all(cache.join("records/bytecode")).expect("the build before has compiled");
            build();
        });
    });
    group.bench_function("found", |bencher| bencher.iter(build));
}

criterion_group!(benches, program_runs, bytecode);
criterion_main!(benches);
