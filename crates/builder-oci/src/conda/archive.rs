//! The content of a package's archive, with every path checked. Nothing is unpacked: the files lie behind one another
//! in one unnamed file, from which a layer takes them in its own order.
//!
//! Formats: `.tar.bz2`, and `.conda` (a zip of `info-….tar.zst` and `pkg-….tar.zst`, CEP "conda package format v2").

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tar::EntryType;
use zip::ZipArchive;

use super::error::CondaError;
use crate::layer::LayerPath;
use crate::sandbox::Failure;
use crate::sandbox::tar_entry::TarReader;

/// What all files of a package may have, for each byte of its archive; text shrinks to a twentieth. A file with several
/// names counts with each, since a layer has it as often.
const UNPACKED_RATIO_MAX: u64 = 200;
/// What they may have in any case.
const UNPACKED_SIZE_BYTES_MIN: u64 = 256 << 20;
/// What one file of `info` that is read may have.
const INFO_SIZE_BYTES_MAX: u64 = 64 << 20;
/// How many entries a package may have.
const ENTRIES_MAX: usize = 1_000_000;
/// What all its paths and targets of links may have; the largest packages have some 10 MB.
const NAMES_SIZE_BYTES_MAX: usize = 256 << 20;
/// What Linux takes for the target of a link.
const TARGET_SIZE_BYTES_MAX: usize = 4096;
/// The files of `info` that say how a package is installed.
const INFO: [&str; 6] =
    ["info/index.json", "info/paths.json", "info/link.json", "info/files", "info/has_prefix", "info/no_link"];
/// zstd's own limit for what a frame may ask of memory, as a power of two; `zstd --ultra -22` asks for as much.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// An opened package.
pub(super) struct Archive {
    /// Its file name.
    pub(super) name: String,
    /// What is installed, by path as in the package.
    pub(super) entries: BTreeMap<String, Entry>,
    info: BTreeMap<String, Vec<u8>>,
    spool: File,
    /// What lies in the spool.
    size_bytes: u64,
    /// What files with a second name have once more.
    linked_size_bytes: u64,
    size_bytes_max: u64,
    names_size_bytes: usize,
    count: usize,
}

/// What stands at a path of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A regular file.
    File {
        /// Where in the spool its content begins.
        offset: u64,
        /// Its length in bytes.
        size_bytes: u64,
        /// Whether somebody may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it leads to, relative to its folder.
        target: String,
    },
    /// A folder.
    Folder,
}

impl Archive {
    /// Opens the archive at `path`, which is called `name`; what it holds lies in `folder` until it is dropped.
    ///
    /// # Errors
    /// When it is no archive, or holds what must not reach an image.
    pub(super) fn open(path: &Path, name: &str, folder: &Path) -> Result<Self, CondaError> {
        let unreadable = |source| CondaError::Archive { package: name.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut archive = Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
            info: BTreeMap::new(),
            spool: tempfile::tempfile_in(folder).map_err(unreadable)?,
            size_bytes: 0,
            linked_size_bytes: 0,
            size_bytes_max: length.saturating_mul(UNPACKED_RATIO_MAX).max(UNPACKED_SIZE_BYTES_MIN),
            names_size_bytes: 0,
            count: 0,
        };
        if name.ends_with(".tar.bz2") {
            archive.read(bzip2::read::MultiBzDecoder::new(BufReader::new(file)))?;
        } else {
            archive.read_zip(file)?;
        }
        Ok(archive)
    }

    /// A file of `info`, if the package has it.
    pub(super) fn info(&self, path: &str) -> Option<&[u8]> {
        self.info.get(path).map(Vec::as_slice)
    }

