//! RECORD: the list of a package's files with their hashes, read and written. Pure.
//!
//! Format: PEP 376 and PEP 627, hashes as PEP 427 wants them: `sha256=` and url-safe base64 without padding.

use std::collections::BTreeMap;
use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// What RECORD says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) hash: String,
    pub(super) size: String,
}

impl Row {
    /// The row of a file with this content.
    pub(super) fn of(content: &[u8]) -> Self {
        let hash = format!("sha256={}", URL_SAFE_NO_PAD.encode(Sha256::digest(content)));
        Self { hash, size: content.len().to_string() }
    }

    /// The row of RECORD itself, which cannot contain its own hash.
    pub(super) fn unhashed() -> Self {
        Self { hash: String::new(), size: String::new() }
    }
}

/// Reads the rows of a RECORD by path.
pub(super) fn read(content: &[u8]) -> Result<BTreeMap<String, Row>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content);
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let field = |index| record.get(index).unwrap_or_default().to_owned();
        rows.insert(field(0), Row { hash: field(1), size: field(2) });
    }
    Ok(rows)
}

/// Writes rows in the order of their paths, as uv does.
pub(super) fn write(rows: &BTreeMap<String, Row>) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    for (path, row) in rows {
        writer.write_record([path, &row.hash, &row.size])?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// One of the hash functions that PEP 427 allows: sha256 or better.
enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

/// Compares what passes by with a hash of RECORD.
pub(super) struct Check {
    state: State,
    expected: String,
}

impl Check {
    /// A check against `hash`, `ALGORITHM=BASE64`; `None` if it is none that PEP 427 allows.
    pub(super) fn new(hash: &str) -> Option<Self> {
        let (algorithm, expected) = hash.split_once('=')?;
        let state = match algorithm {
            "sha256" => State::Sha256(Sha256::new()),
            "sha384" => State::Sha384(Sha384::new()),
            "sha512" => State::Sha512(Sha512::new()),
            _ => return None,
        };
        Some(Self { state, expected: expected.trim_end_matches('=').to_owned() })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Whether all that passed by has the expected hash.
    pub(super) fn holds(self) -> bool {
        let found = match self.state {
            State::Sha256(state) => URL_SAFE_NO_PAD.encode(state.finalize()),
            State::Sha384(state) => URL_SAFE_NO_PAD.encode(state.finalize()),
            State::Sha512(state) => URL_SAFE_NO_PAD.encode(state.finalize()),
        };
        found == self.expected
    }
}

/// Reads and checks at once.
pub(super) struct Checked<R> {
    pub(super) reader: R,
    pub(super) check: Check,
}

impl<R> Checked<R> {
    /// Whether all that was read has the expected hash.
    pub(super) fn finish(self) -> bool {
        self.check.holds()
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.check.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_and_are_quoted_and_sorted() {
        let mut rows = BTreeMap::new();
        rows.insert("b,c.py".to_owned(), Row::of(b"x = 1\n"));
        rows.insert("a-1.dist-info/RECORD".to_owned(), Row::unhashed());
        let text = write(&rows).unwrap();
        insta::assert_snapshot!(String::from_utf8(text.clone()).unwrap(), @r#"
        a-1.dist-info/RECORD,,
        "b,c.py",sha256=nia_NpkRxFwkPGhBR7I_yeHc_PJX0pmhxjIBam_NM_Q,6
        "#);
        assert_eq!(read(&text).unwrap(), rows);
    }

    #[test]
    fn other_content_and_weak_hashes_do_not_hold() {
        let hash = Row::of(b"good").hash;
        for (content, holds) in [(&b"good"[..], true), (b"evil", false), (b"", false)] {
            let mut check = Check::new(&hash).unwrap();
            check.update(content);
            assert_eq!(check.holds(), holds);
        }
        for weak in ["", "md5=1B2M2Y8AsgTpgAmY7PhCfg", "sha256", "sha1=x"] {
            assert!(Check::new(weak).is_none(), "{weak}");
        }
    }
}
