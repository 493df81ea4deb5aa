//! Image layouts as the kit writes them for bases, and as it reads them to see what a builder made (OCI image-spec,
//! "Image Layout"). Small ones: everything is held in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use serde_json::{Value, json};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// More bytes than a layer of the kit's files has.
const LAYER_SIZE_BYTES_MAX: u64 = 256 << 20;

/// An image to write.
pub(super) struct Written {
    pub(super) platform: Platform,
    /// The member `config` of its config.
    pub(super) config: Value,
    /// Archives, neither compressed nor many.
    pub(super) layers: Vec<Vec<u8>>,
}

/// An image that was read.
pub(super) struct Found {
    /// Its config.
    pub(super) config: Value,
    /// What its layers hold, by path; the uppermost counts. None where one of them is packed as the kit cannot read.
    pub(super) files: Option<BTreeMap<String, Entry>>,
}

/// Something in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File { content: Vec<u8>, is_executable: bool },
    Link { target: String },
    Directory,
}

impl Written {
    /// The whole config as bytes.
    pub(super) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let (os, architecture) = (self.platform.os(), self.platform.architecture());
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        json!({"os": os, "architecture": architecture, "config": self.config, "rootfs": rootfs})
            .to_string()
            .into_bytes()
    }
}

/// Writes `images` to `folder`, and an index over them if they are several. Returns the digest of what stands for all.
pub(super) fn write(folder: &Path, images: &[Written]) -> io::Result<Digest> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let put = |bytes: &[u8], media_type: &str| -> io::Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.to_hex()), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()}))
    };
    let mut descriptors = Vec::new();
    for image in images {
        let layers: io::Result<Vec<_>> = image.layers.iter().map(|layer| put(layer, LAYER)).collect();
        let config = put(&image.config(), CONFIG)?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers?});
        let mut descriptor = put(manifest.to_string().as_bytes(), MANIFEST)?;
        descriptor["platform"] = json!({"os": image.platform.os(), "architecture": image.platform.architecture()});
        descriptors.push(descriptor);
    }
    let mut top = descriptors[0].clone();
    if descriptors.len() > 1 {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors});
        top = put(index.to_string().as_bytes(), INDEX)?;
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
    fs::write(folder.join("index.json"), index.to_string())?;
    let digest = top["digest"].as_str().and_then(|text| text.parse().ok());
    Ok(digest.expect("a descriptor that was just made has a digest"))
}

/// Writes the archive that `docker save` would write of `image`, and returns its digest.
pub(super) fn write_docker_archive(file: &Path, image: &Written) -> io::Result<Digest> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut names = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        names.push(format!("{number}.tar"));
        append(&mut archive, &format!("{number}.tar"), layer)?;
    }
    append(&mut archive, "config.json", &image.config())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": ["conformance/base:1"], "Layers": names}]);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
    let bytes = archive.into_inner()?;
    fs::write(file, &bytes)?;
    Ok(Digest::of(&bytes))
}

/// Adds a file to an archive, with nothing of this machine or this time.
pub(super) fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content)
}

/// What is wrong with a layout that a builder wrote.
type Wrong = String;

/// Reads the image of `platform` that the layout in `folder` lists as `digest`.
pub(super) fn read(folder: &Path, digest: Digest, platform: &Platform) -> Result<Found, Wrong> {
    let path = folder.join("index.json");
    let text = fs::read(&path).map_err(|error| format!("there is no readable `index.json` in its layout: {error}"))?;
    let index: Value =
        serde_json::from_slice(&text).map_err(|error| format!("its `index.json` is no JSON: {error}"))?;
    if !manifests(&index).any(|descriptor| descriptor["digest"] == digest.to_string()) {
        return Err(format!("it reported {digest}, and the `index.json` of its layout does not list that"));
    }
    if !folder.join("oci-layout").is_file() {
        return Err("its layout has no file `oci-layout`".to_owned());
    }
    let mut manifest = document(folder, &digest.to_string())?;
    if manifest["manifests"].is_array() {
        let wanted = manifests(&manifest).find(|descriptor| {
            let own = &descriptor["platform"];
            own["os"] == platform.os() && own["architecture"] == platform.architecture()
        });
        let digest = wanted.and_then(|descriptor| descriptor["digest"].as_str()).map(str::to_owned);
        let digest = digest.ok_or_else(|| format!("its index has no image for {platform}"))?;
        manifest = document(folder, &digest)?;
    }
    let config = manifest["config"]["digest"].as_str().ok_or("its manifest names no config")?;
    let config = document(folder, config)?;
    if config["os"] != platform.os() || config["architecture"] != platform.architecture() {
        let (os, architecture) = (&config["os"], &config["architecture"]);
        return Err(format!("its config says that it runs on {os} and {architecture}, and {platform} was asked for"));
    }
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    if layers.len() != diff_ids.len() {
        return Err(format!("its manifest has {} layers, and its config {}", layers.len(), diff_ids.len()));
    }
    let mut files = Some(BTreeMap::new());
    for (layer, diff_id) in layers.iter().zip(&diff_ids) {
        let digest = layer["digest"].as_str().ok_or("a layer of its manifest has no digest")?;
        let Some(archive) = unpacked(blob(folder, digest)?)? else {
            files = None;
            continue;
        };
        if diff_id != &Value::from(Digest::of(&archive).to_string()) {
            return Err(format!("layer {digest} is not what `rootfs.diff_ids` of its config says"));
        }
        if let Some(files) = &mut files {
            files.extend(entries(&archive).map_err(|error| format!("layer {digest} is no archive: {error}"))?);
        }
    }
    Ok(Found { config, files })
}

fn manifests(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

fn document(folder: &Path, digest: &str) -> Result<Value, Wrong> {
    serde_json::from_slice(&blob(folder, digest)?).map_err(|error| format!("its blob {digest} is no JSON: {error}"))
}

fn blob(folder: &Path, digest: &str) -> Result<Vec<u8>, Wrong> {
    let digest: Digest = digest.parse().map_err(|error| format!("its layout names a blob wrongly: {error}"))?;
    let bytes = fs::read(folder.join("blobs/sha256").join(digest.to_hex()));
    let bytes = bytes.map_err(|error| format!("its layout lacks the blob {digest}: {error}"))?;
    match Digest::of(&bytes) == digest {
        true => Ok(bytes),
        false => Err(format!("the blob {digest} of its layout is not what its name says")),
    }
}

/// The archive in a layer; none where it is packed as the kit cannot read.
fn unpacked(blob: Vec<u8>) -> Result<Option<Vec<u8>>, Wrong> {
    match blob.as_slice() {
        [0x1f, 0x8b, ..] => {
            let mut archive = Vec::new();
            let read = MultiGzDecoder::new(blob.as_slice()).take(LAYER_SIZE_BYTES_MAX).read_to_end(&mut archive);
            read.map_err(|error| format!("a layer is no whole gzip stream: {error}"))?;
            Ok(Some(archive))
        }
        // zstd (RFC 8878, section 3.1.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(None),
        _ => Ok(Some(blob)),
    }
}

fn entries(archive: &[u8]) -> io::Result<Vec<(String, Entry)>> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let found = match entry.header().entry_type() {
            tar::EntryType::Directory => Entry::Directory,
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.map(|target| target.display().to_string()).unwrap_or_default();
                Entry::Link { target }
            }
            _ => {
                let is_executable = entry.header().mode()? & 0o111 != 0;
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Entry::File { content, is_executable }
            }
        };
        entries.push((path, found));
    }
    Ok(entries)
}
