//! Where a relative path of a spec or requirements file leads, and whether it stays inside of the project.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::RequirementsProblem;

/// A path that does not lead to a file inside of the project.
#[derive(Debug)]
pub(crate) enum PathProblem {
    /// It starts at the machine's root.
    Absolute(String),
    /// Its `..` leave the project.
    Outside(String),
    /// A symbolic link on the way leaves the project: path, link, target.
    LinkOut(String, String, String),
    /// Nothing is there, or it cannot be looked at.
    Unreadable(String, io::Error),
}

impl From<PathProblem> for RequirementsProblem {
    fn from(problem: PathProblem) -> Self {
        match problem {
            PathProblem::Absolute(path) => Self::Absolute { path },
            PathProblem::Outside(path) => Self::Outside { path },
            PathProblem::LinkOut(path, link, target) => Self::LinkOut { path, link, target },
            PathProblem::Unreadable(path, source) => Self::Unreadable { path, source },
        }
    }
}

/// Follows `relative` from `directory`, which lies inside of `root`; `..` may lead as far up as `root`, and symbolic links
/// may lead anywhere inside of it.
pub(crate) fn locate(root: &Path, directory: &Path, relative: &Path) -> Result<PathBuf, PathProblem> {
    let written = || relative.display().to_string();
    let mut below: Vec<Component<'_>> = directory.strip_prefix(root).map(|path| path.components().collect()).unwrap_or_default();
    let root = if directory.starts_with(root) { root } else { directory };
    for component in relative.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => return Err(PathProblem::Absolute(written())),
            Component::CurDir => {}
            Component::ParentDir => {
                below.pop().ok_or_else(|| PathProblem::Outside(written()))?;
            }
            Component::Normal(_) => below.push(component),
        }
    }
    let path = below.iter().fold(root.to_owned(), |path, component| path.join(component));
    check_links(root, &below).map_err(|problem| match problem {
        LinkProblem::Out(link, target) => PathProblem::LinkOut(written(), link, target),
        LinkProblem::Unreadable(error) => PathProblem::Unreadable(written(), error),
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
    match Path::new(from).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.join(relative).display().to_string(),
        _ => relative.to_owned(),
    }
}
