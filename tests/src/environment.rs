//! A folder with a cache of its own, in which the program is run as a user would.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use tempfile::TempDir;

use crate::engine::is_root;
use crate::lint::lint_own;
use crate::quickstart::network_variables;
use crate::registry::output;

/// A folder, a cache and no other setting.
pub struct TestEnv {
    folder: Arc<TempDir>,
    program: PathBuf,
    /// Which test wrote a file: those that share a folder run at once.
    writers: Mutex<HashMap<PathBuf, ThreadId>>,
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEnv {
    /// An empty folder.
    pub fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder can be made"));
        Self { folder, program: program("imagespec", "cargo build"), writers: Mutex::default() }
    }

    /// An empty folder, in which the program without bundled builders is run.
    pub fn slim() -> Self {
        Self::new().as_slim()
    }

    /// The same folder, in which the program without bundled builders is run.
    #[must_use]
    pub fn as_slim(&self) -> Self {
        let build = "cargo build -p imagespec-cli --no-default-features && \
                     cp -f target/debug/imagespec target/debug/imagespec-slim && cargo build";
        let (folder, program) = (Arc::clone(&self.folder), program("imagespec-slim", build));
        Self { folder, program, writers: Mutex::default() }
    }

    /// An empty folder, and a cache that has `bootstrap:debian/bookworm` with and without Python, which takes a while to make.
    /// It is made once for all processes, by the program itself, and kept from one run to the next: it is found for as
    /// long as the program makes the same of what Debian has.
    pub fn with_debian() -> Self {
        let shared = temporary_folder().join("debian");
        fs::create_dir_all(&shared).expect("a folder can be made");
        let lock = fs::File::create(shared.join("lock")).expect("a file can be written");
        lock.lock().expect("a file can be locked");
        let made = Self::new();
        made.write("without.yaml", "name: without\nbase_image: bootstrap:debian/bookworm\n");
        made.write("with.yaml", "name: with\npython_version: 3.11\n");
        let cache = shared.join("cache").display().to_string();
        let built =
            made.run_online(&["build", "without.yaml", "with.yaml", "--force"], &[("IMAGESPEC_CACHE_DIR", &cache)]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let env = Self::new();
        for entry in walkdir::WalkDir::new(&cache) {
            let entry = entry.expect("a cache can be read");
            let inside = entry.path().strip_prefix(&cache).expect("it lies in the cache");
            let target = env.path().join("cache").join(inside);
            let is_wanted = inside.starts_with("blobs") || inside.starts_with("records");
            if entry.file_type().is_dir() {
                fs::create_dir_all(target).expect("a folder can be made");
            } else if is_wanted {
                // Content never changes; where that is what is tested, nobody should share it.
                fs::hard_link(entry.path(), &target)
                    .or_else(|_| fs::copy(entry.path(), target).map(drop))
                    .expect("a copy");
            }
        }
        env
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When another test, which shares the folder, wrote one of that name.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        let me = thread::current().id();
        let writer = *self.writers.lock().expect("nobody panics in it").entry(path.clone()).or_insert(me);
        assert_eq!(writer, me, "two tests of one folder write {}", path.display());
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }

    /// Runs the program in the folder.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, &[])
    }

    /// Runs the program in the folder, with `variables` and those by which this machine reaches the network.
    pub fn run_online(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let machine = network_variables();
        let machine = machine.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.run_with(arguments, &machine.chain(variables.iter().copied()).collect::<Vec<_>>())
    }

    /// Runs the program in the folder with further variables.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        self.finish(arguments, self.command(arguments).envs(variables.iter().copied()))
    }

    fn finish(&self, arguments: &[&str], command: &mut Command) -> Finished {
        let output = command.output().expect("the program starts");
        if output.status.success() {
            self.lint(arguments);
        }
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    /// Runs the program in the folder, in a network namespace without a single interface.
    pub fn run_without_network(&self, arguments: &[&str]) -> Finished {
        self.run_without_network_with(arguments, &[])
    }

    /// The same with further variables.
    pub fn run_without_network_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut inner = self.command(arguments);
        inner.envs(variables.iter().copied());
        let mut command = Command::new("unshare");
        // An ordinary user may do so as root of a namespace of users.
        command.arg(if is_root() { "-n" } else { "-rn" }).arg(inner.get_program()).args(inner.get_args());
        let variables = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.current_dir(self.path()).env_clear().env("PATH", path).envs(variables);
        self.finish(arguments, &mut command)
    }

    /// Checks the layout that a build wrote, whatever else its test looks at.
    fn lint(&self, arguments: &[&str]) {
        let outputs = arguments.iter().filter_map(|argument| argument.split_once("type=oci,dest="));
        for (_, layout) in outputs.filter(|_| arguments.first() == Some(&"build")) {
            let layout = self.path().join(layout);
            // `--dry-run` writes none.
            if layout.exists() {
                let problems = lint_own(&layout);
                assert!(problems.is_empty(), "{arguments:?} wrote an improper layout:\n{}", problems.join("\n"));
            }
        }
    }

    /// The program in the folder, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.path()).env_clear();
        command.env("HOME", self.path().join("home")).env("IMAGESPEC_CACHE_DIR", self.path().join("cache"));
        command
    }
}

/// What a program of somebody else prints on stdout; it must succeed.
pub fn outsider(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(output(Command::new(program).args(arguments))).expect("stdout is UTF-8")
}

/// Where cargo lets tests keep files.
pub(crate) fn temporary_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors().nth(3).expect("a test lies in `target/debug/deps`").join("tmp")
}

/// A program, which `tests/run` builds before the tests, as `build` does.
fn program(name: &str, build: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let program = test.ancestors().nth(2).expect("a test lies in `deps`").join(name);
    assert!(program.is_file(), "`{}` is absent: run `{build}` first, or `tests/run`", program.display());
    program
}
