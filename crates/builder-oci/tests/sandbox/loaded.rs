//! Sandboxes of a builder that was loaded: every process of theirs inherits what it loads the builder from.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Instant;

use imagespec_builder_oci::sandbox::{
    ArchiveOptions, Devices, ExitStatus, Form, Line, Mode, Output, Sandbox, UnpackOptions, Whiteouts,
};
use imagespec_core::builder::Restart;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{folder, is_root, launcher, shell, tree};

/// A builder's code for the launcher.
struct Code {
    name: String,
    file: File,
}

impl Code {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        // It closes at no `exec`.
        let mut file = File::from(memfd_create(&name, MemfdFlags::empty()).expect("memory"));
        file.write_all(name.as_bytes()).expect("memory");
        Self { name, file }
    }

    fn restart(&self) -> Restart {
        let number = self.file.as_raw_fd();
        let arguments = ["loaded", &self.name, &number.to_string()].map(str::to_owned);
        Restart { program: launcher(), arguments: arguments.into(), descriptor: Some(number) }
    }

    /// The processes of its sandboxes that have it open, by what they were started as.
    fn holders(&self) -> Vec<String> {
        let mut holders = Vec::new();
        for process in fs::read_dir("/proc").expect("proc").flatten() {
            // Any of them may end while it is looked at.
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let mut files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            let has_it = |link: fs::DirEntry| {
                fs::read_link(link.path()).is_ok_and(|target| target.to_string_lossy().contains(&self.name))
            };
            if line.contains(&self.name) && files.any(has_it) {
                holders.push(line);
            }
        }
        holders
    }
}

fn sandboxes(code: &Code) -> Vec<Sandbox> {
    let modes = if is_root() { vec![Mode::UserNamespaceFull, Mode::Root] } else { vec![] };
    let chosen = modes.into_iter().map(|mode| Sandbox::with_mode(code.restart(), mode));
    std::iter::once(Sandbox::new(code.restart())).chain(chosen).collect()
}

#[test]
fn every_process_of_a_sandbox_loads_the_builder_and_the_program_has_nothing_of_it() {
    let (code, tree) = (Code::new("imagespec-loaded-run"), tree());
    for sandbox in sandboxes(&code) {
        let mut lines = Vec::new();
        let mut left = None;
        let mut on_line = |line: Line| {
            lines.push(line.text);
            if lines.last().is_some_and(|line| line == "up") {
                // Nor do the processes around it, each of which has it until the next one is started.
                let start = Instant::now();
                let mut holders = code.holders();
                while !holders.is_empty() && start.elapsed().as_secs() < 20 {
                    std::thread::yield_now();
                    holders = code.holders();
                }
                left = Some(holders);
                fs::write(tree.path().join("go"), "").expect("own folder");
            }
        };
        // The fourth descriptor is the listing's own.
        let script = "ls /proc/self/fd; echo up; until [ -e /go ]; do true; done; rm /go; exit 5";
        let status = sandbox.run(&shell(&tree, script), Output::Lines(&mut on_line), &|| false).expect("it starts");
        assert_eq!(status, ExitStatus { code: 5 });
        assert_eq!(lines, ["0", "1", "2", "3", "up"]);
        assert_eq!(left, Some(Vec::new()));
    }
}

#[test]
fn trees_are_unpacked_archived_and_removed_by_a_builder_that_was_loaded() {
    let (code, source, folder) = (Code::new("imagespec-loaded-tree"), folder(), folder());
    fs::write(source.path().join("file"), "content").expect("own folder");
    for sandbox in sandboxes(&code) {
        let mut layer = Vec::new();
        let options = ArchiveOptions { form: Form::Tree, exclude: Vec::new(), newest_kept: 0, otherwise: 0 };
        sandbox.archive(source.path(), &options, &mut layer).expect("archived");
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("own folder");
        let options = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Refuse };
        sandbox.unpack(&root, &mut layer.as_slice(), options).expect("unpacked");
        assert_eq!(fs::read_to_string(root.join("file")).expect("unpacked"), "content");
        sandbox.remove(&root).expect("removed");
        assert!(!root.exists());
    }
}

#[test]
fn a_tied_program_has_nothing_of_a_builder_that_was_loaded() {
    let code = Code::new("imagespec-loaded-tied");
    let mut tie = Sandbox::new(code.restart()).tie();
    let program = tie.remove(0);
    let output = Command::new(program).args(tie).args(["ls", "/proc/self/fd"]).output().expect("it starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
}
