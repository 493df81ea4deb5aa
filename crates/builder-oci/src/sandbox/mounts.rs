//! Mounts, each on a place that was opened inside the tree, so that no symbolic link of the tree leads outside it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, fstatvfs, statvfs};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::Failure;
use super::error::OrFailure;

const NO_DATA: Option<&str> = None;

/// Flags of every mount on which nothing may be executed or gain privileges.
const INERT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Devices that every program may use.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Symbolic links in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Parts of `/proc` that root could change the host through.
const PROC_READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Files of `/proc` and `/sys` that tell what no program needs to know of the host.
const MASKED_FILES: [&str; 5] =
    ["proc/kcore", "proc/keys", "proc/latency_stats", "proc/sched_debug", "proc/timer_list"];
const MASKED_FOLDERS: [&str; 3] = ["proc/acpi", "proc/scsi", "sys/firmware"];

/// Keeps what is mounted here from being seen outside.
pub(super) fn make_private() -> Result<(), Failure> {
    mount(NO_DATA, "/", NO_DATA, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_DATA)
        .map_err(Failure::system("make private", "/"))
}

/// Tries the mounts that may be forbidden, in this process's own mount namespace.
pub(super) fn probe() -> Result<(), Failure> {
    make_private()?;
    mount(Some("proc"), "/proc", Some("proc"), INERT, NO_DATA).map_err(Failure::system("mount proc on", "/proc"))?;
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID, NO_DATA)
        .map_err(Failure::system("mount tmpfs on", "/dev"))
}

/// Mounts this very program over itself, read-only, and gives its path. A file of the image that names `/proc/self/exe`
/// as its interpreter gets hold of what starts it; it must not be able to write that (CVE-2019-5736 in runc).
pub(super) fn read_only_self() -> Result<PathBuf, Failure> {
    let failed = |error: io::Error| Failure::system("mount read-only", "/proc/self/exe")(error);
    let path = fs::read_link("/proc/self/exe").or_failure(failed)?;
    // By its path, for the handle in /proc belongs to the mounts of the namespace that we came from.
    mount(Some(&path), &path, NO_DATA, MsFlags::MS_BIND, NO_DATA).or_failure(failed)?;
    let own = statvfs(&path).or_failure(failed)?.flags();
    remount(&path, MsFlags::MS_RDONLY | kept(own)).or_failure(failed)?;
    Ok(path)
}

/// Opens a path of the host without reading it.
pub(super) fn open_host(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::system("open", path.display()))
}

/// Opens a path inside the tree, symbolic links and `..` being followed as if the tree were `/` already.
pub(super) fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(creation_mode(flags)), resolve)
}

/// openat2(2) refuses a mode where nothing is created.
fn creation_mode(flags: OFlags) -> u32 {
    if flags.contains(OFlags::CREATE) { 0o644 } else { 0 }
}

/// A path that leads to what a descriptor stands for.
pub(super) fn path_of(descriptor: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

/// What a bind mount may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bind {
    /// Device files.
    Devices,
    /// Files and folders to read.
    ReadOnly,
    /// Files and folders to read and write.
    ReadWrite,
}

/// Mounts what `source` stands for, with all that is mounted in it, on `target` in the tree.
pub(super) fn bind(source: impl AsFd, root: impl AsFd, target: &Path, bind: Bind) -> Result<(), Failure> {
    let place = open_inside(&root, target, OFlags::PATH).map_err(Failure::system("open", target.display()))?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&path_of(&source)), &path_of(&place), NO_DATA, flags, NO_DATA)
        .map_err(Failure::system("bind a mount on", target.display()))?;
    match bind {
        Bind::Devices => Ok(()),
        Bind::ReadOnly => restrict(root, target, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
        Bind::ReadWrite => restrict(root, target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
    }
}

/// Adds `flags` to the mount on `target` and to all beneath it: a bind mount takes flags for itself alone.
fn restrict(root: impl AsFd, target: &Path, flags: MsFlags) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::system("restrict the mount on", target.display())(error);
    let top = open_inside(root, target, OFlags::PATH).or_failure(failed)?;
    let shown = fs::read_link(path_of(&top)).or_failure(failed)?;
    let own = fstatvfs(&top).or_failure(failed)?.flags();
    remount(&path_of(&top), flags | kept(own)).or_failure(failed)?;
    let table = fs::read("/proc/self/mountinfo").or_failure(failed)?;
    for point in mount_points(&table).filter(|point| *point != shown && point.starts_with(&shown)) {
        let own = statvfs(&point).or_failure(failed)?.flags();
        remount(&point, flags | kept(own)).or_failure(failed)?;
    }
    Ok(())
}

fn remount(path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(NO_DATA, path, NO_DATA, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NO_DATA)
}

/// The flags that a mount has already; a user namespace may not take them away.
fn kept(flags: FsFlags) -> MsFlags {
    [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ]
    .into_iter()
    .filter(|(present, _)| flags.contains(*present))
    .fold(MsFlags::empty(), |all, (_, flag)| all | flag)
}

/// The mount points of a table as `/proc/PID/mountinfo` has it (proc_pid_mountinfo(5)).
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

