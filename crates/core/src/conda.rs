//! Conda channels on this machine: which they are, and what they are called in a plan.
//!
//! A plan holds no path. It calls such a channel by the digest of what its repodata files say, which hold the digests of
//! all its packages.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hasher};

/// The list of packages in each subdirectory of a channel.
const REPODATA: &str = "repodata.json";

/// The folder that `channel` names, if it lies on this machine: `file:///srv/channel`, or `./channel` beside the spec.
pub fn local_channel(channel: &str) -> Option<PathBuf> {
    if channel.starts_with("./") || channel.starts_with("../") {
        return Some(PathBuf::from(channel));
    }
    let url = url::Url::parse(channel).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

/// What a plan calls the channel in `folder`: a digest over the names of its subdirectories and their repodata.
///
/// # Errors
/// When the folder cannot be read, or has no subdirectory with repodata.
pub fn channel_digest(folder: &Path) -> io::Result<Digest> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if folder.join(&name).join(REPODATA).is_file() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no subdirectory has a `repodata.json`"));
    }
    names.sort();
    let mut hasher = Hasher::default();
    for name in names {
        let (digest, _) = Digest::of_reader(&mut File::open(folder.join(&name).join(REPODATA))?)?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(digest.as_bytes());
    }
    Ok(hasher.finish().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_its_repodata_wherever_it_lies() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [here.path(), there.path()] {
            fs::create_dir(folder.join("noarch")).unwrap();
            fs::write(folder.join("noarch/repodata.json"), "{}").unwrap();
            fs::write(folder.join("README"), folder.display().to_string()).unwrap();
        }
        let digest = channel_digest(here.path()).unwrap();
        assert_eq!(digest, channel_digest(there.path()).unwrap());
        fs::write(there.path().join("noarch/repodata.json"), "{ }").unwrap();
        assert_ne!(digest, channel_digest(there.path()).unwrap());
        fs::create_dir(here.path().join("linux-64")).unwrap();
        fs::write(here.path().join("linux-64/repodata.json"), "{}").unwrap();
        assert_ne!(digest, channel_digest(here.path()).unwrap());
        assert!(channel_digest(&here.path().join("noarch")).is_err());
    }

    #[test]
    fn names_and_addresses_are_no_folders() {
        assert_eq!(local_channel("file:///srv/channel"), Some("/srv/channel".into()));
        assert_eq!(local_channel("./channel"), Some("./channel".into()));
        for channel in ["conda-forge", "conda-forge/label/dev", "https://conda.example/x", "file://host/x"] {
            assert_eq!(local_channel(channel), None, "{channel}");
        }
    }
}
