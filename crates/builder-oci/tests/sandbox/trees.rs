//! Layers that become trees, and trees that become layers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use imagespec_builder_oci::sandbox::{
    Access, ArchiveOptions, Devices, Failure, Form, Mount, Network, Sandbox, SandboxError, UnpackOptions, Whiteouts,
};
use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};

use crate::{folder, is_root, outcome, overlay, run_in, sandbox, sandboxes, tree};

const APPLY: UnpackOptions = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Refuse };

const OVERLAY: UnpackOptions = UnpackOptions { whiteouts: Whiteouts::Overlay, devices: Devices::Refuse };

fn options(form: Form) -> ArchiveOptions {
    ArchiveOptions { form, exclude: Vec::new(), newest_kept: 1_000_000, otherwise: 7 }
}

fn archive(sandbox: &Sandbox, root: &Path, options: &ArchiveOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    sandbox.archive(root, options, &mut bytes).expect("a tree that can be stored");
    bytes
}

/// `kind path -> link mode user:group mtime size` of each entry.
fn listing(tar: &[u8]) -> String {
    let mut text = String::new();
    for entry in tar::Archive::new(tar).entries().expect("a tar") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", String::from_utf8_lossy(&link)));
        text.push_str(&format!(
            "{:?} {}{} {:o} {}:{} {} {}\n",
            header.entry_type(),
            String::from_utf8_lossy(&entry.path_bytes()),
            link.unwrap_or_default(),
            header.mode().expect("mode"),
            header.uid().expect("uid"),
            header.gid().expect("gid"),
            header.mtime().expect("mtime"),
            entry.size(),
        ));
    }
    text
}

/// Kind, path, and content or link target of an entry.
type TarEntry<'a> = (tar::EntryType, &'a str, &'a str);

