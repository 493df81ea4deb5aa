//! What went wrong, for the one who asked for the build: kind, field and what to do. The one place that says so.

use imagespec_buildkit::connection::{DialError, TlsProblem};
use imagespec_buildkit::failure::{Daemon, registry};
use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_layout::SavedError;

use crate::builder::Failure;
use crate::daemon::ConnectError;
use crate::job::told;
use crate::options::OptionsError;

const DAEMON: Daemon = Daemon {
    name: "the daemon",
    room: "make room where the daemon keeps its data: `buildctl prune`, or a limit in its `buildkitd.toml`",
    gone: "the daemon may have been stopped: build again, what was done may be in its cache",
};
const WITHOUT_DAEMON: &str = "`--builder oci` needs no daemon";

impl Failure {
    /// The error that crosses to the program. The image's name is in `registry_name`.
    pub(crate) fn tell(&self, registry_name: &str) -> BuildError {
        match self {
            Self::Cancelled => BuildError::of(FailureKind::Cancelled, "the build was cancelled"),
            Self::Solve(error) => error.tell(&DAEMON),
            Self::Given(error) => error.tell(),
            Self::LocalCache(error) => error.tell(),
            Self::Recipe(error) => error.tell(),
            Self::Registry(error) => registry(error, registry_name),
            Self::Options(OptionsError::None) => BuildError::new(FailureKind::Machine, self)
                .hint("set `endpoints = [\"tcp://HOST:1234\"]` in `[builders.remote]` of your own config")
                .hint("or give `--builder-opt endpoints=…`, or BUILDKIT_HOST"),
            Self::Options(OptionsError::Endpoint(_)) => BuildError::new(FailureKind::Machine, self).hint(
                "an endpoint is `unix:///PATH`, `tcp://HOST:PORT`, `docker-container://NAME`, `kube-pod://NAMESPACE/POD` or `ssh://USER@HOST`, with settings as `?weight=2`",
            ),
            Self::Unreachable { source, .. } => unreachable(BuildError::new(kind(source), self), source),
            Self::AllUnreachable { passed, .. } => {
                let error = BuildError::of(FailureKind::Machine, self.to_string());
                let causes = passed.iter().map(|(address, error)| format!("`{address}`: {}", told(error)));
                BuildError { causes: causes.collect(), ..error }.hint(WITHOUT_DAEMON)
            }
            Self::OtherBase(error) => error.tell(),
            Self::NoPlatform { .. } => BuildError::new(FailureKind::Spec, self)
                .field("platform")
                .hint("name an endpoint that runs it, or install an emulator at one (`binfmt`)"),
            Self::Lost { source, has_failed_over, .. } => {
                let told = BuildError::of(FailureKind::Temporary, self.to_string());
                let causes = source.tell(&DAEMON).causes;
                let told = BuildError { causes, ..told };
                match has_failed_over {
                    true => told.hint("another daemon was lost before: a build that ends them both is not tried again"),
                    false => told.hint(DAEMON.gone).hint("with more `endpoints`, another daemon would have gone on"),
                }
            }
            Self::ManyInArchive { .. } => BuildError::new(FailureKind::Spec, self)
                .field("platform")
                .hint("choose one by `--platform`, or write all of them to `type=oci,dest=DIR`"),
            Self::NoDigest { .. } | Self::OtherImage { .. } | Self::Saved(SavedError::Invalid { .. }) => {
                BuildError::new(FailureKind::Internal, self)
            }
            Self::Saved(SavedError::Io { .. })
            | Self::Layout(_)
            | Self::Write(_)
            | Self::Runtime(_)
            | Self::Queue { .. }
            | Self::Options(_) => BuildError::new(FailureKind::Machine, self),
        }
    }
}

/// A daemon that does not take our certificate denies; all else is a matter of this machine and its network.
fn kind(error: &ConnectError) -> FailureKind {
    match error {
        ConnectError::Dial(error) if error.tls_problem() == Some(TlsProblem::Unwelcome) => FailureKind::Denied,
        _ => FailureKind::Machine,
    }
}

fn unreachable(told: BuildError, error: &ConnectError) -> BuildError {
    let ConnectError::Dial(dial) = error else {
        return told
            .hint("if the daemon speaks TLS, name its authority: `?ca=/PATH/ca.pem`, or `ca` in `[builders.remote]`");
    };
    match (dial, dial.tls_problem()) {
        (_, Some(TlsProblem::UnknownAuthority)) => {
            told.hint("name the authority of the daemon's certificate: `ca` in `[builders.remote]`, or `?ca=/PATH/ca.pem`")
        }
        (_, Some(TlsProblem::OtherName)) => told
            .hint("call the daemon by a name that stands in its certificate, or say which one does: `?server_name=NAME`"),
        (_, Some(TlsProblem::Expired)) => {
            told.hint("whoever runs the daemon must renew its certificate; look whether this machine's clock is right, too")
        }
        (_, Some(TlsProblem::Unwelcome)) => told.hint(
            "the daemon wants a certificate of ours that it trusts and that is in time: `cert` and `key` in `[builders.remote]`",
        ),
        (_, Some(TlsProblem::NotSpoken)) => told
            .hint("what answers there seems to speak without TLS: let it speak TLS, or say `?tls=off` if nobody listens between"),
        (DialError::Program { name, .. }, _) => told.hint(format!("install `{name}`: the address asks for it")),
        (DialError::Ended(ended), _) => {
            told.hint(format!("`{}` must work without a question, and BuildKit's `buildctl` be there", ended.name))
        }
        (DialError::Pem { .. } | DialError::Identity(_) | DialError::Tls(_), _) => told,
        (DialError::Connect(_) | DialError::Timeout, _) => {
            told.hint("look whether the address is right and the daemon runs").hint(WITHOUT_DAEMON)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_no_daemon_learns_where_to_name_one() {
        let told = Failure::Options(OptionsError::None).tell("");
        insta::assert_snapshot!(format!("{}\n{}", told.message, told.hints.join("\n")), @r#"
        no BuildKit daemon is named
        set `endpoints = ["tcp://HOST:1234"]` in `[builders.remote]` of your own config
        or give `--builder-opt endpoints=…`, or BUILDKIT_HOST
        "#);
    }
}
