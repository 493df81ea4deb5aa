//! Layouts that were written here, and layouts that nobody should believe.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::media_type::{CONFIG, INDEX, MANIFEST};
use crate::write::{LayoutError, Observer, write_layout};

const LAYER_TYPE: &str = Compression::Gzip.media_type();
const LAYER: &[u8] = b"a layer";

/// A layout that a test fills.
struct Layout(TempDir);

impl Layout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.to_hex())
    }

    /// Writes a blob and describes it.
    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        fs::write(self.blob_path(Digest::of(bytes)), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
    }

    fn put_json(&self, media_type: &str, value: &Value) -> Value {
        self.put(media_type, value.to_string().as_bytes())
    }

    fn config(&self, architecture: &str) -> Value {
        let rootfs = json!({ "type": "layers", "diff_ids": [Digest::of(LAYER).to_string()] });
        self.put_json(CONFIG, &json!({ "os": "linux", "architecture": architecture, "rootfs": rootfs }))
    }

    /// A manifest that says what `change` makes of it.
    fn manifest(&self, architecture: &str, change: impl FnOnce(&mut Value)) -> Value {
        let layers = [self.put(LAYER_TYPE, LAYER)];
        let config = self.config(architecture);
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        change(&mut manifest);
        let mut descriptor = self.put_json(MANIFEST, &manifest);
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    }

    fn index(&self, entries: &[Value]) -> Value {
        self.put_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }))
    }

    fn read(&self, descriptor: &Value) -> Result<Stored, ReadError> {
        read_layout(self.path(), digest(descriptor))
    }

    /// The error of reading `descriptor`, with its cause, in which digests have their first digits alone.
    fn error(&self, descriptor: &Value) -> String {
        self.shown(&self.read(descriptor).unwrap_err())
    }

    fn shown(&self, error: &ReadError) -> String {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        let mut text = format!("{error}{cause}").replace(self.path().to_str().unwrap(), "LAYOUT");
        while let Some(start) = text.as_bytes().windows(64).position(|part| part.iter().all(u8::is_ascii_hexdigit)) {
            text.replace_range(start..start + 64, "DIGEST");
        }
        text
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_was_written_is_read_again() {
    let source = Layout::new();
    let index = source.index(&[source.manifest("amd64", |_| {}), source.manifest("arm64", |_| {})]);
    let stored = source.read(&index).unwrap();
    assert_eq!(stored.images.len(), 2);

    let target = Layout::new();
    fs::remove_dir_all(target.path().join("blobs")).unwrap();
    let open = |digest: Digest| -> Result<Box<dyn Read + Send>, LayoutError> {
        let blob = Blob { digest, size_bytes: LAYER.len() as u64 };
        Ok(open_blob(source.path(), blob).unwrap())
    };
    let quiet = Observer { cancelled: &|| false, written: &|| {} };
    write_layout(target.path(), "1", &stored.images, stored.index.as_deref(), &open, &quiet).unwrap();
    assert_eq!(target.read(&index).unwrap(), stored);
}

#[test]
fn of_an_index_the_image_for_a_platform_is_enough() {
    let layout = Layout::new();
    let (amd64, arm64) = (layout.manifest("amd64", |_| {}), layout.manifest("arm64", |_| {}));
    let index = layout.index(&[amd64.clone(), arm64.clone()]);
    fs::remove_file(layout.blob_path(digest(&arm64))).unwrap();
    let read = |digest: Digest, platform: &str| read_image(layout.path(), digest, &platform.parse().unwrap());
    assert_eq!(read(digest(&index), "linux/amd64").unwrap().digest(), digest(&amd64));
    assert_eq!(read(digest(&amd64), "linux/amd64").unwrap().digest(), digest(&amd64));

    let shown = |error| layout.shown(&error);
    insta::assert_snapshot!(shown(read(digest(&index), "linux/s390x").unwrap_err()), @"there is no image for `linux/s390x`, only for `linux/amd64`, `linux/arm64`");
    insta::assert_snapshot!(shown(read(digest(&amd64), "linux/arm64").unwrap_err()), @"there is no image for `linux/arm64`, only for `linux/amd64`");
    insta::assert_snapshot!(layout.error(&index), @"cannot read `LAYOUT/blobs/sha256/DIGEST`: No such file or directory (os error 2)");
}

#[test]
fn an_image_that_is_for_another_platform_than_its_index_says_is_refused() {
    let layout = Layout::new();
    let mut entry = layout.manifest("arm64", |_| {});
    entry["platform"]["architecture"] = "amd64".into();
    let error = read_image(layout.path(), digest(&layout.index(&[entry])), &Platform::linux_amd64()).unwrap_err();
    insta::assert_snapshot!(layout.shown(&error), @"there is no image for `linux/amd64`, only for `linux/arm64`");
}

#[test]
fn attestations_are_counted_and_not_read() {
    let layout = Layout::new();
    let mut attestation = layout.put(MANIFEST, b"whatever");
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let stored = layout.read(&layout.index(&[layout.manifest("amd64", |_| {}), attestation])).unwrap();
    assert_eq!((stored.images.len(), stored.other_entries), (1, 1));
}

#[test]
fn names_of_docker_mean_the_same() {
    let layout = Layout::new();
    let manifest = layout.manifest("amd64", |manifest| {
        manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
        manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
        manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    });
    assert_eq!(layout.read(&manifest).unwrap().images[0].layers, [Blob::of(LAYER)]);
}

#[test]
fn documents_of_other_kinds_are_refused() {
    let layout = Layout::new();
    let manifest = |change: &dyn Fn(&mut Value)| layout.error(&layout.manifest("amd64", change));
    insta::assert_snapshot!(manifest(&|manifest| manifest["mediaType"] = "text/html".into()), @r#"`sha256:DIGEST` is not a proper image: a document of type "text/html""#);
    insta::assert_snapshot!(manifest(&|manifest| manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into()), @r#"`sha256:DIGEST` is not a proper image: a config of type "application/vnd.cncf.helm.config.v1+json""#);
    insta::assert_snapshot!(manifest(&|manifest| manifest["layers"][0]["mediaType"] = "application/vnd.in-toto+json".into()), @r#"`sha256:DIGEST` is not a proper image: a layer of type "application/vnd.in-toto+json""#);
    insta::assert_snapshot!(manifest(&|manifest| manifest["layers"] = json!([])), @"`sha256:DIGEST` is not a proper image: 0 layers and 1 diff_ids");
    insta::assert_snapshot!(manifest(&|manifest| manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd".into()), @"`sha256:DIGEST` is not a proper image: Invalid encoded value ../../../etc/passwd at line 1 column 342");
    insta::assert_snapshot!(manifest(&|manifest| manifest["layers"][0]["size"] = (-1).into()), @"`sha256:DIGEST` is not a proper image: invalid value: integer `-1`, expected u64 at line 1 column 397");
    insta::assert_snapshot!(manifest(&|manifest| manifest["manifests"] = json!([])), @"`sha256:DIGEST` is not a proper image: it is neither a manifest nor an index");
    insta::assert_snapshot!(layout.error(&layout.put(MANIFEST, b"{}")), @"`sha256:DIGEST` is not a proper image: it is neither a manifest nor an index");
    insta::assert_snapshot!(layout.error(&layout.put(MANIFEST, b"\x1b[31m{")), @"`sha256:DIGEST` is not a proper image: it is no JSON object");
    let list = json!([MANIFEST, [], null]).to_string();
    insta::assert_snapshot!(layout.error(&layout.put(MANIFEST, list.as_bytes())), @"`sha256:DIGEST` is not a proper image: it is no JSON object");
    let deep = format!("{{\"layers\":{}", "[".repeat(100_000));
    insta::assert_snapshot!(layout.error(&layout.put(MANIFEST, deep.as_bytes())), @"`sha256:DIGEST` is not a proper image: EOF while parsing a list at line 1 column 100010");
}

#[test]
fn an_index_in_an_index_is_refused() {
    let layout = Layout::new();
    let inner = layout.index(&[]);
    insta::assert_snapshot!(layout.error(&layout.index(&[inner])), @"`sha256:DIGEST` is not a proper image: an index in an index");
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    let layout = Layout::new();
    let manifest = layout.manifest("amd64", |_| {});
    let config = layout.config("amd64");
    let spoil = |descriptor: &Value, change: &dyn Fn(&mut Vec<u8>)| {
        let path = layout.blob_path(digest(descriptor));
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    spoil(&config, &|bytes| bytes[2] = b'x');
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` has sha256:DIGEST instead of sha256:DIGEST");
    spoil(&config, &|bytes| bytes.truncate(7));
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` has 7 bytes instead of 151 bytes");
    layout.config("amd64");

    let layer = Blob::of(LAYER);
    fs::write(layout.blob_path(layer.digest), b"a lager").unwrap();
    layout.read(&manifest).unwrap();
    let error = open_blob(layout.path(), layer).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    fs::write(layout.blob_path(layer.digest), b"a layer, and more").unwrap();
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` has 17 bytes instead of 7 bytes");
    fs::remove_file(layout.blob_path(layer.digest)).unwrap();
    insta::assert_snapshot!(layout.error(&manifest), @"cannot read `LAYOUT/blobs/sha256/DIGEST`: No such file or directory (os error 2)");

    spoil(&manifest, &|bytes| bytes.push(b' '));
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` has sha256:DIGEST instead of sha256:DIGEST");
}

#[test]
fn files_outside_of_the_layout_and_devices_are_not_opened() {
    let (layout, outside) = (Layout::new(), Layout::new());
    let manifest = layout.manifest("amd64", |_| {});
    let path = layout.blob_path(Digest::of(LAYER));
    outside.put(LAYER_TYPE, LAYER);
    let replace = |target: &Path| {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
    };
    replace(&outside.blob_path(Digest::of(LAYER)));
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` is no file of the layout");
    replace(Path::new("/dev/zero"));
    insta::assert_snapshot!(layout.error(&manifest), @"`LAYOUT/blobs/sha256/DIGEST` is no file of the layout");
    replace(&path);
    assert!(matches!(layout.read(&manifest).unwrap_err(), ReadError::Io { .. }));

    // As some build systems lay their layouts out.
    fs::write(layout.path().join("layer"), LAYER).unwrap();
    replace(Path::new("../../layer"));
    layout.read(&manifest).unwrap();

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(layout.read(&manifest).unwrap_err(), ReadError::Foreign { .. }));
}

#[test]
fn documents_fill_no_memory() {
    let layout = Layout::new();
    let spaces = " ".repeat(DOCUMENT_SIZE_BYTES_MAX as usize);
    let huge = format!("{{{spaces}}}");
    insta::assert_snapshot!(layout.error(&layout.put(MANIFEST, huge.as_bytes())), @"`sha256:DIGEST` is not a proper image: it is larger than the 4194304 bytes that a document may have");

    // One large manifest, again and again.
    let manifest = layout.manifest("amd64", |manifest| manifest["annotations"] = json!({ "a": &spaces[..1 << 20] }));
    insta::assert_snapshot!(layout.error(&layout.index(&vec![manifest; 100])), @"`sha256:DIGEST` is not a proper image: its documents are larger than the 67108864 bytes that they may have");
}
