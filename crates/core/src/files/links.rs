//! Symbolic links among the copied files: made relative, and checked to lead to something that is copied too.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use super::error::{FilesError, FilesProblem};
use super::{Found, FoundKind, LinkPolicy};
use crate::plan::CopiedFile;

/// Links that a path may go through, as the kernel has it.
const HOPS_MAX: usize = 40;

/// The target of the link `item` as it will stand in the image.
pub(super) fn relative_target(item: &Found, target: &str) -> Result<String, FilesError> {
    let link = || item.destination.clone();
    let out = || FilesProblem::LinkOut { link: link(), target: target.to_owned(), folder: item.origin.folder() };
    let folder = item.folder();
    let real_folder =
        folder.canonicalize().map_err(|error| FilesError::unreadable(".".to_owned(), error, &item.place))?;
    let problem = match item.path.canonicalize() {
        Err(_) => FilesProblem::LinkDangles { link: link(), target: target.to_owned() },
        Ok(real) if !real.starts_with(&real_folder) => out(),
        Ok(_) if !target.starts_with('/') => return Ok(target.to_owned()),
        Ok(_) => {
            let inside =
                [folder, &real_folder].into_iter().find_map(|folder| Path::new(target).strip_prefix(folder).ok());
            match inside.and_then(Path::to_str) {
                Some(inside) => return Ok(climb(&item.destination, inside)),
                None => out(),
            }
        }
    };
    Err(FilesError::new(problem, &item.place))
}

/// The path `target`, relative to the top, seen from where the link at `destination` lies.
fn climb(destination: &str, target: &str) -> String {
    let up = "../".repeat(destination.matches('/').count());
    match format!("{up}{target}") {
        empty if empty.is_empty() => ".".to_owned(),
        path => path,
    }
}

/// Follows every link through the copied files. Those that may dangle and do are removed.
pub(super) fn check(
    owners: &BTreeMap<String, &Found>,
    entries: &mut BTreeMap<String, CopiedFile>,
) -> Result<(), FilesError> {
    // Removing one link may leave another without a target.
    loop {
        let mut dangling = Vec::new();
        for (path, file) in entries.iter() {
            let CopiedFile::Link { target } = file else { continue };
            if leads_somewhere(entries, path, target) {
                continue;
            }
            let item = owners[path];
            if item.kind == FoundKind::Link(LinkPolicy::MayDangle) {
                dangling.push(path.clone());
            } else {
                let problem = FilesProblem::LinkLeft { link: path.clone(), target: target.clone() };
                return Err(FilesError::new(problem, &item.place));
            }
        }
        if dangling.is_empty() {
            return Ok(());
        }
        for path in dangling {
            entries.remove(&path);
        }
    }
}

/// Whether anything lies below the folder `path`.
pub(super) fn has_children(entries: &BTreeMap<String, CopiedFile>, path: &str) -> bool {
    let prefix = format!("{path}/");
    entries
        .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .next()
        .is_some_and(|(next, _)| next.starts_with(&prefix))
}

/// Whether `target`, seen from the link at `link`, is copied, without ever leaving the top.
fn leads_somewhere(entries: &BTreeMap<String, CopiedFile>, link: &str, target: &str) -> bool {
    let mut at: Vec<String> = link.split('/').map(str::to_owned).collect();
    at.pop();
    // What is still to be followed, next component last.
    let mut ahead: Vec<String> = target.split('/').rev().map(str::to_owned).collect();
    let mut hops = 0;
    while let Some(component) = ahead.pop() {
        match component.as_str() {
            "" | "." => continue,
            ".." => {
                if at.pop().is_none() {
                    return false;
                }
                continue;
            }
            _ => at.push(component),
        }
        match entries.get(&at.join("/")) {
            Some(CopiedFile::Link { target }) => {
                hops += 1;
                if hops > HOPS_MAX {
                    return false;
                }
                at.pop();
                ahead.extend(target.split('/').rev().map(str::to_owned));
            }
            // A path does not go on behind a file.
            Some(CopiedFile::File { .. }) => return ahead.is_empty(),
            Some(CopiedFile::Directory) | None => {}
        }
    }
    let path = at.join("/");
    path.is_empty() || entries.contains_key(&path) || has_children(entries, &path)
}
