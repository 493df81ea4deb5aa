//! Reads and writes the entries of a tar: ustar and PAX (POSIX.1-2001, "pax"), and reads GNU's long names. It knows
//! bytes only; what an entry does to a tree is decided elsewhere.
//!
//! The tar crate's own reader keeps a header's extensions in memory whatever their size, and would apply paths that a
//! layer must not have; so its header type is used here, and no more.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::Failure;

const BLOCK_SIZE_BYTES: usize = 512;

/// Real ones have a few hundred bytes; security.capability has 20, and a path 4096.
const EXTENSION_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Prefix of PAX records that hold extended attributes.
const ATTRIBUTE_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// One entry without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    /// Permission bits, set-id and sticky bits included.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Extended attributes by name.
    pub(crate) attributes: Vec<Attribute>,
}

/// Reads entries from an untrusted stream.
pub(crate) struct TarReader<R> {
    input: R,
    offset: u64,
    /// Bytes of the current entry's data that have not been read, and of the padding behind it.
    data_left: u64,
    padding: u64,
}

/// What the extensions before a header say.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    mtime: Option<u64>,
    attributes: Vec<Attribute>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, data_left: 0, padding: 0 }
    }

    /// The next entry; what was not read of the one before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| self.broken("a size is no number"))?;
            let kind = header.entry_type();
            self.expect_data(size)?;
            match kind {
                EntryType::XGlobalHeader => {}
                EntryType::XHeader => {
                    let records = self.extension()?;
                    self.read_records(&records, &mut extensions)?;
                }
                EntryType::GNULongName => extensions.path = Some(self.long_name()?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name()?),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// Where in the stream the data of the entry begins that was read last.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Copies the data of the current entry.
    pub(crate) fn copy_data(&mut self, sink: &mut dyn Write) -> Result<io::Result<()>, Failure> {
        let mut buffer = vec![0; usize::try_from(self.data_left.min(256 << 10)).unwrap_or(256 << 10)];
        while self.data_left > 0 {
            let wanted = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(&mut buffer[..wanted])?;
            self.data_left -= wanted as u64;
            if let Err(error) = sink.write_all(&buffer[..wanted]) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Reads what follows the end of the archive, so that the writer of the stream does not get an error.
    pub(crate) fn drain(mut self) -> Result<(), Failure> {
        io::copy(&mut self.input, &mut io::sink()).map(drop).map_err(Failure::system("read", "the layer"))
    }

    pub(crate) fn broken(&self, reason: &str) -> Failure {
        Failure::Tar { offset: self.offset, reason: reason.to_owned() }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.broken("it ends too early")),
            Err(error) => Err(Failure::system("read", "the layer")(error)),
        }
    }

    fn expect_data(&mut self, size: u64) -> Result<(), Failure> {
        let block = BLOCK_SIZE_BYTES as u64;
        if size > i64::MAX.cast_unsigned() {
            return Err(self.broken("a size is too large"));
        }
        self.data_left = size;
        self.padding = (block - size % block) % block;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Failure> {
        self.copy_data(&mut io::sink())?.map_err(Failure::system("pass over", "data"))?;
        let mut block = [0; BLOCK_SIZE_BYTES];
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.fill(&mut block[..padding])
    }

    /// The next header; nothing at the end of the archive or of the stream.
    fn header(&mut self) -> Result<Option<Header>, Failure> {
        let mut header = Header::new_old();
        let mut have = 0;
        while have < BLOCK_SIZE_BYTES {
            match self.input.read(&mut header.as_mut_bytes()[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(self.broken("it ends too early")),
                Ok(length) => have += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::system("read", "the layer")(error)),
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.broken("a header's checksum is wrong"));
        }
        self.offset += BLOCK_SIZE_BYTES as u64;
        Ok(Some(header))
    }

    /// The data of an extension.
    fn extension(&mut self) -> Result<Vec<u8>, Failure> {
        if self.data_left > EXTENSION_SIZE_BYTES_MAX {
            return Err(self.broken("an extension of a header is too long"));
        }
        let mut data = Vec::new();
        self.copy_data(&mut data)?.map_err(Failure::system("keep", "an extension"))?;
        Ok(data)
    }

    fn long_name(&mut self) -> Result<Vec<u8>, Failure> {
        let mut name = self.extension()?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn read_records(&self, mut records: &[u8], extensions: &mut Extensions) -> Result<(), Failure> {
        let broken = || self.broken("a PAX record is malformed");
        while !records.is_empty() {
            let space = records.iter().take(12).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = number(&records[..space]).ok_or_else(broken)?;
            let record = records.get(space + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extensions.path = Some(value.to_vec()),
                b"linkpath" => extensions.link = Some(value.to_vec()),
                b"size" => extensions.size = Some(number(value).ok_or_else(broken)?),
                b"uid" => extensions.user = Some(number(value).ok_or_else(broken)?),
                b"gid" => extensions.group = Some(number(value).ok_or_else(broken)?),
                b"mtime" => extensions.mtime = Some(seconds(value).ok_or_else(broken)?),
                // Sparse files are an invention of GNU's that no layer has; read as plain ones they would be garbage.
                _ if key.starts_with(b"GNU.sparse.") => return Err(self.broken("a sparse file")),
                _ => {
                    if let Some(name) = key.strip_prefix(ATTRIBUTE_PREFIX) {
                        extensions.attributes.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, Failure> {
        let broken = |what: &str| self.broken(&format!("{what} of an entry is no number in range"));
        let id = |given: Option<u64>, plain: Option<u64>, what: &str| {
            given.or(plain).and_then(|id| u32::try_from(id).ok()).ok_or_else(|| broken(what))
        };
        let fields = header.as_old();
        let mut kind = header.entry_type();
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        if kind == EntryType::Continuous || kind == EntryType::Regular {
            // In the oldest tars a folder is a file whose name ends so.
            kind = if path.ends_with(b"/") { EntryType::Directory } else { EntryType::Regular };
        }
        let entry = Entry {
            path,
            kind,
            link: extensions
                .link
                .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default()),
            size: extensions.size.unwrap_or(self.data_left),
            mode: field(&fields.mode, header.mode()).ok_or_else(|| broken("the mode"))? & 0o7777,
            user: id(extensions.user, field(&fields.uid, header.uid()), "the user")?,
            group: id(extensions.group, field(&fields.gid, header.gid()), "the group")?,
            mtime: extensions.mtime.or(field(&fields.mtime, header.mtime())).ok_or_else(|| broken("the time"))?,
            attributes: extensions.attributes,
        };
        self.expect_data(entry.size)?;
        Ok(entry)
    }
}

/// A number of a header. Some writers leave out what is 0.
fn field<T: Default>(bytes: &[u8], read: io::Result<T>) -> Option<T> {
    if bytes.iter().all(|byte| matches!(byte, 0 | b' ')) { Some(T::default()) } else { read.ok() }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Whole seconds of a PAX time. Before 1970 is 1970.
fn seconds(text: &[u8]) -> Option<u64> {
    if text.first() == Some(&b'-') {
        return Some(0);
    }
    number(text.split(|byte| *byte == b'.').next()?)
}

/// Writes an entry's header. The data and its padding follow by [`write_padding`].
pub(super) fn write_header(output: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    if !fits(&entry.path) {
        push_record(&mut records, b"path", &entry.path);
    }
    if !fits(&entry.link) {
        push_record(&mut records, b"linkpath", &entry.link);
    }
    let mut small = |key: &str, value: u64, max: u64| {
        if value > max {
            push_record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
        value.min(max)
    };
    header.set_size(small("size", entry.size, 0o77_777_777_777));
    header.set_uid(small("uid", entry.user.into(), 0o7_777_777));
    header.set_gid(small("gid", entry.group.into(), 0o7_777_777));
    header.set_mtime(small("mtime", entry.mtime, 0o77_777_777_777));
    for (name, value) in &entry.attributes {
        push_record(&mut records, &[ATTRIBUTE_PREFIX, name].concat(), value);
    }
    if !records.is_empty() {
        let mut extension = Header::new_ustar();
        extension.set_entry_type(EntryType::XHeader);
        extension.set_mode(0o644);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_mtime(0);
        extension.set_size(records.len() as u64);
        finish_header(&mut extension, b"././@PaxHeader", b"");
        output.write_all(extension.as_bytes())?;
        output.write_all(&records)?;
        write_padding(output, records.len() as u64)?;
    }
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    finish_header(&mut header, &entry.path, &entry.link);
    output.write_all(header.as_bytes())
}

/// Fills the last block of `size` bytes of data.
pub(super) fn write_padding(output: &mut dyn Write, size: u64) -> io::Result<()> {
    let used = usize::try_from(size % BLOCK_SIZE_BYTES as u64).unwrap_or(0);
    if used == 0 { Ok(()) } else { output.write_all(&[0; BLOCK_SIZE_BYTES][used..]) }
}

/// Ends the archive.
pub(super) fn write_end(output: &mut dyn Write) -> io::Result<()> {
    output.write_all(&[0; 2 * BLOCK_SIZE_BYTES])?;
    output.flush()
}

fn fits(name: &[u8]) -> bool {
    name.len() <= 100
}

fn set_name(field: &mut [u8; 100], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

/// Writes the names, cut where a record has the whole one, and the checksum.
fn finish_header(header: &mut Header, name: &[u8], link: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        set_name(&mut ustar.name, name);
        set_name(&mut ustar.linkname, link);
        // Files that are no devices have zeros here, as GNU tar and Go write.
        ustar.dev_major = *b"0000000\0";
        ustar.dev_minor = *b"0000000\0";
    }
    header.set_cksum();
}

/// Adds `LENGTH KEY=VALUE\n`, in which the length counts its own digits.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: EntryType::Regular,
            link: Vec::new(),
            size: 0,
            mode: 0o4755,
            user: 1,
            group: 2,
            mtime: 3,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn an_entry_survives_writing_and_reading_however_long_and_large_its_parts_are() {
        let mut long = entry(&"é/".repeat(300));
        long.kind = EntryType::Symlink;
        long.link = vec![0xff; 4000];
        long.user = u32::MAX - 1;
        long.mtime = 1 << 40;
        long.attributes = vec![(b"user.c".to_vec(), b"\n0=\0".to_vec())];
        for original in [entry("a"), entry(&"b".repeat(100)), entry(&"c".repeat(101)), long] {
            let mut bytes = Vec::new();
            write_header(&mut bytes, &original).expect("memory");
            write_end(&mut bytes).expect("memory");
            let mut reader = TarReader::new(bytes.as_slice());
            assert_eq!(reader.next().expect("well-formed"), Some(original));
            assert_eq!(reader.next().expect("well-formed"), None);
        }
    }

    #[test]
    fn no_prefix_or_changed_byte_of_an_archive_makes_the_reader_panic() {
        let mut bytes = Vec::new();
        let mut original = entry(&"d".repeat(120));
        original.size = 700;
        original.attributes = vec![(b"user.x".to_vec(), b"y".to_vec())];
        write_header(&mut bytes, &original).expect("memory");
        bytes.extend_from_slice(&[7; 700]);
        write_padding(&mut bytes, 700).expect("memory");
        let read = |bytes: &[u8]| {
            let mut reader = TarReader::new(bytes);
            while let Ok(Some(_)) = reader.next() {}
        };
        for length in 0..bytes.len() {
            read(&bytes[..length]);
            for value in [0, b'9', b' ', 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[length] = value;
                read(&changed);
            }
        }
    }

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value, length) in [(86, 95), (91, 101), (92, 102)] {
            let mut records = Vec::new();
            push_record(&mut records, b"path", &vec![b'x'; value]);
            assert_eq!(records.len(), length);
            assert!(records.starts_with(format!("{length} ").as_bytes()));
        }
    }
}
