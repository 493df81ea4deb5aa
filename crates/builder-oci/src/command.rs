//! The step that runs the user's commands, each by `/bin/sh -c`, all in one layer.

use std::path::PathBuf;

use imagespec_core::event::Outcome;
use imagespec_core::plan::RunStep;

use crate::builder::{Building, Failure, Position};
use crate::bytecode;
use crate::execute::{self, Execution, Program};
use crate::layer::Layer;
use crate::progress;
use crate::sandbox::Network;
use crate::secret;

/// What programs leave behind that belongs to no image.
const EXCLUDE: [&str; 3] = ["tmp", "var/tmp", "run"];

/// Finds or makes the layer of `run`.
pub(crate) fn layer(
    building: &Building<'_>,
    run: &RunStep,
    position: &Position<'_>,
) -> Result<(Layer, Outcome), Failure> {
    let secrets = secret::read(&building.request.secrets, &run.secrets)?;
    let programs = run
        .commands
        .iter()
        .map(|command| Program { name: command.clone(), argv: ["/bin/sh", "-c", command].map(str::to_owned).into() });
    let mut env = position.env.to_vec();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), "/root".to_owned()));
    }
    let execution = Execution {
        title: format!("run {}", progress::count(run.commands.len(), "command")),
        below: position.below,
        platform: position.platform,
        programs: programs.collect(),
        after: Some(bytecode::tidy()),
        env,
        secret_env: secrets.env.clone(),
        cwd: PathBuf::from(&position.plan.config.workdir),
        mounts: secrets.mounts.clone(),
        masked: secrets.masked.clone(),
        network: Network::Host,
        lock: None,
        exclude: &EXCLUDE,
    };
    execute::layer(building, &execution)
}
