//! What ignore files leave out of `source_root`: nested `.gitignore`s, and the `.dockerignore` at its top.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::dockerignore::Dockerignore;
use super::error::{FilesError, FilesProblem};
use super::walk::display;
use crate::place::Place;

/// Bytes that an ignore file may have.
const SIZE_BYTES_MAX: u64 = 1024 * 1024;

/// The ignore files that count for the folder that is being listed.
pub(super) struct Ignored {
    root: PathBuf,
    /// Outermost first: those above the source root, then one for each folder that was entered.
    gitignores: Vec<Gitignore>,
    dockerignore: Dockerignore,
}

impl Ignored {
    /// The ignore files above `source_root`, from `root` down, and its `.dockerignore`.
    pub(super) fn new(root: &Path, source_root: &Path, place: &Place) -> Result<Self, FilesError> {
        let mut above: Vec<&Path> =
            source_root.ancestors().skip(1).take_while(|folder| folder.starts_with(root)).collect();
        above.reverse();
        let gitignores =
            above.into_iter().map(|folder| gitignore(folder, root, place)).collect::<Result<Vec<_>, _>>()?;
        let text = read(&source_root.join(".dockerignore"), root, place)?.unwrap_or_default();
        let dockerignore = Dockerignore::parse(&text).map_err(|bad| {
            let problem = FilesProblem::Pattern {
                file: display(&source_root.join(".dockerignore"), root),
                line: bad.line,
                pattern: bad.pattern,
                message: bad.message.to_owned(),
            };
            FilesError::new(problem, place)
        })?;
        Ok(Self { root: root.to_owned(), gitignores, dockerignore })
    }

    /// Reads the `.gitignore` of a folder whose files are listed next.
    pub(super) fn enter(&mut self, folder: &Path, place: &Place) -> Result<(), FilesError> {
        self.gitignores.push(gitignore(folder, &self.root, place)?);
        Ok(())
    }

    /// Forgets the `.gitignore` of the folder that was entered last.
    pub(super) fn leave(&mut self) {
        self.gitignores.pop();
    }

    /// Whether something is left out. For a folder it means that nothing below it is looked at.
    pub(super) fn is_ignored(&self, path: &Path, relative: &str, is_folder: bool) -> bool {
        // The innermost file that says anything about a path decides, as with git.
        let by_git = self.gitignores.iter().rev().find_map(|gitignore| match gitignore.matched(path, is_folder) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        });
        if by_git == Some(true) {
            return true;
        }
        // Docker may take a file back whose folder is left out, so such a folder must still be looked into.
        let looks_into = is_folder && self.dockerignore.has_exceptions();
        !looks_into && self.dockerignore.is_ignored(relative)
    }
}

fn gitignore(folder: &Path, root: &Path, place: &Place) -> Result<Gitignore, FilesError> {
    let path = folder.join(".gitignore");
    let Some(text) = read(&path, root, place)? else { return Ok(Gitignore::empty()) };
    let mut builder = GitignoreBuilder::new(folder);
    let at = |line: usize, pattern: &str, error: &ignore::Error| {
        let message = error.to_string();
        let message = message.rsplit(": ").next().unwrap_or_default().to_owned();
        let problem =
            FilesProblem::Pattern { file: display(&path, root), line, pattern: pattern.to_owned(), message };
        FilesError::new(problem, place)
    };
    for (number, line) in text.lines().enumerate() {
        builder.add_line(None, line).map_err(|error| at(number + 1, line, &error))?;
    }
    builder.build().map_err(|error| at(1, text.lines().next().unwrap_or_default(), &error))
}

/// The text of an ignore file, if there is one.
fn read(path: &Path, root: &Path, place: &Place) -> Result<Option<String>, FilesError> {
    // A folder or fifo of that name says nothing; a link may lead out of the project, so it is not followed.
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Ok(None);
    }
    let unreadable = |error| FilesError::unreadable(display(path, root), error, place);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(unreadable)?.take(SIZE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()))
}
