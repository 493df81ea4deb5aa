//! What a failure is called outside of this crate: its kind, and what to do about it.

mod conda;

use std::borrow::Cow;
use std::io::ErrorKind;

use imagespec_core::builder::{BuildError, FailureKind};

use crate::apt::AptError;
use crate::base::BaseError;
use crate::bootstrap::{BootstrapError, MirrorError, ReleaseError};
use crate::builder::Failure;
use crate::cache::CacheError;
use crate::conda::CondaError;
use crate::execute::ExecuteError;
use crate::files::FilesError;
use crate::layer::LayerError;
use crate::lock::LockFailure;
use crate::managed::ManagedError;
use crate::output::OutputError;
use crate::python::PythonError;
use crate::runtime::RuntimeError;
use crate::sandbox::SandboxError;
use crate::secret::SecretError;
use crate::source::{self, SourceError};
use crate::wheel::{DownloadError, PylockError, PythonBuildError, ResolveError};

const OTHER_MIRROR: &str = "the mirror, or something on the way to it, sends what Debian did not sign: set `debian_mirror` under `[project]` \
     of `imagespec.toml` to another one, or try again later";
const OTHER_VERSION: &str = "the package is broken: take another version of it, and tell its publisher";
const NETWORK: &str = "check the network, or whether the index needs a proxy";
const INDEX_LOGIN: &str = "say who you are to the index: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, \
     and `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password PASSWORD`";
const ONLINE: &str = "build it once without `--offline`, which keeps what it fetches";
const LOCK_AGAIN: &str = "run `imagespec lock` again";
const CACHE_FOLDER: &str = "set IMAGESPEC_CACHE_DIR to a folder with free space that you may write to";

impl Failure {
    /// The failure as the caller sees it.
    pub(crate) fn tell(&self) -> BuildError {
        BuildError {
            hints: self.hint().into_iter().collect(),
            field: self.field().map(Cow::into_owned),
            ..BuildError::new(self.kind(), self)
        }
    }

