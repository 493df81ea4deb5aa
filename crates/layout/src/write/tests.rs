//! What lies in a folder after an image was written, or was not.

use std::cell::Cell;

use imagespec_distribution::Blob;

use super::*;
use crate::verify::Verified;

const QUIET: Observer<'_> = Observer { cancelled: &|| false, written: &|| {} };
const LAYER: &[u8] = b"a layer";

fn image(config: &str) -> Image {
    Image {
        manifest: format!("manifest of {config}").into_bytes(),
        config: config.as_bytes().to_vec(),
        layers: vec![Blob::of(LAYER)],
    }
}

fn give(content: &'static [u8]) -> impl Fn(Digest) -> Result<Box<dyn Read + Send>, LayoutError> {
    move |_| Ok(Box::new(content))
}

/// Tags and digests in the order of `index.json`.
fn tags(folder: &Path) -> Vec<(String, String)> {
    let top: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = top["manifests"].as_array().unwrap().iter();
    entries.map(|entry| (text(&entry["annotations"][REFERENCE_NAME]), text(&entry["digest"]))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

fn chain(error: &LayoutError) -> String {
    let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{source}")
}

#[test]
fn a_layout_keeps_its_other_tags_and_the_last_image_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let write = |tag: &str, image: &Image| {
        write_layout(folder.path(), tag, std::slice::from_ref(image), None, &give(LAYER), &QUIET).unwrap();
    };
    let (first, second, third) = (image("1"), image("2"), image("3"));
    write("a", &first);
    write("b", &second);
    write("a", &third);
    let expected = [("b", &second), ("a", &third)].map(|(tag, image)| (tag.to_owned(), image.digest().to_string()));
    assert_eq!(tags(folder.path()), expected);
    assert_eq!(names(folder.path()), ["blobs", "index.json", "oci-layout"]);
    let blobs = folder.path().join("blobs/sha256");
    for bytes in [&first.manifest, &first.config, &third.manifest, &third.config, &LAYER.to_vec()] {
        assert_eq!(&fs::read(blobs.join(Digest::of(bytes).to_hex())).unwrap(), bytes);
    }
}

#[test]
fn several_platforms_are_tagged_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("absent/so far");
    check_layout(&folder).unwrap();
    write_layout(&folder, "1", &[image("1"), image("2")], Some(b"an index"), &give(LAYER), &QUIET).unwrap();
    check_layout(&folder).unwrap();
    assert_eq!(tags(&folder), [("1".to_owned(), Digest::of(b"an index").to_string())]);
    assert_eq!(names(&folder.join("blobs/sha256")).len(), 6);
}

#[test]
fn what_is_no_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("photo"), "").unwrap();
    let checked = check_layout(folder.path()).unwrap_err();
    let written = write_layout(folder.path(), "1", &[image("1")], None, &give(LAYER), &QUIET).unwrap_err();
    assert!(matches!(checked, LayoutError::NotALayout { .. }), "{checked}");
    assert!(matches!(written, LayoutError::NotALayout { .. }), "{written}");
    insta::assert_snapshot!(written.hint().unwrap(), @"name a new or empty folder, or one that an earlier build wrote");
    assert_eq!(names(folder.path()), ["photo"]);

    let error = check_layout(&folder.path().join("photo")).unwrap_err();
    insta::assert_snapshot!(error.hint().unwrap(), @"name a folder: a new or empty one, or one that an earlier build wrote");
}

#[test]
fn a_layer_that_is_not_what_it_must_be_gets_no_name() {
    let fails = |open: Open<'_, LayoutError>| {
        let folder = tempfile::tempdir().unwrap();
        let error = write_layout(folder.path(), "1", &[image("1")], None, open, &QUIET).unwrap_err();
        assert!(!folder.path().join("index.json").exists());
        assert!(names(&folder.path().join("blobs/sha256")).is_empty());
        // A layout that nothing is in yet: the next build writes on.
        check_layout(folder.path()).unwrap();
        chain(&error).replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    let shown = |text: String| text.replace(&Digest::of(LAYER).to_hex(), "LAYER");
    insta::assert_snapshot!(shown(fails(&give(b"a la"))), @"cannot write `FOLDER/blobs/sha256/LAYER`: it has 4 bytes instead of 7");
    insta::assert_snapshot!(shown(fails(&give(b"a layer, and more"))), @"cannot write `FOLDER/blobs/sha256/LAYER`: it has 17 bytes instead of 7");
    // A reader that verifies says by itself what is wrong.
    let verified = |_| -> Result<Box<dyn Read + Send>, LayoutError> {
        Ok(Box::new(Verified::new(&b"a lager, more"[..], Blob { size_bytes: 13, ..Blob::of(LAYER) })))
    };
    let found = Digest::of(b"a lager, more").to_hex();
    insta::assert_snapshot!(shown(fails(&verified)).replace(&found, "LAGER"), @"cannot write `FOLDER/blobs/sha256/LAYER`: it has digest sha256:LAGER instead of sha256:LAYER");
}

#[test]
fn who_asks_to_stop_leaves_no_half_of_anything() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Cell::new(0);
    // The second time is in the midst of the layer.
    let cancelled = || asked.replace(asked.get() + 1) >= 1;
    let observer = Observer { cancelled: &cancelled, written: &|| {} };
    let error = write_layout(folder.path(), "1", &[image("1")], None, &give(LAYER), &observer).unwrap_err();
    assert!(matches!(error, LayoutError::Cancelled), "{error}");
    assert_eq!(names(folder.path()), ["blobs", "oci-layout"]);
    assert!(names(&folder.path().join("blobs/sha256")).is_empty());
}

#[test]
fn each_file_is_told_of_before_it_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file");
    let written = || assert!(!target.exists() && names(folder.path()).len() == 1);
    let observer = Observer { cancelled: &|| false, written: &written };
    write_aside(&target, &observer, |file| file.write_all(b"whole")).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"whole");

    let error = write_aside(&target, &QUIET, |file| {
        file.write_all(b"half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    insta::assert_snapshot!(error.unwrap_err().hint().unwrap(), @"make room there");
    assert_eq!(fs::read(&target).unwrap(), b"whole");
    assert_eq!(names(folder.path()), ["file"]);
}