/// A tar of entries whose names are not checked.
fn layer(entries: &[TarEntry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_ustar();
        let ustar = header.as_ustar_mut().expect("ustar");
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        let is_file = *kind == tar::EntryType::Regular;
        if !is_file {
            ustar.linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_entry_type(*kind);
        header.set_mode(if *kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(5);
        let data = if is_file { content.as_bytes() } else { b"" };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).expect("memory");
    }
    builder.into_inner().expect("memory")
}

#[test]
fn the_changes_of_a_run_become_a_layer_that_makes_the_same_tree_elsewhere() {
    for sandbox in sandboxes() {
        let (tree, folder, copy) = (tree(), folder(), folder());
        for path in ["gone", "kept", "old/a", "old/b"] {
            fs::create_dir_all(tree.path().join(path).parent().expect("in the tree")).expect("new");
            fs::write(tree.path().join(path), path).expect("new");
        }
        let (root, upper) = overlay(&folder, vec![tree.path().to_owned()]);
        let script = "rm /gone; rm -r /old; mkdir /old; echo n > /old/new; touch /run.me";
        assert_eq!(outcome(&sandbox, &run_in(root, &["sh", "-c", script])).0, 0);
        let diff = archive(&sandbox, &upper, &options(Form::OverlayUpper));
        insta::allow_duplicates! {
            insta::assert_snapshot!(listing(&diff), @r"
            Regular .wh.gone 644 0:0 7 0
            Directory old/ 755 0:0 7 0
            Regular old/.wh..wh..opq 644 0:0 7 0
            Regular old/new 644 0:0 7 2
            Regular run.me 644 0:0 7 0
            ");
        }
        // Merged into a copy of the lower tree …
        let base = archive(&sandbox, tree.path(), &options(Form::Tree));
        sandbox.unpack(copy.path(), &mut base.as_slice(), APPLY).expect("our own");
        sandbox.unpack(copy.path(), &mut diff.as_slice(), APPLY).expect("our own");
        let merged = archive(&sandbox, copy.path(), &options(Form::Tree));
        assert!(!listing(&merged).contains("gone") && !listing(&merged).contains("old/a"));
        // … or laid over it: the same.
        let lower = folder.path().join("lower");
        fs::create_dir(&lower).expect("new");
        sandbox.unpack(&lower, &mut diff.as_slice(), OVERLAY).expect("our own");
        let (root, upper) = overlay(&folder, vec![tree.path().to_owned(), lower]);
        sandbox.remove(&upper).expect("own tree");
        fs::create_dir(&upper).expect("removed");
        let (_, text) = outcome(&sandbox, &run_in(root, &["ls", "/", "/old"]));
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @r"
            /:
            bin
            dev
            kept
            old
            proc
            run.me
            sys

            /old:
            new
            ");
        }
    }
}

#[test]
fn a_run_that_changes_nothing_is_an_empty_layer() {
    let (tree, folder) = (tree(), folder());
    let (root, upper) = overlay(&folder, vec![tree.path().to_owned()]);
    let mut run = run_in(root, &["true"]);
    run.network = Network::Host;
    run.mounts = vec![Mount { source: "/etc".into(), target: "/some/where".into(), access: Access::ReadOnly }];
    assert_eq!(outcome(&sandbox(), &run).0, 0);
    assert_eq!(listing(&archive(&sandbox(), &upper, &options(Form::OverlayUpper))), "");
}

#[test]
fn hostile_layers_are_refused_and_reach_nothing_outside_the_tree() {
    let cases: [(&[TarEntry<'_>], &str); 12] = [
        (&[(Regular, "../x", "")], "entry `../x` of the layer is refused: its path has `..`"),
        (&[(Regular, "a/../../x", "")], "entry `a/../../x` of the layer is refused: its path has `..`"),
        (&[(Regular, "/etc/x", "")], "entry `/etc/x` of the layer is refused: its path is absolute"),
        (&[(Link, "x", "../../etc/passwd")], "entry `x` of the layer is refused: its path has `..`"),
        (&[(Link, "x", "/etc/passwd")], "entry `x` of the layer is refused: its path is absolute"),
        (&[(Link, "x", "etc/passwd")], "entry `x` of the layer is refused: its hard link has no target"),
        (&[(Char, "null", "")], "entry `null` of the layer is refused: a device"),
        (&[(Block, "disk", "")], "entry `disk` of the layer is refused: a device"),
        (&[(Fifo, "pipe", "")], "entry `pipe` of the layer is refused: a named pipe"),
        (&[(Regular, "d/.wh...", "")], "entry `d/.wh...` of the layer is refused: a whiteout that names nothing"),
        (
            &[(Regular, "f", ""), (Regular, "f/x", "")],
            "entry `f/x` of the layer is refused: it leads through something that is not a directory",
        ),
        (
            &[(Symlink, "l", "l"), (Regular, "l/x", "")],
            "entry `l/x` of the layer is refused: it leads through something that is not a directory",
        ),
    ];
    let tree = folder();
    for (entries, expected) in cases {
        let error = sandbox().unpack(tree.path(), &mut layer(entries).as_slice(), APPLY).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    // The rest of a long layer that is refused at once is neither waited for nor a cause of another error.
    let long = [layer(cases[0].0), vec![1; 4 << 20]].concat();
    let error = sandbox().unpack(tree.path(), &mut long.as_slice(), APPLY).expect_err("refused");
    assert_eq!(error.to_string(), cases[0].1);
    let mut cut = layer(&[(Regular, "f", "0123456789")]);
    cut.truncate(515);
    let error = sandbox().unpack(tree.path(), &mut cut.as_slice(), APPLY).expect_err("cut off");
    assert!(matches!(error, SandboxError::Inside(Failure::Tar { .. })), "{error}");
}

#[test]
fn symbolic_links_to_the_outside_lead_to_the_inside() {
    let (tree, outside) = (folder(), folder());
    let target = outside.path().to_str().expect("text");
    let entries =
        [(Symlink, "way", target), (Regular, "way/x", "1"), (Symlink, "up", "../../../.."), (Regular, "up/y", "2")];
    // The first one leads to a folder that the tree does not have.
    assert!(sandbox().unpack(tree.path(), &mut layer(&entries).as_slice(), APPLY).is_err());
    sandbox().unpack(tree.path(), &mut layer(&entries[2..]).as_slice(), APPLY).expect("stays inside");
    assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
    assert_eq!(fs::read_to_string(tree.path().join("y")).expect("inside"), "2");
}

#[test]
fn devices_are_skipped_where_that_is_asked_for_and_marks_of_old_union_file_systems_always() {
    let tree = folder();
    let entries = [(Char, "null", ""), (Fifo, "pipe", ""), (Regular, ".wh..wh.plnk", ""), (Regular, "f", "")];
    let options = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Skip };
    sandbox().unpack(tree.path(), &mut layer(&entries).as_slice(), options).expect("skipped");
    assert_eq!(listing(&archive(&sandbox(), tree.path(), &self::options(Form::Tree))), "Regular f 644 0:0 5 0\n");
}

#[test]
fn whiteouts_remove_what_was_there_before_and_spare_what_the_layer_brings() {
    let tree = folder();
    let below = [(Regular, "d/old", ""), (Regular, "d/sub/old", ""), (Regular, "x", ""), (Regular, "y/z", "")];
    let above = [
        (Regular, "d/new", ""),
        (Regular, "d/.wh..wh..opq", ""),
        (Regular, ".wh.x", ""),
        (Regular, ".wh.y", ""),
        (Regular, ".wh.never", ""),
    ];
    for entries in [&below[..], &above[..]] {
        sandbox().unpack(tree.path(), &mut layer(entries).as_slice(), APPLY).expect("well-formed");
    }
    let mut options = options(Form::Tree);
    options.newest_kept = 0;
    insta::assert_snapshot!(listing(&archive(&sandbox(), tree.path(), &options)), @r"
    Directory d/ 755 0:0 7 0
    Regular d/new 644 0:0 7 0
    ");
}

#[test]
fn an_archive_depends_on_the_tree_and_not_on_the_order_in_which_it_was_made() {
    let names = ["b", "a.txt", "a/z", "a/b/c", "a-b", "é"];
    let tar_of = |names: &mut dyn Iterator<Item = &&str>| {
        let tree = folder();
        for name in names {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().expect("in the tree")).expect("new");
            fs::write(path, name).expect("new");
        }
        fs::hard_link(tree.path().join("b"), tree.path().join("a/hard")).expect("same file system");
        archive(&sandbox(), tree.path(), &ArchiveOptions { exclude: vec!["a/b".into()], ..options(Form::Tree) })
    };
    let tar = tar_of(&mut names.iter());
    assert!(tar == tar_of(&mut names.iter().rev()));
    insta::assert_snapshot!(listing(&tar), @r"
    Regular a-b 644 0:0 7 3
    Regular a.txt 644 0:0 7 5
    Directory a/ 755 0:0 7 0
    Regular a/hard 644 0:0 7 1
    Regular a/z 644 0:0 7 3
    Link b -> a/hard 644 0:0 7 0
    Regular é 644 0:0 7 2
    ");
}

#[test]
fn owners_modes_times_links_and_attributes_survive_unpacking_and_archiving() {
    if !is_root() {
        return;
    }
    for sandbox in sandboxes() {
        let (tree, copy) = (folder(), folder());
        let file = tree.path().join("f");
        fs::write(&file, "x").expect("new");
        std::os::unix::fs::chown(&file, Some(3_000_000), Some(33)).expect("root");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).expect("own");
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&file, "security.capability", &capability, flags).expect("root");
        rustix::fs::setxattr(&file, "user.note", b"a=b\n\0", flags).expect("ext4 has them");
        fs::hard_link(&file, tree.path().join("g")).expect("same file system");
        symlink("x".repeat(300), tree.path().join("l")).expect("new");
        fs::create_dir_all(tree.path().join("d".repeat(90)).join("e".repeat(90))).expect("new");
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1234));
        fs::File::open(&file).expect("own").set_times(time).expect("own");
        let first = archive(&sandbox, tree.path(), &options(Form::Tree));
        sandbox.unpack(copy.path(), &mut first.as_slice(), APPLY).expect("our own");
        assert!(first == archive(&sandbox, copy.path(), &options(Form::Tree)));
        let metadata = fs::metadata(copy.path().join("f")).expect("unpacked");
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.mtime()),
            (3_000_000, 33, 0o6755, 1234)
        );
        assert_eq!(metadata.nlink(), 2);
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(copy.path().join("f"), "security.capability", &mut value[..]).expect("set");
        assert_eq!(value[..length], capability);
    }
}

#[test]
fn a_tree_with_a_device_or_a_named_pipe_is_not_stored() {
    let tree = folder();
    nix::unistd::mkfifo(&tree.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("own folder");
    let error = sandbox().archive(tree.path(), &options(Form::Tree), &mut Vec::new()).expect_err("a pipe");
    assert_eq!(error.to_string(), "`/pipe` is a named pipe, which a layer cannot hold");
}

#[test]
fn trees_are_removed_and_links_in_them_are_not_followed() {
    let (folder, outside) = (folder(), folder());
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("d")).expect("new");
    symlink(outside.path(), tree.join("d/l")).expect("new");
    fs::write(outside.path().join("f"), "").expect("new");
    fs::set_permissions(tree.join("d"), fs::Permissions::from_mode(0o000)).expect("own");
    sandbox().remove(&tree).expect("own tree");
    sandbox().remove(&tree).expect("nothing is there any more");
    assert!(!tree.exists() && outside.path().join("f").exists());
}
