//! Layers that something made by running: a program in the sandbox on top of the layers so far, and what it changed.
//!
//! Such a layer is a function of the layers beneath it, the programs, their environment, and what they find in the
//! network. What is mounted for them (caches, secrets) is neither in the layer nor in its key.

use std::collections::VecDeque;
use std::path::PathBuf;

use imagespec_core::event::{self, Outcome, Unit};
use imagespec_core::platform::Platform;
use serde_json::json;

use crate::base::ImageLayer;
use crate::builder::{Building, Failure};
use crate::cache::Key;
use crate::emulation::{self, CannotExecute};
use crate::layer::{FORMAT_VERSION, Layer};
use crate::output::fetch_layer;
use crate::point::{self, Point};
use crate::progress::Step;
use crate::sandbox::{self, ArchiveOptions, Form, Line, Mount, Network, Output, Run, SandboxError, User};
use crate::secret::Masked;
use crate::snapshot::{SnapshotError, Stack};

/// Raised whenever the same programs would make another layer.
const EXECUTION_VERSION: &str = "1";
/// How many of a failed program's last lines its error shows.
const LINES_MAX: usize = 20;

/// Programs to run one after the other, and what they see.
pub(crate) struct Execution<'a> {
    /// What the user sees: `install 2 Debian packages`.
    pub(crate) title: String,
    /// The layers that they run on, lowest first.
    pub(crate) below: &'a [ImageLayer],
    /// What the image is for.
    pub(crate) platform: &'a Platform,
    /// The programs with their arguments.
    pub(crate) programs: Vec<Program>,
    /// One of ours that runs after them if it can, and sees nothing of theirs but the tree. Nobody hears what it says.
    pub(crate) after: Option<Program>,
    /// Their environment.
    pub(crate) env: Vec<(String, String)>,
    /// Variables of theirs that are not in the layer's key.
    pub(crate) secret_env: Vec<(String, String)>,
    /// Their working directory.
    pub(crate) cwd: PathBuf,
    /// What they see of this machine. Not in the layer's key.
    pub(crate) mounts: Vec<Mount>,
    /// What must not be shown.
    pub(crate) masked: Masked,
    /// Whether they may use the network, if anybody may. Not in the layer's key.
    pub(crate) network: Network,
    /// Name of the cache's lock that they need for themselves while they run.
    pub(crate) lock: Option<String>,
    /// Paths without a leading `/` that never reach the layer.
    pub(crate) exclude: &'a [&'a str],
}

/// One program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// How the user calls it.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
}

/// Why a layer could not be made by running something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// A program failed.
    #[error("`{name}` ended with exit code {code}{}", shown(.lines))]
    Failed {
        /// How the user calls it.
        name: String,
        /// Its position among the execution's programs.
        position: usize,
        /// The exit code.
        code: i32,
        /// Its last lines.
        lines: Vec<String>,
    },
    /// The image so far has no such program.
    #[error("the base has no `{program}`, which `{name}` is run by")]
    NoProgram {
        /// How the user calls it.
        name: String,
        /// The program.
        program: String,
    },
    /// This machine cannot run the image's programs.
    #[error("`{name}` must run, and this machine cannot run it")]
    CannotExecute {
        /// How the user calls it.
        name: String,
        /// Why not.
        source: CannotExecute,
    },
    /// The layers beneath cannot be had.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

fn shown(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(":\n{}", lines.join("\n")) }
}

/// Finds or makes the layer of `execution`.
pub(crate) fn layer(building: &Building<'_>, execution: &Execution<'_>) -> Result<(Layer, Outcome), Failure> {
    let mut key = key(building, execution);
    // What a program makes without the network that it may use is nothing for those who have one.
    let lacks_network = execution.network == Network::Host && building.cache.is_offline();
    if lacks_network && building.cache.remembered_layer(key)?.is_none() {
        key = Key::new("execution", [key.to_string().as_bytes(), b"offline"]);
        if building.cache.remembered_layer(key)?.is_none() {
            let title = &execution.title;
            building.progress.warn(format!("`{title}` has no network, for which its result may be another one"));
        }
    }
    building.progress.counted(
        &execution.title,
        Unit::Items,
        None,
        |step| {
            building.cache.layer_of_archive(key, |compressor| {
                on_stack(building, execution, &mut |line| step.output(line), |stack| {
                    point::reached(Point::ProgramsEnded);
                    let timestamp = building.request.timestamp;
                    let options = ArchiveOptions {
                        form: Form::OverlayUpper,
                        exclude: execution.exclude.iter().map(PathBuf::from).collect(),
                        newest_kept: timestamp,
                        otherwise: timestamp,
                    };
                    let archived = building.sandbox.archive(&stack.upper(), &options, compressor);
                    archived.map_err(|error| ExecuteError::from(error).into())
                })
            })
        },
        |(layer, outcome)| (*outcome, event::size(layer.size_bytes)),
    )
}

/// Runs the programs of `execution` for what they write to a mount. What else they changed is gone afterwards.
pub(crate) fn run(building: &Building<'_>, execution: &Execution<'_>, step: &Step<'_>) -> Result<(), Failure> {
    on_stack(building, execution, &mut |line| step.output(line), |_| Ok(()))
}

/// Whether the layer of `execution` was made earlier and is found.
pub(crate) fn is_made(building: &Building<'_>, execution: &Execution<'_>) -> Result<bool, Failure> {
    Ok(building.cache.remembered_layer(key(building, execution))?.is_some())
}

