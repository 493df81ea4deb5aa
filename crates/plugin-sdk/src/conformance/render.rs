//! Whether what a builder renders can be used without it: a text, always the same, and a folder with all that belongs to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use imagespec_core::boundary::{self, RENDER, RenderRequest};
use imagespec_core::builder::Feature;

use super::bench::{self, Bench};
use super::material::FILES;
use super::subject::{Fault, shortened};

/// What a folder holds, by path in it.
type Tree = BTreeMap<PathBuf, Entry>;

#[derive(PartialEq, Eq)]
enum Entry {
    File { content: Vec<u8>, is_executable: bool },
    Link { target: PathBuf },
    Directory,
}

/// Renders a plan as a text, and twice with a folder.
pub(super) fn check(bench: &Bench) -> Result<(), Fault> {
    let text = render(bench, None)?;
    let mut trees = Vec::new();
    for name in ["render-1", "render-2"] {
        let folder = bench.folder(name);
        fs::create_dir(&folder)
            .map_err(|error| Fault::Skipped(format!("a folder for it cannot be written: {error}")))?;
        let again = render(bench, Some(&folder))?;
        if again != text {
            let (text, again) = (shortened(&text), shortened(&again));
            return Err(Fault::Failed(format!(
                "it rendered `{text}`, and of the same plan `{again}`: nothing of the machine, the time or an order by \
                 chance may reach it"
            )));
        }
        let mut tree = Tree::new();
        let read = read(&folder, Path::new(""), &mut tree);
        read.map_err(|error| Fault::Failed(format!("the folder that it wrote cannot be read: {error}")))?;
        trees.push(tree);
    }
    if trees[0] != trees[1] {
        return Err(Fault::Failed("it wrote two folders for one plan, and they are not the same".to_owned()));
    }
    let copied = if bench.features.contains(&Feature::Copy) { FILES.as_slice() } else { &[] };
    is_whole(&trees[0], &text, copied).map_err(Fault::Failed)
}

fn render(bench: &Bench, folder: Option<&Path>) -> Result<String, Fault> {
    let build = bench.request(bench.full(), "render");
    let request = RenderRequest { build, folder: folder.map(Path::to_owned) };
    let conversation = bench.subject.call(RENDER, &bench::text_of(request.to_json())?)?;
    let answer = conversation.answer.map_err(|error| bench::refused(&error))?;
    boundary::rendered_from_json(&answer)
        .map_err(|invalid| Fault::Failed(format!("it answers to `render` what cannot be used: {invalid}")))
}

/// Whether somebody who has the folder alone has all that belongs to the text.
fn is_whole(tree: &Tree, text: &str, copied: &[(&str, &str)]) -> Result<(), String> {
    let has = |wanted: &dyn Fn(&[u8]) -> bool| {
        tree.values().any(|entry| matches!(entry, Entry::File { content, .. } if wanted(content)))
    };
    if !has(&|content| content == text.as_bytes()) {
        return Err("no file of the folder that it wrote is the text that it answered".to_owned());
    }
    for (path, entry) in tree {
        if let Entry::Link { target } = entry
            && leads_out(path, target)
        {
            let (path, target) = (path.display(), target.display());
            return Err(format!("`{path}` in the folder that it wrote is a link to `{target}`, outside of it"));
        }
    }
    for (path, wanted) in copied {
        // By itself, or in an archive.
        if !has(&|content| content.windows(wanted.len()).any(|window| window == wanted.as_bytes())) {
            return Err(format!("`{path}`, which is to be copied, is not in the folder that it wrote"));
        }
    }
    Ok(())
}

/// Whether a link at `path` has a target that is not in the folder.
fn leads_out(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

fn read(folder: &Path, inside: &Path, tree: &mut Tree) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(inside))? {
        let entry = entry?;
        let path = inside.join(entry.file_name());
        let kind = entry.file_type()?;
        let found = if kind.is_symlink() {
            Entry::Link { target: fs::read_link(entry.path())? }
        } else if kind.is_dir() {
            read(folder, &path, tree)?;
            Entry::Directory
        } else {
            let is_executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            Entry::File { content: fs::read(entry.path())?, is_executable }
        };
        tree.insert(path, found);
    }
    Ok(())
}
