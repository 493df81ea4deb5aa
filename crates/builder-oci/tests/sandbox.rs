//! The sandbox against real trees, real namespaces and hostile layers.
//!
//! The trees hold one statically linked busybox. They lie in the system's folder for temporary files, where every user
//! may go, as some tests run as another user.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use imagespec_builder_oci::sandbox::{
    Access, ArchiveOptions, Devices, ExitStatus, Failure, Form, Line, Mode, Mount, Network, Output, Root, Run, Sandbox,
    SandboxError, Stream, UnpackOptions, User, Whiteouts,
};
use tempfile::TempDir;

const APPLETS: [&str; 16] = [
    "cat", "chown", "env", "grep", "id", "ls", "mkdir", "mount", "ps", "rm", "sh", "sleep", "stat", "touch", "true",
    "unshare",
];

const APPLY: UnpackOptions = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Refuse };
const OVERLAY: UnpackOptions = UnpackOptions { whiteouts: Whiteouts::Overlay, devices: Devices::Refuse };

fn launcher() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sandbox-launcher"))
}

fn sandbox() -> Sandbox {
    Sandbox::new(launcher())
}

/// The modes that this user can be tested in.
fn sandboxes() -> Vec<Sandbox> {
    if is_root() {
        [Mode::UserNamespaceFull, Mode::Root].map(|mode| Sandbox::with_mode(launcher(), mode)).into()
    } else {
        vec![sandbox()]
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
    folder
}

/// A tree with busybox.
fn tree() -> TempDir {
    let tree = folder();
    let bin = tree.path().join("bin");
    fs::create_dir(&bin).expect("new");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("new");
    }
    tree
}

fn run_in(root: Root, argv: &[&str]) -> Run {
    Run {
        root,
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "box".to_owned(),
    }
}

fn shell(tree: &TempDir, script: &str) -> Run {
    run_in(Root::Directory(tree.path().to_owned()), &["sh", "-c", script])
}

/// Runs, and gives the exit code and what was written to both streams.
fn outcome(sandbox: &Sandbox, run: &Run) -> (i32, String) {
    let mut text = String::new();
    let mut on_line = |line: Line| text.push_str(&format!("{}\n", line.text));
    let ExitStatus { code } = sandbox.run(run, Output::Lines(&mut on_line), &|| false).expect("it starts");
    (code, text)
}

fn overlay(folder: &TempDir, lowers: Vec<PathBuf>) -> (Root, PathBuf) {
    let (upper, work) = (folder.path().join("upper"), folder.path().join("work"));
    fs::create_dir_all(&upper).expect("own folder");
    fs::create_dir_all(&work).expect("own folder");
    (Root::Overlay { lowers, upper: upper.clone(), work }, upper)
}

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

/// A tar of entries whose names are not checked.
fn layer(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
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

use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};

#[test]
fn the_exit_code_is_the_programs_and_a_signal_counts_from_128() {
    let tree = tree();
    for sandbox in sandboxes() {
        assert_eq!(outcome(&sandbox, &shell(&tree, "exit 7")).0, 7);
        assert_eq!(outcome(&sandbox, &shell(&tree, "kill -9 $$")).0, 137);
    }
}

#[test]
fn the_program_sees_exactly_its_own_environment_ids_host_name_and_files() {
    let tree = tree();
    for sandbox in sandboxes() {
        let mut run = run_in(Root::Directory(tree.path().to_owned()), &["env"]);
        run.env.push(("A".to_owned(), "b c".to_owned()));
        assert_eq!(outcome(&sandbox, &run), (0, "A=b c\nPATH=/bin\n".to_owned()));
        let script = "id -u; id -g; echo $$; cat /proc/sys/kernel/hostname; ls /; ls /proc/self/fd";
        // The fourth descriptor is the listing's own.
        insta::allow_duplicates! {
            insta::assert_snapshot!(outcome(&sandbox, &shell(&tree, script)).1, @r"
            0
            0
            2
            box
            bin
            dev
            proc
            sys
            0
            1
            2
            3
            ");
        }
    }
    // The mount points are gone again.
    let left: Vec<_> =
        fs::read_dir(tree.path()).expect("tree").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(left, ["bin"]);
}

#[test]
fn both_streams_are_told_apart_and_lines_of_any_length_arrive() {
    let tree = tree();
    let mut lines = Vec::new();
    let script = "echo out; echo err >&2; printf 'no end'";
    let run = shell(&tree, script);
    sandbox().run(&run, Output::Lines(&mut |line| lines.push((line.stream, line.text))), &|| false).expect("runs");
    let of = |wanted| lines.iter().filter(|(stream, _)| *stream == wanted).map(|(_, text)| text.as_str()).collect();
    let (output, error): (Vec<&str>, Vec<&str>) = (of(Stream::Output), of(Stream::Error));
    assert_eq!((output, error), (vec!["out", "no end"], vec!["err"]));
}

#[test]
fn mounting_namespaces_devices_and_the_hosts_settings_are_out_of_reach() {
    let tree = tree();
    for sandbox in sandboxes() {
        for forbidden in [
            "mount -t tmpfs x /mnt",
            "unshare -U true",
            "unshare -m true",
            "echo 1 > /proc/sys/kernel/panic",
            "echo h > /proc/sysrq-trigger",
            "touch /sys/x",
            "ls /proc/1/root",
            "cat /proc/1/environ",
        ] {
            let (code, text) = outcome(&sandbox, &shell(&tree, &format!("mkdir -p /mnt; {forbidden}")));
            assert_ne!(code, 0, "{forbidden}: {text}");
        }
        let (_, text) = outcome(&sandbox, &shell(&tree, "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"));
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @r"
            CapEff:	00000000a00425fb
            NoNewPrivs:	1
            Seccomp:	2
            ");
        }
    }
}

