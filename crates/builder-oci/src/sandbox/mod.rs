//! The sandbox: where an image's programs run, and where trees with foreign owners are written and read. It knows
//! trees, tar and processes; what a layer or an image is for is its caller's affair.
//!
//! Neither libcontainer nor bubblewrap. libcontainer without libseccomp has no filter of system calls, cannot mount a
//! rootless overlay as the root (that has to happen in a user namespace that is entered before), and clones from a
//! process with threads. bubblewrap is a program to install. What is left to do is small with the safe wrappers of
//! nix, rustix, caps and seccompiler, and needs no unsafe code, because the program starts itself again instead of
//! forking: `PROGRAM __sandbox`, for which the program calls [`start`] before anything else. Where the builder was loaded
//! into another program, that one is started, and loads it again: `PROGRAM ARGUMENTS… __sandbox`, as [`Restart`] says.
//!
//! ```text
//! builder ── `__sandbox`          makes the namespaces; unpacks, archives and removes trees itself, in a chroot
//!              └─ `__sandbox init`     process 1: mounts, then reaps and forwards signals
//!                   └─ `__sandbox program`  gives up privileges and becomes the program
//! ```
//!
//! Security, in layers: user, mount, process, host name and IPC namespaces (the network stays the host's unless
//! [`Network::None`]; abstract sockets of the host are then reachable too); the tree is the root by pivot_root; nothing
//! of the environment and no descriptor goes in; capabilities are docker's default set without CAP_MKNOD, which a user
//! namespace does not honour either; no_new_privs; a filter of system calls (`seccomp.rs`); the writable parts of
//! `/proc` and all of `/sys` are read-only, for root in [`Mode::UserNamespaceFull`] is the host's root to them.
//!
//! The sandbox ends with its builder: every process asks the kernel to be killed with its parent, and process 1 takes
//! with it all that is inside.
//!
//! A `true` on a Debian overlay takes 7 ms from call to return (median of 40, debug build), 9 ms for an
//! ordinary user.

mod archive;
mod error;
mod identity;
mod init;
mod launch;
mod mounts;
mod privileges;
mod program;
mod root;
mod seccomp;
mod stage;
pub(crate) mod tar_entry;
mod unpack;
mod users;
mod wire;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use imagespec_core::builder::Restart;
use serde::{Deserialize, Serialize};

pub use error::{Cause, Failure, Refusal, SandboxError};
pub use identity::Mode;
pub use stage::start;

/// The hidden argument with which the program starts itself as a sandbox; those of [`Restart`] stand before it.
pub const ARGUMENT: &str = "__sandbox";

/// Makes sandboxes, one for each operation. May be used from many threads at once.
#[derive(Debug)]
pub struct Sandbox {
    restart: Restart,
    mode: OnceLock<Mode>,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The tree that it sees as `/`.
    pub root: Root,
    /// The program and its arguments. Without a `/` it is looked for in `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its whole environment, but for HOME, which it gets from the tree's /etc/passwd if it is not here.
    pub env: Vec<(String, String)>,
    /// Its working directory, in the tree. It is made if the tree does not have it.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// Files and folders of the host that it sees.
    pub mounts: Vec<Mount>,
    /// Whether it has a network.
    pub network: Network,
    /// The name of its machine.
    pub hostname: String,
}

/// The tree that a program sees as `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// A folder, which the program changes.
    Directory(PathBuf),
    /// An overlay: the program changes `upper` alone.
    Overlay {
        /// Trees that are not changed, the lowest first. At most 120.
        lowers: Vec<PathBuf>,
        /// What the program changes, in the form that overlayfs has. Its owner and mode are those of `/`.
        upper: PathBuf,
        /// An empty folder for overlayfs itself, on the file system of `upper`.
        work: PathBuf,
    },
}

/// Who runs a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// By number.
    Ids {
        /// The user id.
        user: u32,
        /// The group id.
        group: u32,
        /// Further group ids.
        supplementary: Vec<u32>,
    },
    /// `user`, `user:group`, each a name or a number, as an OCI image's config has it (image-spec, "User"). Looked up
    /// in the tree's `/etc/passwd` and `/etc/group`.
    Named(String),
}

impl User {
    /// User 0, group 0.
    pub fn root() -> Self {
        Self::Ids { user: 0, group: 0, supplementary: Vec::new() }
    }
}

/// A file or folder of the host that a program sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the tree. It is made for the run if it does not exist.
    pub target: PathBuf,
    /// What the program may do with it.
    pub access: Access,
}

/// What a program may do with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// The network of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The host's, with its `/etc/resolv.conf` and `/etc/hosts`.
    Host,
    /// None at all, not even a loopback that is up.
    None,
}

/// Where a program's output goes.
pub enum Output<'a> {
    /// Input, output and error are the builder's own, the terminal included.
    Inherit,
    /// No input; each line is handed over as it comes.
    Lines(&'a mut dyn FnMut(Line)),
}

