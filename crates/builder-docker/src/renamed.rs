//! An archive of `docker save` under another name, as a stream: whatever names it has would move names of the engine that
//! mean something else there.
//!
//! Engines read `manifest.json`, and newer ones an `index.json`, if there is one, before it. The first is written anew and
//! the second left out, so that all of them see one image by one name. Everything else passes by as it is.

use std::io::{self, Read};

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
        let bytes = entry.path_bytes();
        if bytes.strip_prefix(b"./").unwrap_or(&bytes) == path.as_bytes() {
            let mut text = Vec::new();
            entry.take(MANIFEST_SIZE_BYTES_MAX).read_to_end(&mut text)?;
            return serde_json::from_slice(&text).map_err(|_| io::Error::other(ArchiveError::NoArchive));
        }
    }
    Err(io::Error::other(ArchiveError::NoArchive))
}

/// Returns whether there is a `manifest.json`.
fn renamed(source: impl Read, name: &str, sink: &mut dyn io::Write) -> io::Result<bool> {
    let mut has_manifest = false;
    let mut archive = Archive::new(source);
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        match path.strip_prefix(b"./").unwrap_or(&path) {
            b"manifest.json" => {
                let mut text = Vec::new();
                entry.by_ref().take(MANIFEST_SIZE_BYTES_MAX).read_to_end(&mut text)?;
                let content = named(&text, name).map_err(io::Error::other)?;
                let mut header = Header::new_ustar();
                header.set_path("manifest.json")?;
                header.set_entry_type(EntryType::Regular);
                header.set_mode(0o644);
                header.set_size(content.len() as u64);
                header.set_cksum();
                sink.write_all(header.as_bytes())?;
                sink.write_all(&content)?;
                sink.write_all(padding(content.len() as u64))?;
                has_manifest = true;
            }
            b"index.json" | b"oci-layout" | b"repositories" => {}
            _ => {
                sink.write_all(entry.header().as_bytes())?;
                let size_bytes = io::copy(&mut entry, sink)?;
                sink.write_all(padding(size_bytes))?;
            }
        }
    }
    Ok(has_manifest)
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
        let long = "l".repeat(150);
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
