//! The processes that the program starts itself as: entry, descriptors, namespaces, and the operations on trees.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::wire::{Channel, Operation, Place, Reply, Setup};
use super::{ARGUMENT, Failure, Mode, Network, archive, init, program, unpack};

/// Argument of the process that becomes the first of a process namespace.
const INIT: &str = "init";
/// Argument of the process that becomes the program.
const PROGRAM: &str = "program";

/// The exit code of a program that could not be started.
const NOT_STARTED: u8 = 126;
/// Argument of the process that becomes a program of this machine, which ends with whoever started it.
pub(super) const TIED: &str = "tied";

/// Acts as a part of a sandbox. The program calls this first thing in its own `main`, before it starts any thread, when
/// its first argument is [`ARGUMENT`], and exits with what it gives.
pub fn main() -> ExitCode {
    close_descriptors();
    if std::env::args_os().nth(2).is_some_and(|stage| stage == TIED) {
        return tied();
    }
    let Ok(channel) = Channel::inherited() else { return ExitCode::FAILURE };
    let result = match std::env::args_os().nth(2).as_deref().map(OsStr::as_bytes) {
        None => outside(&channel),
        Some(stage) if stage == INIT.as_bytes() => init::main(&channel).map(Some),
        Some(stage) if stage == PROGRAM.as_bytes() => program::main(&channel).map(|never| match never {}),
        Some(_) => Err(Failure::Protocol { reason: "unknown stage".to_owned() }),
    };
    let reply = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(reply)) => reply,
        Err(failure) => Reply::Failed(failure),
    };
    // If nobody listens any more, nobody wants to know.
    match channel.send(&reply) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `tied PARENT PROGRAM ARGUMENTS…`: becomes the program, unless the parent is gone already.
fn tied() -> ExitCode {
    let mut arguments = std::env::args_os().skip(3);
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse().ok());
    let program = arguments.next();
    let is_tied = die_with_parent().is_ok() && Some(nix::unistd::getppid().as_raw()) == parent;
    if let (Some(program), true) = (program, is_tied) {
        // It comes back only if the program could not be started.
        let _ = Command::new(program).args(arguments).exec();
    }
    ExitCode::from(NOT_STARTED)
}

/// Closes what the builder's own parent left open: a folder among it would be a way out of the sandbox.
fn close_descriptors() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // One of them was the listing's own, which is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Starts this very program as another stage.
fn start_stage(launcher: &Path, stage: &str, channel: Stdio) -> io::Result<std::process::Child> {
    Command::new(launcher).arg(ARGUMENT).arg(stage).env_clear().stdin(channel).stdout(Stdio::null()).spawn()
}

/// Starts the stage that becomes the program.
pub(super) fn start_program(launcher: &Path, channel: Stdio) -> io::Result<std::process::Child> {
    start_stage(launcher, PROGRAM, channel)
}

/// Receives a frame that must come.
pub(super) fn demand<T: serde::de::DeserializeOwned>(channel: &Channel) -> Result<T, Failure> {
    let received = channel.receive().map_err(Failure::system("read", "orders"))?;
    received.ok_or_else(|| Failure::Protocol { reason: "no orders".to_owned() })
}

/// Asks the kernel to be killed when the parent ends.
pub(super) fn die_with_parent() -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(Failure::system("set", "parent death signal"))
}

/// The first process, outside of the process namespace that it makes.
fn outside(channel: &Channel) -> Result<Option<Reply>, Failure> {
    let setup: Setup = demand(channel)?;
    let mut flags = CloneFlags::CLONE_NEWNS;
    if setup.mode.has_user_namespace() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    if let Place::Init(network) = setup.place {
        flags |= CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
        if network == Network::None {
            flags |= CloneFlags::CLONE_NEWNET;
        }
    }
    unshare(flags).map_err(Failure::system("make", "namespaces"))?;
    // Only now: a change of credentials takes the signal back.
    die_with_parent()?;
    if nix::unistd::getppid().as_raw().cast_unsigned() != setup.parent {
        return Err(Failure::Protocol { reason: "the builder is gone".to_owned() });
    }
    channel.send(&Reply::Unshared).map_err(Failure::system("send", "reply"))?;
    let () = demand(channel)?;
    match setup.place {
        Place::Here => here(channel, setup.mode).map(Some),
        Place::Init(_) => {
            // Not every kernel has cgroup namespaces; without one, the host's names of groups are seen.
            let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
            stand_by(channel)
        }
    }
}

/// Does an operation on a tree.
fn here(channel: &Channel, mode: Mode) -> Result<Reply, Failure> {
    channel.send(&Reply::Ready).map_err(Failure::system("send", "reply"))?;
    let received = channel.receive_with().map_err(Failure::system("read", "orders"))?;
    let Some((operation, mut descriptors)) = received else {
        return Err(Failure::Protocol { reason: "no orders".to_owned() });
    };
    let mut stream = || descriptors.pop().ok_or_else(|| Failure::Protocol { reason: "no stream".to_owned() });
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    match operation {
        Operation::Unpack { root, options } => {
            confine(&root)?;
            unpack::unpack(stream()?, options, mode)?;
        }
        Operation::Archive { root, options } => {
            confine(&root)?;
            archive::archive(stream()?, &options, mode)?;
        }
        Operation::Remove { path } => remove(&path)?,
        Operation::Probe | Operation::Run { .. } => {
            return Err(Failure::Protocol { reason: "this needs a process namespace".to_owned() });
        }
    }
    Ok(Reply::Done)
}

/// Makes `root` the root of this process, so that no symbolic link leads out of it.
fn confine(root: &Path) -> Result<(), Failure> {
    nix::unistd::chroot(root).map_err(Failure::system("enter", root.display()))?;
    nix::unistd::chdir("/").map_err(Failure::system("enter", root.display()))
}

fn remove(path: &Path) -> Result<(), Failure> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::system("remove", path.display())(error)),
        _ => Ok(()),
    }
}

/// Starts process 1, forwards signals to it and ends with it.
fn stand_by(channel: &Channel) -> Result<Option<Reply>, Failure> {
    let signals = watched_signals();
    signals.thread_block().map_err(Failure::system("block", "signals"))?;
    let share = channel.share().map_err(Failure::system("share", "conversation"))?;
    let init =
        start_stage(Path::new("/proc/self/exe"), INIT, share.into()).map_err(Failure::system("start", "process 1"))?;
    let init = Pid::from_raw(init.id().cast_signed());
    loop {
        match signals.wait().map_err(Failure::system("wait for", "signals"))? {
            Signal::SIGCHLD => match waitpid(init, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                // What there is to say, process 1 has said.
                Ok(_) | Err(_) => return Ok(None),
            },
            // It may be gone, as its SIGCHLD will tell.
            Signal::SIGTERM => drop(kill(init, Signal::SIGTERM)),
            // A terminal sends these to the program as well.
            _ => {}
        }
    }
}

/// Signals that must not end the processes around the program before it has ended itself.
pub(super) fn watched_signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP].into_iter().collect()
}

/// The exit code that stands for how a process ended: its own, or 128 plus the signal.
pub(super) fn exit_code(status: WaitStatus) -> Option<i32> {
    match status {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}