    /// The field of the spec that asked for what failed.
    fn field(&self) -> Option<Cow<'static, str>> {
        if let Self::Execute(ExecuteError::Failed { position, .. }) = self {
            return Some(format!("commands[{position}]").into());
        }
        if let Self::Python(error) = self
            && let Some(package) = package(error)
        {
            return Some(format!("packages[{package}]").into());
        }
        let field = match self {
            // The fields are those of another spec.
            Self::Nested(_) => "base_image",
            Self::Bootstrap(BootstrapError::Architecture { .. } | BootstrapError::CannotExecute { .. }) => "platform",
            Self::Base(_)
            | Self::Survey(_)
            | Self::BaseNotHandedOver { .. }
            | Self::TooManyLayers { .. }
            | Self::Bootstrap(_) => "base_image",
            Self::Lock(LockFailure::Missing { .. }) => return None,
            Self::Lock(LockFailure::Python { .. }) => "python_version",
            Self::Python(PythonError::NotAt { .. }) => "python_exec",
            Self::Python(PythonError::Absent | PythonError::NoLibc { .. }) => "base_image",
            Self::Python(PythonError::Version { .. } | PythonError::Managed(_)) => "python_version",
            Self::Python(PythonError::Secret(_) | PythonError::SecretFile { .. }) => "pip_secret_mounts",
            Self::Python(_) => "packages",
            Self::Files(_) => "copy",
            Self::Apt(_) => "apt_packages",
            Self::Conda(error) => conda::field(error)?,
            Self::Execute(ExecuteError::CannotExecute { .. } | ExecuteError::NoProgram { .. }) => "commands",
            Self::Secret(_) => "secrets",
            Self::Runtime(_) => "runtime_packages",
            _ => return None,
        };
        Some(field.into())
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Nested(failure) => failure.kind(),
            Self::Cancelled | Self::Bootstrap(BootstrapError::Sandbox(SandboxError::Cancelled)) => {
                FailureKind::Cancelled
            }
            Self::Registry(error) | Self::Base(BaseError::Registry(error)) => of_registry(error),
            Self::Cache(error) if error.is_temporary() => FailureKind::Temporary,
            Self::Bootstrap(error) if error.is_temporary() => FailureKind::Temporary,
            Self::Conda(CondaError::Cancelled) => FailureKind::Cancelled,
            Self::Conda(CondaError::NotHandedOver { .. }) => FailureKind::Internal,
            Self::Conda(error) if error.is_temporary() => FailureKind::Temporary,
            Self::Conda(error) if error.is_denied() => FailureKind::Denied,
            Self::Conda(CondaError::Setup { .. } | CondaError::Layer(_)) => FailureKind::Machine,
            Self::Python(error) if is_temporary(error) => FailureKind::Temporary,
            Self::Runtime(RuntimeError::Uv(ResolveError::Download(error))) if error.is_temporary() => {
                FailureKind::Temporary
            }
            Self::Python(error) if is_denied(error) => FailureKind::Denied,
            Self::Cache(_) | Self::Layer(_) | Self::Output(_) | Self::Execute(ExecuteError::Sandbox(_)) => {
                FailureKind::Machine
            }
            Self::Lock(_) | Self::Execute(ExecuteError::NoProgram { .. }) => FailureKind::Spec,
            Self::Execute(_)
            | Self::Apt(AptError::Failed { .. } | AptError::CannotExecute { .. } | AptError::Lost { .. }) => {
                FailureKind::Step
            }
            Self::Apt(AptError::Fetch(MirrorError::Offline { .. })) => FailureKind::Step,
            Self::Apt(AptError::Fetch(_)) => FailureKind::Temporary,
            Self::Apt(AptError::NotDebian | AptError::NotLockable { .. }) | Self::Secret(_) | Self::Conda(_) => {
                FailureKind::Spec
            }
            Self::Unsupported { .. } | Self::BaseNotHandedOver { .. } => FailureKind::Internal,
            Self::TooManyLayers { .. } => FailureKind::Spec,
            Self::Bootstrap(BootstrapError::Layer(_) | BootstrapError::Folder { .. }) => FailureKind::Machine,
            Self::Bootstrap(_) | Self::Python(PythonError::Source(_)) => FailureKind::Step,
            Self::Base(_) | Self::Files(_) | Self::Python(_) | Self::Runtime(_) | Self::Survey(_) => FailureKind::Spec,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Nested(failure) => return failure.hint(),
            Self::Registry(error) => return error.hint(),
            Self::Cache(error) => of_cache(error)?,
            Self::Files(FilesError::Changed { .. }) => "build again when nothing writes to it",
            Self::Base(error) => return of_base(error),
            Self::Layer(LayerError::Cache(error)) => of_cache(error)?,
            Self::Layer(LayerError::Io { .. }) => CACHE_FOLDER,
            Self::Bootstrap(error) => return of_bootstrap(error),
            Self::Output(error) => return of_output(error),
            Self::Execute(error) => return of_execute(error),
            Self::Apt(error) => return Some(of_apt(error)),
            Self::Lock(_) => LOCK_AGAIN,
            Self::Conda(error) => return conda::hint(error),
            Self::Secret(SecretError::Absent { id })
            | Self::Python(PythonError::Secret(SecretError::Absent { id })) => {
                return Some(format!("pass `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"));
            }
            Self::Python(PythonError::Source(
                SourceError::CannotBuild { source, .. } | SourceError::CannotResolve { source, .. },
            )) => return Some(source.hint()),
            Self::Python(error) => of_python(error)?,
            Self::Runtime(RuntimeError::NoInstaller { .. }) => "take another `platform`, or put them into `packages`",
            Self::Runtime(RuntimeError::Uv(error)) => of_resolve(error)?,
            Self::Runtime(RuntimeError::Cache(error)) => of_cache(error)?,
            Self::Runtime(RuntimeError::Layer(_)) => CACHE_FOLDER,
            Self::Secret(_) => return None,
            Self::Cancelled
            | Self::Layer(_)
            | Self::Files(_)
            | Self::Survey(_)
            | Self::Unsupported { .. }
            | Self::BaseNotHandedOver { .. } => return None,
            Self::TooManyLayers { .. } => {
                "take a base with fewer layers, or set `compile_bytecode: false` under `builder_options`"
            }
        };
        Some(hint.to_owned())
    }
}

/// The package that could not be had.
fn package(error: &PythonError) -> Option<&str> {
    match error {
        PythonError::Source(error) => error.package(),
        PythonError::Resolve(ResolveError::Failed { source }) => source.package(),
        _ => None,
    }
}

fn of_registry(error: &imagespec_distribution::Error) -> FailureKind {
    if error.is_cancelled() {
        FailureKind::Cancelled
    } else if error.is_denied() {
        FailureKind::Denied
    } else if error.is_temporary() {
        FailureKind::Temporary
    } else {
        FailureKind::Spec
    }
}

