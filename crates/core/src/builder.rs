//! The one trait that every builder has, bundled or loaded, and what goes in and out of it. No I/O here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache_location::CacheLocation;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::event::Event;
use crate::hash::{SpecHash, SpecId};
use crate::plan::Plan;
use crate::reference::Reference;
use crate::report::Report;
use crate::spec::check;

/// Turns a plan into an image.
///
/// Sync on purpose: it serves the program, Python and plugins alike; an async builder owns its runtime.
pub trait Builder: Send + Sync {
    /// Name, version, what it can do and which options it takes. Does no work and always answers the same.
    fn describe(&self) -> Description;

    /// Builds what `request` asks for, tells `session` about it, and stops soon after the session is cancelled.
    ///
    /// # Errors
    /// When the image could not be built; nothing half-made is then left where `request.outputs` point.
    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError>;

    /// Finds out which exact parts the image of `request` would be made of now, and makes no image. Returns the plan with
    /// them in it, in the plan of its base, too. `request.outputs` do not count.
    ///
    /// # Errors
    /// When the parts could not be found, or always, for a builder without [`Feature::Lock`].
    fn lock(&self, _request: &BuildRequest, _session: &dyn Session) -> Result<Plan, BuildError> {
        let message = format!("builder `{}` cannot lock", self.describe().name);
        Err(BuildError::of(FailureKind::Spec, message))
    }

    /// Writes down how the image of `request` is made, in the words of the tool behind the builder (a Dockerfile), and
    /// makes no image. Returns the text. `request.outputs` do not count, and `request.secrets` are not there.
    ///
    /// With a `folder`, which is absolute and empty, it also writes the text and all that it refers to there: whoever has
    /// the folder can make the image without this program. What of `base_paths` the text refers to is copied, too. The
    /// caller gives the folder its name when it is whole.
    ///
    /// # Errors
    /// When something could not be read or written, or always, for a builder without [`Feature::Render`].
    fn render(
        &self,
        _request: &BuildRequest,
        _folder: Option<&Path>,
        _session: &dyn Session,
    ) -> Result<String, BuildError> {
        let message = format!("builder `{}` cannot render", self.describe().name);
        Err(BuildError::of(FailureKind::Spec, message))
    }

    /// Looks, before any work, whether `request` can be done where it would be, and whether the builder keeps its image
    /// already. It is called before there is a base that another builder makes, or a secret: `request.plan` is the one of
    /// `request.spec_hash`, whatever its base, and `request.secrets` are not there. Nothing is made, and little is fetched.
    ///
    /// The report of an image that the builder itself keeps under `request.name` and of `request.spec_hash`, if it goes
    /// nowhere else: as soon as one of `request.outputs` is elsewhere, nothing. Whoever asks has asked the registry.
    ///
    /// # Errors
    /// What would keep [`Builder::build`] from doing it: an engine that does not answer, an output that cannot be
    /// written. Never for a builder without [`Feature::Find`], which finds nothing.
    fn find(&self, _request: &BuildRequest, _session: &dyn Session) -> Result<Option<Report>, BuildError> {
        Ok(None)
    }
}

/// The caller's side of a build: takes events and says whether to stop.
pub trait Session: Send + Sync {
    /// Takes one event. Called from any thread.
    fn event(&self, event: Event);

    /// Whether the user asked to stop.
    fn is_cancelled(&self) -> bool;
}

/// A builder that is linked into a program, which finds it by [`inventory::iter`]. A crate of a builder submits one.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// The name that users choose it by.
    pub name: &'static str,
    /// Makes it. It does no work.
    pub make: fn(Restart) -> Box<dyn Builder>,
}

inventory::collect!(Bundled);

/// How a builder starts its own code in a new process: as this program, with these arguments before its own.
///
/// A loaded builder is a file that the program was given, so that the new process must inherit it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The program.
    pub program: PathBuf,
    /// What it is told before the builder's own arguments.
    pub arguments: Vec<String>,
    /// A descriptor that must stay open until the builder's code runs in the new process. It closes at no `exec`.
    pub descriptor: Option<i32>,
}

impl Restart {
    /// That of a builder which is linked into `program`.
    pub fn bundled(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), descriptor: None }
    }
}

/// What a builder says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name that users choose it by.
    pub name: String,
    /// Its version, as it likes.
    pub version: String,
    /// One line for `imagespec builders`.
    pub summary: String,
    /// What it can do. A plan that needs more is refused before any work.
    pub features: BTreeSet<Feature>,
    /// JSON Schema of its options.
    pub options_schema: serde_json::Value,
}

/// Whether users can choose a builder by `name`: lower-case letters, digits, `_`, `.` and `-`, the first a letter or a
/// digit.
pub fn is_builder_name(name: &str) -> bool {
    check::builder_name(name).is_ok()
}

