//! What one layer has to say: its links, its Pythons and C libraries, and what it removes. Read once per layer.

use std::io::Read;

use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::program::Facts;
use crate::sandbox::Failure;
use crate::sandbox::tar_entry::{Entry, TarReader};

/// Pythons with debug symbols have 30 MB. What is larger is no Python that anybody means.
const PROGRAM_SIZE_BYTES_MAX: u64 = 128 << 20;
/// A whole Debian desktop has 60,000 links.
const REMARKS_MAX: usize = 1_000_000;
/// Their paths and targets have some MB.
const REMARKS_SIZE_BYTES_MAX: usize = 64 << 20;
/// No path on Linux is longer (limits.h, PATH_MAX).
pub(super) const PATH_SIZE_BYTES_MAX: usize = 4096;

/// What a layer does to the paths that matter, in the order of the layer.
pub(super) type LayerSurvey = Vec<(String, Remark)>;

/// What a layer does to a path. Directories are implied by what lies in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Remark {
    /// A symbolic link to this target, as it is written. Any may be on the way to a Python.
    Symlink(String),
    /// Another name of the file at this path.
    HardLink(String),
    /// A file with the name of a Python or a C library.
    Program {
        /// Whether anybody may execute it.
        executable: bool,
        /// What its bytes say.
        facts: Facts,
    },
    /// What lower layers have there is gone.
    Removed,
    /// What lower layers have in this directory is gone.
    Emptied,
}

impl Remark {
    /// What a link leads to.
    fn target(&self) -> Option<&str> {
        match self {
            Self::Symlink(target) | Self::HardLink(target) => Some(target),
            Self::Program { .. } | Self::Removed | Self::Emptied => None,
        }
    }
}

/// Reads an uncompressed layer to its end.
pub(super) fn survey(layer: impl Read) -> Result<LayerSurvey, Failure> {
    let mut layer = TarReader::new(layer);
    let mut remarks = LayerSurvey::new();
    let mut size_bytes = 0;
    while let Some(entry) = layer.next()? {
        let Some(path) = clean_path(&entry.path) else { continue };
        if let Some((path, remark)) = remark(&entry, path, &mut layer)? {
            size_bytes += path.len() + remark.target().map_or(0, str::len);
            remarks.push((path, remark));
            if remarks.len() > REMARKS_MAX || size_bytes > REMARKS_SIZE_BYTES_MAX {
                return Err(layer.broken("it has more links than any system has"));
            }
        }
    }
    layer.drain()?;
    Ok(remarks)
}

fn remark<R: Read>(entry: &Entry, path: String, layer: &mut TarReader<R>) -> Result<Option<(String, Remark)>, Failure> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == ".wh..wh..opq" {
        return Ok(Some((folder.to_owned(), Remark::Emptied)));
    }
    if let Some(hidden) = name.strip_prefix(".wh.") {
        let hidden = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
        return Ok(Some((hidden, Remark::Removed)));
    }
    let remark = match entry.kind {
        EntryType::Symlink if entry.link.len() <= PATH_SIZE_BYTES_MAX => {
            String::from_utf8(entry.link.clone()).ok().map(Remark::Symlink)
        }
        EntryType::Link if is_of_interest(name) => clean_path(&entry.link).map(Remark::HardLink),
        EntryType::Regular if is_of_interest(name) && entry.size <= PROGRAM_SIZE_BYTES_MAX => {
            let mut content = Vec::new();
            layer.copy_data(&mut content)?.expect("a vector takes what it is given");
            Some(Remark::Program { executable: entry.mode & 0o111 != 0, facts: Facts::of(&content) })
        }
        _ => None,
    };
    Ok(remark.map(|remark| (path, remark)))
}

/// Whether a file of this name may be a Python, libpython, a C library or apt.
fn is_of_interest(name: &str) -> bool {
    let is_version = |text: &str| text.is_empty() || text.starts_with(['3', '.']);
    name.strip_prefix("python").is_some_and(is_version)
        || name.starts_with("libpython3.")
        || name == "apt-get"
        || name == "libc.so.6"
        || (name.starts_with("libc-2.") && name.ends_with(".so"))
        || (name.starts_with("ld-musl-") && name.ends_with(".so.1"))
}

/// The path without `/` at its ends and `.` components. Nothing for one with `..`, which no layer may have, that is
/// longer than Linux can open, or that is no UTF-8, as no Python's is.
pub(super) fn clean_path(path: &[u8]) -> Option<String> {
    if path.len() > PATH_SIZE_BYTES_MAX {
        return None;
    }
    let path = std::str::from_utf8(path).ok()?;
    let components: Vec<_> = path.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    if components.is_empty() || components.contains(&"..") { None } else { Some(components.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_and_c_libraries_are_known_by_their_names() {
        for name in ["python", "python3", "python3.11", "libpython3.11.so.1.0", "libc.so.6", "libc-2.31.so"] {
            assert!(is_of_interest(name), "{name}");
        }
        for name in ["python2", "pythonw", "libc.a", "python-config", "ld-linux-x86-64.so.2"] {
            assert!(!is_of_interest(name), "{name}");
        }
    }

    #[test]
    fn paths_are_cleaned_or_passed_over() {
        assert_eq!(clean_path(b"./usr//bin/").as_deref(), Some("usr/bin"));
        assert_eq!(clean_path(b"/usr/../bin"), None);
        assert_eq!(clean_path(b"./"), None);
        assert_eq!(clean_path(&[b'a'; 4097]), None);
        assert_eq!(clean_path(b"\xff"), None);
    }
}
