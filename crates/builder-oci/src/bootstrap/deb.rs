//! A package's file (deb(5)): an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`. Its digest is verified
//! already; what it holds is still bounded, and read without trust.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

/// The largest package of a base has some 30 MB.
const DATA_SIZE_BYTES_MAX: u64 = 1 << 30;

/// Scripts, lists of files and checksums.
const CONTROL_SIZE_BYTES_MAX: u64 = 32 << 20;

/// Why a package's file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It is not in the format, or a member cannot be decompressed.
    #[error("cannot read `{member}` of package `{package}`")]
    Read {
        /// The package.
        package: String,
        /// Which part of it.
        member: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// A part is not there.
    #[error("package `{package}` has no `{member}`")]
    Missing {
        /// The package.
        package: String,
        /// Which part.
        member: &'static str,
    },
    /// It unpacks to more than any package does.
    #[error("`{member}` of package `{package}` has more than {size_bytes_max} bytes")]
    TooLarge {
        /// The package.
        package: String,
        /// Which part.
        member: &'static str,
        /// The bound.
        size_bytes_max: u64,
    },
    /// A path in it leads outside the tree, or is not UTF-8.
    #[error("package `{package}` has the path `{path}`")]
    Path {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
}

/// The content of a package's file.
pub(super) struct Deb {
    /// The files of its control part by name: `control`, `md5sums`, `postinst`.
    pub(super) control: BTreeMap<String, Vec<u8>>,
    /// Its data as an uncompressed tar.
    pub(super) data: Vec<u8>,
}

impl Deb {
    /// Reads the file of `package`.
    pub(super) fn read(bytes: &[u8], package: &str) -> Result<Self, DebError> {
        let broken = |source| DebError::Read { package: package.to_owned(), member: "ar archive", source };
        let mut archive = ar::Archive::new(bytes);
        let (mut control, mut data) = (None, None);
        while let Some(member) = archive.next_entry() {
            let member = member.map_err(broken)?;
            let name = String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
            if let Some(kind) = name.strip_prefix("control.tar") {
                control = Some(decompress(member, kind, package, "control.tar", CONTROL_SIZE_BYTES_MAX)?);
            } else if let Some(kind) = name.strip_prefix("data.tar") {
                data = Some(decompress(member, kind, package, "data.tar", DATA_SIZE_BYTES_MAX)?);
            }
        }
        let missing = |member| DebError::Missing { package: package.to_owned(), member };
        let control = control_files(&control.ok_or_else(|| missing("control.tar"))?, package)?;
        Ok(Self { control, data: data.ok_or_else(|| missing("data.tar"))? })
    }

    /// A file of the control part as text.
    pub(super) fn control_text(&self, name: &str) -> &str {
        self.control.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

fn decompress(
    member: impl Read,
    kind: &str,
    package: &str,
    name: &'static str,
    size_bytes_max: u64,
) -> Result<Vec<u8>, DebError> {
    let failed = |source| DebError::Read { package: package.to_owned(), member: name, source };
    let reader: Box<dyn Read> = match kind {
        ".xz" => Box::new(liblzma::read::XzDecoder::new(member)),
        ".gz" => Box::new(flate2::read::GzDecoder::new(member)),
        ".zst" => Box::new(zstd::Decoder::new(member).map_err(failed)?),
        "" => Box::new(member),
        _ => return Err(DebError::Missing { package: package.to_owned(), member: name }),
    };
    let mut bytes = Vec::new();
    reader.take(size_bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > size_bytes_max {
        return Err(DebError::TooLarge { package: package.to_owned(), member: name, size_bytes_max });
    }
    Ok(bytes)
}

fn control_files(tar: &[u8], package: &str) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let failed = |source| DebError::Read { package: package.to_owned(), member: "control.tar", source };
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(Cursor::new(tar)).entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = inner_path(&entry.path_bytes(), package)?;
        // Its name becomes a part of a file name in dpkg's database.
        if path.contains('/') || path.is_empty() {
            return Err(DebError::Path { package: package.to_owned(), path });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        files.insert(path, bytes);
    }
    Ok(files)
}

/// A path in a package without its `./` and without the slash at its end.
pub(super) fn inner_path(path: &[u8], package: &str) -> Result<String, DebError> {
    let refused = || DebError::Path { package: package.to_owned(), path: String::from_utf8_lossy(path).into_owned() };
    let text = std::str::from_utf8(path).map_err(|_| refused())?;
    if text.starts_with('/') || text.chars().any(char::is_control) {
        return Err(refused());
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(refused());
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_dot_and_may_not_lead_outside() {
        assert_eq!(inner_path(b"./usr/bin/", "a").unwrap(), "usr/bin");
        assert_eq!(inner_path(b"./", "a").unwrap(), "");
        for path in [&b"/etc"[..], b"./a/../../b", b"a\nb", b"\xff"] {
            assert!(inner_path(path, "a").is_err());
        }
    }

    #[test]
    fn what_is_no_package_is_an_error() {
        let failure = |bytes: &[u8]| {
            let error = Deb::read(bytes, "a").err().unwrap();
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        };
        insta::assert_snapshot!(failure(b""), @"cannot read `ar archive` of package `a`: failed to read global header");
        insta::assert_snapshot!(failure(b"!<arch>\n"), @"package `a` has no `control.tar`");
        insta::assert_snapshot!(failure(b"!<arch>\nshort"), @"cannot read `ar archive` of package `a`: unexpected EOF in the middle of archive entry header");
        insta::assert_snapshot!(failure(&[0; 100]), @"cannot read `ar archive` of package `a`: Not an archive file (invalid global header)");
    }
}
