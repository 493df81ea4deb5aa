//! A plugin in a process of its own: the same file, the same words, over a socket. What ends the process is an error
//! here, and not the end of this program.
//!
//! The program starts itself again as `PROGRAM __plugin worker FILE`, with the conversation as standard input. A builder
//! that starts its own code again does so as `PROGRAM __plugin start DESCRIPTOR …`.

mod client;
mod frame;
mod process;
mod serve;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imagespec_core::boundary::Greeting;
use imagespec_core::builder::Restart;

pub use client::{Worker, ending};

use crate::library::Library;
use crate::sealed::Sealed;

/// The first argument of a program that acts for a plugin. It then calls [`main`] before it starts any thread.
pub const ARGUMENT: &str = "__plugin";

/// Serves a worker's calls.
const WORKER: &str = "worker";
/// Runs a builder's own code.
const START: &str = "start";

/// The exit code of a program that could not act for a plugin.
const FAILED: u8 = 125;

/// What a builder is told by `program`, which loads `file`.
pub(crate) fn greeting(program: &Path, file: &Sealed) -> Greeting {
    let number = file.number();
    let arguments = vec![ARGUMENT.to_owned(), START.to_owned(), number.to_string()];
    let restart = Restart { program: program.to_owned(), arguments, descriptor: Some(number) };
    Greeting { host: format!("imagespec {}", env!("CARGO_PKG_VERSION")), restart }
}

/// Acts for a plugin. `arguments` are those that follow [`ARGUMENT`].
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let code = match words.as_deref() {
        Some([WORKER, file]) => worker(Path::new(file)),
        Some([START, number, arguments @ ..]) => start(number, arguments),
        _ => None,
    };
    ExitCode::from(code.unwrap_or(FAILED))
}

fn worker(file: &Path) -> Option<u8> {
    // What the plugin starts must neither hold the conversation nor read it.
    let stdin = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).ok()?;
    let nothing = File::open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(nothing).ok()?;
    serve::serve(stdin, || {
        let file = Sealed::open(file).map_err(|error| serve::unable("open the plugin", &error))?;
        let program = std::env::current_exe().map_err(|error| serve::unable("find this program", &error))?;
        let greeting = greeting(&program, &file);
        Library::load(file, &greeting)
    });
    Some(0)
}

fn start(number: &str, arguments: &[&str]) -> Option<u8> {
    let number = number.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: the program that started this one left the descriptor open for it, and nothing else here has it.
    let file = Sealed::from_descriptor(unsafe { OwnedFd::from_raw_fd(number) }).ok()?;
    let greeting = greeting(&PathBuf::from("/proc/self/exe"), &file);
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Library::load(file, &greeting).and_then(|library| library.start(&arguments)).ok()
}
