//! What the image says of itself: variables, working directory, user, entry point, labels, and last of all whose it is.

use std::collections::BTreeMap;

use imagespec_core::plan::{Base, ID_VARIABLE, Plan, Step, VENV};
use imagespec_core::runtime;

use super::error::LowerError;
use super::stage::is_root;
use super::writer::Told;
use super::{Lowering, word};

/// Digest and name of the image beneath (OCI image-spec, "Annotations").
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// Variables and working directory of `plan`.
pub(super) fn environment(lowering: &mut Lowering<'_>, plan: &Plan, field: Option<String>) -> Result<(), LowerError> {
    let mut values = Vec::new();
    let mut set = |name: &str, value: &str| values.push(format!("{name}={value}"));
    let path = plan.config.env.get("PATH");
    let bin = format!("{VENV}/bin");
    let is_first = |path: &str| path.split(':').next() == Some(bin.as_str());
    match path {
        Some(path) if plan.python().is_some() && !is_first(path) => {
            set("PATH", &lowering.word(&format!("{bin}:{path}")))
        }
        Some(path) => set("PATH", &lowering.word(path)),
        None if plan.python().is_some() && !has_environment(lowering, plan)? => set("PATH", &format!("{bin}:$PATH")),
        None => {}
    }
    if plan.steps.iter().any(|step| matches!(step, Step::Conda(_))) && !plan.config.env.contains_key("CONDA_PREFIX") {
        set("CONDA_PREFIX", VENV);
    }
    for (name, value) in plan.config.env.iter().filter(|(name, _)| *name != "PATH" && *name != ID_VARIABLE) {
        set(name, &lowering.word(value));
    }
    if let Some(value) = runtime_packages(lowering, plan) {
        set(runtime::VARIABLE, &value);
    }
    let workdir = lowering.word(&plan.config.workdir);
    let mut words = values.clone();
    words.push(workdir.clone());
    lowering.writer.comment("What programs find");
    lowering.declare(&words);
    lowering.writer.values("ENV", &values);
    let told = Told { title: "working directory".to_owned(), field };
    lowering.writer.counted(&format!("WORKDIR {workdir}"), told);
    Ok(())
}

/// Whether PATH of what `plan` stands on begins with the environment.
fn has_environment(lowering: &Lowering<'_>, plan: &Plan) -> Result<bool, LowerError> {
    let is_first = |path: &str| path.split(':').next().is_some_and(|first| first == format!("{VENV}/bin"));
    match &plan.base {
        Base::Plan(nested) => match nested.config.env.get("PATH") {
            Some(path) => Ok(nested.python().is_some() || is_first(path)),
            None => Ok(nested.python().is_some() || has_environment(lowering, nested)?),
        },
        _ => {
            let (_, known) = lowering.known_base()?;
            Ok(known.and_then(|known| known.path.as_deref()).is_some_and(is_first))
        }
    }
}

/// The packages of `plan` after those that its base has.
fn runtime_packages(lowering: &mut Lowering<'_>, plan: &Plan) -> Option<String> {
    if let Some(own) = plan.config.env.get(runtime::VARIABLE) {
        let value = runtime::variable(plan, Some(own))?;
        return Some(lowering.word(&value));
    }
    let value = runtime::variable(plan, None)?;
    let name = runtime::VARIABLE;
    Some(format!("\"${{{name}:+${name} }}{}\"", word::within_quotes(&value)))
}

/// What a container runs, and as whom.
#[derive(Default)]
struct Program {
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    /// Whether the entry point is another one than the base's, which is then without the base's arguments.
    has_entrypoint: bool,
    /// Whether the arguments are.
    has_cmd: bool,
}

/// What comes last in the last stage: `stages` are the plans from the base on.
pub(super) fn write(lowering: &mut Lowering<'_>, stages: &[&Plan]) -> Result<(), LowerError> {
    let program = program(lowering, stages)?;
    let labels: Vec<_> =
        program.labels.iter().map(|(name, value)| format!("{name}={}", lowering.word(value))).collect();
    if program.user.is_some() || program.has_entrypoint || program.has_cmd || !labels.is_empty() {
        lowering.writer.comment("What a container runs");
    }
    if let Some(user) = program.user {
        let user = lowering.word(&user);
        lowering.writer.line(&format!("USER {user}"));
    }
    if let Some(entrypoint) = program.entrypoint.filter(|_| program.has_entrypoint) {
        lowering.writer.line(&format!("ENTRYPOINT {}", word::list(entrypoint)));
    }
    let is_lost = program.has_entrypoint && program.cmd.as_ref().is_some_and(|cmd| !cmd.is_empty());
    if let Some(cmd) = program.cmd.filter(|_| program.has_cmd || is_lost) {
        lowering.writer.line(&format!("CMD {}", word::list(cmd)));
    }
    lowering.declare(&labels);
    lowering.writer.values("LABEL", &labels);

    lowering.writer.comment("Whose image it is");
    let request = lowering.request;
    let mut own = vec![
        format!("imagespec.id={}", request.id),
        format!("imagespec.spec-hash={}", request.spec_hash),
        format!("imagespec.version={}", env!("CARGO_PKG_VERSION")),
    ];
    if stages.len() == 1 {
        let (_, known) = lowering.known_base()?;
        own.extend(known.and_then(|known| known.digest).map(|digest| format!("{BASE_DIGEST}={digest}")));
        if let Base::Registry(reference) = &stages[0].base {
            own.push(format!("{BASE_NAME}={reference}"));
        }
    }
    lowering.writer.line(&format!("ENV {ID_VARIABLE}={}", request.id));
    lowering.writer.values("LABEL", &own);
    Ok(())
}

fn program(lowering: &Lowering<'_>, stages: &[&Plan]) -> Result<Program, LowerError> {
    let (name, known) = lowering.known_base()?;
    let name = name.unwrap_or_default();
    let mut program = Program::default();
    if let Some(known) = known {
        program.user = known.user.clone().filter(|user| !is_root(user));
        program.entrypoint = Some(known.entrypoint.clone());
        program.cmd = Some(known.cmd.clone());
    } else if name == "scratch" {
        program.entrypoint = Some(Vec::new());
    }
    for plan in stages {
        let config = &plan.config;
        if config.user.is_some() {
            program.user.clone_from(&config.user);
        }
        if let Some(entrypoint) = &config.entrypoint {
            program.entrypoint = Some(entrypoint.clone());
            // The base's arguments were meant for the base's entry point.
            program.cmd = None;
            (program.has_entrypoint, program.has_cmd) = (true, false);
        }
        if let Some(cmd) = &config.cmd {
            program.cmd = Some(cmd.clone());
            program.has_cmd = true;
        }
        if !config.runtime_packages.is_empty() {
            let unknown = || LowerError::UnknownEntrypoint { base: name.clone() };
            program.entrypoint = runtime::entrypoint(plan, program.entrypoint.as_ref().ok_or_else(unknown)?);
            program.has_entrypoint = true;
        }
        program.labels.extend(config.labels.clone());
    }
    Ok(program)
}
