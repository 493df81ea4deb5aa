//! Packages as one tar: what dpkg would have written when it has unpacked them all and configured none. With a merged
//! `/usr`, without documentation, manuals and translations. Pure: bytes in, bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};

use tar::{Builder, EntryType, Header};

use super::database::{Database, conffiles};
use super::deb::{Deb, DebError, inner_path};

/// Pairs of names, as the caller hands them to the scripts.
type Scripts = Vec<(String, String)>;

/// Folders that are symbolic links into `/usr` (Debian's "merged-/usr").
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Settings of dpkg that keep what is left out here from coming back with later packages, as Debian's slim images do.
const DPKG_EXCLUDES: &str = "\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
path-exclude /usr/share/man/*
";

/// Folders whose content is left out.
const EXCLUDED: [&str; 7] = ["doc", "groff", "info", "linda", "lintian", "locale", "man"];

/// Collects packages.
#[derive(Default)]
pub(super) struct Tree {
    folders: BTreeSet<String>,
    database: Database,
}

impl Tree {
    /// What comes before all packages.
    pub(super) fn first(&mut self, timestamp: u64) -> io::Result<Vec<u8>> {
        let mut part = Part::new(timestamp);
        for folder in ["usr", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
            self.folders.insert(folder.to_owned());
            part.folder(folder)?;
        }
        for name in MERGED {
            part.symlink(name, &format!("usr/{name}"))?;
        }
        Ok(part.bytes)
    }

    /// The files of a package as a part of a tar.
    pub(super) fn add(&mut self, name: &str, deb: &Deb) -> Result<Vec<u8>, DebError> {
        let failed = |source| DebError::Read { package: name.to_owned(), member: "data.tar", source };
        let configuration: BTreeSet<&str> = conffiles(deb).into_iter().collect();
        let mut paths = vec!["/.".to_owned()];
        let mut part = Builder::new(Vec::with_capacity(deb.data.len()));
        let mut archive = tar::Archive::new(Cursor::new(deb.data.as_slice()));
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = inner_path(&entry.path_bytes(), name)?;
            if path.is_empty() {
                continue;
            }
            paths.push(format!("/{path}"));
            let kind = entry.header().entry_type();
            let place = merged(&path);
            let is_repeated = kind.is_dir() && !self.folders.insert(place.clone());
            let is_merge_link = kind.is_symlink() && MERGED.contains(&path.as_str());
            if is_repeated || is_merge_link || is_excluded(&path, kind) {
                continue;
            }
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(entry.header().mode().map_err(failed)?);
            header.set_uid(entry.header().uid().map_err(failed)?);
            header.set_gid(entry.header().gid().map_err(failed)?);
            header.set_mtime(entry.header().mtime().map_err(failed)?);
            header.set_size(0);
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = if kind.is_hard_link() {
                    merged(&inner_path(&target, name)?)
                } else {
                    String::from_utf8(target).map_err(|error| failed(io::Error::other(error)))?
                };
                part.append_link(&mut header, &place, target).map_err(failed)?;
                continue;
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(failed)?;
            header.set_size(content.len() as u64);
            if configuration.contains(path.as_str()) {
                // dpkg takes a file of this name for the package's, and records its checksum.
                part.append_data(&mut header.clone(), format!("{place}.dpkg-new"), content.as_slice())
                    .map_err(failed)?;
            }
            part.append_data(&mut header, &place, content.as_slice()).map_err(failed)?;
        }
        self.database.add(name, deb, &paths);
        into_part(part).map_err(failed)
    }

    /// What comes after all packages: the database and the settings; and the end of the tar. Besides, the scripts that
    /// packages want to run before they are unpacked: names of packages and of their files.
    pub(super) fn last(self, sources: &str, timestamp: u64) -> io::Result<(Vec<u8>, Scripts)> {
        let scripts = self.database.before_unpacking.clone();
        let mut part = Part::new(timestamp);
        let mut files: BTreeMap<String, (u32, Vec<u8>)> = self.database.into_files();
        for (path, mode, content) in [
            ("etc/apt/sources.list.d/debian.sources", 0o644, sources),
            ("etc/dpkg/dpkg.cfg.d/imagespec", 0o644, DPKG_EXCLUDES),
            ("etc/machine-id", 0o444, ""),
            ("usr/sbin/policy-rc.d", 0o755, "#!/bin/sh\n# No services are started in an image.\nexit 101\n"),
        ] {
            files.insert(path.to_owned(), (mode, content.as_bytes().to_vec()));
        }
        for (path, (mode, content)) in files {
            part.file(&path, mode, &content)?;
        }
        part.bytes.extend([0; 1024]);
        Ok((part.bytes, scripts))
    }
}

/// Some entries of our own.
struct Part {
    bytes: Vec<u8>,
    timestamp: u64,
}

impl Part {
    fn new(timestamp: u64) -> Self {
        Self { bytes: Vec::new(), timestamp }
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(self.timestamp);
        header
    }

    fn folder(&mut self, path: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, 0o755);
        self.append(|part| part.append_data(&mut header, path, io::empty()))
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777);
        self.append(|part| part.append_link(&mut header, path, target))
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.append(|part| part.append_data(&mut header, path, content))
    }

    fn append(&mut self, write: impl FnOnce(&mut Builder<Vec<u8>>) -> io::Result<()>) -> io::Result<()> {
        let mut part = Builder::new(Vec::new());
        write(&mut part)?;
        self.bytes.append(&mut into_part(part)?);
        Ok(())
    }
}

/// The entries without the two empty blocks at the end of a tar.
fn into_part(builder: Builder<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut bytes = builder.into_inner()?;
    bytes.truncate(bytes.len().saturating_sub(1024));
    Ok(bytes)
}

/// Where a package's path lies with a merged `/usr`.
fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{path}") } else { path.to_owned() }
}

fn is_excluded(path: &str, kind: EntryType) -> bool {
    let Some((folder, inside)) = path.strip_prefix("usr/share/").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    if !EXCLUDED.contains(&folder) {
        return false;
    }
    match folder {
        // Folders of packages stay for the sake of their copyright files.
        "doc" => !(inside.ends_with("/copyright") || (!inside.contains('/') && (kind.is_dir() || kind.is_symlink()))),
        "locale" => inside != "locale.alias",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_libraries_lie_in_usr_alone() {
        for (path, place) in
            [("bin/sh", "usr/bin/sh"), ("lib64", "usr/lib64"), ("library/a", "library/a"), ("etc/bin", "etc/bin")]
        {
            assert_eq!(merged(path), place);
        }
    }

    #[test]
    fn of_the_documentation_copyright_files_stay() {
        for (path, expected) in [
            ("usr/share/doc/dash/copyright", false),
            ("usr/share/doc/dash/changelog.gz", true),
            ("usr/share/man/man1/sh.1.gz", true),
            ("usr/share/locale/locale.alias", false),
            ("usr/share/locale/de/LC_MESSAGES/dpkg.mo", true),
            ("usr/share/common-licenses/GPL-2", false),
        ] {
            assert_eq!(is_excluded(path, EntryType::Regular), expected, "{path}");
        }
    }
}
