//! The tree that a program sees as `/`: a folder or an overlay, with mount points that leave nothing behind.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{AtFlags, Mode as Bits, OFlags, Stat};

use super::error::OrFailure;
use super::mounts::{self, Bind, open_host, open_inside, path_of};
use super::{Access, Failure, Mode, Network, Root, Run};

/// Files of the host that make its network usable.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// How many symbolic links are followed to a mount point that does not exist.
const LINKS_MAX: usize = 8;

/// The tree, mounted but not entered.
pub(super) struct Prepared {
    root: OwnedFd,
    binds: Vec<Planned>,
    made: Vec<Made>,
}

/// A file or folder of the host to be mounted in the tree.
struct Planned {
    source: OwnedFd,
    target: PathBuf,
    kind: Kind,
    bind: Bind,
    origin: Origin,
}

/// Who wants a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The caller: it must succeed.
    Caller,
    /// We, for the network's sake: a tree that has no place for it does without.
    Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

/// A mount point that was made in the tree and has to go again.
struct Made {
    path: PathBuf,
    kind: Kind,
    device: u64,
    inode: u64,
}

/// Mounts the tree and opens everything of the host that will be needed.
pub(super) fn prepare(run: &Run, mode: Mode) -> Result<Prepared, Failure> {
    let mut binds = Vec::new();
    if run.network == Network::Host {
        for path in NETWORK_FILES.map(Path::new) {
            if let Ok(source) = open_host(path) {
                binds.push(planned(source, path, Bind::ReadOnly, Origin::Network)?);
            }
        }
    }
    for wanted in &run.mounts {
        let bind = match wanted.access {
            Access::ReadOnly => Bind::ReadOnly,
            Access::ReadWrite => Bind::ReadWrite,
        };
        binds.push(planned(open_host(&wanted.source)?, &wanted.target, bind, Origin::Caller)?);
    }
    let root = match &run.root {
        Root::Directory(path) => mount_directory(path, mode)?,
        Root::Overlay { lowers, upper, work } => mount_overlay(lowers, upper, work, &binds, mode)?,
    };
    Ok(Prepared { root, binds, made: Vec::new() })
}

fn planned(source: OwnedFd, target: &Path, bind: Bind, origin: Origin) -> Result<Planned, Failure> {
    let failed = |error: io::Error| Failure::system("look at the source of", target.display())(error);
    let status = rustix::fs::fstat(&source).or_failure(failed)?;
    Ok(Planned { source, target: relative(target)?, kind: kind_of(&status), bind, origin })
}

fn kind_of(status: &Stat) -> Kind {
    match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::Directory => Kind::Folder,
        _ => Kind::File,
    }
}

/// A path in the tree without its leading `/`.
fn relative(path: &Path) -> Result<PathBuf, Failure> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Ok(name)),
            Component::CurDir | Component::RootDir => None,
            Component::ParentDir | Component::Prefix(_) => {
                Some(Err(Failure::Protocol { reason: format!("the mount target `{}` has `..`", path.display()) }))
            }
        })
        .collect()
}

/// Makes the folder a mount, which pivot_root(2) wants.
fn mount_directory(path: &Path, mode: Mode) -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| Failure::system("mount the tree", path.display())(error);
    let folder = open_host(path)?;
    let shown = fs::read_link(path_of(&folder)).or_failure(failed)?;
    let none: Option<&str> = None;
    mount(Some(&path_of(&folder)), &shown, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).or_failure(failed)?;
    if mode == Mode::Root {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NODEV;
        mount(none, &shown, none, flags, none).or_failure(failed)?;
    }
    open_host(&shown)
}

/// Mounts an overlay of the trees.
///
/// The options of a mount have to fit a page, which 100 paths do not. So the trees get names of one to three letters: a
/// tmpfs, mounted over `work` once overlayfs's handle to it is open, has symbolic links to them. It holds the place
/// where the overlay is mounted as well, and, as the lowest of all trees, the mount points that the image lacks: made
/// in the overlay itself, they would mark their folders as changed.
fn mount_overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    binds: &[Planned],
    mode: Mode,
) -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| Failure::system("mount an overlay for", upper.display())(error);
    let lower_folders: Vec<OwnedFd> = lowers.iter().map(|lower| open_host(lower)).collect::<Result<_, _>>()?;
    let (upper_folder, work_folder) = (open_host(upper)?, open_host(work)?);
    empty(work)?;

    let scratch = fs::read_link(path_of(&work_folder)).or_failure(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &scratch, Some("tmpfs"), flags, Some("mode=755,size=4m"))
        .map_err(Failure::system("mount tmpfs on", work.display()))?;
    let points = scratch.join("points");
    make_points(&points, binds).or_failure(failed)?;
    fs::create_dir(scratch.join("root")).or_failure(failed)?;

    let mut names = Vec::new();
    for (number, folder) in lower_folders.iter().enumerate().rev() {
        std::os::unix::fs::symlink(path_of(folder), scratch.join(number.to_string())).or_failure(failed)?;
        names.push(number.to_string());
    }
    names.push("points".to_owned());
    for (name, folder) in [("upper", &upper_folder), ("work", &work_folder)] {
        std::os::unix::fs::symlink(path_of(folder), scratch.join(name)).or_failure(failed)?;
    }
    // `volatile` leaves out the syncs: what a killed run leaves is thrown away anyway, and dpkg syncs all the time.
    let marks = match mode {
        Mode::Root => "redirect_dir=off,metacopy=off",
        _ => "userxattr",
    };
    let options = format!("lowerdir={},upperdir=upper,workdir=work,index=off,volatile,{marks}", names.join(":"));
    let before = std::env::current_dir();
    nix::unistd::chdir(&scratch).or_failure(failed)?;
    mount(Some("overlay"), "root", Some("overlay"), nodev_as_root(mode), Some(options.as_str())).or_failure(failed)?;
    let root = open_host(&scratch.join("root"))?;
    if let Ok(before) = before {
        nix::unistd::chdir(&before).or_failure(failed)?;
    }
    Ok(root)
}

