//! What the benches share: the program, a large spec, a real wheel, and content to compress.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use imagespec_builder_oci::cache::Cache;
use imagespec_builder_oci::wheel::{Environment, Observer, SelectedWheel, WheelName, download};
use imagespec_core::digest::Digest;

/// A large compiled wheel of 16.9 MB with some 900 files.
const NUMPY: &str = "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl";
const NUMPY_FOLDER: &str = "02/03/74fe2a4cb3817d94d86402f2506554130a2f01414e299b5a843e5a8a957f";
const NUMPY_SHA256: &str = "89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93";
const NUMPY_SIZE_BYTES: u64 = 16_918_164;

/// The program, which `cargo build --release` puts beside the benches.
///
/// # Panics
/// When it is not there.
pub fn program() -> PathBuf {
    let bench = std::env::current_exe().expect("a bench knows its own path");
    let program = bench.ancestors().nth(2).expect("a bench lies in `deps`").join("imagespec");
    assert!(program.is_file(), "`{}` is absent: run `cargo build --release` first", program.display());
    program
}

/// A plugin that builds nothing, which `cargo build --release -p imagespec-tests-hostile` puts there.
///
/// # Panics
/// When it is not there.
pub fn plugin() -> PathBuf {
    let plugin = program().with_file_name("libimagespec_hostile.so");
    let package = "imagespec-tests-hostile";
    assert!(plugin.is_file(), "`{}` is absent: run `cargo build --release -p {package}` first", plugin.display());
    plugin
}

/// A spec with `packages` packages and as many variables and labels.
pub fn large_spec(packages: usize) -> String {
    let mut text = "base_image: bootstrap:debian/bookworm\nname: large\npackages:\n".to_owned();
    let mut section = |head: &str, line: &dyn Fn(usize) -> String| {
        text.push_str(head);
        for number in 0..packages {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {}", line(number));
        }
    };
    section("", &|number| format!("- package-{number}[extra]>=1.{number},<2; python_version >= \"3.9\""));
    section("env:\n", &|number| format!("VARIABLE_{number}: value {number}"));
    section("labels:\n", &|number| format!("example.org/label-{number}: value {number}"));
    text
}

/// A numpy wheel in the cache, fetched from the package index if it is not there.
///
/// # Panics
/// When it cannot be fetched.
pub fn numpy(cache: &Cache) -> (WheelName, Digest) {
    let sha256 = Digest::from_hex(NUMPY_SHA256).expect("the pinned digest is one");
    let file_name = WheelName::new(NUMPY).expect("the pinned name is one");
    let url = format!("https://files.pythonhosted.org/packages/{NUMPY_FOLDER}/{NUMPY}");
    let wheel = SelectedWheel {
        name: "numpy".to_owned(),
        version: "2.4.6".to_owned(),
        file_name: file_name.clone(),
        url: url.parse().expect("the pinned address is one"),
        sha256,
        size_bytes: Some(NUMPY_SIZE_BYTES),
    };
    download(cache, &[wheel], &Environment::default(), Observer::NOBODY).expect("the package index has the wheel");
    (file_name, sha256)
}

/// The content of this very program: machine code and text, as most of an image is.
///
/// # Panics
/// When the program cannot read itself.
pub fn content(size_bytes: usize) -> Vec<u8> {
    let program = std::fs::read(Path::new("/proc/self/exe")).expect("a program can read itself");
    program.into_iter().cycle().take(size_bytes).collect()
}
