//! What went wrong, for the one who asked for the build: kind, field and what to do. The one place that says so.

use imagespec_buildkit::dockerfile::exit_code;
use imagespec_buildkit::one_line;
use imagespec_core::builder::{BuildError, BuildRequest, FailureKind};

use crate::base::BaseError;
use crate::builder::Failure;
use crate::engine::EngineError;
use crate::follow::{FailedStep, Followed};
use crate::home::HomeError;

/// How our own scripts begin what they say.
const SCRIPT: &str = "imagespec: ";
const WITHOUT_ENVD: &str = "`--builder oci` needs no other program";

impl Failure {
    /// The error that crosses to the program.
    pub(crate) fn tell(&self, request: &BuildRequest) -> BuildError {
        let registry_name = request.name.registry();
        match self {
            Self::Cancelled | Self::Home(HomeError::Cancelled) | Self::Engine(EngineError::Cancelled) => {
                BuildError::of(FailureKind::Cancelled, "the build was cancelled")
            }
            Self::Offline => BuildError::new(FailureKind::Spec, self).hint(WITHOUT_ENVD),
            Self::Home(error) => home(error),
            Self::Base(error) => base(error, registry_name),
            Self::Lower(error) => error.tell(),
            Self::Uv(error) => error.tell(),
            Self::Envd { ending, followed } => envd(ending, followed, registry_name),
            Self::Engine(error) => engine(error, registry_name),
            Self::Registry(error) => registry(error, registry_name),
            Self::NoDigest | Self::Config(_) | Self::Saved(_) => BuildError::new(FailureKind::Internal, self)
                .hint("envd 1.3 is known to work: `pip install envd==1.3.6`"),
            Self::Write(_) | Self::Process(_) | Self::Unreadable { .. } | Self::Layout(_) => {
                BuildError::new(FailureKind::Machine, self)
            }
            Self::Credentials(error) => credentials(error),
        }
    }
}

/// The same of what keeps envd from being started alone.
pub(crate) fn home(error: &HomeError) -> BuildError {
    let told = BuildError::new(FailureKind::Machine, error);
    match error {
        HomeError::NoProgram { .. } => told
            .hint("install it by `pip install envd`, or say where it is: `[builders.envd] program = \"/PATH/envd\"`")
            .hint(WITHOUT_ENVD),
        HomeError::Version { .. } => told.hint("install it by `pip install envd`"),
        HomeError::NoContext { .. } => {
            told.hint("`envd context ls` lists them; `[builders.envd] address = \"tcp://HOST:PORT\"` needs none")
        }
        HomeError::Address { .. } => told
            .hint("write `address = \"tcp://HOST:PORT\"`, `\"unix:///PATH\"`, `\"docker-container://NAME\"` or `\"kube-pod://POD\"`"),
        HomeError::Credentials(error) => credentials(error),
        HomeError::Failed { said, .. } => with_hints_for(told, said),
        HomeError::Cancelled => BuildError::of(FailureKind::Cancelled, "the build was cancelled"),
        HomeError::Write { .. } | HomeError::RegistryConfig { .. } | HomeError::Process(_) => told,
    }
}

