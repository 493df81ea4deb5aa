//! Writes a file for `docker load`: a tar with the blobs and a `manifest.json`, as `docker save` writes it since
//! version 25. Older engines read it too.

use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;
use tar::{EntryType, Header};

use super::OutputError;
use super::layout::write_aside;
use crate::builder::{Building, Failure};
use crate::cache::VerifiedReader;
use crate::image::Image;

pub(super) fn write(building: &Building<'_>, file: &Path, image: &Image) -> Result<(), Failure> {
    let blob_name = |hex: String| format!("blobs/sha256/{hex}");
    let layers: Vec<_> = image.layers.iter().map(|layer| blob_name(layer.layer.digest.to_hex())).collect();
    let config = blob_name(image.config_digest.to_hex());
    let manifest =
        json!([{ "Config": config, "RepoTags": [building.request.name.familiar()], "Layers": layers }]).to_string();
    let mut readers: Vec<(&String, u64, VerifiedReader)> = Vec::new();
    for (name, layer) in layers.iter().zip(&image.layers) {
        let digest = layer.layer.digest;
        let reader = building.cache.open_blob(digest)?.ok_or_else(|| OutputError::Io {
            path: building.cache.blob_path(digest),
            source: io::ErrorKind::NotFound.into(),
        })?;
        // A layer may stand in an image twice, but an archive's entry only once.
        if !readers.iter().any(|(other, ..)| *other == name) {
            readers.push((name, layer.layer.size_bytes, reader));
        }
    }
    write_aside(file, |sink: &mut dyn Write| {
        let mut archive = tar::Builder::new(sink);
        append(&mut archive, &config, image.config.len() as u64, &mut image.config.as_slice())?;
        for (name, size_bytes, reader) in &mut readers {
            append(&mut archive, name, *size_bytes, reader)?;
        }
        append(&mut archive, "manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
        archive.finish()
    })
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    size_bytes: u64,
    content: &mut dyn Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size_bytes);
    archive.append_data(&mut header, name, content)
}
