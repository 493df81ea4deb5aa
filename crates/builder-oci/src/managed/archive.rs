//! An archive of python-build-standalone, `install_only`: everything lies in `python/`. Read with distrust.
//!
//! A build stands for a Python in `/install`, made by clang. What says so to those who build extensions is changed, as uv
//! does: to the place where it comes to lie, and to the usual names of the tools.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

use imagespec_core::digest::Digest;
use imagespec_layout::Compression;
use tar::EntryType;

use crate::base::GZIP_LAYER;
use crate::cache::{Cache, CacheError};
use crate::compression;
use crate::layer::{Attributes, InvalidLayerPath, LayerError, LayerPath, LayerWriter};
use crate::sandbox::Failure;
use crate::sandbox::tar_entry::TarReader;

/// The largest builds have some 400 MB and 15,000 files.
const SIZE_BYTES_MAX: u64 = 2 << 30;
const FILES_MAX: usize = 200_000;
/// What a file has at most that is changed; it may become three times as long. Real ones have some 200 kB.
const PLACED_SIZE_BYTES_MAX: usize = 16 << 20;
/// Where a build stands for itself to lie.
const BUILT_FOR: &str = "/install";
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is not in the cache any more.
    #[error("it is not in the cache any more")]
    Gone,
    /// It cannot be decompressed.
    #[error("it cannot be decompressed")]
    Decompress {
        /// What the decoder said.
        source: io::Error,
    },
    /// It is no proper tar.
    #[error(transparent)]
    Tar(#[from] Failure),
    /// An entry has a path that leads elsewhere.
    #[error(transparent)]
    Path(#[from] InvalidLayerPath),
    /// It is not what it should be.
    #[error("{problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What lies where, by the components of the paths, as a layer is sorted.
pub(super) type Tree = BTreeMap<Vec<String>, Node>;

/// A file, link or folder.
pub(super) enum Node {
    /// A file; those with one content share it in memory, and each has it in a layer.
    File {
        mode: u32,
        content: Rc<Vec<u8>>,
    },
    Symlink(String),
    Folder,
}

/// Reads the archive that is the blob `digest`, for a Python 3.`minor` at `place`.
pub(super) fn read(cache: &Cache, digest: Digest, place: &LayerPath, minor: u16) -> Result<Tree, ArchiveError> {
    let decompress = |source| ArchiveError::Decompress { source };
    let mut blob = cache.open_blob(digest)?.ok_or(ArchiveError::Gone)?;
    let mut magic = [0; 4];
    blob.read_exact(&mut magic).map_err(decompress)?;
    let compression = match magic {
        ZSTD_MAGIC => Compression::Zstd,
        _ => Compression::of(GZIP_LAYER).expect("our own layers have a known type"),
    };
    let content = compression::open(compression, io::Cursor::new(magic).chain(blob)).map_err(decompress)?;
    let tree = entries(content.take(SIZE_BYTES_MAX + 1), place, minor)?;
    let program = components(&format!("{place}/bin/python3.{minor}"));
    match tree.get(&program) {
        Some(Node::File { mode: 0o755, .. }) => Ok(tree),
        _ => Err(malformed(format!("it has no program `python/bin/python3.{minor}`"))),
    }
}

fn malformed(problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Malformed { problem: problem.into() }
}

fn components(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

fn entries(content: impl Read, place: &LayerPath, minor: u16) -> Result<Tree, ArchiveError> {
    let mut archive = TarReader::new(content);
    let mut tree = Tree::new();
    let mut left = SIZE_BYTES_MAX;
    let too_long = || malformed(format!("it unpacks to more than {} GiB", SIZE_BYTES_MAX >> 30));
    while let Some(entry) = archive.next()? {
        let Some(below) = below(&entry.path)? else { continue };
        let path = LayerPath::new(&format!("{place}/{below}"))?;
        let node = match entry.kind {
            EntryType::Directory => Node::Folder,
            EntryType::Regular => {
                left = left.checked_sub(entry.size).ok_or_else(too_long)?;
                let mut content = Vec::new();
                archive.copy_data(&mut content)?.expect("a vector takes what it is given");
                let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let content = placed(&below, content, place, minor);
                let grown = (content.len() as u64).saturating_sub(entry.size);
                left = left.checked_sub(grown).ok_or_else(too_long)?;
                Node::File { mode, content: Rc::new(content) }
            }
            EntryType::Symlink => {
                let target = String::from_utf8(entry.link).ok().filter(|target| !target.contains('\0'));
                Node::Symlink(target.ok_or_else(|| malformed(format!("the link `{below}` leads to no path")))?)
            }
            EntryType::Link => {
                let first = self::below(&entry.link)?.map(|first| components(&format!("{place}/{first}")));
                match first.and_then(|first| tree.get(&first)) {
                    Some(Node::File { mode, content }) => {
                        left = left.checked_sub(content.len() as u64).ok_or_else(too_long)?;
                        Node::File { mode: *mode, content: Rc::clone(content) }
                    }
                    _ => return Err(malformed(format!("`{below}` is another name of a file that is not there"))),
                }
            }
            _ => return Err(malformed(format!("`{below}` is neither a file, a folder nor a link"))),
        };
        tree.insert(components(path.as_str()), node);
        if tree.len() > FILES_MAX {
            return Err(malformed(format!("it has more than {FILES_MAX} files")));
        }
    }
    archive.drain()?;
    let mut last: Option<&Vec<String>> = None;
    for (path, node) in &tree {
        if last.is_some_and(|last| path.starts_with(last)) {
            return Err(malformed(format!("`/{}` lies in what is no folder", path.join("/"))));
        }
        if !matches!(node, Node::Folder) {
            last = Some(path);
        }
    }
    Ok(tree)
}

/// The path of an entry below `python/`; nothing for that folder itself.
fn below(path: &[u8]) -> Result<Option<String>, ArchiveError> {
    let path = std::str::from_utf8(path).map_err(|_| malformed("a path in it is no UTF-8"))?;
    let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
    if matches!(path, "" | "." | "python") {
        return Ok(None);
    }
    let below = path.strip_prefix("python/").ok_or_else(|| malformed(format!("`{path}` does not lie in `python/`")))?;
    Ok(Some(below.to_owned()))
}

/// A file's content for a Python at `place`.
fn placed(below: &str, content: Vec<u8>, place: &LayerPath, minor: u16) -> Vec<u8> {
    let (folder, name) = below.rsplit_once('/').unwrap_or(("", below));
    let library = format!("lib/python3.{minor}");
    let is_variables = folder == library && name.starts_with("_sysconfigdata_") && name.ends_with(".py");
    let is_makefile =
        name == "Makefile" && folder.strip_prefix(&library).is_some_and(|rest| rest.starts_with("/config-"));
    let is_package = folder == "lib/pkgconfig" && name.ends_with(".pc");
    if !(is_variables || is_makefile || is_package) || content.len() > PLACED_SIZE_BYTES_MAX {
        return content;
    }
    match String::from_utf8(content) {
        Ok(text) => with_tools(&with_place(&text, &format!("/{place}"))).into_bytes(),
        Err(other) => other.into_bytes(),
    }
}

fn with_place(text: &str, place: &str) -> String {
    let mut parts = text.split(BUILT_FOR);
    let mut placed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_whole = !part.starts_with(|next: char| next.is_ascii_alphanumeric() || "_-.".contains(next));
        placed.push_str(if is_whole { place } else { BUILT_FOR });
        placed.push_str(part);
    }
    placed
}

/// The tools of the machine where it was built, called as everybody's are.
fn with_tools(text: &str) -> String {
    let is_end = |character: char| character.is_whitespace() || "'\"=;".contains(character);
    let words = text.split_inclusive(is_end).map(|word| {
        let (name, end) = word.split_at(word.trim_end_matches(is_end).len());
        let tool = match name.rsplit('/').next().unwrap_or(name) {
            "clang" => "cc",
            "clang++" => "c++",
            "llvm-ar" => "ar",
            _ => name,
        };
        [tool, end].concat()
    });
    words.collect()
}

/// Writes `tree` as a layer.
pub(super) fn write(writer: &mut LayerWriter, tree: &Tree) -> Result<(), LayerError> {
    for (path, node) in tree {
        let path = LayerPath::new(&path.join("/")).expect("the paths of a tree are those of a layer");
        match node {
            Node::File { mode, content } => {
                writer.file(&path, Attributes::root(*mode), content.len() as u64, &mut content.as_slice())?;
            }
            Node::Symlink(target) => writer.symlink(&path, target)?,
            Node::Folder => writer.directory(&path, Attributes::root(0o755))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an archive of these entries, path and content, comes to; a link has `-> ` before its target.
    fn tree(entries: &[(&str, &str)]) -> Result<String, String> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o755);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            let (kind, content) = match content.split_once("> ") {
                Some(("-", target)) => (EntryType::Symlink, Err(target)),
                Some(("=", target)) => (EntryType::Link, Err(target)),
                Some(("!", _)) => (EntryType::Fifo, Ok("")),
                _ => (EntryType::Regular, Ok(*content)),
            };
            header.set_entry_type(kind);
            if let Err(target) = content {
                header.set_link_name_literal(target).unwrap();
            }
            let content = content.unwrap_or_default();
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let place = LayerPath::new("opt/p").unwrap();
        let tree = super::entries(bytes.as_slice(), &place, 12).map_err(|error| error.to_string())?;
        let lines = tree.iter().map(|(path, node)| match node {
            Node::File { content, .. } => format!("{} {}\n", path.join("/"), String::from_utf8_lossy(content)),
            Node::Symlink(target) => format!("{} -> {target}\n", path.join("/")),
            Node::Folder => format!("{}/\n", path.join("/")),
        });
        Ok(lines.collect())
    }

    #[test]
    fn files_come_to_lie_at_their_place_and_say_so() {
        let variables = "{'prefix': '/install', 'CC': 'clang -pthread', 'AR': '/tools/bin/llvm-ar', 'D': '/install/lib', 'E': '/installed'}";
        let found = tree(&[
            ("python/bin/python3.12", "program of clang in /install"),
            ("python/bin/python3", "-> python3.12"),
            ("python/share/t", "=> python/bin/python3.12"),
            ("python/lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py", variables),
            ("python/lib/pkgconfig/python3.pc", "prefix=/install\n"),
        ]);
        insta::assert_snapshot!(found.unwrap(), @"
        opt/p/bin/python3 -> python3.12
        opt/p/bin/python3.12 program of clang in /install
        opt/p/lib/pkgconfig/python3.pc prefix=/opt/p

        opt/p/lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py {'prefix': '/opt/p', 'CC': 'cc -pthread', 'AR': 'ar', 'D': '/opt/p/lib', 'E': '/installed'}
        opt/p/share/t program of clang in /install
        ");
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        let refused = |path: &str, content: &str| tree(&[(path, content)]).unwrap_err();
        insta::assert_snapshot!(refused("python/../../etc/passwd", ""), @"`opt/p/../../etc/passwd` is no path for a layer: it leads out with `..`");
        insta::assert_snapshot!(refused("etc/passwd", ""), @"`etc/passwd` does not lie in `python/`");
        insta::assert_snapshot!(refused("python/pipe", "!> "), @"`pipe` is neither a file, a folder nor a link");
        insta::assert_snapshot!(refused("python/a", "=> python/b"), @"`a` is another name of a file that is not there");
        let through = tree(&[("python/lib", "-> /etc"), ("python/lib/passwd", "x")]);
        insta::assert_snapshot!(through.unwrap_err(), @"`/opt/p/lib/passwd` lies in what is no folder");
    }

    #[test]
    fn a_file_with_many_names_counts_with_each() {
        let content = "0".repeat(64 << 20);
        let names: Vec<_> = (0..32).map(|number| format!("python/{number}")).collect();
        let mut entries = vec![("python/a", content.as_str())];
        entries.extend(names.iter().map(|name| (name.as_str(), "=> python/a")));
        insta::assert_snapshot!(tree(&entries).unwrap_err(), @"it unpacks to more than 2 GiB");
    }
}
