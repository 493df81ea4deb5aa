//! What an image has at the path of a folder, and at the folders above it.

use std::io::Read;

use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::layer::clean_path;
use crate::layer::LayerPath;
use crate::sandbox::Failure;
use crate::sandbox::tar_entry::{Entry, TarReader};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// Nothing.
    Absent,
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
        /// Owner.
        user: u32,
        /// Group.
        group: u32,
    },
    /// A file or a link.
    Other,
}

/// A folder that is there because something lies in it.
const IMPLIED: Standing = Standing::Folder { mode: 0o755, user: 0, group: 0 };

/// What one layer does to a path and the folders above it.
#[derive(Debug)]
pub(super) struct Changes {
    /// From this folder on, the outermost being 0, nothing of lower layers is left.
    gone_from: usize,
    /// What the layer brings.
    brought: Vec<Option<Standing>>,
    /// Whether the layer brings something in it.
    is_filled: Vec<bool>,
}

/// The paths that matter for `path`, the outermost first.
pub(super) fn paths(path: &LayerPath) -> Vec<&str> {
    path.parents().chain([path.as_str()]).collect()
}

/// Reads what an uncompressed layer does to `paths`.
pub(super) fn changes(layer: impl Read, paths: &[&str]) -> Result<Changes, Failure> {
    let mut layer = TarReader::new(layer);
    let count = paths.len();
    let mut changes = Changes { gone_from: count, brought: vec![None; count], is_filled: vec![false; count] };
    while let Some(entry) = layer.next()? {
        if let Some(path) = clean_path(&entry.path) {
            changes.note(&entry, &path, paths);
        }
    }
    layer.drain()?;
    Ok(changes)
}

impl Changes {
    fn note(&mut self, entry: &Entry, path: &str, paths: &[&str]) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let position = |path: &str| paths.iter().position(|other| *other == path);
        if name == ".wh..wh..opq" {
            let gone = if folder.is_empty() { Some(0) } else { position(folder).map(|folder| folder + 1) };
            self.gone_from = self.gone_from.min(gone.unwrap_or(usize::MAX));
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
            self.gone_from = self.gone_from.min(position(&hidden).unwrap_or(usize::MAX));
        } else if let Some(position) = position(path) {
            self.brought[position] = Some(match entry.kind {
                EntryType::Directory => Standing::Folder { mode: entry.mode, user: entry.user, group: entry.group },
                _ => Standing::Other,
            });
        } else {
            for (position, other) in paths.iter().enumerate() {
                self.is_filled[position] |= path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
            }
        }
    }

    /// What stands there once the layer lies on top of `standings`.
    pub(super) fn apply(&self, standings: &mut [Standing]) {
        for position in 0..standings.len() {
            if position >= self.gone_from {
                standings[position] = Standing::Absent;
            }
            match self.brought[position] {
                Some(brought) => {
                    standings[position] = brought;
                    if brought == Standing::Other {
                        standings[position + 1..].fill(Standing::Absent);
                    }
                }
                None if self.is_filled[position] && standings[position] == Standing::Absent => {
                    standings[position] = IMPLIED;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of an entry: a folder ends in `/`, a link in `@`.
    fn layer(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, mode) in entries {
            let mut header = tar::Header::new_ustar();
            let (path, kind) = match path.strip_suffix('@') {
                Some(path) => (path, EntryType::Symlink),
                None if path.ends_with('/') => (*path, EntryType::Directory),
                None => (*path, EntryType::Regular),
            };
            header.set_entry_type(kind);
            header.set_mode(*mode);
            header.set_uid(7);
            header.set_gid(8);
            header.set_size(0);
            archive.append_data(&mut header, path, std::io::empty()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn standings(layers: &[&[(&str, u32)]]) -> Vec<Standing> {
        let paths = ["srv", "srv/app"];
        let mut standings = vec![Standing::Absent; 2];
        for entries in layers {
            changes(layer(entries).as_slice(), &paths).unwrap().apply(&mut standings);
        }
        standings
    }

    #[test]
    fn a_folder_stands_as_the_uppermost_layer_has_it() {
        let own = Standing::Folder { mode: 0o700, user: 7, group: 8 };
        let open = Standing::Folder { mode: 0o1777, user: 7, group: 8 };
        assert_eq!(standings(&[]), [Standing::Absent, Standing::Absent]);
        assert_eq!(standings(&[&[("./srv/", 0o1777)], &[("srv/app/", 0o700)]]), [open, own]);
        assert_eq!(standings(&[&[("srv/application/", 0o700)]]), [IMPLIED, Standing::Absent]);
        assert_eq!(standings(&[&[("srv/app/data", 0o600)]]), [IMPLIED, IMPLIED]);
    }

    #[test]
    fn what_is_hidden_or_replaced_does_not_stand() {
        let full: &[(&str, u32)] = &[("srv/", 0o755), ("srv/app/", 0o700)];
        let srv = Standing::Folder { mode: 0o755, user: 7, group: 8 };
        assert_eq!(standings(&[full, &[("srv/.wh.app", 0)]]), [srv, Standing::Absent]);
        assert_eq!(standings(&[full, &[(".wh.srv", 0)]]), [Standing::Absent, Standing::Absent]);
        assert_eq!(standings(&[full, &[("srv/.wh..wh..opq", 0)]]), [srv, Standing::Absent]);
        assert_eq!(standings(&[full, &[("srv/app/", 0o755), ("srv/.wh..wh..opq", 0)]]), [srv, srv]);
        assert_eq!(standings(&[full, &[("srv@", 0o777)]]), [Standing::Other, Standing::Absent]);
    }
}
