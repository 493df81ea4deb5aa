//! Applies a layer to the tree that is this process's root (OCI image-spec, "Image Layer Filesystem Changeset"). The
//! layer is hostile: no path of it may have `..` or be absolute, and the root keeps symbolic links inside.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode as Bits, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::error::{OrFailure, printable};
use super::tar_entry::{Entry, TarReader};
use super::{Devices, Failure, Mode, Refusal, UnpackOptions, Whiteouts};

/// PATH_MAX of Linux.
const PATH_SIZE_BYTES_MAX: usize = 4096;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Other names with this prefix are marks of old union file systems, and say nothing to anybody else.
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Applies the layer that `stream` gives.
pub(super) fn unpack(stream: File, options: UnpackOptions, mode: Mode) -> Result<(), Failure> {
    let mut layer = TarReader::new(BufReader::with_capacity(256 << 10, stream));
    let mut tree = Tree { options, mode, unpacked: HashSet::new(), opaque: HashSet::new(), folders: Vec::new() };
    while let Some(entry) = layer.next()? {
        tree.apply(&entry, &mut layer)?;
    }
    tree.set_folder_times()?;
    layer.drain()
}

struct Tree {
    options: UnpackOptions,
    mode: Mode,
    /// What this layer brought: an opaque whiteout hides only what was there before it.
    unpacked: HashSet<PathBuf>,
    /// Folders whose opaque whiteout is done, so that a thousand of them cost no more than one.
    opaque: HashSet<PathBuf>,
    /// Folders and the times that they get at the end, as every file written into them changes it.
    folders: Vec<(PathBuf, u64)>,
}

/// What an entry's name says.
enum Name {
    Plain,
    Whiteout(PathBuf),
    Opaque(PathBuf),
    Ignored,
}

impl Tree {
    fn apply(&mut self, entry: &Entry, layer: &mut TarReader<BufReader<File>>) -> Result<(), Failure> {
        let path = inside(&entry.path).map_err(|refusal| Failure::entry(&entry.path, refusal))?;
        match name_of(&path).map_err(|refusal| Failure::entry(&entry.path, refusal))? {
            Name::Ignored => return Ok(()),
            Name::Whiteout(hidden) => return self.whiteout(entry, &hidden),
            Name::Opaque(folder) => return self.make_opaque(entry, folder),
            Name::Plain => {}
        }
        let refusal = match entry.kind {
            EntryType::Char | EntryType::Block => Some(Refusal::Device),
            EntryType::Fifo => Some(Refusal::Fifo),
            _ => None,
        };
        match (refusal, self.options.devices) {
            (Some(_), Devices::Skip) => return Ok(()),
            (Some(refusal), Devices::Refuse) => return Err(Failure::entry(&entry.path, refusal)),
            (None, _) => {}
        }
        self.make_way(entry, &path)?;
        match entry.kind {
            EntryType::Regular => self.write_file(entry, &path, layer)?,
            EntryType::Directory => self.make_folder(entry, &path)?,
            EntryType::Symlink => self.make_symlink(entry, &path)?,
            EntryType::Link => make_hard_link(entry, &path)?,
            _ => return Err(Failure::entry(&entry.path, Refusal::Kind)),
        }
        if self.options.whiteouts == Whiteouts::Apply {
            self.unpacked.insert(path);
        }
        Ok(())
    }