    /// The content of a file.
    pub(super) fn content(&self, offset: u64, size_bytes: u64) -> impl Read + '_ {
        Content { spool: &self.spool, offset, left: size_bytes }
    }

    fn read_zip(&mut self, file: File) -> Result<(), CondaError> {
        let unreadable =
            |error: zip::result::ZipError| CondaError::Archive { package: self.name.clone(), source: error.into() };
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(unreadable)?;
        let names: Vec<String> = zip
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        let mut parts = Vec::new();
        for kind in ["info-", "pkg-"] {
            let mut found = names.iter().filter(|name| name.starts_with(kind) && name.ends_with(".tar.zst"));
            match (found.next(), found.next()) {
                (Some(name), None) => parts.push(name.clone()),
                _ => return Err(self.package("it has not one `info` and one `pkg`")),
            }
        }
        for part in parts {
            let unreadable = |source: io::Error| CondaError::Archive { package: self.name.clone(), source };
            let member = zip.by_name(&part).map_err(|error| unreadable(error.into()))?;
            let mut content = zstd::Decoder::new(member).map_err(unreadable)?;
            content.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(unreadable)?;
            self.read(content)?;
        }
        Ok(())
    }

    /// Reads a tar.
    fn read(&mut self, content: impl Read) -> Result<(), CondaError> {
        // What is skipped counts too, else a small archive could keep us busy for days.
        let mut tar = TarReader::new(Bounded { content, left: self.size_bytes_max });
        let mut hard_links = Vec::new();
        while let Some(entry) = tar.next().map_err(|failure| self.unreadable(failure))? {
            self.count += 1;
            if self.count > ENTRIES_MAX {
                return Err(self.package("it has more than a million files"));
            }
            let Some(path) = self.path(&entry.path)? else { continue };
            if path == "info" || path.starts_with("info/") {
                self.read_info(path, entry.size, &mut tar)?;
                continue;
            }
            let made = match entry.kind {
                EntryType::Regular => {
                    let offset = self.size_bytes;
                    let copied = tar.copy_data(&mut self.spool).map_err(|failure| self.unreadable(failure))?;
                    copied.map_err(|source| CondaError::Archive { package: self.name.clone(), source })?;
                    self.size_bytes += entry.size;
                    Entry::File { offset, size_bytes: entry.size, executable: entry.mode & 0o111 != 0 }
                }
                EntryType::Directory => {
                    self.entries.entry(path).or_insert(Entry::Folder);
                    continue;
                }
                EntryType::Symlink => Entry::Link { target: self.target(&path, entry.link)? },
                EntryType::Link => {
                    let target =
                        self.path(&entry.link)?.ok_or_else(|| self.member(&path, "it is a link to nothing"))?;
                    hard_links.push((path, target));
                    continue;
                }
                _ => return Err(self.member(&path, "it is neither a file nor a link")),
            };
            if matches!(self.entries.insert(path.clone(), made), Some(Entry::File { .. } | Entry::Link { .. })) {
                return Err(self.member(&path, "it is there twice"));
            }
        }
        self.add_hard_links(hard_links)
    }

    /// Second names of files that stand in the same archive, maybe later.
    fn add_hard_links(&mut self, hard_links: Vec<(String, String)>) -> Result<(), CondaError> {
        for (path, target) in hard_links {
            let Some(Entry::File { offset, size_bytes, executable }) = self.entries.get(&target).cloned() else {
                return Err(self.member(&path, "it is a link to a file that is not there"));
            };
            self.linked_size_bytes = self.linked_size_bytes.saturating_add(size_bytes);
            if self.size_bytes.saturating_add(self.linked_size_bytes) > self.size_bytes_max {
                return Err(self.package("it unpacks to more than any package has"));
            }
            if self.entries.insert(path.clone(), Entry::File { offset, size_bytes, executable }).is_some() {
                return Err(self.member(&path, "it is there twice"));
            }
        }
        Ok(())
    }

    fn read_info(&mut self, path: String, size_bytes: u64, tar: &mut TarReader<impl Read>) -> Result<(), CondaError> {
        if !INFO.contains(&path.as_str()) {
            return Ok(());
        }
        if size_bytes > INFO_SIZE_BYTES_MAX {
            return Err(self.member(&path, "it is too long"));
        }
        let mut content = Vec::new();
        let copied = tar.copy_data(&mut content).map_err(|failure| self.unreadable(failure))?;
        copied.expect("a vector takes what it is given");
        self.info.insert(path, content);
        Ok(())
    }

    /// What a reader of layers says, without the layer.
    fn unreadable(&self, failure: Failure) -> CondaError {
        let source = match failure {
            Failure::Tar { offset, reason } => {
                io::Error::other(format!("it is not a well-formed tar at byte {offset}: {reason}"))
            }
            Failure::System { cause, .. } => io::Error::other(cause),
            failure => io::Error::other(failure),
        };
        CondaError::Archive { package: self.name.clone(), source }
    }

    /// A path of the archive, checked; none for the archive's own root.
    fn path(&mut self, bytes: &[u8]) -> Result<Option<String>, CondaError> {
        self.count_name(bytes)?;
        let lossy = || String::from_utf8_lossy(bytes).into_owned();
        let path = std::str::from_utf8(bytes).map_err(|_| self.member(&lossy(), "its name is not UTF-8"))?;
        if path.starts_with('/') {
            return Err(self.member(path, "its path is absolute"));
        }
        let path = path.trim_start_matches("./").trim_end_matches('/');
        if path.is_empty() || path == "." {
            return Ok(None);
        }
        let checked = LayerPath::new(path);
        let checked = checked.map_err(|source| CondaError::Path { package: self.name.clone(), source })?;
        Ok(Some(checked.as_str().to_owned()))
    }

    /// Where a symbolic link leads to, which must be inside of the environment.
    fn target(&mut self, path: &str, target: Vec<u8>) -> Result<String, CondaError> {
        self.count_name(&target)?;
        if target.len() > TARGET_SIZE_BYTES_MAX {
            return Err(self.member(path, "its target is too long"));
        }
        let target = String::from_utf8(target).map_err(|_| self.member(path, "its target is not UTF-8"))?;
        if target.is_empty() || target.chars().any(char::is_control) {
            return Err(self.member(path, "it is a link to nothing"));
        }
        if target.starts_with('/') {
            return Err(self.member(path, "it is a link to an absolute path"));
        }
        let mut depth = path.matches('/').count();
        for component in target.split('/') {
            match component {
                "" | "." => {}
                ".." if depth == 0 => return Err(self.member(path, "it is a link that leads out")),
                ".." => depth -= 1,
                _ => depth += 1,
            }
        }
        Ok(target)
    }

    /// Names are kept in memory.
    fn count_name(&mut self, name: &[u8]) -> Result<(), CondaError> {
        self.names_size_bytes = self.names_size_bytes.saturating_add(name.len());
        if self.names_size_bytes > NAMES_SIZE_BYTES_MAX {
            return Err(self.package("the names of its files are too long"));
        }
        Ok(())
    }

    fn package(&self, problem: &str) -> CondaError {
        CondaError::Package { package: self.name.clone(), problem: problem.to_owned() }
    }

    pub(super) fn member(&self, member: &str, problem: &'static str) -> CondaError {
        CondaError::Member { package: self.name.clone(), member: member.to_owned(), problem }
    }
}

/// A part of the spool.
struct Content<'a> {
    spool: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.spool.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// What unpacks to more than any package has is none.
struct Bounded<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::other("it unpacks to more than any package has"))?;
        Ok(count)
    }
}
