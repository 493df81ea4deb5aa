//! An archive of `docker save` under another name, as a stream: whatever names it has would move names of the engine that
//! mean something else there.
//!
//! Engines read `manifest.json`, and newer ones an `index.json`, if there is one, before it. The first is written anew and
//! the second left out, so that all of them see one image by one name. Everything else passes by as it is.

use std::io::{self, Read};
use std::path::{Component, Path};

use imagespec_core::digest::{Digest, Hasher};
use serde_json::{Value, json};
use tar::{Archive, EntryType, Header};

/// A real one has some kilobytes.
const MANIFEST_SIZE_BYTES_MAX: u64 = 4 << 20;
const BLOCK_SIZE_BYTES: u64 = 512;
/// How gzip begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is not the one that was planned.
    #[error("it changed since the build began")]
    Changed,
    /// It is none of `docker save`.
    #[error("it is no archive of `docker save`")]
    NoArchive,
    /// It holds more than one image, or none.
    #[error("it holds {count} images, and a base is one")]
    Images {
        /// How many.
        count: usize,
    },
}

/// Writes the archive `source`, whose digest is `expected`, to `sink` as that of an image called `name`.
pub(crate) fn rename(source: impl Read, expected: Digest, name: &str, sink: &mut dyn io::Write) -> io::Result<()> {
    let mut hashed = Hashed { source, hasher: Hasher::default() };
    let mut first = [0; 2];
    hashed.read_exact(&mut first)?;
    let has_manifest = {
        let whole = io::Cursor::new(first).chain(&mut hashed);
        match first == GZIP {
            true => renamed(flate2::read::MultiGzDecoder::new(whole), name, sink)?,
            false => renamed(whole, name, sink)?,
        }
    };
    // Whatever stands behind the archive's end belongs to the file all the same.
    io::copy(&mut hashed, &mut io::sink())?;
    if hashed.hasher.finish().0 != expected {
        return Err(io::Error::other(ArchiveError::Changed));
    }
    if !has_manifest {
        return Err(io::Error::other(ArchiveError::NoArchive));
    }
    // Only now is it whole: an engine that does not see the end takes nothing.
    sink.write_all(&[0; 2 * BLOCK_SIZE_BYTES as usize])
}

/// The config of the one image in an archive, that `open` opens as often as it must be read.
pub(crate) fn config<R: Read>(open: &dyn Fn() -> io::Result<R>) -> io::Result<Value> {
    let manifest = document(open()?, "manifest.json")?;
    let path = manifest.as_array().and_then(|images| match images.as_slice() {
        [image] => image["Config"].as_str(),
        _ => None,
    });
    document(open()?, path.ok_or_else(|| io::Error::other(ArchiveError::NoArchive))?)
}

/// The JSON document at `path` in the archive `source`.
fn document(mut source: impl Read, path: &str) -> io::Result<Value> {
    let mut first = [0; 2];
    source.read_exact(&mut first)?;
    let whole = io::Cursor::new(first).chain(source);
    let whole: Box<dyn Read + '_> = match first == GZIP {
        true => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        false => Box::new(whole),
    };
    for entry in Archive::new(whole).entries()? {
        let entry = entry?;
        if plain(&entry.path()?).is_some_and(|found| found == path) {
            let mut text = Vec::new();
            entry.take(MANIFEST_SIZE_BYTES_MAX).read_to_end(&mut text)?;
            return serde_json::from_slice(&text).map_err(|_| io::Error::other(ArchiveError::NoArchive));
        }
    }
    Err(io::Error::other(ArchiveError::NoArchive))
}

