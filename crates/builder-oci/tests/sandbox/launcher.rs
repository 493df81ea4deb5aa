//! Holds sandboxes for the tests. With `probe` or `run` it uses them as well, so that a test can do so as another user.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use imagespec_builder_oci::sandbox::{self, Network, Output, Root, Run, Sandbox, User};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(sandbox::ARGUMENT) => sandbox::main(),
        Some("probe") => tell(launcher().probe().map(|mode| mode.to_string())),
        Some("run") => run(&arguments[1..]),
        _ => ExitCode::from(2),
    }
}

fn launcher() -> Sandbox {
    Sandbox::new(std::env::current_exe().expect("a running program has a path"))
}

/// `run ROOT COMMAND…`
fn run(arguments: &[String]) -> ExitCode {
    let [root, argv @ ..] = arguments else { return ExitCode::from(2) };
    let run = Run {
        root: Root::Directory(PathBuf::from(root)),
        argv: argv.to_vec(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "box".to_owned(),
    };
    match launcher().run(&run, Output::Inherit, &|| false) {
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
