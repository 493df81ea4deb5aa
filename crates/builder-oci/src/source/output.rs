//! What foreign code wrote to a folder of the host, read with distrust: regular files alone, of bounded length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// More files than this in an output folder are refused.
const FILES_MAX: usize = 100;

/// Opens the regular file at `path`: no link is followed, and no pipe is waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("flags of open(2) are an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(invalid("it is no regular file")) }
}

/// The text of the file at `path`, of at most `size_bytes_max`.
pub(super) fn text(path: &Path, size_bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    bounded(open(path)?, size_bytes_max)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The names of the files in `folder` that end in `ending`.
pub(super) fn names(folder: &Path, ending: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (position, entry) in fs::read_dir(folder)?.enumerate() {
        if position == FILES_MAX {
            return Err(invalid("there are too many files"));
        }
        let name = entry?.file_name().into_string();
        names.extend(name.ok().filter(|name| name.ends_with(ending)));
    }
    names.sort();
    Ok(names)
}

/// A reader of the file at `path`, of at most `size_bytes_max`.
pub(super) fn reader(path: &Path, size_bytes_max: u64) -> io::Result<io::Take<File>> {
    bounded(open(path)?, size_bytes_max)
}

fn bounded(file: File, size_bytes_max: u64) -> io::Result<io::Take<File>> {
    if file.metadata()?.len() > size_bytes_max { Err(invalid("it is too long")) } else { Ok(file.take(size_bytes_max)) }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_pipes_and_long_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.whl"), "12345").unwrap();
        symlink("/etc/passwd", path("b.whl")).unwrap();
        nix::unistd::mkfifo(&path("c.whl"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(path("d.whl")).unwrap();
        fs::write(path("e.txt"), "").unwrap();
        assert_eq!(names(folder.path(), ".whl").unwrap(), ["a.whl", "b.whl", "c.whl", "d.whl"]);
        assert_eq!(text(&path("a.whl"), 5).unwrap(), "12345");
        assert!(text(&path("a.whl"), 4).is_err());
        for name in ["b.whl", "c.whl", "d.whl"] {
            assert!(text(&path(name), 1000).is_err(), "{name}");
        }
    }
}
