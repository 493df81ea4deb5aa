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

/// What all files of a package may have, for each byte of its archive; text shrinks to a twentieth.
const UNPACKED_RATIO_MAX: u64 = 200;
/// What they may have in any case.
const UNPACKED_SIZE_BYTES_MIN: u64 = 256 << 20;
/// What one file of `info` that is read may have.
const INFO_SIZE_BYTES_MAX: u64 = 64 << 20;
/// How many entries a package may have.
const ENTRIES_MAX: usize = 1_000_000;
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
    size_bytes: u64,
    size_bytes_max: u64,
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
            size_bytes_max: length.saturating_mul(UNPACKED_RATIO_MAX).max(UNPACKED_SIZE_BYTES_MIN),
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
        let name = self.name.clone();
        let unreadable = |source| CondaError::Archive { package: name.clone(), source };
        // What is skipped counts too, else a small archive could keep us busy for days.
        let bounded = Bounded { content, left: self.size_bytes_max };
        let mut tar = tar::Archive::new(bounded);
        let mut hard_links = Vec::new();
        for entry in tar.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            self.count += 1;
            if self.count > ENTRIES_MAX {
                return Err(self.package("it has more than a million files"));
            }
            let Some(path) = self.path(&entry.path_bytes())? else { continue };
            if path == "info" || path.starts_with("info/") {
                self.read_info(path, &mut entry)?;
                continue;
            }
            let kind = entry.header().entry_type();
            let made = match kind {
                EntryType::Regular | EntryType::Continuous => {
                    let executable = entry.header().mode().map_err(unreadable)? & 0o111 != 0;
                    let offset = self.size_bytes;
                    let size_bytes = io::copy(&mut entry, &mut self.spool).map_err(unreadable)?;
                    self.size_bytes += size_bytes;
                    Entry::File { offset, size_bytes, executable }
                }
                EntryType::Directory => {
                    self.entries.entry(path).or_insert(Entry::Folder);
                    continue;
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                    Entry::Link { target: self.target(&path, target)? }
                }
                EntryType::Link => {
                    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                    let target = self.path(&target)?.ok_or_else(|| self.member(&path, "it is a link to nothing"))?;
                    hard_links.push((path, target));
                    continue;
                }
                EntryType::XGlobalHeader => continue,
                _ => return Err(self.member(&path, "it is neither a file nor a link")),
            };
            if matches!(self.entries.insert(path.clone(), made), Some(Entry::File { .. } | Entry::Link { .. })) {
                return Err(self.member(&path, "it is there twice"));
            }
        }
        // A second name for a file that stands in the same archive, maybe later.
        for (path, target) in hard_links {
            let file = self.entries.get(&target).filter(|entry| matches!(entry, Entry::File { .. })).cloned();
            let file = file.ok_or_else(|| self.member(&path, "it is a link to a file that is not there"))?;
            if self.entries.insert(path.clone(), file).is_some() {
                return Err(self.member(&path, "it is there twice"));
            }
        }
        Ok(())
    }

    fn read_info(&mut self, path: String, entry: &mut impl Read) -> Result<(), CondaError> {
        if !INFO.contains(&path.as_str()) {
            return Ok(());
        }
        let mut content = Vec::new();
        let unreadable = |source| CondaError::Archive { package: self.name.clone(), source };
        entry.take(INFO_SIZE_BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
        if content.len() as u64 > INFO_SIZE_BYTES_MAX {
            return Err(self.member(&path, "it is too long"));
        }
        self.info.insert(path, content);
        Ok(())
    }

    /// A path of the archive, checked; none for the archive's own root.
    fn path(&self, bytes: &[u8]) -> Result<Option<String>, CondaError> {
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
    fn target(&self, path: &str, target: Vec<u8>) -> Result<String, CondaError> {
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
