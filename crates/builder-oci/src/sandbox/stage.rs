//! The processes that the program starts itself as: entry, descriptors, namespaces, and the operations on trees.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use imagespec_core::builder::Restart;
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

/// The exit code of a stage that has nobody to say so to.
const FAILED: u8 = 1;
/// The exit code of a program that could not be started.
const NOT_STARTED: u8 = 126;
/// Argument of the process that becomes a program of this machine, which ends with whoever started it.
pub(super) const TIED: &str = "tied";

/// Acts as a part of a sandbox, and gives the exit code. The program calls this before it starts any thread, when it was
/// started with the arguments of `restart` and [`ARGUMENT`], with which `arguments` begin.
///
/// Standard input is the conversation with the builder, and there is no environment. Every other descriptor is closed;
/// that of `restart` once no further process needs it.
pub fn start(restart: &Restart, arguments: &[OsString]) -> u8 {
    let arguments = match arguments {
        [argument, arguments @ ..] if argument == ARGUMENT => arguments,
        _ => return NOT_STARTED,
    };
    let stage = arguments.first().map(|stage| stage.as_bytes());
    let starts_another = stage.is_none_or(|stage| stage == INIT.as_bytes());
    close_descriptors(restart.descriptor.filter(|_| starts_another));
    if stage.is_some_and(|stage| stage == TIED.as_bytes()) {
        return tied(&arguments[1..]);
    }
    let Ok(channel) = Channel::inherited() else { return FAILED };
    let result = match stage {
        None => outside(restart, &channel),
        Some(stage) if stage == INIT.as_bytes() => init::main(restart, &channel).map(Some),
        Some(stage) if stage == PROGRAM.as_bytes() => program::main(&channel).map(|never| match never {}),
        Some(_) => Err(Failure::Protocol { reason: "unknown stage".to_owned() }),
    };
    let reply = match result {
        Ok(None) => return 0,
        Ok(Some(reply)) => reply,
        Err(failure) => Reply::Failed(failure),
    };
    // If nobody listens any more, nobody wants to know.
    match channel.send(&reply) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

/// `tied PARENT PROGRAM ARGUMENTS…`: becomes the program, unless the parent is gone already.
fn tied(arguments: &[OsString]) -> u8 {
    let [parent, program, arguments @ ..] = arguments else { return NOT_STARTED };
    let parent = parent.to_str().and_then(|parent| parent.parse().ok());
    let is_tied = die_with_parent().is_ok() && Some(nix::unistd::getppid().as_raw()) == parent;
    if is_tied {
        // It comes back only if the program could not be started.
        let _ = Command::new(program).args(arguments).exec();
    }
    NOT_STARTED
}

/// Closes what the builder's own parent left open, but for `kept`: a folder among it would be a way out of the sandbox.
fn close_descriptors(kept: Option<i32>) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && Some(*number) != kept)
        .collect();
    for number in numbers {
        // One of them was the listing's own, which is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Starts this very program, which lies at `ourselves`, as another stage. It is the last one that this process starts.
fn start_stage(restart: &Restart, ourselves: &Path, stage: &str, channel: Stdio) -> io::Result<Child> {
    let mut command = Command::new(ourselves);
    command.args(&restart.arguments).arg(ARGUMENT).arg(stage).env_clear().stdin(channel).stdout(Stdio::null());
    let child = command.spawn()?;
    close_restart(restart);
    Ok(child)
}

/// Closes what only a further stage would need.
fn close_restart(restart: &Restart) {
    if let Some(descriptor) = restart.descriptor {
        // Whoever loaded the builder may have closed it.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Starts the stage that becomes the program.
pub(super) fn start_program(restart: &Restart, ourselves: &Path, channel: Stdio) -> io::Result<Child> {
    start_stage(restart, ourselves, PROGRAM, channel)
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
fn outside(restart: &Restart, channel: &Channel) -> Result<Option<Reply>, Failure> {
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
        Place::Here => {
            close_restart(restart);
            here(channel, setup.mode).map(Some)
        }
        Place::Init(_) => {
            // Not every kernel has cgroup namespaces; without one, the host's names of groups are seen.
            let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
            stand_by(restart, channel)
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
fn stand_by(restart: &Restart, channel: &Channel) -> Result<Option<Reply>, Failure> {
    let signals = watched_signals();
    signals.thread_block().map_err(Failure::system("block", "signals"))?;
    let share = channel.share().map_err(Failure::system("share", "conversation"))?;
    let ourselves = Path::new("/proc/self/exe");
    let init = start_stage(restart, ourselves, INIT, share.into()).map_err(Failure::system("start", "process 1"))?;
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
