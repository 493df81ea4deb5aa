//! Why a file is not used as a builder, and what to do about it.

use std::io;
use std::path::PathBuf;

use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;

/// Why a file is not used as a builder.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It cannot be opened or read.
    #[error("cannot read plugin `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else may change it.
    #[error("plugin `{}` is not loaded: {mistrust}", path.display())]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        mistrust: Mistrust,
    },
    /// It is not the file that was added.
    #[error("plugin `{}` is not the file that was added", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the pin says.
        pinned: Digest,
        /// What the file has.
        found: Digest,
    },
    /// Its bytes are no plugin that this program can load.
    #[error("`{}` is no plugin that can be loaded: {reason}", path.display())]
    NoPlugin {
        /// The file.
        path: PathBuf,
        /// What is wrong: `it has no descriptor`.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The operating system does not let it be loaded.
    #[error("plugin `{}` cannot be loaded from memory", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is the plugin of another builder.
    #[error("`{}` is the plugin of builder `{name}`, and not of `{wanted}`", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// What its descriptor says.
        name: String,
        /// What it was taken for.
        wanted: String,
    },
    /// It was loaded, and does not behave.
    #[error("{}", .0.message)]
    Failed(Box<BuildError>),
}

/// Why somebody else may change a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistrust {
    /// A link to nothing, a folder, a device.
    #[error("it is no regular file")]
    NotRegular,
    /// It, or a folder on the way to it, belongs to somebody else.
    #[error("`{}` belongs to user {owner}, who could change it", path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
    },
    /// Others may write to it, or to a folder on the way to it.
    #[error("`{}` may be written to by {whom} (mode {mode:o})", path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// `others` or `its group`.
        whom: &'static str,
        /// Its permissions.
        mode: u32,
    },
    /// More than any plugin needs.
    #[error("it has more than {max} bytes")]
    Size {
        /// The limit.
        max: u64,
    },
}

impl PluginError {
    /// The error for the user, without a place.
    pub fn diagnostic(&self) -> Diagnostic {
        if let Self::Failed(error) = self {
            return error.diagnostic();
        }
        let mut diagnostic = Diagnostic::error(self.to_string());
        match self {
            Self::Read { source, .. } => {
                diagnostic.notes.push(source.to_string());
                diagnostic.hint("look at the path: in a config or project file it starts from the folder of that file")
            }
            Self::NotTrusted { mistrust, .. } => diagnostic.hint(mistrust.hint()),
            Self::Changed { path, pinned, found } => {
                diagnostic.notes.push(format!("it was added with {pinned}, and has {found} now"));
                let path = path.display();
                diagnostic.hint(format!(
                    "if you put the new file there, and trust it, add it again: `imagespec plugin add {path}`"
                ))
            }
            Self::NoPlugin { hint, .. } => diagnostic.hint(*hint),
            Self::Memory { source, .. } => {
                diagnostic.notes.push(source.to_string());
                diagnostic.hint("plugins are loaded from a sealed memory file (memfd_create), which needs Linux 3.17 and memory for it")
            }
            Self::OtherName { name, .. } => diagnostic.hint(format!("call it `[plugins.{name}]`")),
            Self::Failed(_) => unreachable!("it was answered above"),
        }
    }

    /// The error for the user of a project that names the file.
    pub fn in_project(&self) -> Diagnostic {
        let Self::Changed { path, pinned, found } = self else { return self.diagnostic() };
        let message = format!("plugin `{}` is not the file that the project names", path.display());
        let mut diagnostic = Diagnostic::error(message);
        diagnostic.notes.push(format!("the project names {pinned}, and the file has {found}"));
        let digits = found.to_hex();
        diagnostic.hint(format!(
            "get the file that is meant; or, if it is this one, set `sha256 = \"{digits}\"` in the project"
        ))
    }

    /// The same as a failure of a build.
    pub fn into_build_error(self) -> BuildError {
        if let Self::Failed(error) = self {
            return *error;
        }
        let Diagnostic { message, notes, hints, .. } = self.diagnostic();
        BuildError { kind: FailureKind::Machine, message, causes: notes, hints, field: None }
    }
}

impl Mistrust {
    fn hint(&self) -> String {
        match self {
            Self::NotRegular => "name the file that `cargo build` made, `target/release/lib….so`".to_owned(),
            Self::Owner { .. } => "copy it to a folder of your own, and add that file".to_owned(),
            Self::Writable { path, whom, .. } => {
                let who = if *whom == "others" { "o" } else { "g" };
                format!("`chmod {who}-w {}`, or copy the plugin to a folder of your own", path.display())
            }
            Self::Size { .. } => "compile it in release, and strip it".to_owned(),
        }
    }
}
