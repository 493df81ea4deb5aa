//! What can be wrong with the files that a spec names, where, and what to do.

use std::{fmt, io};

use super::{Found, Origin};
use crate::place::Place;
use crate::requirements::{PathProblem, UNREADABLE_HINT};

/// Files that cannot be copied.
#[derive(Debug)]
pub struct FilesError {
    // Boxed, for it travels through every result here.
    problem: Box<FilesProblem>,
    place: Place,
}

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum FilesProblem {
    /// A path from the root of this machine.
    #[error("`{path}` is an absolute path")]
    Absolute {
        /// The path.
        path: String,
    },
    /// A path with `..` that leaves its folder.
    #[error("`{path}` leads out of the {folder}")]
    Outside {
        /// The path.
        path: String,
        /// Which folder it leaves.
        folder: &'static str,
    },
    /// Nothing is there.
    #[error("`{path}` does not exist")]
    Missing {
        /// The path.
        path: String,
    },
    /// Something is there and cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A link that leaves the folder that is copied from.
    #[error("`{link}` is a symbolic link to `{target}`, which leads out of the {folder}")]
    LinkOut {
        /// The link.
        link: String,
        /// What it points to.
        target: String,
        /// Which folder it leaves.
        folder: &'static str,
    },
    /// A link to nothing.
    #[error("`{link}` is a symbolic link to `{target}`, which leads nowhere")]
    LinkDangles {
        /// The link.
        link: String,
        /// What it points to.
        target: String,
    },
    /// A link to something that stays behind.
    #[error("`{link}` is a symbolic link to `{target}`, which is not copied")]
    LinkLeft {
        /// The link.
        link: String,
        /// What it points to.
        target: String,
    },
    /// A device, socket or fifo.
    #[error("`{path}` is a {kind}, and only files, folders and symbolic links can be copied")]
    Special {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A name that is not UTF-8 or holds control characters.
    #[error("the name {path:?} is not plain UTF-8 text")]
    Name {
        /// The path, with what is not text replaced.
        path: String,
    },
    /// `source_root` is a file.
    #[error("`{path}` is not a folder")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// A pattern in an ignore file that cannot be understood.
    #[error("`{file}` line {line}: the pattern `{pattern}` cannot be understood: {message}")]
    Pattern {
        /// The ignore file.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// The pattern.
        pattern: String,
        /// Why.
        message: String,
    },
    /// Two different files for one path.
    #[error("two different files would become `/root/{destination}`: {first} and {second}")]
    Conflict {
        /// Path in the image, relative to `/root`.
        destination: String,
        /// One, with the field that names it.
        first: String,
        /// The other, with the field that names it.
        second: String,
    },
    /// More than anybody means to copy.
    #[error("more than {limit} files would be copied")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
}

impl FilesError {
    pub(super) fn new(problem: FilesProblem, place: &Place) -> Self {
        Self { problem: Box::new(problem), place: place.clone() }
    }

    pub(super) fn conflict(one: &Found, other: &Found) -> Self {
        let described = |found: &Found| match found.origin {
            Origin::Copy | Origin::CopyFromElsewhere => format!("`{}` (`copy`)", found.destination),
            Origin::Source => format!("`{}` beneath `source_root`", found.destination),
        };
        // The shorter path is the one that both need.
        let destination = match one.destination.len() < other.destination.len() {
            true => &one.destination,
            false => &other.destination,
        };
        let problem = FilesProblem::Conflict {
            destination: destination.clone(),
            first: described(other),
            second: described(one),
        };
        Self::new(problem, &other.place)
    }

    pub(super) fn located(problem: PathProblem, folder: &'static str, place: &Place) -> Self {
        let problem = match problem {
            PathProblem::Absolute { path } => FilesProblem::Absolute { path },
            PathProblem::Outside { path } => FilesProblem::Outside { path, folder },
            PathProblem::LinkOut { link, target, .. } => FilesProblem::LinkOut { link, target, folder },
            PathProblem::Unreadable { path, source } => return Self::unreadable(path, source, place),
        };
        Self::new(problem, place)
    }

    pub(super) fn unreadable(path: String, source: io::Error, place: &Place) -> Self {
        let problem = match source.kind() {
            io::ErrorKind::NotFound => FilesProblem::Missing { path },
            _ => FilesProblem::Unreadable { path, source },
        };
        Self::new(problem, place)
    }

    /// What is wrong.
    pub fn problem(&self) -> &FilesProblem {
        &self.problem
    }

    /// The value in the spec that names the files.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self.problem.as_ref() {
            FilesProblem::Absolute { .. } | FilesProblem::Missing { .. } => {
                "paths are relative to the folder of the file that names them"
            }
            FilesProblem::Outside { .. } => "move the files into that folder, or the spec further up",
            FilesProblem::LinkOut { .. } => "replace the link by the file itself",
            FilesProblem::LinkDangles { .. } => "remove the link",
            FilesProblem::LinkLeft { .. } => "add the target to `copy`, or replace the link by the file itself",
            FilesProblem::Name { .. } => "rename the file",
            FilesProblem::Conflict { .. } => "rename one of them, or leave it out with a line in `.dockerignore`",
            FilesProblem::TooMany { .. } => "name the folders that the image needs",
            FilesProblem::NotAFolder { .. } => "name the folder that the source files lie in",
            FilesProblem::Special { .. } => "remove it, or leave it out",
            FilesProblem::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                UNREADABLE_HINT
            }
            FilesProblem::Pattern { .. } => "correct the line, or remove it",
            FilesProblem::Unreadable { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for FilesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(formatter)
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.problem.as_ref())
    }
}