fn is_temporary(error: &PythonError) -> bool {
    match error {
        PythonError::Download(error) | PythonError::Resolve(ResolveError::Download(error)) => error.is_temporary(),
        PythonError::Resolve(ResolveError::Failed { source }) => source.is_temporary(),
        PythonError::Resolve(ResolveError::Cache(error)) => error.is_temporary(),
        PythonError::Managed(ManagedError::Build(
            PythonBuildError::Fetch { source, .. } | PythonBuildError::List { source, .. },
        )) => source.is_temporary(),
        _ => false,
    }
}

fn is_denied(error: &PythonError) -> bool {
    match error {
        PythonError::Download(error) => error.is_denied(),
        PythonError::Resolve(ResolveError::Failed { source }) => {
            source.is_denied() || source::is_denied(source.lines())
        }
        PythonError::Source(error) => source::is_denied(error.lines()),
        _ => false,
    }
}

fn of_cache(error: &CacheError) -> Option<&'static str> {
    match error {
        CacheError::Io { action: "read", .. } | CacheError::Cancelled => None,
        CacheError::Io { .. } => Some(CACHE_FOLDER),
        CacheError::WrongDigest { .. } => Some(
            "these are other bytes than were promised: try again, and if that does not help, ask whoever serves them",
        ),
        CacheError::InUse { .. } => Some("wait for the other process, or end it"),
        CacheError::Locked { .. } => {
            Some("wait for the other build, or end it; IMAGESPEC_CACHE_DIR gives a build a cache of its own")
        }
    }
}

fn of_base(error: &BaseError) -> Option<String> {
    let hint = match error {
        BaseError::Platform { .. } => "set `platform`, or take another `base_image`",
        BaseError::Malformed { .. } => "copy or push the image again with a current tool",
        BaseError::ManyImages { .. } => "save one image alone: `docker save IMAGE`",
        BaseError::Offline { .. } => ONLINE,
        BaseError::Registry(error) if error.is_not_found() => {
            "its registry has no such image: check the spelling of its name and tag"
        }
        BaseError::Registry(error) => return error.hint(),
        BaseError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            "a part of the base is missing: copy it again"
        }
        BaseError::Io { .. } => return None,
    };
    Some(hint.to_owned())
}

fn of_bootstrap(error: &BootstrapError) -> Option<String> {
    let hint = match error {
        BootstrapError::NoSuite { .. } => {
            "Debian's releases are `bullseye`, `bookworm` and `trixie`; a mirror may lack old or new ones"
        }
        BootstrapError::Architecture { .. } => {
            "set `platform` to `linux/amd64` or `linux/arm64`, or name a `base_image`"
        }
        BootstrapError::CannotExecute { .. } => {
            "install an emulator: Debian's packages qemu-user-static and binfmt-support; or name a `base_image` in a \
             registry or `oci:DIR`, for which nothing needs to run"
        }
        BootstrapError::Release(ReleaseError::Expired { .. }) => {
            "the mirror may be out of date, so name another one; one that keeps old releases on purpose needs \
             `debian_check_valid_until = false` under `[builders.oci]` in `imagespec.toml`"
        }
        BootstrapError::Release(ReleaseError::NotYetMade { .. }) => "set the clock of this machine",
        BootstrapError::Release(ReleaseError::ExpiredKey { .. }) => {
            "a newer imagespec may know a newer key; if the time is wrong, set the clock of this machine"
        }
        BootstrapError::Gone { .. } => "build again: it is fetched anew",
        BootstrapError::Release(ReleaseError::WrongSuite { .. }) => {
            "name the release by its code name, such as `bookworm`, or set another `debian_mirror` in `imagespec.toml`"
        }
        BootstrapError::Release(_)
        | BootstrapError::Mirror(MirrorError::TooLarge { .. } | MirrorError::Cache(CacheError::WrongDigest { .. })) => {
            OTHER_MIRROR
        }
        BootstrapError::Lost { snapshot, .. } => {
            return Some(format!(
                "run `imagespec lock` again for the present version; to build with the locked one, set `debian_mirror = \
                 \"http://snapshot.debian.org/archive/debian/{snapshot}\"` and `debian_check_valid_until = false` under \
                 `[builders.oci]` of `imagespec.toml`"
            ));
        }
        BootstrapError::Mirror(MirrorError::Offline { .. }) => ONLINE,
        BootstrapError::Mirror(MirrorError::Cache(error)) | BootstrapError::Cache(error) => of_cache(error)?,
        BootstrapError::Mirror(_) => {
            "check the network, or set `debian_mirror` under `[project]` of `imagespec.toml` to a mirror that is reached"
        }
        BootstrapError::Sandbox(error) => error.hint()?,
        BootstrapError::Folder { .. } => CACHE_FOLDER,
        BootstrapError::Suite { .. }
        | BootstrapError::Configure { .. }
        | BootstrapError::Packages(_)
        | BootstrapError::Solve(_)
        | BootstrapError::Deb(_)
        | BootstrapError::Layer(_) => return None,
    };
    Some(hint.to_owned())
}

