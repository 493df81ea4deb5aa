//! The sandbox against real trees, real namespaces and hostile layers.
//!
//! The trees hold one statically linked busybox. They lie in the system's folder for temporary files, where every user
//! may go, as some tests run as another user.

mod loaded;
mod programs;
mod trees;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use imagespec_builder_oci::sandbox::{ExitStatus, Line, Mode, Network, Output, Root, Run, Sandbox, User};
use imagespec_core::builder::Restart;
use tempfile::TempDir;

pub(crate) const APPLETS: [&str; 16] = [
    "cat", "chown", "env", "grep", "id", "ls", "mkdir", "mount", "ps", "rm", "sh", "sleep", "stat", "touch", "true",
    "unshare",
];

pub(crate) fn launcher() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sandbox-launcher"))
}

/// The sandbox's code is linked into the launcher.
fn restart() -> Restart {
    Restart::bundled(launcher())
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(restart())
}

/// The modes that this user can be tested in.
pub(crate) fn sandboxes() -> Vec<Sandbox> {
    if is_root() {
        [Mode::UserNamespaceFull, Mode::Root].map(|mode| Sandbox::with_mode(restart(), mode)).into()
    } else {
        vec![sandbox()]
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
    folder
}

/// A tree with busybox.
pub(crate) fn tree() -> TempDir {
    let tree = folder();
    let bin = tree.path().join("bin");
    fs::create_dir(&bin).expect("new");
    copy_program(Path::new("/bin/busybox"), &bin.join("busybox"));
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("new");
    }
    tree
}

/// Copies a program that is to be started. Not in this process: another test's child has all our files open until it
/// becomes another program, and a file that is open for writing cannot be started.
pub(crate) fn copy_program(source: &Path, target: &Path) {
    let status = Command::new("cp").args([source, target]).status().expect("cp starts");
    assert!(status.success(), "`{}` is installed", source.display());
}

pub(crate) fn run_in(root: Root, argv: &[&str]) -> Run {
    Run {
        root,
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "box".to_owned(),
    }
}

pub(crate) fn shell(tree: &TempDir, script: &str) -> Run {
    run_in(Root::Directory(tree.path().to_owned()), &["sh", "-c", script])
}

/// Runs, and gives the exit code and what was written to both streams.
pub(crate) fn outcome(sandbox: &Sandbox, run: &Run) -> (i32, String) {
    let mut text = String::new();
    let mut on_line = |line: Line| text.push_str(&format!("{}\n", line.text));
    let ExitStatus { code } = sandbox.run(run, Output::Lines(&mut on_line), &|| false).expect("it starts");
    (code, text)
}

pub(crate) fn overlay(folder: &TempDir, lowers: Vec<PathBuf>) -> (Root, PathBuf) {
    let (upper, work) = (folder.path().join("upper"), folder.path().join("work"));
    fs::create_dir_all(&upper).expect("own folder");
    fs::create_dir_all(&work).expect("own folder");
    (Root::Overlay { lowers, upper: upper.clone(), work }, upper)
}