/// Returns whether there is a `manifest.json`. Every header is written anew, from what was understood of it: what one reader
/// of archives takes for another file than the next would bring names of its own past this one.
fn renamed(source: impl Read, name: &str, sink: &mut dyn io::Write) -> io::Result<bool> {
    let no_archive = || io::Error::other(ArchiveError::NoArchive);
    let mut has_manifest = false;
    let mut archive = Archive::new(source);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(path) = plain(&entry.path()?) else { continue };
        match (entry.header().entry_type(), path.as_str()) {
            (EntryType::Regular, "manifest.json") => {
                let mut text = Vec::new();
                entry.by_ref().take(MANIFEST_SIZE_BYTES_MAX).read_to_end(&mut text)?;
                let content = named(&text, name).map_err(io::Error::other)?;
                if std::mem::replace(&mut has_manifest, true) {
                    return Err(no_archive());
                }
                add(sink, &path, content.len() as u64, &mut content.as_slice())?;
            }
            (_, "manifest.json") => return Err(no_archive()),
            (_, "index.json" | "oci-layout" | "repositories") => {}
            (EntryType::Regular, _) => {
                let size_bytes = entry.size();
                add(sink, &path, size_bytes, &mut entry)?;
            }
            // A layer that stands in an image twice is a link in old archives, from one layer to another.
            (EntryType::Symlink, _) => {
                let target = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
                let of = |text: &str| text.strip_suffix("/layer.tar").is_some_and(is_layer);
                if !of(&path) || !target.strip_prefix("../").is_some_and(of) {
                    return Err(no_archive());
                }
                let mut header = header(&path, 0).ok_or_else(no_archive)?;
                header.set_entry_type(EntryType::Symlink);
                header.set_link_name(&target)?;
                header.set_cksum();
                sink.write_all(header.as_bytes())?;
            }
            // Folders are implied.
            (EntryType::Directory | EntryType::XGlobalHeader, _) => {}
            _ => return Err(no_archive()),
        }
    }
    Ok(has_manifest)
}

/// A path of ordinary names alone; none for the archive's own folder.
fn plain(path: &Path) -> Option<String> {
    let names = path.components().filter(|component| !matches!(component, Component::CurDir));
    let names: Vec<_> = names.map(|component| component.as_os_str().to_string_lossy()).collect();
    (!names.is_empty()).then(|| names.join("/"))
}

/// Whether it is the name of a layer's folder: 64 hexadecimal digits.
fn is_layer(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A header of ours; none for a path that no archive of `docker save` has.
fn header(path: &str, size_bytes: u64) -> Option<Header> {
    let is_foreign = path.split('/').any(|name| matches!(name, "" | ".."));
    let mut header = Header::new_gnu();
    header.set_path(path).ok().filter(|()| !is_foreign)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    Some(header)
}

/// Writes a file to the archive.
fn add(sink: &mut dyn io::Write, path: &str, size_bytes: u64, content: &mut dyn Read) -> io::Result<()> {
    let mut header = header(path, size_bytes).ok_or_else(|| io::Error::other(ArchiveError::NoArchive))?;
    header.set_cksum();
    sink.write_all(header.as_bytes())?;
    if io::copy(&mut content.take(size_bytes), sink)? != size_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    sink.write_all(padding(size_bytes))
}

fn named(text: &[u8], name: &str) -> Result<Vec<u8>, ArchiveError> {
    let mut images: Vec<Value> = serde_json::from_slice(text).map_err(|_| ArchiveError::NoArchive)?;
    match images.as_mut_slice() {
        [Value::Object(image)] => {
            image.insert("RepoTags".to_owned(), json!([name]));
            Ok(serde_json::to_vec(&images).expect("a JSON value has only string keys"))
        }
        [_] => Err(ArchiveError::NoArchive),
        images => Err(ArchiveError::Images { count: images.len() }),
    }
}

fn padding(size_bytes: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK_SIZE_BYTES as usize] = [0; BLOCK_SIZE_BYTES as usize];
    let count = (BLOCK_SIZE_BYTES - size_bytes % BLOCK_SIZE_BYTES) % BLOCK_SIZE_BYTES;
    &ZEROS[..usize::try_from(count).expect("less than a block")]
}