#[test]
fn a_host_file_is_seen_only_where_it_is_mounted_and_written_only_where_that_is_allowed() {
    let (tree, host) = (tree(), folder());
    fs::write(host.path().join("f"), "host").expect("own folder");
    let mut run = shell(
        &tree,
        &format!("cat /a/f /b/deep/f; ls {0}/f; echo new > /a/f; echo new > /b/deep/f", host.path().display()),
    );
    run.mounts = vec![
        Mount { source: host.path().to_owned(), target: "/a".into(), access: Access::ReadOnly },
        Mount { source: host.path().to_owned(), target: "/b/deep".into(), access: Access::ReadWrite },
    ];
    let (code, text) = outcome(&sandbox(), &run);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("hosthost") && text.contains("No such file") && text.contains("Read-only"), "{text}");
    assert_eq!(fs::read_to_string(host.path().join("f")).expect("host"), "new\n");
    assert!(!tree.path().join("a").exists() && !tree.path().join("b").exists());
}

#[test]
fn with_the_hosts_network_its_resolver_is_there_and_leaves_nothing_behind() {
    let tree = tree();
    fs::create_dir(tree.path().join("etc")).expect("new");
    symlink("../run/nowhere/resolv.conf", tree.path().join("etc/resolv.conf")).expect("new");
    let mut run = shell(&tree, "cat /etc/resolv.conf; rm -f /etc/hosts");
    run.network = Network::Host;
    let (_, text) = outcome(&sandbox(), &run);
    let expected = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(text.starts_with(&expected), "{text}");
    assert!(!tree.path().join("run").exists() && !tree.path().join("etc/hosts").exists());
}

#[test]
fn the_user_is_found_in_the_tree_and_files_can_be_given_away() {
    let tree = tree();
    fs::create_dir(tree.path().join("etc")).expect("new");
    fs::write(tree.path().join("etc/passwd"), "ann:x:1000:1001::/:/bin/sh\n").expect("new");
    fs::write(tree.path().join("etc/group"), "wheel:x:10:ann\n").expect("new");
    for sandbox in sandboxes() {
        if sandbox.probe().expect("works") == Mode::UserNamespaceSingle {
            continue;
        }
        let mut run = shell(&tree, "id; grep CapEff /proc/self/status");
        run.user = User::Named("ann".to_owned());
        let (_, text) = outcome(&sandbox, &run);
        assert_eq!(text, "uid=1000(ann) gid=1001 groups=10(wheel)\nCapEff:\t0000000000000000\n");
        run.user = User::Named("bob".to_owned());
        let error = sandbox.run(&run, Output::Lines(&mut |_| ()), &|| false).expect_err("no bob");
        assert_eq!(error.to_string(), "the image has no user or group `bob`");
        assert_eq!(outcome(&sandbox, &shell(&tree, "touch /x; chown 5:6 /x; stat -c %u:%g /x")).1, "5:6\n");
    }
}

#[test]
fn orphans_are_reaped_by_process_1_and_what_runs_on_ends_with_the_program() {
    let tree = tree();
    // The inner shell ends at once, so that its child becomes process 1's. A zombie would keep its folder in /proc.
    let script = "sh -c 'true & echo $! > /pid'; i=0; while [ -e /proc/$(cat /pid) ] && [ $i -lt 100000 ]; do \
                  i=$((i+1)); done; [ -e /proc/$(cat /pid) ] && echo zombie; sleep 1000 & exit 0";
    assert_eq!(outcome(&sandbox(), &shell(&tree, script)), (0, String::new()));
}

/// Whether any process on this machine was started with `word` among its arguments.
fn is_running(word: &str) -> bool {
    fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
        let mut line = Vec::new();
        fs::File::open(entry.path().join("cmdline")).is_ok_and(|mut file| file.read_to_end(&mut line).is_ok())
            && String::from_utf8_lossy(&line).split('\0').any(|argument| argument == word)
    })
}

#[test]
fn a_cancelled_program_is_ended_with_its_grandchildren_even_if_it_ignores_that() {
    let tree = tree();
    let word = format!("1000.{}", std::process::id());
    let script = format!("trap '' TERM; (sh -c 'trap \"\" TERM; sleep {word}; true') & echo up; wait");
    let run = shell(&tree, &script);
    let up = AtomicBool::new(false);
    let mut on_line = |_: Line| up.store(true, Ordering::SeqCst);
    let cancelled = || up.load(Ordering::SeqCst);
    let error = sandbox().run(&run, Output::Lines(&mut on_line), &cancelled).expect_err("cancelled");
    assert!(matches!(error, SandboxError::Cancelled), "{error:?}");
    assert!(!is_running(&word));
}