/// Something that a plan may need and a builder may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// `base_image: scratch`
    BaseScratch,
    /// A base in a registry.
    BaseRegistry,
    /// `base_image: oci:DIR`
    BaseOciLayout,
    /// `base_image: docker-archive:FILE`
    BaseDockerArchive,
    /// `base_image: bootstrap:debian/SUITE`
    BaseBootstrap,
    /// A base that is a spec itself.
    BaseNested,
    /// More than one platform.
    MultiplePlatforms,
    /// Debian packages.
    Apt,
    /// A Python environment.
    Python,
    /// A chosen interpreter.
    PythonExecutable,
    /// Conda packages.
    Conda,
    /// Python packages.
    Pip,
    /// Python packages of a lock file: `uv.lock`, `poetry.lock`, `pylock.toml`.
    LockFiles,
    /// Secrets for the Python resolver.
    PipSecrets,
    /// Copied and source files.
    Copy,
    /// Commands.
    Run,
    /// Secrets for commands.
    RunSecrets,
    /// Variables of the image.
    Env,
    /// A working directory other than `/root`.
    Workdir,
    /// User of the image.
    User,
    /// Entry point of the image.
    Entrypoint,
    /// Default arguments of the image.
    Cmd,
    /// Labels of the image.
    Labels,
    /// Packages that are installed when a container starts.
    RuntimePackages,
    /// Exact parts: it finds them, and builds of those that it is given.
    Lock,
    /// The image of a plan is the same, byte for byte, whenever and wherever it is built of the same parts.
    Reproducible,
    /// [`Builder::render`]
    Render,
    /// [`Builder::find`]
    Find,
    /// [`BuildRequest::cache_from`]
    CacheImport,
    /// [`BuildRequest::cache_to`]
    CacheExport,
    /// [`BuildRequest::ssh_agent`]
    Ssh,
    /// [`Output::Store`]
    OutputStore,
    /// [`Output::Registry`]
    OutputRegistry,
    /// [`Output::Oci`]
    OutputOci,
    /// [`Output::DockerArchive`]
    OutputDockerArchive,
    /// [`Output::Docker`]
    OutputDocker,
}

impl Feature {
    /// The name that it has in a description: `base-scratch`.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            other => unreachable!("a feature is written as its name, and not as {other:?}"),
        }
    }
}

/// A plan that a builder cannot build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("builder `{builder}` cannot do `{field}`")]
pub struct Unsupported {
    /// The builder's name.
    pub builder: String,
    /// The field of the spec that asks for more than the builder has.
    pub field: &'static str,
    /// What it lacks.
    pub feature: Feature,
}

impl Description {
    /// Compares what the builder can do with what `plan` needs.
    ///
    /// # Errors
    /// Every need that the builder cannot meet, in the order of the plan.
    pub fn check(&self, plan: &Plan) -> Result<(), Vec<Unsupported>> {
        let mut unsupported: Vec<Unsupported> = Vec::new();
        for (feature, field) in plan.required_features() {
            // A base that is a spec may need the same.
            let is_told = unsupported.iter().any(|told| told.field == field);
            if !is_told && !self.features.contains(&feature) {
                unsupported.push(Unsupported { builder: self.name.clone(), field, feature });
            }
        }
        if unsupported.is_empty() { Ok(()) } else { Err(unsupported) }
    }