    /// Makes the folders above `path`, and removes what is there and cannot stay.
    fn make_way(&self, entry: &Entry, path: &Path) -> Result<(), Failure> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() && entry.kind == EntryType::Directory => Ok(()),
            Ok(_) => remove(path).map_err(|error| failed("replace", entry)(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = path.parent() else { return Ok(()) };
                DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(|error| through(entry, error))
            }
            Err(error) => Err(through(entry, error)),
        }
    }

    fn write_file(&self, entry: &Entry, path: &Path, layer: &mut TarReader<BufReader<File>>) -> Result<(), Failure> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed("make", entry))?;
        layer.copy_data(&mut file)?.map_err(failed("write", entry))?;
        self.give(entry, rustix::fs::fchown(&file, Some(Uid::from_raw(entry.user)), Some(Gid::from_raw(entry.group))))?;
        // After the owner: a change of owner takes set-id bits and capabilities away.
        rustix::fs::fchmod(&file, Bits::from_raw_mode(entry.mode)).or_failure(failed("set mode of", entry))?;
        for (name, value) in attributes(entry) {
            tolerate(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()), entry)?;
        }
        rustix::fs::futimens(&file, &times(entry.mtime)).or_failure(failed("set time of", entry))
    }

    fn make_folder(&mut self, entry: &Entry, path: &Path) -> Result<(), Failure> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", entry)(error)),
            _ => {}
        }
        self.own(entry, path)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(entry.mode))
            .map_err(failed("set mode of", entry))?;
        for (name, value) in attributes(entry) {
            tolerate(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()), entry)?;
        }
        self.folders.push((path.to_owned(), entry.mtime));
        Ok(())
    }

    fn make_symlink(&self, entry: &Entry, path: &Path) -> Result<(), Failure> {
        if entry.link.is_empty() || entry.link.len() >= PATH_SIZE_BYTES_MAX || entry.link.contains(&0) {
            return Err(Failure::entry(&entry.path, Refusal::NotAPath));
        }
        std::os::unix::fs::symlink(OsStr::from_bytes(&entry.link), path).map_err(failed("make", entry))?;
        self.own(entry, path)?;
        rustix::fs::utimensat(CWD, path, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .or_failure(failed("set time of", entry))
    }

    /// Gives what a path names, and not what it leads to, to its owner.
    fn own(&self, entry: &Entry, path: &Path) -> Result<(), Failure> {
        let (user, group) = (Some(Uid::from_raw(entry.user)), Some(Gid::from_raw(entry.group)));
        self.give(entry, rustix::fs::chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn give(&self, entry: &Entry, result: rustix::io::Result<()>) -> Result<(), Failure> {
        match result {
            Ok(()) => Ok(()),
            // There is nobody else to give it to.
            Err(_) if self.mode == Mode::UserNamespaceSingle => Ok(()),
            Err(Errno::INVAL) => {
                Err(Failure::OwnerNotMapped { entry: printable(&entry.path), owner: entry.user, group: entry.group })
            }
            Err(error) => Err(failed("set owner of", entry)(error.into())),
        }
    }

    fn whiteout(&self, entry: &Entry, hidden: &Path) -> Result<(), Failure> {
        match fs::symlink_metadata(hidden) {
            Ok(_) => remove(hidden).map_err(failed("remove what is hidden by", entry))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(through(entry, error)),
        }
        match (self.options.whiteouts, hidden.parent()) {
            (Whiteouts::Overlay, Some(parent)) => {
                DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(|error| through(entry, error))?;
                rustix::fs::mknodat(CWD, hidden, FileType::CharacterDevice, Bits::empty(), 0)
                    .or_failure(failed("make whiteout", entry))
            }
            _ => Ok(()),
        }
    }

    fn make_opaque(&mut self, entry: &Entry, folder: PathBuf) -> Result<(), Failure> {
        if self.opaque.contains(&folder) {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(|error| through(entry, error))?;
        match self.options.whiteouts {
            Whiteouts::Overlay => {
                let name = self.mode.overlay_opaque_attribute();
                rustix::fs::lsetxattr(&folder, name, b"y", XattrFlags::empty())
                    .or_failure(failed("mark as opaque", entry))?;
            }
            Whiteouts::Apply => self.clear(entry, &folder)?,
        }
        self.opaque.insert(folder);
        Ok(())
    }

    /// Removes what was in `folder` before this layer.
    fn clear(&self, entry: &Entry, folder: &Path) -> Result<(), Failure> {
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            for child in fs::read_dir(&folder).map_err(failed("list", entry))? {
                let child = child.map_err(failed("list", entry))?;
                let path = child.path();
                let is_folder = child.file_type().map_err(failed("list", entry))?.is_dir();
                match (self.unpacked.contains(&path), is_folder) {
                    (true, true) => pending.push(path),
                    (true, false) => {}
                    (false, _) => remove(&path).map_err(failed("clear", entry))?,
                }
            }
        }
        Ok(())
    }

    fn set_folder_times(&self) -> Result<(), Failure> {
        for (path, mtime) in &self.folders {
            // A later entry may have put something else in its place.
            if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
                rustix::fs::utimensat(CWD, path, &times(*mtime), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(Failure::system("set time of", path.display()))?;
            }
        }
        Ok(())
    }
}

fn make_hard_link(entry: &Entry, path: &Path) -> Result<(), Failure> {
    let target = inside(&entry.link).map_err(|refusal| Failure::entry(&entry.path, refusal))?;
    match fs::hard_link(target, path) {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::PERM | Errno::LOOP) => Failure::entry(&entry.path, Refusal::LinkTarget),
            Some(Errno::NOTDIR) => Failure::entry(&entry.path, Refusal::ThroughFile),
            _ => failed("link", entry)(error),
        }),
    }
}

/// The path of an entry in the tree, from its root.
fn inside(path: &[u8]) -> Result<PathBuf, Refusal> {
    if path.is_empty() || path.len() >= PATH_SIZE_BYTES_MAX || path.contains(&0) {
        return Err(Refusal::NotAPath);
    }
    if path.starts_with(b"/") {
        return Err(Refusal::Absolute);
    }
    let mut inside = PathBuf::from("/");
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::Parent),
            part => inside.push(OsStr::from_bytes(part)),
        }
    }
    Ok(inside)
}

fn name_of(path: &Path) -> Result<Name, Refusal> {
    let (Some(name), Some(folder)) = (path.file_name().map(OsStr::as_bytes), path.parent()) else {
        return Ok(Name::Plain);
    };
    if name == WHITEOUT_OPAQUE {
        return Ok(Name::Opaque(folder.to_owned()));
    }
    if name.starts_with(WHITEOUT_META_PREFIX) {
        return Ok(Name::Ignored);
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Name::Plain),
        Some(b"" | b"." | b"..") => Err(Refusal::Whiteout),
        Some(hidden) => Ok(Name::Whiteout(folder.join(OsStr::from_bytes(hidden)))),
    }
}

/// The extended attributes that a layer may set: overlayfs's own would forge its marks.
fn attributes(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry.attributes.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).filter(|(name, _)| {
        let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        (user || *name == b"security.capability") && !name.contains(&0) && name.len() <= 255
    })
}

/// File systems and modes without extended attributes do without them.
fn tolerate(result: rustix::io::Result<()>, entry: &Entry) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(error) => Err(failed("set extended attribute of", entry)(error.into())),
    }
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn failed(action: &'static str, entry: &Entry) -> impl FnOnce(io::Error) -> Failure {
    Failure::system(action, printable(&entry.path))
}

/// What an error says of the way to an entry.
fn through(entry: &Entry, error: io::Error) -> Failure {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTDIR | Errno::LOOP | Errno::EXIST | Errno::NOENT) => {
            Failure::entry(&entry.path, Refusal::ThroughFile)
        }
        Some(Errno::NAMETOOLONG) => Failure::entry(&entry.path, Refusal::NotAPath),
        _ => failed("make a folder for", entry)(error),
    }
}
