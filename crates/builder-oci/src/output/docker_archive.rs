//! The archive that `docker load` takes: a tar with the blobs, a `manifest.json` and an OCI layout's `index.json`, as
//! `docker save` writes it since version 25. Older engines read `manifest.json` alone.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::path::Path;

use serde_json::json;
use tar::{EntryType, Header};

use super::layout::{folder_of, write_aside};
use super::{OutputError, check_writable};
use crate::builder::{Building, Failure};
use crate::image::{INDEX, Image, MANIFEST};

const BLOCK_SIZE_BYTES: u64 = 512;

/// The archive as a stream, which is made while it is read.
pub(super) struct Archive {
    parts: VecDeque<Box<dyn Read + Send>>,
    size_bytes: u64,
}

/// Finds out whether an archive can be written to `file`.
pub(super) fn check(file: &Path) -> Result<(), Failure> {
    if file.is_dir() {
        let source = io::ErrorKind::IsADirectory.into();
        return Err(OutputError::Io { path: file.to_owned(), source }.into());
    }
    Ok(check_writable(folder_of(file), file)?)
}

/// Writes the archive of `image` to `file`.
pub(super) fn write(building: &Building<'_>, file: &Path, image: &Image) -> Result<(), Failure> {
    let mut archive = Archive::of(building, image)?;
    write_aside(file, |sink| io::copy(&mut archive, sink).map(drop))
}

impl Archive {
    /// The archive of `image`, whose layers are in the cache.
    pub(super) fn of(building: &Building<'_>, image: &Image) -> Result<Self, Failure> {
        let name = &building.request.name;
        let blob_name = |hex: String| format!("blobs/sha256/{hex}");
        let layers: Vec<_> = image.layers.iter().map(|layer| blob_name(layer.layer.digest.to_hex())).collect();
        let config = blob_name(image.config_digest.to_hex());
        let manifest = json!([{ "Config": config, "RepoTags": [name.familiar()], "Layers": layers }]);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": MANIFEST,
            "digest": image.digest.to_string(),
            "size": image.manifest.len(),
            "annotations": {
                // containerd's and Podman's name of the whole reference; OCI has one for the tag alone.
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or("latest"),
            },
        }] });
        let mut archive = Self { parts: VecDeque::new(), size_bytes: 0 };
        archive.add_bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        archive.add_bytes("index.json", index.to_string().into_bytes());
        archive.add_bytes("manifest.json", manifest.to_string().into_bytes());
        archive.add_bytes(&blob_name(image.digest.to_hex()), image.manifest.clone());
        archive.add_bytes(&config, image.config.clone());
        let mut added = BTreeSet::new();
        for (name, layer) in layers.iter().zip(&image.layers) {
            let digest = layer.layer.digest;
            // A layer may stand in an image twice, but an archive's entry only once.
            if !added.insert(digest) {
                continue;
            }
            let reader = building.cache.open_blob(digest)?.ok_or_else(|| OutputError::Io {
                path: building.cache.blob_path(digest),
                source: io::ErrorKind::NotFound.into(),
            })?;
            archive.add(name, layer.layer.size_bytes, Box::new(reader));
        }
        let end = vec![0; 2 * BLOCK_SIZE_BYTES as usize];
        archive.size_bytes += end.len() as u64;
        archive.parts.push_back(Box::new(Cursor::new(end)));
        Ok(archive)
    }

    /// Length of the whole archive in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) {
        self.add(name, bytes.len() as u64, Box::new(Cursor::new(bytes)));
    }

    fn add(&mut self, name: &str, size_bytes: u64, content: Box<dyn Read + Send>) {
        let mut header = Header::new_ustar();
        header.set_path(name).expect("names of blobs and documents fit into a header");
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size_bytes);
        header.set_cksum();
        let padding = (BLOCK_SIZE_BYTES - size_bytes % BLOCK_SIZE_BYTES) % BLOCK_SIZE_BYTES;
        self.parts.push_back(Box::new(Cursor::new(header.as_bytes().to_vec())));
        self.parts.push_back(content);
        self.parts.push_back(Box::new(io::repeat(0).take(padding)));
        self.size_bytes += BLOCK_SIZE_BYTES + size_bytes + padding;
    }
}

impl Read for Archive {
    /// Each part is read until it says that it is at its end, for that is when a blob is verified.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            let count = part.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}
