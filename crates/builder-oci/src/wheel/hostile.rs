//! Wheels that must not become layers, and what is said about them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::record::{self, Row};
use super::*;
use crate::cache::Cache;
use crate::layer::LayerPath;

const NAME: &str = "a-1-py3-none-any.whl";

/// Writes a wheel with these members and a RECORD that lists them all, with `row` in place of the true one for `a.py`.
fn wheel(path: &Path, members: &[(&str, &[u8])], row: Option<Row>) {
    let mut archive = ZipWriter::new(std::fs::File::create(path).unwrap());
    let mut rows = BTreeMap::new();
    for (name, content) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
        rows.insert((*name).to_owned(), Row::of(content));
    }
    if let Some(row) = row {
        rows.insert("a.py".to_owned(), row);
    }
    archive.start_file("a-1.dist-info/RECORD", SimpleFileOptions::default()).unwrap();
    archive.write_all(&record::write(&rows).unwrap()).unwrap();
    archive.finish().unwrap();
}

/// The error of making a layer of such a wheel, with what lies beneath it.
fn refusal(members: &[(&str, &[u8])], row: Option<Row>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    wheel(&path, members, row);
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let digest = cache.store_bytes(&std::fs::read(&path).unwrap()).unwrap().digest;
    let scheme = Scheme::new(LayerPath::new("/opt/venv").unwrap(), 11);
    let wheels = [(WheelName::new(NAME).unwrap(), digest)];
    let error = layer(&cache, &wheels, &scheme, 0).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    insta::assert_snapshot!(refusal(&[("../evil.py", b"")], None), @"wheel `a-1-py3-none-any.whl` has a path that leads astray: `../evil.py` is no path for a layer: it leads out with `..`");
    insta::assert_snapshot!(refusal(&[("/etc/passwd", b"")], None), @"`/etc/passwd` in wheel `a-1-py3-none-any.whl` cannot be installed: it is an absolute path");
    insta::assert_snapshot!(refusal(&[("a-1.data/data/../../x", b"")], None), @"wheel `a-1-py3-none-any.whl` has a path that leads astray: `a-1.data/data/../../x` is no path for a layer: it leads out with `..`");
    insta::assert_snapshot!(refusal(&[("a/.wh.b", b"")], None), @"wheel `a-1-py3-none-any.whl` has a path that leads astray: `a/.wh.b` is no path for a layer: engines take `.wh.` for a deletion");
}

#[test]
fn content_that_record_does_not_vouch_for_is_refused() {
    insta::assert_snapshot!(refusal(&[("a.py", b"evil")], Some(Row::of(b"good"))), @"`a.py` in wheel `a-1-py3-none-any.whl` cannot be installed: its hash is not that of RECORD");
    insta::assert_snapshot!(refusal(&[("a.py", b"evil")], Some(Row::of(b"longer"))), @"`a.py` in wheel `a-1-py3-none-any.whl` cannot be installed: its length is not that of RECORD");
    insta::assert_snapshot!(refusal(&[("a.py", b"evil")], Some(Row::unhashed())), @"`a.py` in wheel `a-1-py3-none-any.whl` cannot be installed: RECORD lists no sha256 of it");
}

#[test]
fn data_of_no_known_kind_and_two_files_in_one_place_are_refused() {
    insta::assert_snapshot!(refusal(&[("a-1.data/kernel/x", b"")], None), @"`a-1.data/kernel/x` in wheel `a-1-py3-none-any.whl` cannot be installed: wheels have no data of this kind");
    insta::assert_snapshot!(refusal(&[("a.py", b""), ("a-1.data/purelib/a.py", b"")], None), @"`a-1.data/purelib/a.py` in wheel `a-1-py3-none-any.whl` cannot be installed: another file comes to lie in its place");
    insta::assert_snapshot!(refusal(&[("a", b""), ("a-1.data/purelib/a/b", b"")], None), @"`opt/venv/lib/python3.11/site-packages/a` is a file in one package and a folder in another");
}

#[test]
fn an_entry_point_that_is_no_function_is_refused() {
    let points = b"[console_scripts]\na = os:f();g\n";
    insta::assert_snapshot!(refusal(&[("a-1.dist-info/entry_points.txt", points)], None), @"entry point `a = os:f();g` of wheel `a-1-py3-none-any.whl` is not `name = module:function`");
}

#[test]
fn a_wheel_cannot_replace_the_interpreter() {
    let points = b"[console_scripts]\npython3 = os:abort\n";
    let members: [(&str, &[u8]); 4] = [
        ("a-1.dist-info/entry_points.txt", points),
        ("a-1.data/scripts/python", b""),
        ("a-1.data/data/pyvenv.cfg", b""),
        ("a-1.data/data/lib64/x", b""),
    ];
    for member in members {
        let message = refusal(&[member], None);
        assert!(message.ends_with("one of its files would replace one of the environment itself"), "{message}");
    }
}

#[test]
fn what_is_no_archive_or_another_package_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.whl");
    wheel(&path, &[("a.py", b"")], None);
    let other = WheelName::new("b-1-py3-none-any.whl").unwrap();
    let error = Wheel::open(&path, &other).err().unwrap();
    insta::assert_snapshot!(error, @"wheel `b-1-py3-none-any.whl` cannot be installed: its `.dist-info` folder has another package's name");
}

#[test]
fn a_corrupted_archive_never_panics_and_a_cut_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    wheel(&path, &[("a.py", b"x = 1\n"), ("a-1.data/scripts/s", b"#!python\nx\n")], None);
    let whole = std::fs::read(&path).unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let scheme = Scheme::new(LayerPath::new("/opt/venv").unwrap(), 11);
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0xff;
        let digest = cache.store_bytes(&bytes).unwrap().digest;
        // Either it is refused, or the damage was in a place that nothing depends on.
        let _ = layer(&cache, &[(WheelName::new(NAME).unwrap(), digest)], &scheme, 0);
    }
    for end in 0..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(Wheel::open(&path, &WheelName::new(NAME).unwrap()).is_err(), "{end}");
    }
}
