//! The `imagespec` program: reads the command line, calls the libraries, prints what they say.

mod age;
mod aids;
mod arguments;
mod bases;
mod commands;
mod documents;
mod explained;
mod failure;
mod kept;
// What needs the store on this machine, which is the bundled builder's; or what is said without one.
#[cfg(feature = "bundled")]
mod local;
#[cfg(not(feature = "bundled"))]
#[path = "slim.rs"]
mod local;
mod lockfile;
mod options;
mod outputs;
mod prepare;
mod screen;
mod secrets;
mod session;
mod subject;
mod text;

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arguments::{Arguments, Command, PluginCommand};
use clap::{CommandFactory, Parser};
use failure::{FAILED, Failure};
use prepare::Surroundings;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if let Some(code) = local::started_again() {
        return code;
    }
    if env::args_os().nth(1).is_some_and(|argument| argument == imagespec_plugin_host::ARGUMENT) {
        log();
        return commands::plugin::start(&env::args_os().skip(2).collect::<Vec<_>>());
    }
    let arguments = Arguments::parse();
    log();
    match run(&arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            for diagnostic in &failure.diagnostics {
                session::print_line(diagnostic.render().trim_end());
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Shows what developers want to see, on stderr: IMAGESPEC_LOG, else RUST_LOG, says what.
fn log() {
    let filter = ["IMAGESPEC_LOG", "RUST_LOG"].into_iter().find_map(|name| EnvFilter::try_from_env(name).ok());
    let has_colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter.unwrap_or_default()).with_ansi(has_colour);
    subscriber.with_writer(io::stderr).init();
}

fn run(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Init { target } => commands::init::init(target)?,
        Command::Build(arguments) => commands::build::build(arguments, &cancellation()?)?,
        Command::Lock(arguments) => commands::lock::lock(arguments, &cancellation()?)?,
        Command::Render(arguments) => commands::render::render(arguments, &cancellation()?)?,
        Command::Inspect { subject, lookup, format } => local::inspect(subject, lookup, *format)?,
        Command::Schema => commands::schema::schema()?,
        Command::Plan { spec, format } => commands::plan::plan(spec, *format)?,
        Command::Explain { spec, against, settings, format } => {
            commands::explain::explain(spec, against.as_deref(), settings, *format)?;
        }
        Command::Hash(arguments) => commands::plan::hash(arguments)?,
        Command::Name { spec, settings } => commands::plan::name(spec, settings)?,
        Command::Exists { subject, lookup } => return commands::exists::exists(subject, lookup),
        Command::Run(arguments) => return local::run(arguments, &cancellation()?),
        Command::Builders { format } => {
            commands::builders::list(&Surroundings::read(&env::current_dir()?)?, *format)?;
        }
        Command::Plugin { command } => match command {
            PluginCommand::New(arguments) => commands::plugin::new(arguments)?,
            PluginCommand::List { format } => commands::plugin::list(*format)?,
            PluginCommand::Add(arguments) => commands::plugin::add(arguments)?,
            PluginCommand::Remove { name } => commands::plugin::remove(name)?,
            PluginCommand::Test { target, format } => return commands::plugin::test(target, *format),
            PluginCommand::Verify { name } => return commands::plugin::verify(name.as_deref()),
        },
        Command::Cache { command } => return local::cache(command),
        Command::Doctor { format } => return commands::doctor::doctor(*format),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "imagespec", &mut script);
            session::print_data(String::from_utf8_lossy(&script).trim_end())?;
        }
    }
    Ok(0)
}

/// A flag that the first Ctrl-C sets; the second one ends the program at once.
fn cancellation() -> Result<Arc<AtomicBool>, Failure> {
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Registered first, so that it sees the flag as the signal before left it.
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(FAILED), Arc::clone(&cancelled))?;
        signal_hook::flag::register(signal, Arc::clone(&cancelled))?;
    }
    Ok(cancelled)
}