fn of_python(error: &PythonError) -> Option<&'static str> {
    match error {
        PythonError::Absent => Some(
            "take a `base_image` that has Python, or leave it out to get a Debian with one; `python_version` brings one to \
             any base with a system in it",
        ),
        PythonError::NoLibc { .. } => Some("take another `base_image`, or leave it out to get a Debian with Python"),
        PythonError::NotAt { .. } => {
            Some("name a program of CPython 3, or leave `python_exec` out to get the first on PATH")
        }
        PythonError::Version { .. } => Some("leave `python_version` or `base_image` out"),
        PythonError::Resolve(error) => of_resolve(error),
        PythonError::Pylock(PylockError::NoWheel { .. }) => {
            Some("take a version of it, a `python_version` or a `platform` that it has a wheel for")
        }
        PythonError::Pylock(PylockError::OtherPython { .. }) => {
            Some("lock again for that Python, or take a `python_version` or a `base_image` that fits")
        }
        PythonError::Pylock(PylockError::NotAllowed { .. }) => Some(
            "ask its publisher which digest is right; if this one is, make the hashes again: `uv pip compile \
             --generate-hashes`, `pip-compile --generate-hashes` or `poetry lock`",
        ),
        PythonError::Pylock(PylockError::OtherHashes { .. }) => Some("add its `--hash=sha256:…`"),
        PythonError::Pylock(_) => Some("make the lock file again with a current tool"),
        PythonError::Download(error) => of_download(error),
        PythonError::SecretFile { .. } => Some(
            "give it as a netrc file, as in `{id: netrc, target: /root/.netrc}`, or as a variable, as in \
                 `{id: index, env: UV_DEFAULT_INDEX}`; other files are for git alone",
        ),
        PythonError::Source(SourceError::Offline { .. } | SourceError::OfflineResolve { .. }) => Some(ONLINE),
        PythonError::Source(SourceError::NoGit { .. }) => Some(source::NO_GIT),
        PythonError::Source(SourceError::NoFolder { .. }) => Some(source::NO_FOLDER),
        PythonError::Source(SourceError::OtherWheel { .. }) => Some(OTHER_VERSION),
        PythonError::Source(SourceError::Exchange { .. }) => Some(CACHE_FOLDER),
        PythonError::Source(error) => source::hint(error.lines()),
        PythonError::Secret(_) => None,
        PythonError::Managed(error) => of_managed(error),
        PythonError::Wheel(_) => Some(OTHER_VERSION),
        PythonError::Lock(FilesError::Changed { .. }) => Some("build again when nothing writes to it"),
        PythonError::Lock(_) => None,
    }
}