#[test]
fn errors_name_what_failed() {
    let tree = tree();
    let told = |run: &Run| {
        let error = sandbox().run(run, Output::Lines(&mut |_| ()), &|| false).expect_err("it cannot start");
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    };
    let missing = run_in(Root::Directory(tree.path().to_owned()), &["nothing"]);
    insta::assert_snapshot!(told(&missing), @"cannot start `nothing`: No such file or directory (os error 2)");
    let mut nowhere = shell(&tree, "true");
    nowhere.cwd = PathBuf::from("/nowhere");
    insta::assert_snapshot!(told(&nowhere), @"cannot enter the working directory `/nowhere` in the sandbox: No such file or directory (os error 2)");
    let no_tree = run_in(Root::Directory(PathBuf::from("/does/not/exist")), &["true"]);
    insta::assert_snapshot!(told(&no_tree), @"cannot open `/does/not/exist` in the sandbox: No such file or directory (os error 2)");
    let error = Sandbox::new(PathBuf::from("/bin/nothing")).probe().expect_err("no launcher");
    assert_eq!(error.to_string(), "cannot start `/bin/nothing` for the sandbox");
}

#[test]
fn an_overlay_of_a_hundred_trees_with_long_names_shows_each_and_changes_none() {
    let (tree, folder) = (tree(), folder());
    let mut lowers = vec![tree.path().to_owned()];
    for number in 0..100 {
        let lower = folder.path().join(format!("{number:0>200}"));
        fs::create_dir_all(lower.join("d")).expect("new");
        fs::write(lower.join("d").join(format!("{number}")), "x").expect("new");
        fs::write(lower.join("top"), number.to_string()).expect("new");
        lowers.push(lower);
    }
    for sandbox in sandboxes() {
        let (root, upper) = overlay(&folder, lowers.clone());
        let script = "cat /top; ls /d | grep -c .; rm /d/5; echo new > /d/new";
        let (code, text) = outcome(&sandbox, &run_in(root, &["sh", "-c", script]));
        assert_eq!((code, text.as_str()), (0, "99100\n"));
        let changed: BTreeSet<_> =
            fs::read_dir(upper.join("d")).expect("changed").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(changed, BTreeSet::from(["5".into(), "new".into()]));
        assert!(lowers[6].join("d/5").exists());
        sandbox.remove(&upper).expect("own tree");
        sandbox.remove(&folder.path().join("work")).expect("own tree");
    }
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
    let cases: [(&[(tar::EntryType, &str, &str)], &str); 12] = [
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

#[test]
fn two_sandboxes_at_once_do_not_disturb_each_other() {
    let (sandbox, shared) = (sandbox(), folder());
    let trees = [tree(), tree()];
    std::thread::scope(|scope| {
        let runs = [("a", "b"), ("b", "a")].map(|(own, other)| {
            let tree = &trees[usize::from(own == "b")];
            let script = format!(
                "touch /{own} /shared/{own}; i=0; until [ -e /shared/{other} ] || [ $i -gt 1000000 ]; do i=$((i+1)); \
                 done; ls /shared; echo $$; [ -e /{other} ] && echo leak; exit 4"
            );
            let mut run = shell(tree, &script);
            run.mounts =
                vec![Mount { source: shared.path().to_owned(), target: "/shared".into(), access: Access::ReadWrite }];
            let sandbox = &sandbox;
            scope.spawn(move || outcome(sandbox, &run))
        });
        for run in runs {
            assert_eq!(run.join().expect("no panic"), (4, "a\nb\n2\n".to_owned()));
        }
    });
}

/// Runs the launcher as somebody who is not root.
fn as_nobody(launcher: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(launcher)
        .args(arguments)
        .output()
        .expect("setpriv starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn an_ordinary_user_is_root_inside_and_giving_files_away_seems_to_work() {
    if !is_root() {
        return;
    }
    let (tree, folder) = (tree(), folder());
    let launcher = folder.path().join("launcher");
    fs::copy(self::launcher(), &launcher).expect("copied");
    std::os::unix::fs::chown(tree.path(), Some(65534), Some(65534)).expect("root");
    assert_eq!(as_nobody(&launcher, &["probe"]), (Some(0), "user-namespace-single\n".to_owned()));
    let script = "id -u; touch /x; chown 5:6 /x && stat -c %u:%g /x; cat /proc/self/uid_map; exit 9";
    let root = tree.path().to_str().expect("text");
    let (code, text) = as_nobody(&launcher, &["run", root, "sh", "-c", script]);
    assert_eq!((code, text.as_str()), (Some(9), "0\n0:0\n         0      65534          1\n"));
    assert_eq!(fs::metadata(tree.path().join("x")).expect("made").uid(), 65534);
}