/// Undoes the kernel's `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = &tail[if code.is_some() { 3 } else { 0 }..];
    }
    plain
}

/// Mounts a new file system of `kind` on `target` in the tree.
fn mount_new(root: impl AsFd, kind: &str, target: &str, flags: MsFlags, data: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::system(&format!("mount {kind} on"), target)(error);
    let place = open_inside(root, Path::new(target), OFlags::PATH).or_failure(failed)?;
    mount(Some(kind), &path_of(&place), Some(kind), flags, Some(data)).or_failure(failed)
}

/// Takes the mount on `target` away.
pub(super) fn unmount(root: impl AsFd, target: &Path) -> io::Result<()> {
    let place = open_inside(root, target, OFlags::PATH)?;
    Ok(umount2(&path_of(&place), MntFlags::MNT_DETACH)?)
}

/// Mounts `/proc`, without what root could change the host through.
pub(super) fn mount_proc(root: impl AsFd) -> Result<(), Failure> {
    mount_new(&root, "proc", "proc", INERT, "")?;
    for path in PROC_READ_ONLY {
        if let Ok(part) = open_inside(&root, Path::new(path), OFlags::PATH) {
            bind(part, &root, Path::new(path), Bind::ReadOnly)?;
        }
    }
    Ok(())
}

/// Mounts a `/dev` of its own, with the host's harmless devices.
pub(super) fn mount_dev(root: impl AsFd) -> Result<(), Failure> {
    mount_new(&root, "tmpfs", "dev", MsFlags::MS_NOSUID, "mode=755,size=1m")?;
    let inside = |name: &str| Path::new("dev").join(name);
    for name in DEVICES {
        // A container on a host without `/dev/tty` does without.
        let Ok(device) = open_host(&Path::new("/dev").join(name)) else { continue };
        let target = inside(name);
        open_inside(&root, &target, OFlags::CREATE | OFlags::WRONLY)
            .map_err(Failure::system("make", target.display()))?;
        bind(device, &root, &target, Bind::Devices)?;
    }
    let dev = open_inside(&root, Path::new("dev"), OFlags::PATH).map_err(Failure::system("open", "dev"))?;
    for (name, target) in DEVICE_LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(Failure::system("make", inside(name).display()))?;
    }
    for name in ["pts", "shm"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))
            .map_err(Failure::system("make", inside(name).display()))?;
    }
    mount_new(&root, "tmpfs", "dev/shm", INERT, "mode=1777,size=256m")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // Group 5 is tty; where only one id exists, it does not.
    let options = "newinstance,ptmxmode=0666,mode=0620";
    mount_new(&root, "devpts", "dev/pts", flags, &format!("{options},gid=5"))
        .or_else(|_| mount_new(&root, "devpts", "dev/pts", flags, options))
}

/// Mounts `/sys` to be read. With the network of the host it is the host's, for a new one belongs to a network; where
/// not even that can be had, it is empty.
pub(super) fn mount_sys(root: impl AsFd) -> Result<(), Failure> {
    let flags = INERT | MsFlags::MS_RDONLY;
    if mount_new(&root, "sysfs", "sys", flags, "").is_ok() {
        return Ok(());
    }
    let target = Path::new("sys");
    let bound = open_host(Path::new("/sys")).and_then(|host| bind(host, &root, target, Bind::ReadOnly));
    if bound.is_ok() {
        return Ok(());
    }
    // Whatever came of it must not stay, as it may be writable. There may be nothing to unmount.
    let _ = unmount(&root, target);
    mount_new(&root, "tmpfs", "sys", flags, "mode=555,size=4k")
}

/// Covers what tells too much about the host.
pub(super) fn mask(root: impl AsFd) -> Result<(), Failure> {
    let null = open_host(Path::new("/dev/null"))?;
    for path in MASKED_FILES.map(Path::new) {
        if open_inside(&root, path, OFlags::PATH).is_ok() {
            bind(&null, &root, path, Bind::Devices)?;
        }
    }
    for path in MASKED_FOLDERS {
        if open_inside(&root, Path::new(path), OFlags::PATH).is_ok() {
            mount_new(&root, "tmpfs", path, INERT | MsFlags::MS_RDONLY, "mode=555,size=4k")?;
        }
    }
    Ok(())
}

/// Makes the folder, on which something is mounted, the root of this and of all processes that share its root.
pub(super) fn pivot(root: impl AsFd) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::system("make it the root:", "the tree")(error);
    nix::unistd::fchdir(&root).or_failure(failed)?;
    // The old root comes to lie on the new one, as pivot_root(2) describes, and is then taken away.
    nix::unistd::pivot_root(OsStr::from_bytes(b"."), OsStr::from_bytes(b".")).or_failure(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Failure::system("leave", "the old root"))?;
    nix::unistd::chdir("/").or_failure(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes_undone() {
        let table =
            b"22 27 0:21 / /proc rw - proc proc rw\n23 27 0:1 / /a\\040b\\134c rw - x x rw\nbroken\n\n1 2 3 4 /\\9";
        let points: Vec<PathBuf> = mount_points(table).collect();
        assert_eq!(points, [Path::new("/proc"), Path::new("/a b\\c"), Path::new("/\\9")]);
    }
}
