//! Finds the entries of an archive without unpacking it, and reads them by name. Nothing of it is trusted, and no name
//! of it ever becomes a path on this machine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use imagespec_core::digest::{Digest, Hasher};
use tar::EntryType;

use super::{BUFFER_SIZE_BYTES, BaseError, Cancelled, Failure, Source};
use crate::cache::CacheError;
use crate::sandbox::tar_entry::TarReader;

/// `manifest.json` and configs have some thousand bytes.
const DOCUMENT_SIZE_BYTES_MAX: u64 = 4 << 20;
/// An image has 127 layers, and old archives have four entries for each.
const ENTRY_COUNT_MAX: usize = 10_000;
const NAME_SIZE_BYTES_MAX: usize = 4096;
/// A link between layers leads to the layer itself; more hops than this are a circle.
const HOPS_MAX: usize = 8;

/// The entries of an uncompressed archive.
pub(super) struct Entries {
    file: File,
    found: BTreeMap<String, Found>,
}

enum Found {
    /// A regular file. Small ones have a digest, so that they are read as they were when the archive was verified.
    File { offset: u64, size_bytes: u64, digest: Option<Digest> },
    /// A link, by the name of what it leads to.
    Link(String),
}

impl Entries {
    /// Reads the whole archive once, verifies its digest and notes where its entries are. One that is compressed is
    /// unpacked into a nameless file in `temporary`.
    pub(super) fn open(source: &Source<'_>, temporary: &Path) -> Result<Self, Failure> {
        let failed = |error| source.unreadable(None, error);
        let file = File::open(source.path).map_err(failed)?;
        let reader = file.try_clone().map_err(failed)?;
        let watched = Watched { reader, hasher: Hasher::default(), cancelled: source.cancelled };
        let mut packed = BufReader::with_capacity(BUFFER_SIZE_BYTES, watched);
        if Packing::of(packed.fill_buf().map_err(failed)?) == Packing::None {
            let found = find(source, &mut packed)?;
            source.verify(packed)?;
            return Ok(Self { file, found });
        }
        let io_error = |source| CacheError::Io { action: "write", path: temporary.to_owned(), source };
        let mut plain = tempfile::tempfile_in(temporary).map_err(io_error)?;
        let mut size_bytes = 0;
        {
            let mut content = decompressed(&mut packed).map_err(failed)?;
            let mut buffer = vec![0; BUFFER_SIZE_BYTES];
            loop {
                let count = content.read(&mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                size_bytes += count as u64;
                source.check_size(size_bytes)?;
                plain.write_all(&buffer[..count]).map_err(io_error)?;
            }
        }
        source.verify(packed)?;
        plain.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let found = find(source, &mut BufReader::with_capacity(BUFFER_SIZE_BYTES, &plain))?;
        Ok(Self { file: plain, found })
    }

    /// The whole content of the small file `name`.
    pub(super) fn document(&self, source: &Source<'_>, name: &str) -> Result<Vec<u8>, Failure> {
        let shown = printable(name.as_bytes());
        let (mut section, digest) = self.locate(source, name)?;
        let Some(digest) = digest else {
            let problem = format!("`{shown}` has more than {} MiB", DOCUMENT_SIZE_BYTES_MAX >> 20);
            return Err(source.malformed(problem).into());
        };
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(|error| source.unreadable(Some(&shown), error))?;
        let found = Digest::of(&bytes);
        if found == digest {
            Ok(bytes)
        } else {
            Err(CacheError::WrongDigest { what: shown, expected: digest, found }.into())
        }
    }

    /// The file `name`, through links.
    pub(super) fn open_file<'a>(&'a self, source: &Source<'a>, name: &str) -> Result<BufReader<Section<'a>>, Failure> {
        Ok(BufReader::with_capacity(BUFFER_SIZE_BYTES, self.locate(source, name)?.0))
    }

    fn locate<'a>(&'a self, source: &Source<'a>, name: &str) -> Result<(Section<'a>, Option<Digest>), BaseError> {
        let shown = printable(name.as_bytes());
        let mut at = entry_name(name.as_bytes()).map_err(|problem| source.malformed(format!("`{shown}` {problem}")))?;
        for _ in 0..HOPS_MAX {
            match self.found.get(&at) {
                Some(Found::File { offset, size_bytes, digest }) => {
                    let (file, cancelled) = (&self.file, source.cancelled);
                    return Ok((Section { file, offset: *offset, left: *size_bytes, cancelled }, *digest));
                }
                Some(Found::Link(target)) => at.clone_from(target),
                None => return Err(source.malformed(format!("it has no `{}`", printable(at.as_bytes())))),
            }
        }
        Err(source.malformed(format!("`{shown}` is a link that leads in a circle")))
    }
}

