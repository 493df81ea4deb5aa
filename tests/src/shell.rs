//! A base that is small and has a shell: busybox alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::registry::output;

/// Programs of the base that have names of their own.
const NAMES: [&str; 5] = ["sh", "cat", "sleep", "test", "wget"];

/// Writes the base as an OCI layout to `folder`, which must not be there.
pub fn shell_base(folder: &Path) {
    let files = tempfile::tempdir().expect("a folder");
    let programs = files.path().join("bin");
    fs::create_dir(&programs).expect("a folder can be made");
    let busybox = fs::canonicalize("/bin/busybox").expect("busybox-static is installed");
    fs::copy(busybox, programs.join("busybox")).expect("a file can be copied");
    fs::set_permissions(programs.join("busybox"), PermissionsExt::from_mode(0o755)).expect("it is ours");
    for name in NAMES {
        symlink("busybox", programs.join(name)).expect("a link can be made");
    }
    let image = format!("{}:latest", folder.display());
    let umoci = |arguments: &[&str]| drop(output(Command::new("umoci").args(arguments)));
    umoci(&["init", "--layout", &folder.display().to_string()]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--rootless", "--image", &image, &programs.display().to_string(), "/bin"]);
    umoci(&["config", "--image", &image, "--config.env", "PATH=/bin"]);
}
