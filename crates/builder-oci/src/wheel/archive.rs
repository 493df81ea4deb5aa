//! A wheel's archive, opened with distrust: bounded, without duplicates, every path checked, every file in RECORD.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::error::WheelError;
use super::name::{WheelName, normalize};
use super::record::{self, Check, Checked, Row};
use crate::layer::{LayerError, LayerPath};

/// More members than this are refused; the largest wheels in use have about 20,000.
const MEMBERS_MAX: usize = 200_000;
/// A larger sum of declared lengths is refused; the largest wheels in use have about 5 GiB.
const SIZE_BYTES_MAX: u64 = 64 << 30;
/// A larger file that must be held in memory is refused: RECORD, entry points, a script with a placeholder.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// A wheel whose list of members was checked. Their content is checked while it is read.
pub struct Wheel {
    archive: ZipArchive<BufReader<File>>,
    pub(super) name: WheelName,
    pub(super) members: Vec<Member>,
    /// `NAME-VERSION`, as `.dist-info` and `.data` have it before them.
    pub(super) stem: String,
    pub(super) record: BTreeMap<String, Row>,
}

/// A file in a wheel.
pub(super) struct Member {
    pub(super) index: usize,
    pub(super) path: String,
    pub(super) size_bytes: u64,
    /// 0o755 if the archive says that it may be executed, else 0o644.
    pub(super) mode: u32,
}

impl Wheel {
    /// Opens the wheel at `path`, whose file name is `name`.
    ///
    /// # Errors
    /// When it is no archive, too big, has a path that leads out, two members of one name, a symbolic link, no
    /// `.dist-info` folder of its name, or a file that RECORD does not list with a hash.
    pub fn open(path: &Path, name: &WheelName) -> Result<Self, WheelError> {
        let file = File::open(path).map_err(|source| WheelError::Open { path: path.to_owned(), source })?;
        let archive_error = |source| WheelError::Archive { wheel: name.to_string(), source };
        let malformed = |problem| WheelError::Malformed { wheel: name.to_string(), problem };
        let mut archive = ZipArchive::new(BufReader::with_capacity(64 * 1024, file)).map_err(archive_error)?;
        if archive.len() > MEMBERS_MAX {
            return Err(malformed("it has more than 200000 members"));
        }
        if archive.has_duplicate_names() {
            return Err(malformed("two of its members have one name"));
        }
        if archive.has_overlapping_files().map_err(archive_error)? {
            return Err(malformed("its members overlap"));
        }
        let members = members(&mut archive, name)?;
        let stem = stem(&members, name)?;
        let mut wheel = Self { archive, name: name.clone(), members, stem, record: BTreeMap::new() };
        wheel.read_record()?;
        Ok(wheel)
    }

    /// The member of this path in the archive.
    pub(super) fn member(&self, path: &str) -> Option<usize> {
        self.members.iter().position(|member| member.path == path)
    }

    /// The first bytes of a member, unchecked.
    pub(super) fn begins_with(&mut self, position: usize, start: &[u8]) -> Result<bool, WheelError> {
        let wheel = self.name.to_string();
        let index = self.members[position].index;
        let member = self.archive.by_index(index).map_err(|source| WheelError::Archive { wheel, source })?;
        let mut found = Vec::new();
        let count = member.take(start.len() as u64).read_to_end(&mut found);
        Ok(count.is_ok() && found == start)
    }

    /// The whole content of a member, checked against RECORD.
    pub(super) fn read(&mut self, position: usize) -> Result<Vec<u8>, WheelError> {
        let content = self.read_unchecked(position)?;
        let mut check = self.check(position)?;
        check.update(&content);
        if check.holds() { Ok(content) } else { Err(self.problem(position, "its hash is not that of RECORD")) }
    }

    /// Gives a reader of a member to `write`, and checks what was read against RECORD.
    pub(super) fn stream(
        &mut self,
        position: usize,
        write: impl FnOnce(&mut dyn Read) -> Result<(), LayerError>,
    ) -> Result<(), WheelError> {
        let check = self.check(position)?;
        let wheel = self.name.to_string();
        let index = self.members[position].index;
        let reader = self.archive.by_index(index).map_err(|source| WheelError::Archive { wheel, source })?;
        let mut checked = Checked { reader, check };
        write(&mut checked)?;
        let holds = checked.finish();
        if holds { Ok(()) } else { Err(self.problem(position, "its hash is not that of RECORD")) }
    }

    pub(super) fn problem(&self, position: usize, problem: &'static str) -> WheelError {
        WheelError::Member { wheel: self.name.to_string(), member: self.members[position].path.clone(), problem }
    }

