//! What is in an archive, and what happens to one that cannot be whole.

use std::fs;

use imagespec_core::digest::Digest;
use imagespec_distribution::Blob;

use super::*;

const LAYER: &[u8] = b"a layer";
const QUIET: Observer<'_> = Observer { cancelled: &|| false, written: &|| {} };

fn image() -> Image {
    let layers = vec![Blob::of(LAYER), Blob::of(b""), Blob::of(LAYER)];
    Image { manifest: b"a manifest".to_vec(), config: b"a config".to_vec(), layers }
}

fn give(digest: Digest) -> Result<Box<dyn Read + Send>, LayoutError> {
    Ok(if digest == Digest::of(LAYER) { Box::new(LAYER) } else { Box::new(io::empty()) })
}

#[test]
fn an_archive_has_each_blob_once_and_names_the_image_for_all_engines() {
    let name = "registry.example.org/team/app:1".parse().unwrap();
    let mut archive = Archive::of(&name, &image(), &give).unwrap();
    let size_bytes = archive.size_bytes();
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, size_bytes);
    let mut shown = String::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        shown += &format!("{}: {content}\n", entry.path().unwrap().display());
    }
    insta::assert_snapshot!(shown, @r#"
    oci-layout: {"imageLayoutVersion":"1.0.0"}
    index.json: {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e59625a822497c164d60705eb3fd6975c375ca213b8140137a826a77790986a9","size":10,"annotations":{"io.containerd.image.name":"registry.example.org/team/app:1","org.opencontainers.image.ref.name":"1"}}]}
    manifest.json: [{"Config":"blobs/sha256/45eaad00d8d86498dab3850e20db3d956c5500b1310dfe601a0e0fc1c944cb64","RepoTags":["registry.example.org/team/app:1"],"Layers":["blobs/sha256/e28d98ac666afd34f089b971a663264d54d67a60ddc82996d48d8f3c204eb75f","blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","blobs/sha256/e28d98ac666afd34f089b971a663264d54d67a60ddc82996d48d8f3c204eb75f"]}]
    blobs/sha256/e59625a822497c164d60705eb3fd6975c375ca213b8140137a826a77790986a9: a manifest
    blobs/sha256/45eaad00d8d86498dab3850e20db3d956c5500b1310dfe601a0e0fc1c944cb64: a config
    blobs/sha256/e28d98ac666afd34f089b971a663264d54d67a60ddc82996d48d8f3c204eb75f: a layer
    blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:
    "#);
}

#[test]
fn an_archive_of_an_index_has_what_its_images_share_once_and_no_manifest_of_docker() {
    let other = Image { manifest: b"another manifest".to_vec(), ..image() };
    let mut archive = Archive::of_index(&"app:1".parse().unwrap(), b"an index", &[image(), other], &give).unwrap();
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, archive.size_bytes());
    let mut entries = tar::Archive::new(bytes.as_slice());
    let sizes: Vec<_> = entries.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
    // `oci-layout`, `index.json`, the index, a manifest, the config, two layers, the other manifest.
    assert_eq!(sizes[2..], [8, 10, 8, 7, 0, 16]);
}

#[test]
fn an_archive_that_cannot_be_whole_does_not_take_the_place_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.tar");
    check_archive(&file).unwrap();
    fs::write(&file, "the one before").unwrap();
    let name = "app:1".parse().unwrap();
    let open = |_| -> Result<Box<dyn Read + Send>, LayoutError> { Ok(Box::new(&b"a lay"[..])) };
    let error = write_archive(&file, &name, &image(), &open, &QUIET).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    insta::assert_snapshot!(source, @"it has 5 bytes instead of 7");

    let cancelled = Observer { cancelled: &|| true, written: &|| {} };
    let error = write_archive(&file, &name, &image(), &give, &cancelled).unwrap_err();
    assert!(matches!(error, LayoutError::Cancelled), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"the one before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    write_archive(&file, &name, &image(), &give, &QUIET).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len() % BLOCK_SIZE_BYTES, 0);
}

#[test]
fn a_place_for_an_archive_is_a_file_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let hint = |path: &Path| {
        let hint = check_archive(path).unwrap_err().hint().unwrap();
        hint.replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    insta::assert_snapshot!(hint(folder.path()), @"name a file: `FOLDER/image.tar`");
    insta::assert_snapshot!(hint(&folder.path().join("nowhere/app.tar")), @"make the folder `FOLDER/nowhere` first");
}