fn of_managed(error: &ManagedError) -> Option<&'static str> {
    match error {
        ManagedError::NoLibc => Some("take a `base_image` with a system in it, or leave it out to get a Debian"),
        ManagedError::Build(PythonBuildError::Uv(error)) => of_resolve(error),
        ManagedError::Build(PythonBuildError::Offline { .. }) => Some(ONLINE),
        ManagedError::Build(PythonBuildError::List { .. }) => Some(
            "check UV_PYTHON_DOWNLOADS_JSON_URL, the address of a list of builds, or unset it to take uv's own list",
        ),
        ManagedError::Build(PythonBuildError::None { .. }) => Some(
            "take another `python_version`; a newer uv on PATH knows newer ones, and UV_PYTHON_DOWNLOADS_JSON_URL may \
             name a list of others",
        ),
        ManagedError::Build(PythonBuildError::Fetch { source, .. }) if source.is_other_content() => Some(
            "the mirror, or something on the way to it, sends another file than uv knows: set UV_PYTHON_INSTALL_MIRROR \
             to another mirror of python-build-standalone, or try again later",
        ),
        ManagedError::Build(PythonBuildError::Fetch { .. }) => Some(
            "let this machine reach https://releases.astral.sh, or set UV_PYTHON_INSTALL_MIRROR to a mirror of \
             python-build-standalone, `https://…` or `file:///…`",
        ),
        ManagedError::Build(PythonBuildError::NoArchive { .. }) => Some("put uv 0.7 or newer on PATH, or none"),
        ManagedError::Build(PythonBuildError::Io { .. }) | ManagedError::Layer(_) => Some(CACHE_FOLDER),
        ManagedError::Build(PythonBuildError::Cache(error)) | ManagedError::Cache(error) => of_cache(error),
        ManagedError::Archive { .. } => Some(
            "set UV_PYTHON_INSTALL_MIRROR to another mirror of python-build-standalone, or take a `base_image` that has it",
        ),
    }
}

fn of_resolve(error: &ResolveError) -> Option<&'static str> {
    match error {
        ResolveError::NoUv { .. } | ResolveError::Run { .. } => Some("install uv 0.7 or newer and put it on PATH"),
        ResolveError::Download(DownloadError::Offline { .. }) => Some(ONLINE),
        ResolveError::Download(_) => {
            Some("let this machine reach https://files.pythonhosted.org, or install uv 0.7 or newer and put it on PATH")
        }
        ResolveError::Failed { source } if source.is_offline() => Some(ONLINE),
        ResolveError::Failed { source } if source.is_temporary() => Some(NETWORK),
        ResolveError::Failed { source } if source.is_denied() => Some(INDEX_LOGIN),
        ResolveError::Failed { source } if source.wants_wheels() => {
            Some("take a version of the package that has a wheel, or take `--only-binary` out of `pip_extra_args`")
        }
        ResolveError::Failed { source } => source::hint(source.lines()),
        ResolveError::Unsupported { .. } => Some("take another `platform`, or install from a pylock.toml"),
        ResolveError::Cache(error) => of_cache(error),
        _ => None,
    }
}

fn of_download(error: &DownloadError) -> Option<&'static str> {
    match error {
        DownloadError::Offline { .. } => Some(ONLINE),
        DownloadError::Transport { .. } => Some(NETWORK),
        error if error.is_denied() => Some(INDEX_LOGIN),
        DownloadError::Cache(error) => of_cache(error),
        _ => None,
    }
}

fn of_execute(error: &ExecuteError) -> Option<String> {
    match error {
        ExecuteError::CannotExecute { source, .. } => Some(source.hint()),
        ExecuteError::Sandbox(error) => error.hint().map(str::to_owned),
        ExecuteError::NoProgram { .. } => Some("take a `base_image` with a system in it".to_owned()),
        ExecuteError::Failed { .. } | ExecuteError::Snapshot(_) => None,
    }
}

fn of_apt(error: &AptError) -> String {
    let hint = match error {
        AptError::CannotExecute { source } => return source.hint(),
        AptError::Lost { .. } => {
            "run `imagespec lock` again for the present version; a base whose apt uses a snapshot keeps the old one"
        }
        AptError::Fetch(MirrorError::Offline { .. }) => ONLINE,
        AptError::Fetch(_) => "check the network, or whether the image's mirror is reached",
        AptError::NotLockable { .. } => "build without `--locked`, or take it from a mirror on the web",
        AptError::NotDebian => "take a Debian or an Ubuntu as `base_image`, or leave it out",
        AptError::Failed { .. } => {
            "check the names at https://packages.debian.org, and whether the image's mirror is reached"
        }
    };
    hint.to_owned()
}

fn of_output(error: &OutputError) -> Option<String> {
    let hint = match error {
        OutputError::File(error) => return error.hint(),
        OutputError::ManyPlatforms { .. } => "choose one by `--platform`, or write all of them to `type=oci,dest=DIR`",
        OutputError::NoEngine { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            "join the group that the socket belongs to, or use `--output type=docker-archive,dest=FILE`"
        }
        OutputError::NoEngine { .. } => {
            "start Docker or Podman, set DOCKER_HOST to `unix://SOCKET`, or use `--output type=docker-archive,dest=FILE`, \
             which needs no engine"
        }
        OutputError::Engine { .. } | OutputError::OtherImage { .. } => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests;