/// A program's tree may have programs that change ids, but no devices.
fn nodev_as_root(mode: Mode) -> MsFlags {
    match mode {
        Mode::Root => MsFlags::MS_NODEV,
        _ => MsFlags::empty(),
    }
}

/// Takes away what an earlier overlay left in its work folder, which overlayfs refuses to use again.
fn empty(work: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::system("empty", work.display())(error);
    for entry in fs::read_dir(work).or_failure(failed)? {
        let entry = entry.or_failure(failed)?;
        let is_folder = entry.file_type().or_failure(failed)?.is_dir();
        let path = entry.path();
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.or_failure(failed)?;
    }
    Ok(())
}

/// Makes the tree of mount points.
fn make_points(points: &Path, binds: &[Planned]) -> io::Result<()> {
    for name in ["dev", "proc", "sys"] {
        fs::create_dir_all(points.join(name))?;
    }
    for planned in binds {
        let point = points.join(&planned.target);
        if planned.kind == Kind::Folder {
            fs::create_dir_all(point)?;
        } else if let Some(parent) = point.parent() {
            fs::create_dir_all(parent)?;
            fs::write(point, "")?;
        }
    }
    Ok(())
}

impl Prepared {
    /// Mounts everything that a program expects to find.
    pub(super) fn mount(&mut self) -> Result<(), Failure> {
        for name in ["proc", "dev", "sys"] {
            self.make_point(Path::new(name), Kind::Folder, LINKS_MAX)?;
        }
        mounts::mount_proc(&self.root)?;
        mounts::mount_dev(&self.root)?;
        mounts::mount_sys(&self.root)?;
        mounts::mask(&self.root)?;
        for planned in std::mem::take(&mut self.binds) {
            let point = self.make_point(&planned.target, planned.kind, LINKS_MAX);
            match (point, planned.origin) {
                (Ok(()), _) => mounts::bind(&planned.source, &self.root, &planned.target, planned.bind)?,
                (Err(_), Origin::Network) => {}
                (Err(failure), Origin::Caller) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Makes the tree the root.
    pub(super) fn enter(&self) -> Result<(), Failure> {
        mounts::pivot(&self.root)
    }

    /// Sees to it that `path` exists in the tree, and remembers what was made for it.
    fn make_point(&mut self, path: &Path, kind: Kind, links_left: usize) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::system("make the mount point", path.display())(error);
        match open_inside(&self.root, path, OFlags::PATH) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(rustix::io::Errno::INVAL.into()));
        };
        if !parent.as_os_str().is_empty() {
            self.make_point(parent, Kind::Folder, links_left)?;
        }
        let parent_path = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let folder = open_inside(&self.root, parent_path, OFlags::PATH).or_failure(failed)?;
        if let Ok(target) = rustix::fs::readlinkat(&folder, name, Vec::new()) {
            // A symbolic link that leads nowhere, as /etc/resolv.conf in images made for systemd: make where it leads.
            let target = parent.join(OsStr::from_bytes(target.as_bytes()));
            let target: PathBuf = target.components().filter(|part| *part != Component::RootDir).collect();
            let links_left = links_left.checked_sub(1).ok_or_else(|| failed(rustix::io::Errno::LOOP.into()))?;
            return self.make_point(&target, kind, links_left);
        }
        match kind {
            Kind::Folder => rustix::fs::mkdirat(&folder, name, Bits::from_raw_mode(0o755)).or_failure(failed)?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(rustix::fs::openat(&folder, name, flags, Bits::from_raw_mode(0o644)).or_failure(failed)?);
            }
        }
        let status = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).or_failure(failed)?;
        self.made.push(Made { path: path.to_owned(), kind, device: status.st_dev, inode: status.st_ino });
        Ok(())
    }

    /// Takes away the mount points that were made, unless the program put something there. What cannot be taken away
    /// stays: an empty file or folder does no harm.
    pub(super) fn clean_up(self) {
        for made in self.made.iter().rev() {
            let _ = mounts::unmount(&self.root, &made.path);
            let _ = self.take_away(made);
        }
    }

    fn take_away(&self, made: &Made) -> rustix::io::Result<()> {
        let name = made.path.file_name().ok_or(rustix::io::Errno::INVAL)?;
        let parent = made.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = open_inside(self.root.as_fd(), parent, OFlags::PATH)?;
        let status = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (status.st_dev, status.st_ino) != (made.device, made.inode) {
            return Ok(());
        }
        match made.kind {
            Kind::Folder => rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR),
            Kind::File if status.st_size == 0 => rustix::fs::unlinkat(&folder, name, AtFlags::empty()),
            Kind::File => Ok(()),
        }
    }
}
