//! Programs in the sandbox: what they see, what they may, and how they end.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use imagespec_builder_oci::sandbox::{
    Access, Line, Mode, Mount, Network, Output, Root, Run, Sandbox, SandboxError, Stream, User,
};
use imagespec_core::builder::Restart;

use crate::{copy_program, folder, is_root, launcher, outcome, overlay, run_in, sandbox, sandboxes, shell, tree};

#[test]
fn the_exit_code_is_the_programs_and_a_signal_counts_from_128() {
    let tree = tree();
    for sandbox in sandboxes() {
        assert_eq!(outcome(&sandbox, &shell(&tree, "exit 7")).0, 7);
        for (signal, code) in [(9, 137), (15, 143), (2, 130), (1, 129)] {
            assert_eq!(outcome(&sandbox, &shell(&tree, &format!("kill -{signal} $$"))).0, code, "{signal}");
        }
    }
}

#[test]
fn the_program_sees_exactly_its_own_environment_ids_host_name_and_files() {
    let tree = tree();
    for sandbox in sandboxes() {
        let mut run = run_in(Root::Directory(tree.path().to_owned()), &["env"]);
        run.env.push(("A".to_owned(), "b c".to_owned()));
        assert_eq!(outcome(&sandbox, &run), (0, "A=b c\nHOME=/root\nPATH=/bin\n".to_owned()));
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
    let script = "echo out; echo err >&2; printf '%070000d\\n' 1; printf 'no end'";
    let run = shell(&tree, script);
    sandbox().run(&run, Output::Lines(&mut |line| lines.push((line.stream, line.text))), &|| false).expect("runs");
    let of = |wanted| lines.iter().filter(|(stream, _)| *stream == wanted).map(|(_, text)| text.as_str()).collect();
    let (output, error): (Vec<&str>, Vec<&str>) = (of(Stream::Output), of(Stream::Error));
    let lengths: Vec<usize> = output.iter().map(|line| line.len()).collect();
    assert_eq!((lengths, error), (vec![3, 65_536, 70_000 - 65_536, 6], vec!["err"]));
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
fn nothing_waits_for_the_disk() {
    let tree = tree();
    for sandbox in sandboxes() {
        // Outside, the null device cannot be synced.
        assert_eq!(outcome(&sandbox, &shell(&tree, "busybox dd if=/dev/null of=/dev/null conv=fsync")).0, 0);
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
    // Which of both streams is read first is up to chance, so only one is written to.
    let mut run = shell(&tree, "cat /etc/resolv.conf; rm -f /etc/hosts 2>/dev/null");
    run.network = Network::Host;
    let (_, text) = outcome(&sandbox(), &run);
    let expected = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(text.trim_end(), expected.trim_end());
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

/// Whether any process on this machine was started with `word` in its arguments. A script has it there, whatever the
/// shell makes of its commands.
fn is_running(word: &str) -> bool {
    fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
        let mut line = Vec::new();
        fs::File::open(entry.path().join("cmdline")).is_ok_and(|mut file| file.read_to_end(&mut line).is_ok())
            && String::from_utf8_lossy(&line).contains(word)
    })
}

#[test]
fn a_cancelled_program_is_ended_with_its_grandchildren_even_if_it_ignores_that() {
    let tree = tree();
    let word = format!("1000.{}", std::process::id());
    let script = format!("trap '' TERM; (sh -c 'trap \"\" TERM; sleep {word}; true') & echo up; wait");
    let run = shell(&tree, &script);
    let up = AtomicBool::new(false);
    let mut on_line = |_: Line| {
        assert!(is_running(&word));
        up.store(true, Ordering::SeqCst);
    };
    let cancelled = || up.load(Ordering::SeqCst);
    let error = sandbox().run(&run, Output::Lines(&mut on_line), &cancelled).expect_err("cancelled");
    assert!(matches!(error, SandboxError::Cancelled), "{error:?}");
    assert!(!is_running(&word));
}

#[test]
fn a_builder_that_is_killed_leaves_no_process_behind() {
    let tree = tree();
    let word = format!("2000.{}", std::process::id());
    let builder = Command::new(launcher())
        .arg("run")
        .arg(tree.path())
        .args(["sh", "-c", &format!("sleep {word} & echo up; wait")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut builder = Killed(builder);
    let mut output = builder.0.stdout.take().expect("piped");
    output.read_exact(&mut [0; 3]).expect("it is up");
    assert!(is_running(&word));
    drop(builder);
    // The sandbox holds the pipe for as long as any of it lives.
    output.read_to_end(&mut Vec::new()).expect("it ends");
    assert!(!is_running(&word));
}

/// A process that does not outlive its test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_the_builders_own_parent_left_open_does_not_get_in() {
    let tree = tree();
    let script = "exec 9</; exec \"$0\" run \"$1\" ls /proc/self/fd";
    let output = Command::new("sh").args(["-c", script]).arg(launcher()).arg(tree.path()).output().expect("starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
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
    nowhere.cwd = PathBuf::from("/bin/busybox/within");
    insta::assert_snapshot!(told(&nowhere), @"cannot enter the working directory `/bin/busybox/within` in the sandbox: Not a directory (os error 20)");
    let no_tree = run_in(Root::Directory(PathBuf::from("/does/not/exist")), &["true"]);
    insta::assert_snapshot!(told(&no_tree), @"cannot open `/does/not/exist` in the sandbox: No such file or directory (os error 2)");
    let error = Sandbox::new(Restart::bundled(PathBuf::from("/bin/nothing"))).probe().expect_err("no launcher");
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
    copy_program(&self::launcher(), &launcher);
    std::os::unix::fs::chown(tree.path(), Some(65534), Some(65534)).expect("root");
    assert_eq!(as_nobody(&launcher, &["probe"]), (Some(0), "user-namespace-single\n".to_owned()));
    let script = "id -u; touch /x; chown 5:6 /x && stat -c %u:%g /x; cat /proc/self/uid_map; exit 9";
    let root = tree.path().to_str().expect("text");
    let (code, text) = as_nobody(&launcher, &["run", root, "sh", "-c", script]);
    assert_eq!((code, text.as_str()), (Some(9), "0\n0:0\n         0      65534          1\n"));
    assert_eq!(fs::metadata(tree.path().join("x")).expect("made").uid(), 65534);
}

#[test]
fn a_tied_program_of_this_machine_ends_with_the_one_that_started_it() {
    let mut tie = sandbox().tie();
    // The shell is the one that starts it.
    let launcher = tie.remove(0).into_string().unwrap();
    let script = format!("{launcher} __sandbox tied $$ sleep 1000 & echo $!; wait");
    let mut shell = std::process::Command::new("sh");
    let mut shell = shell.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let process = format!("/proc/{}", line.trim());
    let name = || std::fs::read_to_string(format!("{process}/comm")).unwrap_or_default();
    let state = || std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    let start = std::time::Instant::now();
    while name().trim() != "sleep" {
        assert!(start.elapsed().as_secs() < 20, "{}", state());
        std::thread::yield_now();
    }
    shell.kill().unwrap();
    shell.wait().unwrap();
    // Nobody may be there to take note of its end.
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(start.elapsed().as_secs() < 20, "{}", state());
        std::thread::yield_now();
    }
}