    fn check(&self, position: usize) -> Result<Check, WheelError> {
        self.record
            .get(&self.members[position].path)
            .and_then(|row| Check::new(&row.hash))
            .ok_or_else(|| self.problem(position, "RECORD lists no sha256 of it"))
    }

    fn read_unchecked(&mut self, position: usize) -> Result<Vec<u8>, WheelError> {
        let size_bytes = self.members[position].size_bytes;
        if size_bytes > HELD_BYTES_MAX {
            return Err(self.problem(position, "it has more than 64 MiB"));
        }
        let wheel = self.name.to_string();
        let index = self.members[position].index;
        let member = self.archive.by_index(index).map_err(|source| WheelError::Archive { wheel, source })?;
        let mut content = Vec::new();
        let result = member.take(size_bytes + 1).read_to_end(&mut content);
        match result {
            Ok(_) if content.len() as u64 == size_bytes => Ok(content),
            _ => Err(self.problem(position, "it cannot be unpacked to the length that the archive says")),
        }
    }

    fn read_record(&mut self) -> Result<(), WheelError> {
        let folder = format!("{}.dist-info", self.stem);
        let malformed = |problem| WheelError::Malformed { wheel: self.name.to_string(), problem };
        let position = self
            .member(&format!("{folder}/RECORD"))
            .ok_or_else(|| malformed("it has no RECORD in its `.dist-info` folder"))?;
        let content = self.read_unchecked(position)?;
        self.record =
            record::read(&content).map_err(|source| WheelError::Record { wheel: self.name.to_string(), source })?;
        // Signatures of RECORD cannot stand in it.
        let unlisted = ["RECORD", "RECORD.jws", "RECORD.p7s"].map(|name| format!("{folder}/{name}"));
        self.members.retain(|member| !unlisted.contains(&member.path));
        for position in 0..self.members.len() {
            self.check(position)?;
            let member = &self.members[position];
            let size = &self.record[&member.path].size;
            if !size.is_empty() && size.parse() != Ok(member.size_bytes) {
                return Err(self.problem(position, "its length is not that of RECORD"));
            }
        }
        Ok(())
    }
}

fn members(archive: &mut ZipArchive<BufReader<File>>, name: &WheelName) -> Result<Vec<Member>, WheelError> {
    let archive_error = |source| WheelError::Archive { wheel: name.to_string(), source };
    let mut members = Vec::with_capacity(archive.len());
    let mut paths = BTreeSet::new();
    let mut total_bytes = 0_u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(archive_error)?;
        let path = entry.name().map_err(archive_error)?.into_owned();
        let problem = |problem| WheelError::Member { wheel: name.to_string(), member: path.clone(), problem };
        if path.starts_with('/') {
            return Err(problem("it is an absolute path"));
        }
        if path.contains('\\') {
            return Err(problem("it holds a backslash"));
        }
        let folder = path.strip_suffix('/');
        LayerPath::new(folder.unwrap_or(&path))
            .map_err(|source| WheelError::Path { wheel: name.to_string(), source })?;
        if folder.is_some() {
            continue;
        }
        if entry.is_symlink() {
            return Err(problem("a wheel must not hold symbolic links"));
        }
        if entry.encrypted() {
            return Err(problem("it is encrypted"));
        }
        if !paths.insert(path.clone()) {
            return Err(problem("it stands in the archive twice"));
        }
        total_bytes = total_bytes.saturating_add(entry.size());
        if total_bytes > SIZE_BYTES_MAX {
            return Err(problem("the wheel unpacks to more than 64 GiB"));
        }
        let mode = if entry.unix_mode().unwrap_or(0) & 0o111 == 0 { 0o644 } else { 0o755 };
        members.push(Member { index, path, size_bytes: entry.size(), mode });
    }
    Ok(members)
}

fn stem(members: &[Member], name: &WheelName) -> Result<String, WheelError> {
    let stems: BTreeSet<&str> = members
        .iter()
        .filter_map(|member| member.path.split_once('/'))
        .filter_map(|(folder, _)| folder.strip_suffix(".dist-info"))
        .collect();
    let malformed = |problem| WheelError::Malformed { wheel: name.to_string(), problem };
    let mut stems = stems.into_iter();
    match (stems.next(), stems.next()) {
        (Some(stem), None) => {
            let distribution = stem.split('-').next().unwrap_or_default();
            if normalize(distribution) == name.normalized() {
                Ok(stem.to_owned())
            } else {
                Err(malformed("its `.dist-info` folder has another package's name"))
            }
        }
        (None, _) => Err(malformed("it has no `.dist-info` folder")),
        (Some(_), Some(_)) => Err(malformed("it has more than one `.dist-info` folder")),
    }
}
