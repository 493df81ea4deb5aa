//! docs/plugins.md, done word for word by somebody who has nothing but the program, a toolchain and a checkout.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagespec_tests::{TestEnv, network_variables};
use tempfile::TempDir;

/// What the guide's image is, whoever builds it.
const IMAGE: &str = "alpine@sha256:beefdbd8a1da6d2915566fde36db9db0b524eb737fc57cd1367effd16dc0d06d";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/plugins.md")).unwrap()
}

/// The blocks of the page that are marked as `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match &mut open {
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => *block += &format!("{line}\n"),
            None if line.strip_prefix("```") == Some(language) => open = Some(String::new()),
            None => {}
        }
    }
    blocks
}

/// A newcomer: a home folder with a checkout in it, and an empty folder to work in.
struct Newcomer {
    folder: TempDir,
}

impl Newcomer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for path in ["home", "work", "programs"] {
            fs::create_dir(folder.path().join(path)).unwrap();
        }
        symlink(root(), folder.path().join("home/imagespec")).unwrap();
        let program = TestEnv::new().command(&[]).get_program().to_owned();
        symlink(program, folder.path().join("programs/imagespec")).unwrap();
        Self { folder }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Runs `script` as a shell does that stops at the first error; gives what came to stdout and to stderr.
    fn shell(&self, script: &str) -> (String, String) {
        let programs = self.folder.path().join("programs").display().to_string();
        let home = std::env::var("HOME").unwrap_or_default();
        // The toolchain is the machine's, and all else of the home folder is not.
        let machine =
            |variable: &str, folder: &str| std::env::var(variable).unwrap_or_else(|_| format!("{home}/{folder}"));
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", script]).current_dir(self.work()).env_clear().envs(network_variables());
        command.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
        command.env("HOME", self.folder.path().join("home"));
        command.env("CARGO_HOME", machine("CARGO_HOME", ".cargo"));
        command.env("RUSTUP_HOME", machine("RUSTUP_HOME", ".rustup"));
        // What the workspace needs was fetched when this test was built, in versions that fit each other.
        command.env("CARGO_NET_OFFLINE", "true");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{script}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }
}

#[test]
fn the_guide_works_word_for_word_in_an_empty_folder() {
    let newcomer = Newcomer::new();
    let script = blocks(&page(), "sh").concat();
    assert!(script.contains("imagespec plugin new ") && script.contains("imagespec build --builder "), "{script}");
    let (stdout, stderr) = newcomer.shell(&script);
    assert!(stdout.lines().next() == Some("hello"), "{stdout}");
    let built: Vec<_> = stdout.lines().filter(|line| line.contains("@sha256:")).collect();
    assert_eq!(built, [IMAGE; 3], "{stdout}");
    assert_eq!(stdout.lines().last(), Some(IMAGE), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("hello")), "`imagespec builders` lists it: {stdout}");
    // Its greeting, and what it traces.
    assert!(stderr.contains("good morning"), "{stderr}");
    assert!(stderr.contains("the base is the image"), "{stderr}");
    newcomer.shell("cd hello\ncargo fmt --all --check\n");
}

#[test]
#[ignore = "compiles what clippy wants of all packages; tests/slow runs it"]
fn a_new_plugin_passes_what_its_own_ci_asks_for() {
    let newcomer = Newcomer::new();
    newcomer.shell("imagespec plugin new hello --sdk ~/imagespec\n");
    let workflow = fs::read_to_string(newcomer.work().join("hello/.github/workflows/ci.yml")).unwrap();
    // What clippy makes of the dependencies is kept: they take a minute.
    let kept = format!("CARGO_TARGET_DIR='{}/guide'", env!("CARGO_TARGET_TMPDIR"));
    for command in ["cargo fmt --all --check", "cargo clippy --all-targets -- -D warnings", "cargo test"] {
        assert!(workflow.contains(&format!("- run: {command}\n")), "{workflow}");
        newcomer.shell(&format!("cd hello\n{kept} {command}\n"));
    }
}

#[test]
fn what_is_written_is_formatted_whatever_its_name_is() {
    let newcomer = Newcomer::new();
    for name in ["a", "z-9_b", "a-name-of-forty-characters-which-is-most"] {
        newcomer.shell(&format!(
            "imagespec plugin new {name} --sdk ~/imagespec 2>&1\ncd {name}\ncargo fmt --all --check\n"
        ));
    }
}

#[test]
fn the_walk_through_noop_quotes_all_of_it_in_order() {
    let source = fs::read_to_string(root().join("plugins/noop/src/lib.rs")).unwrap();
    let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&blocks(&page(), "rust").concat()), lines(&source), "docs/plugins.md, ```rust");
}
