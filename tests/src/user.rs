//! An ordinary user with a subordinate range of ids, as distributions give one to everybody. Made up for the test, in a
//! mount namespace whose `/etc` knows of him; nothing of this machine is changed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::engine::is_root;
use crate::environment::TestEnv;

const NAME: &str = "imagespec-test";
const ID: u32 = 61_234;

/// The user. Only root can become him.
pub struct OrdinaryUser {
    folder: TempDir,
}

impl OrdinaryUser {
    /// Makes him up.
    ///
    /// # Errors
    /// Why that is not possible here, in one line.
    pub fn new() -> Result<Self, String> {
        if !is_root() {
            return Err("only root can become somebody else".to_owned());
        }
        if !Path::new("/usr/bin/newuidmap").is_file() {
            return Err("there is no `newuidmap`; Debian's package uidmap has it".to_owned());
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let add = |file: &str, line: String| {
            let known = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            fs::write(folder.path().join(file), format!("{known}{line}\n")).expect("a file can be written");
        };
        add("passwd", format!("{NAME}:x:{ID}:{ID}::/nonexistent:/bin/sh"));
        add("group", format!("{NAME}:x:{ID}:"));
        add("subuid", format!("{NAME}:700000:65536"));
        add("subgid", format!("{NAME}:700000:65536"));
        let user = Self { folder };
        let tried = user.of(&Command::new("true")).output().map_err(|error| format!("unshare: {error}"))?;
        if tried.status.success() { Ok(user) } else { Err(String::from_utf8_lossy(&tried.stderr).into_owned()) }
    }

    /// The program as he runs it in the folder of `env`, which is his from now on.
    pub fn command(&self, env: &TestEnv, arguments: &[&str]) -> Command {
        let command = env.command(arguments);
        // The program may lie where only root looks.
        let program = env.path().join("imagespec");
        if !program.exists() {
            fs::copy(command.get_program(), &program).expect("the program can be copied");
        }
        for entry in walkdir::WalkDir::new(env.path()) {
            lchown(entry.expect("a folder of the test can be read").path(), Some(ID), Some(ID)).expect("root may");
        }
        let mut own = Command::new(program);
        own.args(command.get_args()).current_dir(env.path()).env_clear();
        for (name, value) in command.get_envs() {
            own.env(name, value.unwrap_or_default());
        }
        self.of(&own)
    }

    /// `command` as he would start it.
    fn of(&self, command: &Command) -> Command {
        let script = "set -e; etc=$1; shift
            for file in passwd group subuid subgid; do
                mount --bind $etc/$file /etc/$file
            done
            exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups -- \"${@:2}\"";
        let mut own = Command::new("unshare");
        own.args(["--mount", "--propagation", "private", "--", "bash", "-c", script, "bash"]);
        own.arg(self.folder.path()).arg(ID.to_string()).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            own.current_dir(folder);
        }
        own.env_clear();
        for (name, value) in command.get_envs() {
            own.env(name, value.unwrap_or_default());
        }
        // What finds newuidmap, and the programs above.
        if !command.get_envs().any(|(name, _)| name.as_bytes() == b"PATH") {
            own.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        own
    }
}
