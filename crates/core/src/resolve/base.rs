//! Bases: which Debian release by default, and the digests of those that lie on this machine.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{ResolveError, ResolveProblem};
use crate::digest::Digest;
use crate::place::Place;
use crate::requirements::PathProblem;

/// Debian releases and the Python that each ships: code name, version of two numbers, and of three.
const SUITES: [(&str, &str, &str); 3] =
    [("bullseye", "3.9", "3.9.2"), ("bookworm", "3.11", "3.11.2"), ("trixie", "3.13", "3.13.5")];
/// The release for a spec that asks for no version of Python, or brings its own.
const DEFAULT_SUITE: &str = "bookworm";
/// Bytes that a layout's index may have; real ones have some hundred.
const INDEX_SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The annotation with an image's tag (OCI image-spec, "Annotations").
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Descriptor {
    fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REFERENCE_NAME).map(String::as_str)
    }
}

/// The Debian release for an image whose spec names no base: the one that ships that Python, `3.11` or `3.11.2`.
pub fn default_suite(python_version: Option<&str>) -> &'static str {
    let ships = |version: &str| {
        let mut numbers = version.splitn(3, '.');
        let minor = (numbers.next()?, numbers.next()?);
        SUITES.iter().find(|(_, ships, _)| ships.split_once('.') == Some(minor)).map(|(suite, ..)| *suite)
    };
    python_version.and_then(ships).unwrap_or(DEFAULT_SUITE)
}

/// The Python version that a Debian release ships, with two numbers and with three, if it is one of those we know.
pub fn suite_python(suite: &str) -> Option<(&'static str, &'static str)> {
    SUITES.iter().find(|(name, ..)| *name == suite).map(|(_, minor, patch)| (*minor, *patch))
}

/// Finds the image in the OCI image layout `path`, relative to `directory`: the digest of its manifest or index, and
/// the layout's folder. `path` may end in `:TAG`, and must where a layout has several images.
///
/// # Errors
/// When `path` is no layout, or does not say which of its images is meant.
pub fn oci_layout(directory: &Path, path: &Path) -> Result<(Digest, PathBuf), ResolveProblem> {
    let (folder, tag) = split_tag(directory, path);
    let name = match folder.strip_prefix(directory) {
        Ok(below) if below == Path::new("") || below == Path::new(".") => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => folder.display().to_string(),
    };
    let broken = |message| ResolveProblem::Layout { path: name.clone(), message };
    let unreadable = |source| ResolveProblem::from(PathProblem::Unreadable { path: name.clone(), source });
    if !std::fs::metadata(&folder).map_err(unreadable)?.is_dir() {
        return Err(broken("it is not a folder"));
    }
    if !folder.join("oci-layout").is_file() {
        return Err(broken("it has no file `oci-layout`"));
    }
    let index = read_index(&folder.join("index.json")).map_err(unreadable)?;
    let index: Index = serde_json::from_slice(&index).map_err(|_| broken("its `index.json` is not an image index"))?;
    let tags: Vec<String> = index.manifests.iter().filter_map(|image| image.tag().map(str::to_owned)).collect();
    let mut images = index.manifests.iter().filter(|image| tag.is_none() || image.tag() == tag.as_deref());
    let digest = match (images.next(), images.next(), tag) {
        (Some(image), None, _) => image.digest,
        (None, _, None) => return Err(broken("its `index.json` names no image")),
        (None, _, Some(tag)) => return Err(ResolveProblem::NoSuchImage { path: name, tag, tags }),
        (Some(_), Some(_), _) => {
            return Err(ResolveProblem::ManyImages { path: name, count: index.manifests.len(), tags });
        }
    };
    if !folder.join("blobs/sha256").join(digest.to_hex()).is_file() {
        return Err(broken("the manifest that its `index.json` names is missing"));
    }
    Ok((digest, folder))
}

/// The digest of the archive at `path`, and its absolute path.
pub(super) fn docker_archive(directory: &Path, path: &Path, place: &Place) -> Result<(Digest, PathBuf), ResolveError> {
    let written = || path.display().to_string();
    let file = directory.join(path);
    let unreadable = |source| ResolveError::new(PathProblem::Unreadable { path: written(), source }.into(), place);
    if !std::fs::metadata(&file).map_err(unreadable)?.is_file() {
        return Err(ResolveError::new(ResolveProblem::NotAFile { path: written() }, place));
    }
    let (digest, _) = File::open(&file).and_then(|mut file| Digest::of_reader(&mut file)).map_err(unreadable)?;
    Ok((digest, file))
}

/// A folder that is there under the whole name has a colon in it; else what follows the last colon is a tag.
fn split_tag(directory: &Path, path: &Path) -> (PathBuf, Option<String>) {
    let whole = directory.join(path);
    let split = path.to_str().and_then(|text| text.rsplit_once(':'));
    match split {
        Some((folder, tag)) if !whole.exists() && !tag.contains('/') => (directory.join(folder), Some(tag.to_owned())),
        _ => (whole, None),
    }
}

fn read_index(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("`index.json` is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(INDEX_SIZE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