/// A line that a program wrote, without its end. Very long lines come in parts of 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written.
    pub stream: Stream,
    /// The text; what is no UTF-8 is replaced.
    pub text: String,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit code, or 128 plus the number of the signal that ended it.
    pub code: i32,
}

/// How a layer is applied to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackOptions {
    /// What becomes of whiteouts.
    pub whiteouts: Whiteouts,
    /// What becomes of devices and named pipes.
    pub devices: Devices,
}

/// What becomes of a layer's whiteouts (OCI image-spec, "Whiteouts").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whiteouts {
    /// What they name is removed: the layers are merged into one tree.
    Apply,
    /// They are written in overlayfs's own form: the tree becomes one of [`Root::Overlay`]'s lowers.
    Overlay,
}

/// What becomes of a layer's devices and named pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Devices {
    /// They are an error.
    Refuse,
    /// They are left out: some old bases bring a `/dev`.
    Skip,
}

/// How a tree is written as a tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveOptions {
    /// What the tree is.
    pub form: Form,
    /// Paths in the tree, without a leading `/`, that are left out with all that is beneath them.
    pub exclude: Vec<PathBuf>,
    /// Times of files in seconds since 1970: one that is not later is kept …
    pub newest_kept: u64,
    /// … and a later one becomes this.
    pub otherwise: u64,
}

/// What a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A whole tree.
    Tree,
    /// The `upper` of a [`Root::Overlay`]: overlayfs's marks become whiteouts, and the tar is the layer of what the
    /// program changed.
    OverlayUpper,
}

impl Sandbox {
    /// Sandboxes that are held by the program of `restart`, which calls [`start`] when [`ARGUMENT`] follows the
    /// arguments of `restart`.
    pub fn new(restart: Restart) -> Self {
        Self { restart, mode: OnceLock::new() }
    }

    /// What to put before a program of this machine and its arguments, so that it ends with this process, however that
    /// ends. It is in no sandbox.
    pub fn tie(&self) -> Vec<OsString> {
        let Restart { program, arguments, descriptor: _ } = &self.restart;
        let mut tie = vec![program.clone().into_os_string()];
        tie.extend(arguments.iter().map(OsString::from));
        tie.extend([ARGUMENT.into(), stage::TIED.into(), std::process::id().to_string().into()]);
        tie
    }

    /// Sandboxes of one mode, whether or not a better one works.
    pub fn with_mode(restart: Restart, mode: Mode) -> Self {
        Self { restart, mode: OnceLock::from(mode) }
    }

    /// Which mode works on this machine. Tries it the first time it is asked.
    ///
    /// # Errors
    /// When none does; the error's hint says how to allow one.
    pub fn probe(&self) -> Result<Mode, SandboxError> {
        if let Some(mode) = self.mode.get() {
            return Ok(*mode);
        }
        let mode = launch::probe(&self.restart)?;
        Ok(*self.mode.get_or_init(|| mode))
    }

    /// Runs a program to its end. `cancelled` is asked about 20 times a second; once it says so, the program gets
    /// SIGTERM and two seconds later SIGKILL, with everything that it started.
    ///
    /// # Errors
    /// When the program could not be started, or the run was cancelled. That it failed is not an error.
    pub fn run(&self, run: &Run, output: Output<'_>, cancelled: &dyn Fn() -> bool) -> Result<ExitStatus, SandboxError> {
        launch::run(&self.restart, self.probe()?, run, output, cancelled)
    }

    /// Applies an uncompressed layer to the tree at `root`, which must exist. Nothing in the layer reaches outside it.
    ///
    /// It is cancelled by an error of `layer`. Of extended attributes, `user.*` and `security.capability` are set, where the file system and the mode allow.
    ///
    /// # Errors
    /// When the layer is refused or cannot be read or written; the tree is then half done.
    pub fn unpack(&self, root: &Path, layer: &mut dyn Read, options: UnpackOptions) -> Result<(), SandboxError> {
        launch::unpack(&self.restart, self.probe()?, root, layer, options)
    }

    /// Writes the tree at `root` as an uncompressed tar: sorted by path, owners by number, times as `options` say, PAX
    /// (POSIX.1-2001) where ustar does not suffice. The same tree gives the same bytes. Sockets are left out.
    ///
    /// # Errors
    /// When the tree cannot be read, has a device or a named pipe, or `layer` cannot be written.
    pub fn archive(&self, root: &Path, options: &ArchiveOptions, layer: &mut dyn Write) -> Result<(), SandboxError> {
        launch::archive(&self.restart, self.probe()?, root, options, layer)
    }

    /// Removes a tree, whoever owns its files. That it does not exist is not an error.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<(), SandboxError> {
        launch::remove(&self.restart, self.probe()?, path)
    }
}
