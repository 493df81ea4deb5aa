//! What went wrong, for the one who asked for the build: kind, field and what to do. The one place that says so.

use imagespec_buildkit::dockerfile::exit_code;
use imagespec_buildkit::{FailedStep, SolveError};
use imagespec_core::builder::{BuildError, FailureKind};

use crate::base::BaseError;
use crate::builder::Failure;
use crate::engine::{DialError, EngineError};
use crate::saved::SavedError;

/// How our own scripts begin what they say.
const SCRIPT: &str = "imagespec: ";
/// What runc says where there is no shell.
const NO_SHELL: &str = "exec: \"/bin/sh\": stat /bin/sh: no such file or directory";
const WITHOUT_ENGINE: &str = "`--builder oci` needs no engine";

impl Failure {
    /// The error that crosses to the program. The image's name is in `registry_name`.
    pub(crate) fn tell(&self, registry_name: &str) -> BuildError {
        match self {
            Self::Cancelled | Self::Solve(SolveError::Cancelled) => {
                BuildError::of(FailureKind::Cancelled, "the build was cancelled")
            }
            Self::Engine(error) => engine(error, registry_name),
            Self::Solve(SolveError::Step(step)) => failed_step(step),
            Self::Solve(SolveError::Connection(status)) => {
                let error = BuildError::of(FailureKind::Temporary, self.to_string());
                BuildError { causes: vec![broken(status)], ..error }
                    .hint("the engine may have been stopped: build again when it runs, what was done is in its cache")
            }
            Self::Solve(SolveError::Refused { message }) => {
                let error = BuildError::of(kind_of(message, FailureKind::Machine), self.to_string());
                with_hints_for(error, message)
            }
            Self::NoBuildKit { .. } => BuildError::new(FailureKind::Machine, self)
                .hint("`--builder oci --output type=docker` builds without it and loads the image into that engine"),
            Self::ManyPlatforms { .. } => BuildError::new(FailureKind::Machine, self)
                .field("platform")
                .hint("turn on the engine's containerd image store, or build for one platform")
                .hint("`--builder oci` makes images of several platforms"),
            Self::ManyInArchive { .. } => BuildError::new(FailureKind::Spec, self)
                .field("platform")
                .hint("choose one by `--platform`, or write all of them to `type=oci,dest=DIR`"),
            Self::OtherEngine { .. } => BuildError::new(FailureKind::Spec, self)
                .hint("leave `--output type=docker` out: the image stays in the engine that makes it"),
            Self::Base(error) => {
                let kind = match error {
                    BaseError::NotHandedOver { .. } | BaseError::Lost => FailureKind::Internal,
                    BaseError::Layout { .. }
                    | BaseError::Archive { .. }
                    | BaseError::Broken { .. }
                    | BaseError::ManyPlatforms { .. } => FailureKind::Spec,
                };
                let told = BuildError::new(kind, self).field("base_image");
                match error {
                    BaseError::ManyPlatforms { .. } => {
                        told.hint("build for one platform, or on an OCI layout with all of them: `oci:DIR`")
                    }
                    _ => told,
                }
            }
            Self::NoPython(error) => BuildError::new(FailureKind::Spec, error)
                .field(error.field)
                .hint("take one of these as `python_version`"),
            Self::Lower(error) => error.tell(),
            Self::Uv(error) => error.tell(),
            Self::Registry(error) => registry(error, registry_name),
            Self::Saved(SavedError::Invalid { .. }) | Self::Lost => BuildError::new(FailureKind::Internal, self),
            Self::Saved(SavedError::Io { .. }) | Self::Layout(_) | Self::Write(_) | Self::Runtime(_) => {
                BuildError::new(FailureKind::Machine, self)
            }
            Self::Credentials(error) => {
                let told = BuildError::new(FailureKind::Machine, error);
                match error.hint() {
                    Some(hint) => told.hint(hint),
                    None => told,
                }
            }
        }
    }
}

