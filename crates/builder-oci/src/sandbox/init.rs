//! Process 1 of a sandbox: prepares the tree, starts the program, reaps whatever is left behind, and tells the end.

use std::os::fd::AsFd;
use std::process::Stdio;

use imagespec_core::builder::Restart;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::program::Become;
use super::stage::{demand, die_with_parent, exit_code, start_program, watched_signals};
use super::wire::{Channel, Operation, Reply, Session};
use super::{Failure, Mode, Run, mounts, root};

/// Does what the builder orders.
pub(super) fn main(restart: &Restart, channel: &Channel) -> Result<Reply, Failure> {
    die_with_parent()?;
    // The builder orders only after this: if our parent died before the line above, nobody does, and we end.
    channel.send(&Reply::Ready).map_err(Failure::system("send", "reply"))?;
    let received = channel.receive_with().map_err(Failure::system("read", "orders"))?;
    let Some((operation, descriptors)) = received else {
        return Err(Failure::Protocol { reason: "no orders".to_owned() });
    };
    match operation {
        Operation::Probe => mounts::probe().map(|()| Reply::Done),
        Operation::Run { run, session, mode } => {
            let streams: [std::fs::File; 3] = descriptors
                .try_into()
                .map_err(|_| Failure::Protocol { reason: "a program needs three streams".to_owned() })?;
            run_program(restart, run, mode, session, streams).map(Reply::Exited)
        }
        _ => Err(Failure::Protocol { reason: "this needs no process namespace".to_owned() }),
    }
}

fn run_program(
    restart: &Restart,
    run: Run,
    mode: Mode,
    session: Session,
    streams: [std::fs::File; 3],
) -> Result<i32, Failure> {
    let signals = watched_signals();
    signals.thread_block().map_err(Failure::system("block", "signals"))?;
    // The next stage loads while this one mounts. It has to be loaded before the root changes: the image may have
    // another dynamic loader, or none.
    mounts::make_private()?;
    let ourselves = mounts::read_only_self()?;
    let (conversation, theirs) = Channel::pair().map_err(Failure::system("make", "conversation"))?;
    let child =
        start_program(restart, &ourselves, Stdio::from(theirs)).map_err(Failure::system("start", "next stage"))?;
    let child = Pid::from_raw(child.id().cast_signed());
    nix::unistd::sethostname(&run.hostname).map_err(Failure::system("set host name", &run.hostname))?;
    let mut prepared = root::prepare(&run, mode)?;
    let result = prepared.mount().and_then(|()| {
        let () = demand(&conversation)?;
        prepared.enter()?;
        let order = Become { argv: run.argv, env: run.env, cwd: run.cwd, user: run.user, mode, session };
        let streams_borrowed = streams.each_ref().map(|stream| stream.as_fd());
        conversation.send_with(&order, &streams_borrowed).map_err(Failure::system("send", "orders"))?;
        drop(streams);
        // The end of the conversation is the beginning of the program.
        match conversation.receive().map_err(Failure::system("read", "reply of the next stage"))? {
            Some(Reply::Failed(failure)) => Err(failure),
            _ => reap(&signals, child),
        }
    });
    prepared.clean_up();
    result
}

/// Reaps until `child` has ended, then ends everything else.
fn reap(signals: &nix::sys::signal::SigSet, child: Pid) -> Result<i32, Failure> {
    let code = loop {
        if let Some(code) = reap_ended(child)? {
            break code;
        }
        let signal = signals.wait().map_err(Failure::system("wait for", "signals"))?;
        if signal == Signal::SIGTERM {
            // Everybody gets it, for a shell waits for its own child before it acts on a signal. The program may have
            // ended meanwhile, as the next look will tell.
            let _ = kill(Pid::from_raw(-1), Signal::SIGTERM);
        }
    };
    // Fails when nobody is left.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    loop {
        match waitpid(Pid::from_raw(-1), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Ok(code),
        }
    }
}

/// Takes what the kernel keeps of processes that have ended; gives the code of `child` if it is among them.
fn reap_ended(child: Pid) -> Result<Option<i32>, Failure> {
    loop {
        let status = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => status,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(Failure::system("wait for", "program")(error)),
        };
        match (status.pid(), exit_code(status)) {
            (None, _) => return Ok(None),
            (Some(pid), Some(code)) if pid == child => return Ok(Some(code)),
            _ => {}
        }
    }
}
