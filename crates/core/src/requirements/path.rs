//! Where a relative path of a spec or requirements file leads, and whether it stays inside of the project.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A path that does not lead to a file inside of the project.
#[derive(Debug, thiserror::Error)]
pub enum PathProblem {
    /// It starts at the machine's root.
    #[error("`{path}` is an absolute path")]
    Absolute {
        /// The path.
        path: String,
    },
    /// Its `..` leave the project.
    #[error("`{path}` leads out of the project's folder")]
    Outside {
        /// The path.
        path: String,
    },
    /// A symbolic link on the way leaves the project.
    #[error("`{path}` leads out of the project's folder: `{link}` is a symbolic link to `{target}`")]
    LinkOut {
        /// The path.
        path: String,
        /// The link.
        link: String,
        /// What it points to.
        target: String,
    },
    /// Nothing is there, or it cannot be looked at.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What to do about a file that this user may not read.
pub(crate) const UNREADABLE_HINT: &str = "let the user who builds read it: `chmod u+r`, or `chown`";

impl PathProblem {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(UNREADABLE_HINT)
            }
            Self::Unreadable { source, .. } if source.kind() != io::ErrorKind::NotFound => None,
            Self::Absolute { .. } | Self::Unreadable { .. } => {
                Some("paths are relative to the folder of the file that names them")
            }
            Self::Outside { .. } | Self::LinkOut { .. } => {
                Some("put the file inside of the project, the folder with `imagespec.toml`")
            }
        }
    }
}

/// Follows `relative` from `directory`, which lies inside of `root`; `..` may lead as far up as `root`, and symbolic links
/// may lead anywhere inside of it.
pub(crate) fn locate(root: &Path, directory: &Path, relative: &Path) -> Result<PathBuf, PathProblem> {
    let written = || relative.display().to_string();
    let mut below: Vec<Component<'_>> =
        directory.strip_prefix(root).map(|path| path.components().collect()).unwrap_or_default();
    let root = if directory.starts_with(root) { root } else { directory };
    for component in relative.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => return Err(PathProblem::Absolute { path: written() }),
            Component::CurDir => {}
            Component::ParentDir => {
                below.pop().ok_or_else(|| PathProblem::Outside { path: written() })?;
            }
            Component::Normal(_) => below.push(component),
        }
    }
    let path = below.iter().fold(root.to_owned(), |path, component| path.join(component));
    check_links(root, &below).map_err(|problem| match problem {
        LinkProblem::Out(link, target) => PathProblem::LinkOut { path: written(), link, target },
        LinkProblem::Unreadable(error) => PathProblem::Unreadable { path: written(), source: error },
    })?;
    Ok(path)
}

enum LinkProblem {
    Out(String, String),
    Unreadable(io::Error),
}

/// Finds the first link among the components that leads out of `root`.
fn check_links(root: &Path, components: &[Component<'_>]) -> Result<(), LinkProblem> {
    let real_root = root.canonicalize().map_err(LinkProblem::Unreadable)?;
    let mut path = root.to_owned();
    for component in components {
        path.push(component);
        let metadata = std::fs::symlink_metadata(&path).map_err(LinkProblem::Unreadable)?;
        if metadata.is_symlink() {
            let real = path.canonicalize().map_err(LinkProblem::Unreadable)?;
            if !real.starts_with(&real_root) {
                let target = std::fs::read_link(&path).map_err(LinkProblem::Unreadable)?;
                let link = path.strip_prefix(root).unwrap_or(&path);
                return Err(LinkProblem::Out(link.display().to_string(), target.display().to_string()));
            }
        }
    }
    Ok(())
}

/// How to call the file `relative` that the file called `from` names: beside it.
pub(crate) fn display_name(from: &str, relative: &str) -> String {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut name = PathBuf::new();
    for component in folder.join(relative).components() {
        match (component, name.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                name.pop();
            }
            _ => name.push(component),
        }
    }
    name.display().to_string()
}
