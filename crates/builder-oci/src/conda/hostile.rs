//! Packages that want more than to be installed.

use std::io::Write;

use imagespec_core::digest::Digest;
use tar::{EntryType, Header};
use url::Url;

use super::archive::Archive;
use super::error::CondaError;
use super::package::Package;
use super::solution::{CondaPython, SolvedPackage};

const INDEX: &str = r#"{"name":"evil","version":"1","build":"0","build_number":0,"depends":[],"subdir":"linux-64"}"#;

/// An entry of an archive: kind, path, and content or target.
type Raw<'a> = (EntryType, &'a str, &'a str);

fn tar(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn bz2(content: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn opened(name: &str, content: &[u8]) -> Result<Archive, CondaError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    Archive::open(&path, name, folder.path())
}

fn laid_out(entries: &[Raw<'_>]) -> Result<Package, CondaError> {
    let archive = opened("evil-1-0.tar.bz2", &bz2(&tar(entries)))?;
    let solved = SolvedPackage {
        name: "evil".to_owned(),
        version: "1".to_owned(),
        build: "0".to_owned(),
        subdir: "linux-64".to_owned(),
        url: Url::parse("https://conda.example/c/linux-64/evil-1-0.tar.bz2").unwrap(),
        sha256: Digest::of(b"evil"),
        size_bytes: None,
        site_packages: None,
    };
    let python = CondaPython { minor: 11, patch: 2, site_packages: "lib/python3.11/site-packages".to_owned() };
    Package::new(archive, &solved, &python, "/opt/venv")
}

/// What is said of an archive with one such entry.
fn refused(kind: EntryType, path: &str, content: &str) -> String {
    let error = laid_out(&[(kind, path, content)]).map(drop).unwrap_err();
    let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{source}")
}

#[test]
fn paths_and_links_that_lead_out_are_refused() {
    insta::assert_snapshot!(refused(EntryType::Regular, "../../etc/passwd", ""), @"conda package `evil-1-0.tar.bz2` has a path that leads astray: `../../etc/passwd` is no path for a layer: it leads out with `..`");
    insta::assert_snapshot!(refused(EntryType::Regular, "/etc/passwd", ""), @"`/etc/passwd` in conda package `evil-1-0.tar.bz2` cannot be installed: its path is absolute");
    insta::assert_snapshot!(refused(EntryType::Regular, "lib/.wh.python", ""), @"conda package `evil-1-0.tar.bz2` has a path that leads astray: `lib/.wh.python` is no path for a layer: engines take `.wh.` for a deletion");
    insta::assert_snapshot!(refused(EntryType::Symlink, "lib/x", "/etc/passwd"), @"`lib/x` in conda package `evil-1-0.tar.bz2` cannot be installed: it is a link to an absolute path");
    insta::assert_snapshot!(refused(EntryType::Symlink, "lib/x", "../../y"), @"`lib/x` in conda package `evil-1-0.tar.bz2` cannot be installed: it is a link that leads out");
    insta::assert_snapshot!(refused(EntryType::Link, "lib/x", "etc/shadow"), @"`lib/x` in conda package `evil-1-0.tar.bz2` cannot be installed: it is a link to a file that is not there");
    insta::assert_snapshot!(refused(EntryType::Link, "lib/x", "/etc/shadow"), @"`/etc/shadow` in conda package `evil-1-0.tar.bz2` cannot be installed: its path is absolute");
}

#[test]
fn devices_and_pipes_are_refused() {
    insta::assert_snapshot!(refused(EntryType::Block, "dev/sda", ""), @"`dev/sda` in conda package `evil-1-0.tar.bz2` cannot be installed: it is neither a file nor a link");
    insta::assert_snapshot!(refused(EntryType::Fifo, "pipe", ""), @"`pipe` in conda package `evil-1-0.tar.bz2` cannot be installed: it is neither a file nor a link");
}

#[test]
fn what_is_listed_must_be_there_once_and_be_what_was_solved() {
    let index = (EntryType::Regular, "info/index.json", INDEX);
    let said = |entries: &[Raw<'_>]| laid_out(entries).map(drop).unwrap_err().to_string();
    let twice = [(EntryType::Regular, "a", ""), (EntryType::Regular, "./a", "")];
    insta::assert_snapshot!(said(&twice), @"`a` in conda package `evil-1-0.tar.bz2` cannot be installed: it is there twice");
    insta::assert_snapshot!(said(&[index, (EntryType::Regular, "info/files", "a\n")]), @"`a` in conda package `evil-1-0.tar.bz2` cannot be installed: it is listed and not there");
    insta::assert_snapshot!(said(&[(EntryType::Regular, "a", "")]), @"`info/index.json` in conda package `evil-1-0.tar.bz2` cannot be installed: it is not there");
    insta::assert_snapshot!(said(&[(EntryType::Regular, "info/index.json", &INDEX.replace("evil", "good"))]), @"conda package `evil-1-0.tar.bz2` cannot be installed: it says that it is good 1 0");
    let empty = r#"{"paths":[{"_path":"a","path_type":"hardlink","file_mode":"text","prefix_placeholder":""}],"paths_version":1}"#;
    insta::assert_snapshot!(said(&[index, (EntryType::Regular, "info/paths.json", empty), (EntryType::Regular, "a", "")]), @"`a` in conda package `evil-1-0.tar.bz2` cannot be installed: its placeholder is no absolute path of some length");
    for other in ["/", "/seven7", "relative/path"] {
        let other = empty.replace("r\":\"\"", &format!("r\":\"{other}\""));
        let error = said(&[index, (EntryType::Regular, "info/paths.json", &other), (EntryType::Regular, "a", "")]);
        assert!(error.ends_with("its placeholder is no absolute path of some length"), "{other}: {error}");
    }
    let short = empty.replace("\"text\"", "\"binary\"").replace("r\":\"\"", "r\":\"/8-bytes\"");
    insta::assert_snapshot!(said(&[index, (EntryType::Regular, "info/paths.json", &short), (EntryType::Regular, "a", "/8-bytes")]), @"`a` in conda package `evil-1-0.tar.bz2` cannot be installed: its placeholder is shorter than `/opt/venv`");
}

#[test]
fn an_archive_that_unpacks_to_too_much_is_given_up() {
    // Ten gigabytes of zeros in a few hundred kilobytes; they are never all made.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(10 << 30);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 400 << 20), &mut encoder).unwrap();
    let archive = conda(&encoder.finish().unwrap());
    assert!(archive.len() < 1 << 20);
    insta::assert_snapshot!(given_up(&archive), @"conda package `evil-1-0.conda` is no readable archive: it unpacks to more than any package has");
}

/// A package of format 2 with this compressed tar.
fn conda(content: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let info = zstd::encode_all(tar(&[(EntryType::Regular, "info/index.json", INDEX)]).as_slice(), 3).unwrap();
    for (name, content) in [("info-evil-1-0.tar.zst", info.as_slice()), ("pkg-evil-1-0.tar.zst", content)] {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// What is said of such a package, which cannot be used.
fn given_up(archive: &[u8]) -> String {
    let error = opened("evil-1-0.conda", archive).map(drop).unwrap_err();
    let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{source}")
}

#[test]
fn a_file_with_many_names_counts_with_each() {
    let content = "0".repeat(32 << 20);
    let names = ["b", "c", "d", "e", "f", "g", "h", "i"];
    let archive = |links: usize| {
        let mut entries = vec![(EntryType::Regular, "a", content.as_str())];
        entries.extend(names[..links].iter().map(|name| (EntryType::Link, *name, "a")));
        conda(&zstd::encode_all(tar(&entries).as_slice(), 1).unwrap())
    };
    assert_eq!(opened("evil-1-0.conda", &archive(7)).unwrap().entries.len(), 8);
    insta::assert_snapshot!(given_up(&archive(8)), @"conda package `evil-1-0.conda` cannot be installed: it unpacks to more than any package has");
}

#[test]
fn headers_that_would_fill_the_memory_are_refused() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let name = "n".repeat((1 << 20) + 1);
        let content =
            zstd::encode_all(tar(&[(kind, "long", &name), (EntryType::Regular, "a", "")]).as_slice(), 1).unwrap();
        let said = given_up(&conda(&content));
        assert_eq!(
            said,
            "conda package `evil-1-0.conda` is no readable archive: it is not a well-formed tar at byte 512: an extension of a header is too long",
            "{kind:?}"
        );
    }
    let target = "t/".repeat(2049);
    let entries = [(EntryType::GNULongLink, "long", target.as_str()), (EntryType::Symlink, "a", "")];
    let content = zstd::encode_all(tar(&entries).as_slice(), 1).unwrap();
    insta::assert_snapshot!(given_up(&conda(&content)), @"`a` in conda package `evil-1-0.conda` cannot be installed: its target is too long");
}

#[test]
fn what_is_no_archive_is_an_error_and_no_panic() {
    for name in ["evil-1-0.conda", "evil-1-0.tar.bz2"] {
        for content in [&b""[..], b"PK\x03\x04", b"BZh9", &[0; 600]] {
            assert!(
                opened(name, content)
                    .and_then(|archive| archive.info("info/index.json").map(drop).ok_or(CondaError::Cancelled))
                    .is_err()
            );
        }
    }
}

#[test]
fn a_second_name_for_a_file_is_the_file_and_bytecode_is_believed() {
    let index = (EntryType::Regular, "info/index.json", INDEX);
    let files = (EntryType::Regular, "info/files", "a\nb\nc.pyc\n");
    let pyc = "\0\0\0\0\0\0\0\0time....";
    let package = laid_out(&[
        (EntryType::Link, "b", "a"),
        (EntryType::Regular, "a", "content"),
        (EntryType::Regular, "c.pyc", pyc),
        index,
        files,
    ])
    .unwrap();
    assert_eq!(package.archive.entries["a"], package.archive.entries["b"]);
    let super::package::Placed::Member { source, change } = &package.files["c.pyc"] else { panic!("it is a file") };
    let changed = package.changed(source, change, "/opt/venv").unwrap();
    assert_eq!(changed[..8], [0, 0, 0, 0, 1, 0, 0, 0]);
    insta::assert_snapshot!(package.files.keys().cloned().collect::<Vec<_>>().join(" "), @"a b c.pyc conda-meta/evil-1-0.json");
}
