//! Plugins of the workspace, as files that a user has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A copy of the plugin `name` in `folder`, as cargo calls it, that nobody else may change.
///
/// # Panics
/// When it was not compiled.
pub fn plugin(folder: &Path, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let file = format!("libimagespec_{name}.so");
    let made = test.ancestors().nth(2).expect("a test lies in `deps`").join(&file);
    let package =
        if name == "hostile" { "imagespec-tests-hostile".to_owned() } else { format!("imagespec-plugin-{name}") };
    assert!(made.is_file(), "`{}` is absent: run `cargo build -p {package}` first, or `tests/run`", made.display());
    fs::create_dir_all(folder).expect("a folder can be made");
    let copy = folder.join(file);
    fs::copy(made, &copy).expect("a plugin can be copied");
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).expect("a mode can be set");
    copy
}