fn credentials(error: &imagespec_distribution::CredentialError) -> BuildError {
    let told = BuildError::new(FailureKind::Machine, error);
    match error.hint() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

fn base(error: &BaseError, registry_name: &str) -> BuildError {
    let told = match error {
        BaseError::NotHandedOver { .. } => BuildError::new(FailureKind::Internal, error),
        BaseError::Serve(_) => BuildError::new(FailureKind::Machine, error),
        BaseError::Layout { .. } => BuildError::new(FailureKind::Spec, error),
        BaseError::LookUp { source, .. } => {
            let kind = registry(source, registry_name).kind;
            let told = BuildError::new(kind, error);
            match kind {
                FailureKind::Denied => told.hint("log in by `docker login`, if it is there and you may have it"),
                FailureKind::Spec => told.hint("look whether name and tag are spelt as in the registry"),
                _ => told,
            }
        }
        BaseError::Push { source, .. } => {
            let kind = registry(source, registry_name).kind;
            let told = BuildError::new(kind, error);
            match kind {
                FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
                _ => told,
            }
        }
    };
    told.field("base_image")
}

/// envd ended badly: the step that failed, else what it said last.
fn envd(ending: &str, followed: &Followed, registry_name: &str) -> BuildError {
    if let Some(failed) = followed.failed.as_ref().filter(|failed| failed.told.is_some()) {
        return step(failed, registry_name);
    }
    let said = followed.errors.last().map(|said| one_line(said)).unwrap_or_default();
    let kind = kind_of(&said, FailureKind::Machine);
    let said = said.rsplit_once("failed to solve: ").map_or(said.as_str(), |(_, said)| said).to_owned();
    let mut told = BuildError::of(kind, format!("envd ended with {ending}"));
    if !said.is_empty() {
        told.causes.push(said.clone());
    }
    let told = match kind {
        FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
        _ => told,
    };
    with_hints_for(told, &said)
}

fn step(failed: &FailedStep, registry_name: &str) -> BuildError {
    let told = failed.told.as_ref().expect("it is one that was asked for");
    let at = |error: BuildError| match &told.field {
        Some(field) => error.field(field),
        None => error,
    };
    // What our own script says is the whole story.
    let said = failed.lines.iter().rev().find_map(|line| line.strip_prefix(SCRIPT));
    if let (Some(said), Some(exit_code::NO_APT..=exit_code::CONDA)) = (said, failed.exit_code()) {
        return at(BuildError::of(FailureKind::Spec, said));
    }
    let lines = if failed.lines.is_empty() { String::new() } else { format!(":\n{}", failed.lines.join("\n")) };
    let words = format!("{} {}", failed.message, failed.lines.join(" "));
    let title = &told.title;
    if let Some(code) = failed.exit_code() {
        let kind = if is_full(&words) { FailureKind::Machine } else { FailureKind::Step };
        let error = at(BuildError::of(kind, format!("`{title}` ended with exit code {code}{lines}")));
        return match words.contains("\"bash\": executable file not found") {
            true => error.hint("envd runs everything by bash, which the base must have"),
            false => with_hints_for(error, &words),
        };
    }
    let kind = kind_of(&words, FailureKind::Step);
    let is_served = told.title.contains("/imagespec-base@");
    let error = at(BuildError::of(kind, format!("`{title}` failed: {}{lines}", one_line(&failed.message))));
    let error = match kind {
        _ if is_served => error
            .hint("push the image: its base goes to the same registry, where a BuildKit on another machine finds it"),
        FailureKind::Denied => error.hint(format!("log in by `docker login {registry_name}`")),
        _ if words.contains("executable file not found") => {
            error.hint("envd runs everything by bash, which the base must have")
        }
        _ => error,
    };
    with_hints_for(error, &words)
}

fn engine(error: &EngineError, registry_name: &str) -> BuildError {
    match error {
        EngineError::Refused { action: "push the image", problem, .. } => {
            let kind = kind_of(problem, FailureKind::Temporary);
            let told = BuildError::new(kind, error);
            match kind {
                FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
                _ => told,
            }
        }
        EngineError::Refused { problem, .. } => with_hints_for(BuildError::new(FailureKind::Machine, error), problem),
        EngineError::Unreachable { .. } => BuildError::new(FailureKind::Machine, error)
            .hint("start Docker, name another engine by DOCKER_HOST, or a BuildKit by `--builder-opt address=tcp://HOST:PORT`")
            .hint(WITHOUT_ENVD),
        EngineError::Address { .. } => {
            BuildError::new(FailureKind::Machine, error).hint("`--builder docker` speaks to all engines")
        }
        EngineError::Cancelled => BuildError::of(FailureKind::Cancelled, "the build was cancelled"),
    }
}

fn registry(error: &imagespec_distribution::Error, registry_name: &str) -> BuildError {
    let kind = if error.is_temporary() {
        FailureKind::Temporary
    } else if error.is_denied() {
        FailureKind::Denied
    } else {
        kind_of(&error.to_string(), FailureKind::Machine)
    };
    let told = BuildError::new(kind, error);
    match kind {
        FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
        _ => told,
    }
}

/// What words of envd, an engine or a registry mean, which have no codes.
fn kind_of(words: &str, otherwise: FailureKind) -> FailureKind {
    let words = words.to_lowercase();
    let says = |known: &[&str]| known.iter().any(|known| words.contains(known));
    if says(&["denied", "unauthorized", "no basic auth", "forbidden", "authentication required", "insufficient_scope"])
    {
        FailureKind::Denied
    } else if says(&["manifest unknown", "does not exist", "name unknown", "not found"]) {
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

fn with_hints_for(error: BuildError, words: &str) -> BuildError {
    if is_full(words) {
        return error.hint("make room where BuildKit keeps its data: `envd prune`, `docker system prune`");
    }
    if words.contains("cannot connect to buildkitd") || words.contains("failed to connect to") {
        let error = BuildError { kind: FailureKind::Machine, ..error };
        return error
            .hint("start it, or name another one: `[builders.envd] address = \"tcp://HOST:PORT\"`")
            .hint(WITHOUT_ENVD);
    }
    error
}
