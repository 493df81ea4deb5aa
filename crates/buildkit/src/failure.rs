//! What went wrong, for the one who asked for the build: kind, field and what to do.

use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_core::reference::Reference;

use crate::base::{GivenBaseError, OtherBase};
use crate::dockerfile::{COMMAND_TITLE, exit_code};
use crate::prepare::RecipeError;
use crate::progress::FailedStep;
use crate::pythons::NoPython;
use crate::solve::SolveError;

/// How our own scripts begin what they say.
const SCRIPT: &str = "imagespec: ";
/// What runc says where there is no shell.
const NO_SHELL: &str = "exec: \"/bin/sh\": stat /bin/sh: no such file or directory";

/// What a daemon is called, and what helps where it fails.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    /// `the engine`
    pub name: &'static str,
    /// What to do when its disk is full.
    pub room: &'static str,
    /// What to do when it went away.
    pub gone: &'static str,
}

impl SolveError {
    /// The error that crosses to the program.
    pub fn tell(&self, daemon: &Daemon) -> BuildError {
        match self {
            Self::Cancelled => BuildError::of(FailureKind::Cancelled, self.to_string()),
            Self::Step(step) => failed_step(step, daemon),
            Self::Connection(status) => {
                let error = BuildError::of(FailureKind::Temporary, self.to_string());
                BuildError { causes: vec![broken(status)], ..error }.hint(daemon.gone)
            }
            Self::Refused { message } => {
                let error = BuildError::of(kind_of(message, FailureKind::Machine), self.to_string());
                with_hints_for(error, message, daemon)
            }
        }
    }
}

impl RecipeError {
    /// The error that crosses to the program.
    pub fn tell(&self) -> BuildError {
        match self {
            Self::Lower(error) => error.tell(),
            Self::Uv(error) => error.tell(),
        }
    }
}

impl NoPython {
    /// The error that crosses to the program.
    pub fn tell(&self) -> BuildError {
        BuildError::new(FailureKind::Spec, self).field(self.field).hint("take one of these as `python_version`")
    }
}

impl GivenBaseError {
    /// The error that crosses to the program.
    pub fn tell(&self) -> BuildError {
        let kind = match self {
            Self::NotHandedOver { .. } => FailureKind::Internal,
            Self::Layout { .. } => FailureKind::Spec,
            Self::Push { source, target } => {
                let told = registry(source, target.split('/').next().unwrap_or_default());
                return BuildError { causes: vec![told.message.clone()], message: self.to_string(), ..told }
                    .field("base_image");
            }
        };
        BuildError::new(kind, self).field("base_image")
    }
}

impl OtherBase {
    /// The error that crosses to the program.
    pub fn tell(&self) -> BuildError {
        BuildError::new(FailureKind::Spec, self)
            .field("base_image")
            .hint(format!("build for it by `--platform linux/{}`, or take a base that has both", self.found))
    }
}

