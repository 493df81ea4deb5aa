//! Writes the tree that is this process's root as a tar whose bytes depend on nothing but the tree and the options.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tar::EntryType;

use super::error::printable;
use super::tar_entry::{Attribute, Entry, write_end, write_header, write_padding};
use super::{ArchiveOptions, Failure, Form, Mode, Refusal};

/// Linux's own limits (xattr(7)).
const ATTRIBUTE_LIST_SIZE_BYTES_MAX: usize = 64 << 10;
const ATTRIBUTE_SIZE_BYTES_MAX: usize = 64 << 10;

/// Writes the tree to `stream`.
pub(super) fn archive(stream: File, options: &ArchiveOptions, mode: Mode) -> Result<(), Failure> {
    let output = BufWriter::with_capacity(256 << 10, stream);
    let mut archive = Archive { output, options, mode, links: HashMap::new() };
    archive.folder(Path::new("/"))?;
    write_end(&mut archive.output).map_err(written)
}

struct Archive<'a> {
    output: BufWriter<File>,
    options: &'a ArchiveOptions,
    mode: Mode,
    /// The first path of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// A file of a folder, with the name that it has in the tar.
struct Child {
    name: Vec<u8>,
    path: PathBuf,
    metadata: Metadata,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Symlink,
    Whiteout,
}

