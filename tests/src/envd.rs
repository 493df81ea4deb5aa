//! The program envd, as the package index has it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::temporary_folder;
use crate::registry::output;

/// The program, which is fetched once. Needs the network the first time.
///
/// # Panics
/// When it cannot be fetched.
pub fn envd() -> PathBuf {
    let folder = temporary_folder().join("engines");
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/install-envd")).arg(&folder));
    folder.join("envd-1.3.6/envd")
}