/// How a connection broke: the system's words, without those of each library on the way.
fn broken(status: &tonic::Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn failed_step(failed: &FailedStep, daemon: &Daemon) -> BuildError {
    let field = failed.step.as_ref().and_then(|step| step.field.as_deref());
    let at = |error: BuildError| match field {
        Some(field) => error.field(field),
        None => error,
    };
    if let Some(base) = failed.looked_up() {
        let kind = kind_of(&failed.message, FailureKind::Temporary);
        let mut error = BuildError::of(kind, format!("{} cannot find base `{base}`", daemon.name)).field("base_image");
        error.causes.push(failed.message.clone());
        if is_unreachable(&failed.message) {
            let reference = base.parse::<Reference>();
            let registry = reference.map_or_else(|_| base.to_owned(), |reference| reference.registry().to_owned());
            error.message = format!("{} cannot reach `{registry}`, where base `{base}` is", daemon.name);
            return error.hint(format!("check the spelling of `{registry}`, and whether {} reaches it", daemon.name));
        }
        return match kind {
            FailureKind::Denied => error.hint("log in by `docker login`, if it is there and you may have it"),
            FailureKind::Spec => error.hint("look whether name and tag are spelt as in the registry"),
            _ => error,
        };
    }
    // What our own script says is the whole story.
    let said = failed.lines.iter().rev().find_map(|line| line.strip_prefix(SCRIPT));
    if let (Some(said), Some(code @ exit_code::NO_APT..=exit_code::CONDA)) = (said, failed.exit_code())
        && (!is_command(failed) || (code == exit_code::SECRET_OCCUPIED && failed.lines.len() == 1))
    {
        return at(BuildError::of(FailureKind::Spec, said));
    }
    let title = failed.step.as_ref().map_or(failed.name.as_str(), |step| step.title.as_str());
    let how = match failed.exit_code() {
        Some(code) => format!("`{title}` ended with exit code {code}"),
        None => format!("`{title}` failed: {}", failed.message),
    };
    let lines = if failed.lines.is_empty() { String::new() } else { format!(":\n{}", failed.lines.join("\n")) };
    let said = format!("{}\n{}", failed.message, failed.lines.join("\n"));
    if said.contains(NO_SHELL) {
        let message = format!("`{title}` needs `/bin/sh`, which the base does not have");
        return at(BuildError::of(FailureKind::Spec, message)).hint("take a `base_image` with a system in it");
    }
    let kind = if is_full(&said) { FailureKind::Machine } else { FailureKind::Step };
    let told = at(with_hints_for(BuildError::of(kind, format!("{how}{lines}")), &said, daemon));
    match field {
        Some("apt_packages") if kind == FailureKind::Step => {
            told.hint("check the names at https://packages.debian.org, and whether the image's mirror is reached")
        }
        _ => told,
    }
}

/// Whether it is one of the user's commands, which end with whatever code and say what they like: of ours there is one line
/// before them.
fn is_command(failed: &FailedStep) -> bool {
    failed.step.as_ref().is_some_and(|step| step.title.starts_with(COMMAND_TITLE))
}

/// Whether words of BuildKit say that nobody answered, or that there is no such host.
fn is_unreachable(words: &str) -> bool {
    let known = ["no such host", "server misbehaving", "connection refused", "i/o timeout", "no route to host"];
    known.iter().any(|known| words.contains(known)) || words.contains("network is unreachable")
}

/// What a registry did not do, for the one who asked for the build. `registry_name` is where the image goes.
pub fn registry(error: &imagespec_distribution::Error, registry_name: &str) -> BuildError {
    let kind = if error.is_cancelled() {
        FailureKind::Cancelled
    } else if error.is_denied() {
        FailureKind::Denied
    } else if error.is_temporary() {
        FailureKind::Temporary
    } else if error.is_not_found() {
        FailureKind::Spec
    } else {
        FailureKind::Machine
    };
    let told = BuildError::new(kind, error);
    match error.hint() {
        Some(hint) => told.hint(hint),
        None if kind == FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
        None => told,
    }
}

/// What words of an engine or a registry mean, which have no codes.
pub fn kind_of(words: &str, otherwise: FailureKind) -> FailureKind {
    let words = words.to_lowercase();
    let says = |known: &[&str]| known.iter().any(|known| words.contains(known));
    if says(&["denied", "unauthorized", "no basic auth", "forbidden", "authentication required", "insufficient_scope"])
    {
        FailureKind::Denied
    } else if says(&["not found", "manifest unknown", "does not exist"]) {
        FailureKind::Spec
    } else if is_full(&words) {
        FailureKind::Machine
    } else {
        otherwise
    }
}

fn is_full(words: &str) -> bool {
    words.to_lowercase().contains("no space left on device")
}

/// Adds what helps against what a daemon said in `words`.
pub fn with_hints_for(error: BuildError, words: &str, daemon: &Daemon) -> BuildError {
    let lower = words.to_lowercase();
    if is_full(words) {
        return error.hint(daemon.room);
    }
    if lower.contains("cache export") && lower.contains("not supported") {
        return error
            .hint("an engine's BuildKit exports caches with the containerd image store alone: leave `--cache-to` out");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RecipeStep;

    const DAEMON: Daemon = Daemon { name: "the engine", room: "make room", gone: "wait" };

    fn failed(title: &str, field: &str, code: i32, lines: &[&str]) -> String {
        let step = RecipeStep {
            stage: "image".to_owned(),
            index: 2,
            is_base: false,
            title: title.to_owned(),
            field: Some(field.to_owned()),
        };
        let message = format!("process did not complete successfully: exit code: {code}");
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let failed = FailedStep { name: String::new(), step: Some(step), message, lines };
        let BuildError { kind, message, hints, .. } = SolveError::Step(Box::new(failed)).tell(&DAEMON);
        format!("{kind:?}: {message} {hints:?}")
    }

    #[test]
    fn codes_of_our_scripts_are_not_believed_of_commands() {
        let said = "imagespec: there is no Python 3.99";
        insta::assert_snapshot!(failed("python environment", "python_version", 93, &["other", said]), @"Spec: there is no Python 3.99 []");
        insta::assert_snapshot!(failed("run x", "commands[0]", 93, &[said]), @"
        Step: `run x` ended with exit code 93:
        imagespec: there is no Python 3.99 []
        ");
        let said = "imagespec: secret `a` is to lie at `/b`, where the image has something";
        insta::assert_snapshot!(failed("run x", "commands[0]", 95, &[said]), @"Spec: secret `a` is to lie at `/b`, where the image has something []");
        insta::assert_snapshot!(failed("run x", "commands[0]", 95, &["done", said]), @"
        Step: `run x` ended with exit code 95:
        done
        imagespec: secret `a` is to lie at `/b`, where the image has something []
        ");
    }

    #[test]
    fn what_helps_is_told_as_other_builders_tell_it() {
        insta::assert_snapshot!(failed("install 1 Debian package", "apt_packages", 100, &["E: Unable to locate package curll"]), @r#"
        Step: `install 1 Debian package` ended with exit code 100:
        E: Unable to locate package curll ["check the names at https://packages.debian.org, and whether the image's mirror is reached"]
        "#);
        insta::assert_snapshot!(failed("run x", "commands[0]", 127, &["runc run failed: exec: \"/bin/sh\": stat /bin/sh: no such file or directory"]), @r#"Spec: `run x` needs `/bin/sh`, which the base does not have ["take a `base_image` with a system in it"]"#);
    }
}
