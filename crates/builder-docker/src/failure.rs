//! What went wrong, for the one who asked for the build: kind, field and what to do. The one place that says so.

use imagespec_buildkit::connection::{DialError, TlsProblem};
use imagespec_buildkit::failure::{Daemon, kind_of, registry, with_hints_for};
use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_layout::SavedError;

use crate::base::BaseError;
use crate::builder::Failure;
use crate::engine::{EngineError, PUSH, PUSH_AS_USER};

const DAEMON: Daemon = Daemon {
    name: "the engine",
    room: "make room where the engine keeps its data: `docker builder prune`, `docker system prune`",
    gone: "the engine may have been stopped: build again when it runs, what was done is in its cache",
};
const WITHOUT_ENGINE: &str = "`--builder oci` needs no engine";

impl Failure {
    /// The error that crosses to the program. The image's name is in `registry_name`.
    pub(crate) fn tell(&self, registry_name: &str) -> BuildError {
        match self {
            Self::Cancelled => BuildError::of(FailureKind::Cancelled, "the build was cancelled"),
            Self::Engine(error) => engine(error, registry_name),
            Self::Solve(error) => error.tell(&DAEMON),
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
                    BaseError::Given(error) => return error.tell(),
                    BaseError::Other(error) => return error.tell(),
                    BaseError::Login(error) => return registry(error, registry_name).field("base_image"),
                    BaseError::Lost => FailureKind::Internal,
                    BaseError::Archive { .. } | BaseError::Broken { .. } | BaseError::ManyPlatforms { .. } => {
                        FailureKind::Spec
                    }
                };
                let told = BuildError::new(kind, self).field("base_image");
                match error {
                    BaseError::ManyPlatforms { .. } => {
                        told.hint("build for one platform, or on an OCI layout with all of them: `oci:DIR`")
                    }
                    _ => told,
                }
            }
            Self::LocalCache(error) => error.tell(),
            Self::NoCacheExport { .. } => BuildError::new(FailureKind::Machine, self)
                .hint("leave `--cache-to` out, or take `--cache-to type=inline`, which lies in the image")
                .hint("the containerd image store is turned on in the engine's `daemon.json`"),
            Self::NoPython(error) => error.tell(),
            Self::Recipe(error) => error.tell(),
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
        EngineError::Unreachable { source: DialError::Program { .. }, .. } => {
            BuildError::new(FailureKind::Machine, error)
                .hint("install an SSH client, as Debian's package openssh-client")
        }
        EngineError::Unreachable { source: DialError::Ended(_), place } => BuildError::new(FailureKind::Machine, error)
            .hint(format!("`ssh {} docker version` must work without a question", ssh_target(place)))
            .hint("ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client"),
        EngineError::Unreachable {
            source: source @ (DialError::Tls(_) | DialError::Identity(_) | DialError::Pem { .. }),
            ..
        } => {
            let told = BuildError::new(FailureKind::Machine, error);
            match source.tls_problem().and_then(tls_hint) {
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
                (PUSH | PUSH_AS_USER, _) => kind_of(problem, FailureKind::Temporary),
                (_, Some(500..)) => FailureKind::Machine,
                _ => kind_of(problem, FailureKind::Machine),
            };
            let told = with_hints_for(BuildError::of(kind, error.to_string()), problem, &DAEMON);
            match kind {
                FailureKind::Denied if *action == PUSH_AS_USER => told.hint(format!(
                    "log in again by `docker login {registry_name}`: the user name or the password is wrong, or may not push there"
                )),
                FailureKind::Denied => told.hint(format!("log in by `docker login {registry_name}`")),
                _ => told,
            }
        }
        EngineError::Gone { problem, .. } => {
            let told = BuildError::new(FailureKind::Temporary, error);
            BuildError { causes: vec![problem.clone()], ..told }.hint(DAEMON.gone)
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

/// What the user may do about TLS that failed.
fn tls_hint(problem: TlsProblem) -> Option<&'static str> {
    match problem {
        TlsProblem::UnknownAuthority => Some(
            "put the authority of the engine's certificate into `ca.pem`, in the folder of DOCKER_CERT_PATH or the context's",
        ),
        TlsProblem::OtherName => Some("call the engine by a name that stands in its certificate"),
        TlsProblem::Unwelcome => Some(
            "the engine wants another certificate: put `cert.pem` and `key.pem` into the folder of DOCKER_CERT_PATH or the context's",
        ),
        TlsProblem::NotSpoken => Some("if the engine speaks without TLS, unset DOCKER_TLS_VERIFY"),
        TlsProblem::Expired => None,
    }
}