/// How a connection broke: the system's words, without those of each library on the way.
fn broken(status: &tonic::Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// The same of an engine alone.
pub(crate) fn engine(error: &EngineError, registry_name: &str) -> BuildError {
    match error {
        EngineError::Address(_) => BuildError::new(FailureKind::Machine, error)
            .hint("an address is `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`"),
        EngineError::Unreachable { source: DialError::Connect(system), .. }
            if system.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            BuildError::new(FailureKind::Machine, error)
                .hint("let the engine's administrator give you access: Docker's is that of group `docker`")
                .hint(WITHOUT_ENGINE)
        }
        EngineError::Unreachable { source: DialError::Ssh(_), .. } => BuildError::new(FailureKind::Machine, error)
            .hint("install an SSH client, as Debian's package openssh-client"),
        EngineError::Unreachable { source: DialError::SshEnded(_), place } => {
            BuildError::new(FailureKind::Machine, error)
                .hint(format!("`ssh {} docker version` must work without a question", ssh_target(place)))
                .hint("ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client")
        }
        EngineError::Unreachable {
            source: source @ (DialError::Tls(_) | DialError::Identity(_) | DialError::Pem { .. }),
            ..
        } => {
            let told = BuildError::new(FailureKind::Machine, error);
            match source.tls_hint() {
                Some(hint) => told.hint(hint),
                None => told,
            }
        }
        EngineError::Unreachable { .. } | EngineError::NoEngine { .. } => BuildError::new(FailureKind::Machine, error)
            .hint("start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`")
            .hint(WITHOUT_ENGINE),
        EngineError::TooOld { .. } => {
            BuildError::new(FailureKind::Machine, error).hint("Docker 20.10 and newer have it").hint(WITHOUT_ENGINE)
        }
        EngineError::Refused { action, problem, status } => {
            let kind = match (*action, status) {
                ("push the image", _) => kind_of(problem, FailureKind::Temporary),
                (_, Some(500..)) => FailureKind::Machine,
                _ => kind_of(problem, FailureKind::Machine),
            };
            let told = with_hints_for(BuildError::of(kind, error.to_string()), problem);
            match kind {
                FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
                _ => told,
            }
        }
        EngineError::Gone { problem, .. } => {
            let told = BuildError::new(FailureKind::Temporary, error);
            BuildError { causes: vec![problem.clone()], ..told }
                .hint("the engine may have been stopped: build again when it runs, what was done is in its cache")
        }
        EngineError::Upgrade(_) | EngineError::Grpc(_) => BuildError::new(FailureKind::Machine, error)
            .hint("`imagespec doctor` says what the engine is")
            .hint(WITHOUT_ENGINE),
    }
}

/// The words with which ssh is told what `ssh://USER@HOST:PORT` says.
fn ssh_target(place: &str) -> String {
    let target = place.strip_prefix("ssh://").unwrap_or(place);
    match target.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((host, port)) => format!("-p {port} {host}"),
        None => target.to_owned(),
    }
}

fn failed_step(failed: &FailedStep) -> BuildError {
    let field = failed.step.as_ref().and_then(|step| step.field.as_deref());
    let at = |error: BuildError| match field {
        Some(field) => error.field(field),
        None => error,
    };
    if let Some(base) = failed.looked_up() {
        let kind = kind_of(&failed.message, FailureKind::Temporary);
        let mut error = BuildError::of(kind, format!("the engine cannot find base `{base}`")).field("base_image");
        error.causes.push(failed.message.clone());
        return match kind {
            FailureKind::Denied => error.hint("log in by `docker login`, if it is there and you may have it"),
            FailureKind::Spec => error.hint("look whether name and tag are spelt as in the registry"),
            _ => error,
        };
    }
    // What our own script says is the whole story.
    let said = failed.lines.iter().rev().find_map(|line| line.strip_prefix(SCRIPT));
    if let (Some(said), Some(exit_code::NO_APT..=exit_code::CONDA)) = (said, failed.exit_code()) {
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
        return at(BuildError::of(
            FailureKind::Spec,
            format!("`{title}` needs `/bin/sh`, which the base does not have"),
        ))
        .hint("take a `base_image` with a system in it");
    }
    let kind = if is_full(&said) { FailureKind::Machine } else { FailureKind::Step };
    let told = at(with_hints_for(BuildError::of(kind, format!("{how}{lines}")), &said));
    match field {
        Some("apt_packages") if kind == FailureKind::Step => {
            told.hint("check the names at https://packages.debian.org, and whether the image's mirror is reached")
        }
        _ => told,
    }
}

fn registry(error: &imagespec_distribution::Error, registry_name: &str) -> BuildError {
    let kind =
        if error.is_temporary() { FailureKind::Temporary } else { kind_of(&error.to_string(), FailureKind::Machine) };
    let told = BuildError::new(kind, error);
    match kind {
        FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
        _ => told,
    }
}

/// What words of an engine or a registry mean, which have no codes.
fn kind_of(words: &str, otherwise: FailureKind) -> FailureKind {
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

fn with_hints_for(error: BuildError, words: &str) -> BuildError {
    let lower = words.to_lowercase();
    if is_full(words) {
        return error.hint("make room where the engine keeps its data: `docker builder prune`, `docker system prune`");
    }
    if lower.contains("cache export") && lower.contains("not supported") {
        return error.hint(
            "the engine's BuildKit exports caches with the containerd image store alone: leave `--cache-to` out",
        );
    }
    error
}
