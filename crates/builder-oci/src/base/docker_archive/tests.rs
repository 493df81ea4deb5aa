//! Archives as engines write them, and as nobody should.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

/// The entries of an archive, in any order.
struct Saved(tar::Builder<Vec<u8>>);

impl Saved {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// An entry with whatever name and link, as they are.
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    /// A `manifest.json` that names one image with these layers, and its config.
    fn image(self, config: &[u8], layers: &[&str]) -> Self {
        let manifest = json!([{ "Config": "config.json", "RepoTags": null, "Layers": layers }]).to_string();
        self.file("config.json", config).file("manifest.json", manifest.as_bytes())
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A tar with one file.
fn content(text: &str) -> Vec<u8> {
    Saved::new().file("file.txt", text.as_bytes()).bytes()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    json!({ "os": "linux", "architecture": "amd64", "rootfs": rootfs }).to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Place {
    folder: TempDir,
    cache: Cache,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        Self { folder, cache }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("base.tar")
    }

    fn take(&self, archive: &[u8]) -> Result<(BaseImage, Outcome), Failure> {
        fs::write(self.file(), archive).unwrap();
        self.take_as(Digest::of(archive), "linux/amd64", &|| false)
    }

    fn take_as(
        &self,
        digest: Digest,
        platform: &str,
        cancelled: Cancelled<'_>,
    ) -> Result<(BaseImage, Outcome), Failure> {
        let path = self.file();
        let source = Source { name: "docker-archive:base.tar".to_owned(), path: &path, digest, cancelled };
        take(&self.cache, &source, &platform.parse().unwrap())
    }
}

/// What is wrong with `archive`.
fn refusal(archive: Saved) -> String {
    let place = Place::new();
    let error = place.take(&archive.bytes()).unwrap_err().to_string();
    assert_eq!(fs::read_dir(place.cache.temporary_folder()).unwrap().count(), 0);
    error.strip_prefix("base `docker-archive:base.tar` is not a proper image: ").unwrap_or(&error).to_owned()
}

#[test]
fn however_an_archive_is_packed_its_layers_are_the_same_blobs() {
    let (lower, upper) = (content("lower"), content("upper"));
    let config = config(&[&lower, &upper, &lower]);
    let old = Saved::new()
        .entry(EntryType::Directory, "one/", "", b"")
        .file("one/VERSION", b"1.0")
        .file("one/layer.tar", &lower)
        .file("two/layer.tar", &upper)
        .entry(EntryType::Symlink, "three/layer.tar", "../one/layer.tar", b"")
        .image(&config, &["one/layer.tar", "two/layer.tar", "three/layer.tar"])
        .bytes();
    let new = Saved::new()
        .file("./blobs/sha256/one", &gzip(&lower))
        .file("./blobs/sha256/two", &zstd::encode_all(upper.as_slice(), 1).unwrap())
        .entry(EntryType::Link, "./blobs/sha256/three", "./blobs/sha256/one", b"")
        .image(&config, &["blobs/sha256/one", "blobs/sha256/two", "blobs/sha256/three"])
        .bytes();
    let layers = |archive: &[u8]| {
        let place = Place::new();
        let (base, outcome) = place.take(archive).unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert!(base.layers.iter().all(|layer| place.cache.has_blob(layer.layer.digest)));
        base.layers.into_iter().map(|layer| layer.layer).collect::<Vec<_>>()
    };
    let expected = layers(&old);
    let diff_ids: Vec<_> = expected.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(diff_ids, [&lower, &upper, &lower].map(|layer| Digest::of(layer)));
    assert_eq!(layers(&new), expected);
    assert_eq!(layers(&gzip(&old)), expected);
    assert_eq!(layers(&zstd::encode_all(new.as_slice(), 1).unwrap()), expected);
}

#[test]
fn an_archive_that_was_read_once_is_not_read_again() {
    let place = Place::new();
    let layer = content("layer");
    let archive = Saved::new().file("layer.tar", &layer).image(&config(&[&layer]), &["layer.tar"]).bytes();
    let (first, _) = place.take(&archive).unwrap();
    fs::remove_file(place.file()).unwrap();
    let (second, outcome) = place.take_as(Digest::of(&archive), "linux/amd64", &|| false).unwrap();
    assert_eq!(outcome, Outcome::Cached);
    assert_eq!(second.config, first.config);
    assert_eq!(second.layers[0].layer, first.layers[0].layer);
}

#[test]
fn an_archive_of_another_platform_is_refused_each_time() {
    let place = Place::new();
    let archive = Saved::new().image(&config(&[]), &[]).bytes();
    place.take(&archive).unwrap();
    let error = place.take_as(Digest::of(&archive), "linux/arm64", &|| false).unwrap_err();
    insta::assert_snapshot!(error, @"base `docker-archive:base.tar` has no image for linux/arm64; it has linux/amd64");
}

#[test]
fn an_archive_that_changed_since_it_was_hashed_is_refused() {
    let archive = Saved::new().image(&config(&[]), &[]).bytes();
    for archive in [gzip(&archive), archive] {
        let place = Place::new();
        fs::write(place.file(), &archive).unwrap();
        let error = place.take_as(Digest::of(b"another"), "linux/amd64", &|| false).unwrap_err();
        assert!(matches!(error, Failure::Cache(crate::cache::CacheError::WrongDigest { .. })), "{error}");
    }
}

#[test]
fn a_user_who_cancels_need_not_wait() {
    let place = Place::new();
    fs::write(place.file(), Saved::new().bytes()).unwrap();
    let result = place.take_as(Digest::of(b"any"), "linux/amd64", &|| true);
    assert!(matches!(result, Err(Failure::Cancelled)));
}

#[test]
fn several_images_are_named() {
    let image = |tag: &str| json!({ "Config": "c.json", "RepoTags": [tag], "Layers": [] });
    let two = json!([image("app:1"), image("app\u{1b}[31m:2")]).to_string();
    insta::assert_snapshot!(refusal(Saved::new().file("manifest.json", two.as_bytes())), @r"base `docker-archive:base.tar` holds 2 images: app:1, app\u{1b}[31m:2");
    let many: Vec<_> = (0..1000).map(|number| image(&format!("app:{number}"))).collect();
    let many = json!(many).to_string();
    assert!(refusal(Saved::new().file("manifest.json", many.as_bytes())).len() < 200);
    insta::assert_snapshot!(refusal(Saved::new().file("manifest.json", b"[]")), @"its manifest.json names no image");
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let layer = content("layer");
    let one = config(&[&layer]);
    let cases = [
        Saved::new(),
        Saved::new().file("manifest.json", b"{}"),
        Saved::new().file("manifest.json", br#"[{"Config":"c.json","Layers":[]}]"#),
        Saved::new().image(b"[]", &[]),
        Saved::new().image(b"{}", &[]),
        Saved::new().image(&one, &["absent/layer.tar"]),
        Saved::new().image(&one, &[]),
        Saved::new().file("layer.tar", &content("other")).image(&one, &["layer.tar"]),
        Saved::new().image(&String::from_utf8(one.clone()).unwrap().replace("sha256:", "md5:").into_bytes(), &["x"]),
        Saved::new().image(&one, &["../../etc/passwd"]),
        Saved::new().image(&one, &["/etc/passwd"]),
    ];
    insta::assert_snapshot!(cases.map(refusal).join("\n"), @r"
    it has no `manifest.json`
    its manifest.json: invalid type: map, expected a sequence at line 1 column 0
    it has no `c.json`
    its config: invalid type: sequence, expected a map at line 1 column 0
    its config: unknown platform `/`
    it has no `absent/layer.tar`
    0 layers and 1 diff_ids
    layer `layer.tar` has content sha256:5d7067fccf2e010b6f114c1285251831e119d586c439cecfc5afd389eb0891c4, and its config says sha256:d99ecb33879e7a1660c63e427bdcae2e3b1a47aedaed82bd40fb197004042d13
    its config has diff_id `md5:d99ecb33879e7a1660c63e427bdcae2e3b1a47aedaed82bd40fb197004042d13`
    `../../etc/passwd` leads out with `..`
    `/etc/passwd` is absolute
    ");
}

#[test]
fn a_compressed_layer_that_ends_early_is_not_taken_in() {
    let place = Place::new();
    let layer = content("layer");
    let archive = Saved::new().file("layer.tar", &gzip(&layer)[..20]).image(&config(&[&layer]), &["layer.tar"]);
    let error = place.take(&archive.bytes()).unwrap_err();
    assert!(matches!(error, Failure::Base(BaseError::Io { .. })), "{error}");
    assert_eq!(fs::read_dir(place.cache.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn names_that_lead_out_and_entries_of_odd_kinds_are_refused() {
    let cases = [
        Saved::new().file("../evil", b""),
        Saved::new().file("a/../../evil", b""),
        Saved::new().file("/evil", b""),
        Saved::new().file("e\u{7}vil", b""),
        Saved::new().file("manifest.json", b"[]").file("./manifest.json", b"[]"),
        Saved::new().entry(EntryType::Symlink, "a/layer.tar", "../../evil", b""),
        Saved::new().entry(EntryType::Symlink, "a/layer.tar", "/etc/shadow", b""),
        Saved::new().entry(EntryType::Link, "a/layer.tar", "../evil", b""),
        Saved::new().entry(EntryType::Char, "a/layer.tar", "", b""),
        Saved::new().entry(EntryType::Fifo, "a/layer.tar", "", b""),
        Saved::new().entry(EntryType::Symlink, "manifest.json", "config.json", b"").entry(
            EntryType::Symlink,
            "config.json",
            "manifest.json",
            b"",
        ),
        Saved::new().entry(EntryType::Symlink, "manifest.json", "elsewhere", b""),
    ];
    insta::assert_snapshot!(cases.map(refusal).join("\n"), @r"
    entry `../evil` leads out with `..`
    entry `a/../../evil` leads out with `..`
    entry `/evil` is absolute
    entry `e\u{7}vil` has control characters in its name
    entry `./manifest.json` stands twice
    entry `a/layer.tar` is a link that leads out
    entry `a/layer.tar` is a link to an absolute path
    entry `a/layer.tar` is a link that leads out
    entry `a/layer.tar` is neither a file, a folder nor a link
    entry `a/layer.tar` is neither a file, a folder nor a link
    `manifest.json` is a link that leads in a circle
    it has no `elsewhere`
    ");
}

#[test]
fn what_is_too_much_is_refused() {
    let document = vec![b' '; (4 << 20) + 1];
    insta::assert_snapshot!(refusal(Saved::new().file("manifest.json", &document)), @"`manifest.json` has more than 4 MiB");
    let many = (0..=10_000).fold(Saved::new(), |saved, number| saved.file(&format!("{number}"), b""));
    insta::assert_snapshot!(refusal(many), @"it has more than 10000 entries");
    let place = Place::new();
    let error = place.take(&Saved::new().file("x", &[0; 4096]).bytes()[..2048]).unwrap_err();
    insta::assert_snapshot!(error, @"base `docker-archive:base.tar` is not a proper image: no tar at byte 512: it ends too early");
    let error = place.take(b"no archive at all").unwrap_err();
    insta::assert_snapshot!(error, @"base `docker-archive:base.tar` is not a proper image: no tar at byte 0: it ends too early");
}