impl Archive<'_> {
    /// Writes what is in a folder. Deep trees go through a list and not through the stack.
    fn folder(&mut self, root: &Path) -> Result<(), Failure> {
        let mut pending: Vec<Child> = self.children(root)?;
        while let Some(child) = pending.pop() {
            self.child(&child)?;
            if child.kind == Kind::Folder {
                let path = child.path;
                if self.is_opaque(&path)? {
                    self.mark(&[in_tar(&path), b"/.wh..wh..opq".to_vec()].concat(), &child.metadata)?;
                }
                pending.extend(self.children(&path)?);
            }
        }
        Ok(())
    }

    /// The children of a folder, the last one first. With a folder's name counted with its slash, the whole tar is
    /// sorted by the bytes of its paths.
    fn children(&self, folder: &Path) -> Result<Vec<Child>, Failure> {
        let mut children = Vec::new();
        for entry in fs::read_dir(folder).map_err(Failure::system("list", folder.display()))? {
            let entry = entry.map_err(Failure::system("list", folder.display()))?;
            let path = entry.path();
            if self.is_excluded(&path) {
                continue;
            }
            let metadata = entry.metadata().map_err(Failure::system("look at", path.display()))?;
            let Some(kind) = self.kind_of(&path, &metadata)? else { continue };
            let mut name = entry.file_name().as_bytes().to_vec();
            match kind {
                Kind::Folder => name.push(b'/'),
                Kind::Whiteout => name = [b".wh.".as_slice(), &name].concat(),
                Kind::File | Kind::Symlink => {}
            }
            children.push(Child { name, path, metadata, kind });
        }
        children.sort_by(|one, other| other.name.cmp(&one.name));
        Ok(children)
    }

    fn is_excluded(&self, path: &Path) -> bool {
        let inside = path.strip_prefix("/").unwrap_or(path);
        self.options.exclude.iter().any(|excluded| inside.starts_with(excluded))
    }

    /// What a file is; nothing for sockets, which mean nothing without the program that made them.
    fn kind_of(&self, path: &Path, metadata: &Metadata) -> Result<Option<Kind>, Failure> {
        let kind = metadata.file_type();
        let refusal = if kind.is_dir() {
            return Ok(Some(Kind::Folder));
        } else if kind.is_file() {
            return Ok(Some(Kind::File));
        } else if kind.is_symlink() {
            return Ok(Some(Kind::Symlink));
        } else if kind.is_socket() {
            return Ok(None);
        } else if kind.is_fifo() {
            Refusal::Fifo
        } else if kind.is_char_device() && metadata.rdev() == 0 && self.options.form == Form::OverlayUpper {
            return Ok(Some(Kind::Whiteout));
        } else {
            Refusal::Device
        };
        Err(Failure::Unstorable { path: printable(path.as_os_str().as_bytes()), kind: refusal })
    }

    fn child(&mut self, child: &Child) -> Result<(), Failure> {
        let folder = child.path.parent().map(in_tar).filter(|folder| !folder.is_empty());
        let path = match folder {
            Some(folder) => [folder.as_slice(), b"/", &child.name].concat(),
            None => child.name.clone(),
        };
        let mut entry = self.entry(path, EntryType::Regular, &child.metadata);
        match child.kind {
            Kind::Whiteout => return self.mark(&entry.path, &child.metadata),
            Kind::Folder => {
                entry.kind = EntryType::Directory;
                entry.attributes = attributes(&child.path)?;
            }
            Kind::Symlink => {
                entry.kind = EntryType::Symlink;
                let target = fs::read_link(&child.path).map_err(Failure::system("read", child.path.display()))?;
                entry.link = target.as_os_str().as_bytes().to_vec();
            }
            Kind::File => return self.file(entry, child),
        }
        write_header(&mut self.output, &entry).map_err(written)
    }

    fn file(&mut self, mut entry: Entry, child: &Child) -> Result<(), Failure> {
        let metadata = &child.metadata;
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&identity) {
                entry.kind = EntryType::Link;
                entry.link.clone_from(first);
                return write_header(&mut self.output, &entry).map_err(written);
            }
            self.links.insert(identity, entry.path.clone());
        }
        let failed = || Failure::system("read", child.path.display());
        let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&child.path).map_err(failed())?;
        entry.size = metadata.size();
        entry.attributes = attributes(&child.path)?;
        write_header(&mut self.output, &entry).map_err(written)?;
        let mut left = entry.size;
        let mut buffer = vec![0; usize::try_from(left.min(256 << 10)).unwrap_or(256 << 10)];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact(&mut buffer[..wanted]).map_err(failed())?;
            self.output.write_all(&buffer[..wanted]).map_err(written)?;
            left -= wanted as u64;
        }
        write_padding(&mut self.output, entry.size).map_err(written)
    }

    fn entry(&self, path: Vec<u8>, kind: EntryType, metadata: &Metadata) -> Entry {
        let mtime = u64::try_from(metadata.mtime()).unwrap_or(0);
        Entry {
            path,
            kind,
            link: Vec::new(),
            size: 0,
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
            mtime: if mtime <= self.options.newest_kept { mtime } else { self.options.otherwise },
            attributes: Vec::new(),
        }
    }

    /// Writes a whiteout: an empty file that is root's and has nothing of the place where it was found.
    fn mark(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Failure> {
        let entry = self.entry(path.to_vec(), EntryType::Regular, metadata);
        let entry = Entry { mode: 0o644, user: 0, group: 0, mtime: self.options.otherwise, ..entry };
        write_header(&mut self.output, &entry).map_err(written)
    }

    /// Whether overlayfs hides what lower trees have in this folder.
    fn is_opaque(&self, folder: &Path) -> Result<bool, Failure> {
        if self.options.form == Form::Tree {
            return Ok(false);
        }
        let mut value = [0; 2];
        match rustix::fs::lgetxattr(folder, self.mode.overlay_opaque_attribute(), &mut value) {
            Ok(length) => Ok(&value[..length] == b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
            Err(error) => Err(Failure::system("read extended attributes of", folder.display())(error)),
        }
    }
}

/// A path as a tar has it: without the leading slash.
fn in_tar(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default().to_vec()
}

/// The extended attributes that a layer keeps, sorted by name.
fn attributes(path: &Path) -> Result<Vec<Attribute>, Failure> {
    let failed = || Failure::system("read extended attributes of", path.display());
    let mut list = vec![0; 1024];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut list[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < ATTRIBUTE_LIST_SIZE_BYTES_MAX => {
                list.resize(ATTRIBUTE_LIST_SIZE_BYTES_MAX, 0);
            }
            Err(Errno::OPNOTSUPP) => break 0,
            Err(error) => return Err(failed()(error)),
        }
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| {
        let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&b'=');
        user || *name == b"security.capability"
    });
    let mut attributes = Vec::new();
    for name in names {
        let mut value = vec![0; ATTRIBUTE_SIZE_BYTES_MAX];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).map_err(failed())?;
        value.truncate(length);
        attributes.push((name.to_vec(), value));
    }
    attributes.sort();
    Ok(attributes)
}

fn written(error: io::Error) -> Failure {
    Failure::system("write", "the layer")(error)
}
