//! The last stage: gives up what the program must not have, and becomes the program.

use std::convert::Infallible;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::error::{Cause, ENTER_WORKDIR};
use super::wire::{Channel, Session};
use super::{Failure, Mode, User, privileges, seccomp, users};

/// What to become. Descriptors: standard input, output and error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Become {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) user: User,
    pub(super) mode: Mode,
    pub(super) session: Session,
}

/// Waits until the tree is the root, then becomes the program.
pub(super) fn main(channel: &Channel) -> Result<Infallible, Failure> {
    channel.send(&()).map_err(Failure::system("send", "reply"))?;
    let received = channel.receive_with().map_err(Failure::system("read", "orders"))?;
    let no_orders = || Failure::Protocol { reason: "no orders for the program".to_owned() };
    let (order, descriptors): (Become, Vec<File>) = received.ok_or_else(no_orders)?;
    let [input, output, error]: [File; 3] = descriptors.try_into().map_err(|_| no_orders())?;
    let (program, arguments) = order.argv.split_first().ok_or_else(no_orders)?;

    // The working directory is still the builder's. It would be a way out of the new root.
    nix::unistd::chdir("/").map_err(Failure::system("enter", "/"))?;
    let identity = users::resolve(&order.user)?;
    if order.mode == Mode::UserNamespaceSingle && identity.user != 0 {
        return Err(Failure::UserNotMapped { user: identity.user, mode: order.mode });
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Engines make a working directory that an image does not have.
    fs::create_dir_all(&order.cwd)
        .and_then(|()| Ok(nix::unistd::chdir(&order.cwd)?))
        .map_err(Failure::system(ENTER_WORKDIR, order.cwd.display()))?;
    let mut env = order.env;
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), users::home(identity.user)));
    }
    if order.session == Session::New {
        nix::unistd::setsid().map_err(Failure::system("make", "session"))?;
    }
    // Those around the program keep signals from themselves; it must get them all.
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(Failure::system("unblock", "signals"))?;
    privileges::give_up(&identity, order.mode)?;
    seccomp::apply(order.mode)?;
    let error =
        Command::new(program).args(arguments).env_clear().envs(env).stdin(input).stdout(output).stderr(error).exec();
    Err(Failure::Program { program: program.clone(), cause: Cause::new(&error) })
}