    /// Compares what the builder can do with `wanted`: features, each with what asks for it.
    ///
    /// # Errors
    /// Everything that it has not, in the same order.
    pub fn check_features(
        &self,
        wanted: impl IntoIterator<Item = (Feature, &'static str)>,
    ) -> Result<(), Vec<Unsupported>> {
        let lacking = wanted.into_iter().filter(|(feature, _)| !self.features.contains(feature));
        let unsupported = lacking.map(|(feature, field)| Unsupported { builder: self.name.clone(), field, feature });
        let unsupported: Vec<_> = unsupported.collect();
        if unsupported.is_empty() { Ok(()) } else { Err(unsupported) }
    }

    /// Compares what the builder can do with where the image is to go.
    ///
    /// # Errors
    /// Every output that it has not, in the order in which they were asked for.
    pub fn check_outputs(&self, outputs: &[Output]) -> Result<(), Vec<Unsupported>> {
        self.check_features(outputs.iter().map(Output::feature))
    }
}

/// One image to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What to build.
    pub plan: Plan,
    /// Hash of the declaration, baked into the image as `IMAGESPEC_ID`.
    pub id: SpecId,
    /// Hash of the plan.
    pub spec_hash: SpecHash,
    /// Name and tag of the image. Its registry counts only for [`Output::Registry`].
    pub name: Reference,
    /// Where the image goes; at least one.
    pub outputs: Vec<Output>,
    /// The files that the plan names by digest, as absolute paths. A builder verifies the digest as it reads.
    pub files: BTreeMap<Digest, PathBuf>,
    /// Where `base_image: oci:DIR`, `docker-archive:FILE` and conda channels on this machine were found, by the digest in
    /// the plan.
    pub base_paths: BTreeMap<Digest, PathBuf>,
    /// The builder's own options: `[builders.NAME]` and `--builder-opt`.
    pub options: BTreeMap<String, serde_json::Value>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Whether earlier results may be used.
    pub cache: CachePolicy,
    /// Caches outside of the builder to take results from, the first one first. One that is not there is no error.
    pub cache_from: Vec<CacheLocation>,
    /// Where results are brought to for later builds, on this machine or another one.
    pub cache_to: Vec<CacheLocation>,
    /// Whether anything may be fetched.
    pub network: NetworkPolicy,
    /// Folder for everything that a builder keeps between builds: in the folder `builders/NAME` beneath it, each file or folder
    /// of which may be removed between two builds if its time of change is old. What is being written goes to `tmp`, which is
    /// emptied when nobody builds.
    pub cache_dir: PathBuf,
    /// Seconds since 1970 that files, config and history carry: SOURCE_DATE_EPOCH, else 0.
    pub timestamp: u64,
    /// How to reach registries that need something special, by `HOST[:PORT]`.
    pub registries: BTreeMap<String, RegistryAccess>,
    /// The socket of the user's SSH agent, for steps that fetch by `git+ssh`. Its keys never leave it.
    pub ssh_agent: Option<PathBuf>,
    /// Docker `config.json` files to take registry credentials from; an earlier one counts more.
    pub credential_files: Vec<PathBuf>,
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Output {
    /// The store on this machine, from which `imagespec run` works.
    Store,
    /// The registry that the image's name says.
    Registry,
    /// An OCI image layout.
    Oci {
        /// The folder. An existing layout gets the image added.
        dest: PathBuf,
    },
    /// A file for `docker load`.
    DockerArchive {
        /// The file.
        dest: PathBuf,
    },
    /// A running Docker or Podman engine on this machine.
    Docker {
        /// Its socket.
        socket: PathBuf,
    },
}

impl Output {
    /// What a builder must offer for it, and how the user asked.
    fn feature(&self) -> (Feature, &'static str) {
        match self {
            Self::Store => (Feature::OutputStore, "--no-push"),
            Self::Registry => (Feature::OutputRegistry, "--push"),
            Self::Oci { .. } => (Feature::OutputOci, "--output type=oci"),
            Self::DockerArchive { .. } => (Feature::OutputDockerArchive, "--output type=docker-archive"),
            Self::Docker { .. } => (Feature::OutputDocker, "--output type=docker"),
        }
    }
}

/// Whether earlier results may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CachePolicy {
    /// Take what is there.
    Use,
    /// Make every layer again; what is downloaded and verified may be reused.
    Rebuild,
}

/// Whether anything may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPolicy {
    /// Yes.
    #[default]
    Online,
    /// No: no packet is sent, and programs of a step see no network.
    Offline,
}

/// How to reach a registry that needs something special.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryAccess {
    /// Plain HTTP, or a certificate that nobody signed.
    pub insecure: bool,
    /// PEM file with the authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Where the value of a secret is read from, at the moment that a step needs it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// The value itself, that came from an environment variable. Never printed.
    Value(String),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
            Self::Value(_) => formatter.write_str("Value(…)"),
        }
    }
}

/// Why a build failed, in a form that crosses the plugin boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// What kind of failure this is, which decides the exit code.
    pub kind: FailureKind,
    /// What happened and where. One line, lower case.
    pub message: String,
    /// What it came from, outermost first, each one line.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hints: Vec<String>,
    /// The field of the spec that asked for what failed, if it is one; `commands[1]` is the second command,
    /// `packages[six]` the package of that name.
    #[serde(default)]
    pub field: Option<String>,
}

/// What kind of failure a [`BuildError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The spec asks for something that cannot be had.
    Spec,
    /// A command, a resolver or a maintainer script failed.
    Step,
    /// The network or a registry failed; the same build may succeed later.
    Temporary,
    /// Access was denied.
    Denied,
    /// This machine lacks something.
    Machine,
    /// The user asked to stop.
    Cancelled,
    /// A bug in the builder.
    Internal,
}

impl BuildError {
    /// A failure of `kind` that came from nothing else.
    pub fn of(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new(), field: None }
    }

    /// A failure of `kind`, told by `error` and what it came from.
    pub fn new(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
        Self { kind, message: error.to_string(), causes, hints: Vec::new(), field: None }
    }

    /// The same failure, that began with a field of the spec.
    #[must_use]
    pub fn field(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// The failure for a person, without a place.
    pub fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(&self.message);
        Diagnostic { notes: self.causes.clone(), hints: self.hints.clone(), ..diagnostic }
    }

    /// The same failure with a further hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Project, texts};

    #[test]
    fn what_a_builder_cannot_do_is_told_by_its_field_and_once() {
        let spec = crate::spec::Spec {
            conda_packages: texts(&["numpy"]),
            runtime_packages: texts(&["ipdb"]),
            ..crate::spec::Spec::default()
        };
        let builder = Description {
            name: "simple".to_owned(),
            version: "1".to_owned(),
            summary: String::new(),
            features: BTreeSet::from([Feature::BaseBootstrap, Feature::Python]),
            options_schema: serde_json::Value::Null,
        };
        let unsupported = builder.check(&Project::new(&[]).plan(&spec)).unwrap_err();
        let told: Vec<_> = unsupported.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["builder `simple` cannot do `conda_packages`", "builder `simple` cannot do `runtime_packages`"]
        );
    }
}
