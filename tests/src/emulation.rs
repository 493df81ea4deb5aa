//! Another processor on this machine: the program is run where the kernel knows qemu as an emulator for AArch64. That is
//! the machine itself, or namespaces with a table of emulators of their own, which Linux has since 6.7.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::TestEnv;
use crate::engine::is_root;
use crate::environment::Finished;

/// Where the kernel lists its emulators.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";
/// What Debian's qemu-user-static calls its emulator.
const EMULATOR: &str = "/usr/bin/qemu-aarch64-static";
/// How programs for AArch64 begin, and which bits of that count (ELF header). `F` has the kernel hold the emulator open.
const RULE: &str = concat!(
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F",
);
/// Waits until the parent has said who is who in the new namespace.
const SCRIPT: &str = r#"echo ready; read -r go; mount --make-rprivate / &&
    mount -t binfmt_misc binfmt_misc "$1" && printf %s "$2" > "$1/register" && shift 2 && exec "$@""#;

/// Programs for AArch64 run.
pub struct Emulation {
    is_own: bool,
}

impl Emulation {
    /// Finds out whether they do.
    ///
    /// # Errors
    /// Why they do not.
    pub fn arm64() -> Result<Self, String> {
        if Path::new(HANDLERS).join("qemu-aarch64").exists() {
            return Ok(Self { is_own: false });
        }
        if !Path::new(EMULATOR).is_file() {
            return Err(format!("there is no `{EMULATOR}`; Debian's package qemu-user-static has it"));
        }
        let tried = run_apart(Command::new("true"));
        match tried.code {
            0 => Ok(Self { is_own: true }),
            _ => Err(format!("no emulator can be registered: {}", tried.stderr.trim())),
        }
    }

    /// Runs the program in the folder of `env`, with the variables by which this machine reaches the network.
    pub fn run(&self, env: &TestEnv, arguments: &[&str]) -> Finished {
        if !self.is_own {
            return env.run_online(arguments, &[]);
        }
        let mut command = env.command(arguments);
        command.envs(crate::network_variables());
        run_apart(command)
    }
}

/// Runs `command` in namespaces with an emulator.
fn run_apart(command: Command) -> Finished {
    let mut apart = Command::new("unshare");
    // Root is root in there, and everybody else is who they are; a user is root, and nobody else is anybody.
    apart.args(if is_root() { ["--user", "--mount"].as_slice() } else { &["--user", "--mount", "--map-root-user"] });
    apart.args(["sh", "-c", SCRIPT, "sh", HANDLERS, RULE]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        apart.current_dir(folder).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    }
    apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    apart.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = apart.spawn().expect("`unshare` is there, as on every Linux");
    let mut ready = [0; 6];
    let is_ready = child.stdout.as_mut().expect("it is piped").read_exact(&mut ready).is_ok();
    if is_ready && is_root() {
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{map}", child.id()), "0 0 4294967295\n").expect("root may map everybody");
        }
    }
    // One that has ended already says why on stderr.
    let _ = child.stdin.take().expect("it is piped").write_all(b"go\n");
    let output = child.wait_with_output().expect("it can be waited for");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}
