//! `imagespec plugin`: builders that are files.

mod add;
mod config;
mod kit;
mod list;
mod new;
mod template;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) use add::{add, remove};
pub(crate) use list::{list, verify};
pub(crate) use new::new;
pub(crate) use test::test;

/// Acts for a plugin, in a process that this program started for it. This must be the only thread.
pub(crate) fn start(arguments: &[OsString]) -> ExitCode {
    match arguments {
        [first, arguments @ ..] if first == kit::ARGUMENT => kit::main(arguments),
        _ => imagespec_plugin_host::main(arguments),
    }
}