/// Hashes what is read.
struct Hashed<R> {
    source: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn listed(bytes: &[u8]) -> Vec<String> {
        let mut archive = Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            format!("{} {text}", entry.path().unwrap().display())
        });
        entries.collect()
    }

    fn rename_all(source: &[u8], expected: Digest) -> Result<Vec<u8>, String> {
        let mut sink = Vec::new();
        rename(source, expected, "base:1", &mut sink).map(|()| sink).map_err(|error| error.to_string())
    }

    #[test]
    fn the_image_has_our_name_alone_and_its_content_is_the_same() {
        let long = format!("{}/layer.tar", "a".repeat(64));
        let source = archive(&[
            (&long, "layer"),
            ("index.json", "{}"),
            ("manifest.json", r#"[{"Config":"c.json","RepoTags":["theirs:1"],"Layers":[]}]"#),
            ("repositories", "{}"),
            ("c.json", "{}"),
        ]);
        assert_eq!(config(&|| Ok(source.as_slice())).unwrap(), json!({}));
        let expected = [
            format!("{long} layer"),
            r#"manifest.json [{"Config":"c.json","RepoTags":["base:1"],"Layers":[]}]"#.to_owned(),
            "c.json {}".to_owned(),
        ];
        assert_eq!(listed(&rename_all(&source, Digest::of(&source)).unwrap()), expected);
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut zipped, &source).unwrap();
        let zipped = zipped.finish().unwrap();
        assert_eq!(listed(&rename_all(&zipped, Digest::of(&zipped)).unwrap()), expected);
        assert_eq!(config(&|| Ok(zipped.as_slice())).unwrap(), json!({}));
    }

    #[test]
    fn no_file_brings_a_second_name_whatever_it_is_called() {
        const THEIRS: &str = r#"[{"Config":"c.json","RepoTags":["debian:12"],"Layers":[]}]"#;
        let good = [("manifest.json", "[{}]"), ("c.json", "{}")];
        for path in ["manifest.json", "././manifest.json", ".//manifest.json", "x/../manifest.json", "/manifest.json"] {
            // Names that a library does not write.
            let mut bytes = archive(&good);
            bytes.truncate(bytes.len() - 1024);
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(THEIRS.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(THEIRS.as_bytes());
            bytes.extend_from_slice(padding(THEIRS.len() as u64));
            bytes.extend([0; 1024]);
            assert_eq!(
                rename_all(&bytes, Digest::of(&bytes)).unwrap_err(),
                "it is no archive of `docker save`",
                "{path}"
            );
        }
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", &b"manifest.json"[..])]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(THEIRS.len() as u64);
        builder.append_data(&mut header, "innocent", THEIRS.as_bytes()).unwrap();
        let bytes = builder.into_inner().unwrap();
        let renamed = rename_all(&bytes, Digest::of(&bytes)).unwrap();
        assert_eq!(listed(&renamed), [r#"manifest.json [{"Config":"c.json","RepoTags":["base:1"],"Layers":[]}]"#]);
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "d", ".").unwrap();
        let bytes = builder.into_inner().unwrap();
        assert_eq!(rename_all(&bytes, Digest::of(&bytes)).unwrap_err(), "it is no archive of `docker save`");
    }

    #[test]
    fn what_is_not_the_planned_archive_of_one_image_is_refused() {
        let told = |source: &[u8]| rename_all(source, Digest::of(source)).unwrap_err();
        let good = archive(&[("manifest.json", "[{}]")]);
        assert_eq!(rename_all(&good, Digest::of(b"another")).unwrap_err(), "it changed since the build began");
        assert_eq!(told(&archive(&[("a", "b")])), "it is no archive of `docker save`");
        assert_eq!(told(&archive(&[("manifest.json", "[{},{}]")])), "it holds 2 images, and a base is one");
        let nonsense = archive(&[("manifest.json", "nonsense")]);
        assert_eq!(told(&nonsense), "it is no archive of `docker save`");
        for wrong in [nonsense, archive(&[("a", "b")]), archive(&[("manifest.json", r#"[{"Config":"gone"}]"#)])] {
            let error = config(&|| Ok(wrong.as_slice())).unwrap_err();
            assert_eq!(error.to_string(), "it is no archive of `docker save`");
        }
    }
}
