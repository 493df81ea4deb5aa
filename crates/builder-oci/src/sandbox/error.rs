//! What can go wrong in and around the sandbox. Failures inside it cross the process boundary as JSON.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Mode;

/// Why an operation in the sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine lets the program make no namespaces of any kind.
    #[error("cannot make a sandbox on this machine")]
    Unavailable {
        /// What the last way that was tried ended with.
        #[source]
        source: Box<SandboxError>,
    },
    /// The program that holds the sandbox could not be started.
    #[error("cannot start `{launcher}` for the sandbox")]
    Launch {
        /// The program.
        launcher: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// User and group ids could not be mapped into the sandbox.
    #[error("cannot map user ids in mode `{mode}`")]
    Mapping {
        /// The mode that was tried.
        mode: Mode,
        /// What the system said.
        source: io::Error,
    },
    /// Something failed inside.
    #[error(transparent)]
    Inside(#[from] Failure),
    /// The sandbox ended without an answer.
    #[error("the sandbox ended without an answer ({status})")]
    Died {
        /// How its process ended.
        status: String,
    },
    /// The conversation with the sandbox broke.
    #[error("cannot talk to the sandbox")]
    Conversation {
        /// What the system said.
        source: io::Error,
    },
    /// The caller's stream of a layer could not be read.
    #[error("cannot read the layer for `{root}`")]
    Read {
        /// The tree that was being written.
        root: PathBuf,
        /// What the stream said.
        source: io::Error,
    },
    /// The caller's stream for a layer could not be written.
    #[error("cannot write the layer of `{root}`")]
    Write {
        /// The tree that was being read.
        root: PathBuf,
        /// What the stream said.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What fails when a program's working directory is none.
pub(super) const ENTER_WORKDIR: &str = "enter the working directory";

impl SandboxError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable { .. } => Some(
                "allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`, `sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0`, `sysctl user.max_user_namespaces=65536`; inside a \
                 container run it with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or as \
                 privileged root",
            ),
            Self::Inside(Failure::UserNotMapped { .. }) => Some(
                "install `newuidmap` and `newgidmap` (Debian's package uidmap) and give the user a line in /etc/subuid \
                 and /etc/subgid",
            ),
            Self::Inside(Failure::OwnerNotMapped { .. }) => {
                Some("give the user a larger range of ids in /etc/subuid and /etc/subgid")
            }
            Self::Inside(Failure::UnknownUser { .. }) => {
                Some("set `user` to one that the image's /etc/passwd has, or to a number, which needs no entry there")
            }
            Self::Inside(Failure::System { action, .. }) if action == ENTER_WORKDIR => {
                Some("set `workdir` to a folder that the image's user may enter")
            }
            _ => None,
        }
    }
}

/// A failure inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "failure", rename_all = "kebab-case")]
pub enum Failure {
    /// A call to the system failed.
    #[error("cannot {action} `{subject}` in the sandbox")]
    System {
        /// What was tried: `mount proc on`.
        action: String,
        /// On what.
        subject: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// An entry of a layer was refused.
    #[error("entry `{entry}` of the layer is refused: {refusal}")]
    Entry {
        /// The entry's path, made printable.
        entry: String,
        /// Why.
        refusal: Refusal,
    },
    /// The stream is no well-formed tar.
    #[error("the layer is not a well-formed tar at byte {offset}: {reason}")]
    Tar {
        /// Where in the stream.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file in a tree has a kind that no layer can hold.
    #[error("`{path}` is {kind}, which a layer cannot hold")]
    Unstorable {
        /// The file's path in the tree.
        path: String,
        /// What it is.
        kind: Refusal,
    },
    /// The program cannot be started.
    #[error("cannot start `{program}`")]
    Program {
        /// The first word of the command.
        program: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// A user or group that the image does not have.
    #[error("the image has no user or group `{name}`")]
    UnknownUser {
        /// What was asked for.
        name: String,
    },
    /// A user other than root was asked for where only one id exists.
    #[error("cannot run as user {user}: only one user id is available in mode `{mode}`")]
    UserNotMapped {
        /// The numeric id.
        user: u32,
        /// The sandbox's mode.
        mode: Mode,
    },
    /// An owner that has no id on this machine.
    #[error("cannot give `{entry}` to owner {owner}:{group}")]
    OwnerNotMapped {
        /// The entry's path.
        entry: String,
        /// The numeric user id.
        owner: u32,
        /// The numeric group id.
        group: u32,
    },
    /// The sandbox was asked for something that makes no sense to it: a bug of its caller.
    #[error("the sandbox cannot understand its orders: {reason}")]
    Protocol {
        /// What is wrong.
        reason: String,
    },
}

impl Failure {
    /// Wraps an error of a system call: `.map_err(Failure::system("mount", "/proc"))`.
    pub(super) fn system<E: Into<io::Error>>(action: &str, subject: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            action: action.to_owned(),
            subject: subject.to_string(),
            cause: Cause::new(&error.into()),
        }
    }

    /// An entry of a layer that is refused.
    pub(super) fn entry(path: &[u8], refusal: Refusal) -> Self {
        Self::Entry { entry: printable(path), refusal }
    }
}

/// Turns whatever a system call returned into a failure.
pub(super) trait OrFailure<T> {
    /// The value, or what `failure` makes of the error.
    fn or_failure(self, failure: impl FnOnce(io::Error) -> Failure) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> OrFailure<T> for Result<T, E> {
    fn or_failure(self, failure: impl FnOnce(io::Error) -> Failure) -> Result<T, Failure> {
        self.map_err(|error| failure(error.into()))
    }
}

/// Why an entry of a layer is refused, or a file is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The path begins with `/`.
    #[error("its path is absolute")]
    Absolute,
    /// The path has a `..`.
    #[error("its path has `..`")]
    Parent,
    /// The path is empty, too long or has a NUL.
    #[error("its path is not a path")]
    NotAPath,
    /// A device.
    #[error("a device")]
    Device,
    /// A named pipe.
    #[error("a named pipe")]
    Fifo,
    /// A kind of entry that layers do not have (OCI image-spec, "Image Layer Filesystem Changeset").
    #[error("an entry of an unknown kind")]
    Kind,
    /// The path, or the target of a hard link, leads through something that is not a directory.
    #[error("it leads through something that is not a directory")]
    ThroughFile,
    /// A hard link to something that does not exist or cannot be linked to.
    #[error("its hard link has no target")]
    LinkTarget,
    /// A whiteout that names nothing.
    #[error("a whiteout that names nothing")]
    Whiteout,
}

/// What the system said, in a form that crosses the process boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    /// The error number, where there was one.
    pub errno: Option<i32>,
    /// The text.
    pub text: String,
}

impl Cause {
    /// What `error` says.
    pub(super) fn new(error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), text: error.to_string() }
    }
}

/// Bytes of a path as text that is safe to print.
pub(super) fn printable(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .take(512)
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}
