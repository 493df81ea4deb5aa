//! Tells the crate which target it is compiled for, which stands in a plugin's descriptor.

fn main() {
    let target = std::env::var("TARGET").expect("cargo says the target to a build script");
    println!("cargo::rustc-env=IMAGESPEC_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
