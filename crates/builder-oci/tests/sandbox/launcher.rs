//! Holds sandboxes for the tests. With `probe` or `run` it uses them as well, so that a test can do so as another user.
//! After `loaded NAME DESCRIPTOR` it holds them as a program does that loads the builder from that descriptor.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imagespec_builder_oci::sandbox::{self, Network, Output, Root, Run, Sandbox, User};
use imagespec_core::builder::Restart;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [sandbox::ARGUMENT, ..] => ExitCode::from(sandbox::start(&restart(), &arguments)),
        ["loaded", name, descriptor, ..] => loaded(name, descriptor, &arguments[3..]),
        ["probe"] => tell(Sandbox::new(restart()).probe().map(|mode| mode.to_string())),
        ["run", root, argv @ ..] => run(root, argv),
        _ => ExitCode::from(2),
    }
}

fn restart() -> Restart {
    Restart::bundled(std::env::current_exe().expect("a running program has a path"))
}

/// What is behind the descriptor stands for a builder's code: it holds its name.
fn loaded(name: &str, descriptor: &str, arguments: &[OsString]) -> ExitCode {
    let code = fs::read_to_string(Path::new("/proc/self/fd").join(descriptor));
    assert_eq!(code.ok().as_deref(), Some(name), "what is to be loaded is not there");
    let restart = Restart {
        arguments: ["loaded", name, descriptor].map(str::to_owned).into(),
        descriptor: descriptor.parse().ok(),
        ..restart()
    };
    ExitCode::from(sandbox::start(&restart, arguments))
}

fn run(root: &str, argv: &[&str]) -> ExitCode {
    let run = Run {
        root: Root::Directory(PathBuf::from(root)),
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "box".to_owned(),
    };
    match Sandbox::new(restart()).run(&run, Output::Inherit, &|| false) {
        Ok(status) => ExitCode::from(u8::try_from(status.code).unwrap_or(u8::MAX)),
        Err(error) => tell(Err(error)),
    }
}

fn tell(result: Result<String, sandbox::SandboxError>) -> ExitCode {
    let (text, code) = match result {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (format!("{error}: {:?}", std::error::Error::source(&error)), ExitCode::FAILURE),
    };
    writeln!(std::io::stdout(), "{text}").map_or(ExitCode::FAILURE, |()| code)
}