/// Notes where each entry of an uncompressed archive is.
fn find(source: &Source<'_>, archive: &mut dyn Read) -> Result<BTreeMap<String, Found>, Failure> {
    let mut reader = TarReader::new(archive);
    let mut found = BTreeMap::new();
    let mut count = 0;
    while let Some(entry) = reader.next().map_err(|error| source.not_a_tar(&error))? {
        let shown = printable(&entry.path);
        let refused = |problem: &str| source.malformed(format!("entry `{shown}` {problem}"));
        count += 1;
        if count > ENTRY_COUNT_MAX {
            return Err(source.malformed(format!("it has more than {ENTRY_COUNT_MAX} entries")).into());
        }
        let name = entry_name(&entry.path).map_err(refused)?;
        let content = match entry.kind {
            EntryType::Directory => continue,
            EntryType::Regular => {
                let offset = reader.offset();
                let mut digest = None;
                if entry.size <= DOCUMENT_SIZE_BYTES_MAX {
                    let mut bytes = Vec::new();
                    let copied = reader.copy_data(&mut bytes).map_err(|error| source.not_a_tar(&error))?;
                    copied.map_err(|error| source.unreadable(Some(&shown), error))?;
                    digest = Some(Digest::of(&bytes));
                }
                Found::File { offset, size_bytes: entry.size, digest }
            }
            EntryType::Symlink => Found::Link(link_target(&name, &entry.link).map_err(refused)?),
            EntryType::Link => Found::Link(entry_name(&entry.link).map_err(|_| refused("is a link that leads out"))?),
            _ => return Err(refused("is neither a file, a folder nor a link").into()),
        };
        match found.entry(name) {
            Slot::Vacant(slot) => slot.insert(content),
            Slot::Occupied(_) => return Err(refused("stands twice").into()),
        };
    }
    Ok(found)
}

/// A name in the archive: components with `/` between them, none of them `.` or `..`.
fn entry_name(path: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "is not UTF-8")?;
    if text.len() > NAME_SIZE_BYTES_MAX {
        return Err("has a name that is too long");
    }
    if text.starts_with('/') {
        return Err("is absolute");
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters in its name");
    }
    let components: Vec<_> = text.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    if components.contains(&"..") { Err("leads out with `..`") } else { Ok(components.join("/")) }
}

/// What the symbolic link `name` with `target` leads to.
fn link_target(name: &str, target: &[u8]) -> Result<String, &'static str> {
    let target = std::str::from_utf8(target).map_err(|_| "is a link to what is not UTF-8")?;
    if target.starts_with('/') {
        return Err("is a link to an absolute path");
    }
    let mut components: Vec<_> = name.split('/').collect();
    components.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop().ok_or("is a link that leads out")?),
            other => components.push(other),
        }
    }
    entry_name(components.join("/").as_bytes())
}

/// Words from the archive on one line of bounded length.
pub(super) fn printable(bytes: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 100;
    let text = String::from_utf8_lossy(bytes);
    let short: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() { format!("{short}…") } else { short }
}

/// How content is packed, by its first bytes.
#[derive(PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Self {
        if head.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// The content of `packed`, which may be compressed with gzip or zstd, or not at all.
pub(super) fn decompressed<'a>(packed: &'a mut dyn BufRead) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match Packing::of(packed.fill_buf()?) {
        Packing::None => Box::new(packed),
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
    })
}

impl Source<'_> {
    /// Reads the archive to its end and compares its digest with the one that it must have.
    fn verify<R: Read>(&self, mut packed: BufReader<Watched<'_, R>>) -> Result<(), Failure> {
        io::copy(&mut packed, &mut io::sink()).map_err(|error| self.unreadable(None, error))?;
        let (found, _) = packed.into_inner().hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(CacheError::WrongDigest { what: self.name.clone(), expected: self.digest, found }.into())
    }

    fn not_a_tar(&self, error: &crate::sandbox::Failure) -> Failure {
        if (self.cancelled)() {
            return Failure::Cancelled;
        }
        let problem = match error {
            crate::sandbox::Failure::Tar { offset, reason } => format!("no tar at byte {offset}: {reason}"),
            other => other.to_string(),
        };
        self.malformed(problem).into()
    }
}

/// Hashes what passes by, and fails when the user asked to stop.
struct Watched<'a, R> {
    reader: R,
    hasher: Hasher,
    cancelled: Cancelled<'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// The bytes of one entry. Several may be read at once.
pub(super) struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
    cancelled: Cancelled<'a>,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