/// Runs `execution`, keeps nothing of what it changes, and returns what it prints.
pub(crate) fn ask(building: &Building<'_>, execution: &Execution<'_>) -> Result<Vec<String>, Failure> {
    building.progress.counted(
        &execution.title,
        Unit::Items,
        None,
        |_| {
            let mut lines = Vec::new();
            on_stack(building, execution, &mut |line| lines.push(line), |_| Ok(()))?;
            Ok(lines)
        },
        |_| (Outcome::Done, String::new()),
    )
}

/// Runs the programs of `execution`, and hands over what they changed before it is removed.
fn on_stack(
    building: &Building<'_>,
    execution: &Execution<'_>,
    told: &mut dyn FnMut(String),
    take: impl FnOnce(&Stack) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let _lock = execution.lock.as_ref().map(|name| building.cache.lock(name)).transpose()?;
    check(execution)?;
    let stack = stack(building, execution.below)?;
    let made = run_all(building, execution, &stack, told)
        .and_then(|()| run_after(building, execution, &stack))
        .and_then(|()| take(&stack));
    let removed = stack.remove(&building.sandbox);
    made?;
    removed.map_err(|error| ExecuteError::from(error).into())
}

fn key(building: &Building<'_>, execution: &Execution<'_>) -> Key {
    let below: Vec<_> = execution.below.iter().map(|layer| layer.layer.diff_id.to_string()).collect();
    let argv: Vec<_> = execution.programs.iter().map(|program| &program.argv).collect();
    let mut described = json!({
        "version": [EXECUTION_VERSION, FORMAT_VERSION],
        "timestamp": building.request.timestamp,
        "platform": execution.platform.to_string(),
        "below": below,
        "argv": argv,
        "env": execution.env,
        "cwd": execution.cwd,
        "exclude": execution.exclude,
    });
    if let Some(after) = &execution.after {
        described["after"] = json!(after.argv);
    }
    Key::new("execution", [described.to_string().as_bytes()])
}

/// Fails where the programs cannot run.
fn check(execution: &Execution<'_>) -> Result<(), ExecuteError> {
    if let (Some(machine), Some(first)) = (emulation::machine(), execution.programs.first()) {
        emulation::check(execution.platform, &machine)
            .map_err(|source| ExecuteError::CannotExecute { name: first.name.clone(), source })?;
    }
    Ok(())
}

/// The layers `below`, pulled and unpacked where they are not yet, to run something on.
pub(crate) fn stack(building: &Building<'_>, below: &[ImageLayer]) -> Result<Stack, Failure> {
    let mut stack = Stack::new(&building.cache).map_err(ExecuteError::from)?;
    for layer in below {
        building.check_cancelled()?;
        fetch_layer(building, layer)?;
        let ImageLayer { layer, media_type, .. } = layer;
        stack
            .push(&building.cache, &building.sandbox, layer.digest, media_type, layer.diff_id)
            .map_err(ExecuteError::from)?;
    }
    Ok(stack)
}

fn run_all(
    building: &Building<'_>,
    execution: &Execution<'_>,
    stack: &Stack,
    told: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    let network = if building.cache.is_offline() { Network::None } else { execution.network };
    for (position, program) in execution.programs.iter().enumerate() {
        let run = Run {
            root: stack.root(),
            argv: program.argv.clone(),
            env: execution.env.iter().chain(&execution.secret_env).cloned().collect(),
            cwd: execution.cwd.clone(),
            user: User::root(),
            mounts: execution.mounts.clone(),
            network,
            hostname: "imagespec".to_owned(),
        };
        let mut last = VecDeque::with_capacity(LINES_MAX);
        let mut on_line = |line: Line| {
            let text = execution.masked.apply(&line.text);
            if last.len() == LINES_MAX {
                last.pop_front();
            }
            last.push_back(text.clone());
            told(text);
            point::reached(Point::ProgramRuns);
        };
        let cancelled = || building.progress.is_cancelled();
        let status = building.sandbox.run(&run, Output::Lines(&mut on_line), &cancelled);
        let status = status.map_err(|error| match error {
            SandboxError::Cancelled => Failure::Cancelled,
            SandboxError::Inside(sandbox::Failure::Program { program: missing, .. }) => {
                let name = execution.masked.apply(&program.name);
                ExecuteError::NoProgram { name, program: missing }.into()
            }
            error => ExecuteError::from(error).into(),
        })?;
        if status.code != 0 {
            let name = execution.masked.apply(&program.name);
            return Err(ExecuteError::Failed { name, position, code: status.code, lines: last.into() }.into());
        }
    }
    Ok(())
}

fn run_after(building: &Building<'_>, execution: &Execution<'_>, stack: &Stack) -> Result<(), Failure> {
    let Some(program) = &execution.after else { return Ok(()) };
    let kept = execution.env.iter().filter(|(name, _)| matches!(name.as_str(), "PATH" | "LD_LIBRARY_PATH"));
    let run = Run {
        root: stack.root(),
        argv: program.argv.clone(),
        env: kept.cloned().collect(),
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "imagespec".to_owned(),
    };
    let mut ignored = |_: Line| {};
    let cancelled = || building.progress.is_cancelled();
    match building.sandbox.run(&run, Output::Lines(&mut ignored), &cancelled) {
        // An image need not have what it is run by.
        Ok(_) | Err(SandboxError::Inside(_)) => Ok(()),
        Err(SandboxError::Cancelled) => Err(Failure::Cancelled),
        Err(error) => Err(ExecuteError::from(error).into()),
    }
}
