//! The builder itself: base, steps, image, outputs, in that order, for each platform.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use imagespec_core::builder::{BuildError, BuildRequest, Builder, Bundled, Description, Feature, Restart, Session};
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome};
use imagespec_core::lock::LockedDeb;
use imagespec_core::plan::{Base, CopiedFile, Plan, Step};
use imagespec_core::platform::Platform;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use imagespec_distribution::{Client, ClientOptions, CredentialStore};
use serde_json::{Map, Value, json};

use crate::apt::{self, AptError};
use crate::base::{self, BaseError, BaseImage, ImageLayer, own_layer};
use crate::bootstrap::BootstrapError;
use crate::bytecode::{self, Sources};
use crate::cache::{Cache, CacheError};
use crate::command;
use crate::conda::{self, CondaError};
use crate::execute::ExecuteError;
use crate::files::{self, FilesError};
use crate::image::{self, Image};
use crate::layer::LayerError;
use crate::lock::{self, LockFailure};
use crate::output::{self, OutputError};
use crate::progress::{self, Progress};
use crate::python::{self, BasePython, PythonError};
use crate::runtime::{self, RuntimeError};
use crate::sandbox::Sandbox;
use crate::secret::SecretError;
use crate::survey::SurveyError;
use crate::watch::watched;
use crate::workdir;

/// The embedded builder, `oci`.
#[derive(Debug, Clone)]
pub struct OciBuilder {
    restart: Restart,
}

/// What is at hand during one build.
pub(crate) struct Building<'a> {
    pub(crate) sandbox: Sandbox,
    pub(crate) request: &'a BuildRequest,
    pub(crate) cache: Cache,
    pub(crate) client: Client<'a>,
    pub(crate) progress: Progress<'a>,
}

/// Where in an image a step stands.
pub(crate) struct Position<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) platform: &'a Platform,
    /// The layers so far, lowest first.
    pub(crate) below: &'a [ImageLayer],
    /// The variables that programs find.
    pub(crate) env: &'a [(String, String)],
    /// The Python that was found.
    pub(crate) python: Option<&'a BasePython>,
    /// The distributions of Python that conda installed, with their versions.
    pub(crate) distributions: &'a BTreeMap<String, String>,
    /// Takes what apt installs, of one who makes a lock.
    pub(crate) learned: Option<&'a RefCell<Vec<LockedDeb>>>,
}

/// Docker refuses images of more layers, and overlayfs those of two more.
const LAYERS_MAX: usize = 125;

/// Why a build failed. Each part has an error of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the build was cancelled")]
    Cancelled,
    #[error(transparent)]
    Nested(Box<Failure>),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Python(#[from] PythonError),
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    #[error(transparent)]
    Apt(#[from] AptError),
    #[error(transparent)]
    Conda(#[from] CondaError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Lock(#[from] LockFailure),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("step `{step}` reached a builder that did not offer it")]
    Unsupported { step: &'static str },
    #[error("the path of base {digest} was not handed over")]
    BaseNotHandedOver { digest: Digest },
    #[error("the image would have {count} layers, {base_count} of them its base's, and engines take {LAYERS_MAX}")]
    TooManyLayers { count: usize, base_count: usize },
}

impl OciBuilder {
    /// The builder. The program of `restart` calls [`crate::sandbox::start`] for [`crate::sandbox::ARGUMENT`].
    pub fn new(restart: Restart) -> Self {
        Self { restart }
    }
}

/// The name that users choose it by.
pub const NAME: &str = "oci";

inventory::submit! { Bundled { name: NAME, make: |restart| Box::new(OciBuilder::new(restart)) } }

impl Builder for OciBuilder {
    fn describe(&self) -> Description {
        Description {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "embedded, needs no daemon".to_owned(),
            features: BTreeSet::from([
                Feature::BaseScratch,
                Feature::BaseRegistry,
                Feature::BaseOciLayout,
                Feature::BaseDockerArchive,
                Feature::BaseBootstrap,
                Feature::BaseNested,
                Feature::Python,
                Feature::PythonExecutable,
                Feature::Conda,
                Feature::Pip,
                Feature::LockFiles,
                Feature::PipSecrets,
                Feature::MultiplePlatforms,
                Feature::Copy,
                Feature::Apt,
                Feature::Run,
                Feature::RunSecrets,
                Feature::Env,
                Feature::Workdir,
                Feature::User,
                Feature::Entrypoint,
                Feature::Cmd,
                Feature::Labels,
                Feature::RuntimePackages,
                Feature::Lock,
                Feature::Reproducible,
                Feature::OutputStore,
                Feature::OutputRegistry,
                Feature::OutputOci,
                Feature::OutputDockerArchive,
                Feature::OutputDocker,
            ]),
            options_schema: json!({
                "type": "object",
                "properties": {
                    "debian_mirror": { "type": "string" },
                    "debian_check_valid_until": { "type": "boolean" },
                    "conda_mirrors": { "type": "object" },
                    "compile_bytecode": { "type": "boolean" }
                },
                "additionalProperties": false
            }),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        let (images, digest) = self.with_building(request, session, |building| building.run())?;
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Report { digest, images: images.iter().map(report).collect(), name: None, duration_ms })
    }

    fn lock(&self, request: &BuildRequest, session: &dyn Session) -> Result<Plan, BuildError> {
        self.with_building(request, session, |building| lock::lock(building, &request.plan))
    }
}

impl OciBuilder {
    /// Does `work` with what is at hand during one build.
    fn with_building<T>(
        &self,
        request: &BuildRequest,
        session: &dyn Session,
        work: impl FnOnce(&Building<'_>) -> Result<T, Failure>,
    ) -> Result<T, BuildError> {
        let cancelled = || session.is_cancelled();
        let options = ClientOptions {
            network: request.network,
            registries: request.registries.clone(),
            credentials: CredentialStore::from_files(request.credential_files.clone()),
            ..ClientOptions::default()
        };
        let build = |patience| -> Result<T, Failure> {
            let cache = Cache::open_patiently(&request.cache_dir, patience)?;
            let building = Building {
                sandbox: Sandbox::new(self.restart.clone()),
                request,
                cache: cache.with_layers(request.cache).with_network(request.network),
                client: Client::new(options, &cancelled),
                progress: Progress::new(session),
            };
            work(&building)
        };
        watched(session, build).map_err(|failure| match session.is_cancelled() {
            // Whatever broke off because of it is no news.
            true => Failure::Cancelled.tell(),
            false => failure.tell(),
        })
    }
}

impl Building<'_> {
    fn run(&self) -> Result<(Vec<Image>, Digest), Failure> {
        output::check(self)?;
        let plan = &self.request.plan;
        let mut images = Vec::with_capacity(plan.platforms.len());
        for platform in &plan.platforms {
            images.push(self.image(plan, platform)?);
        }
        let index = (images.len() > 1).then(|| image::index(&images));
        let digest = index.as_ref().map_or(images[0].digest, |index| Digest::of(index));
        for destination in &self.request.outputs {
            self.check_cancelled()?;
            output::write(self, destination, &images, index.as_deref())?;
        }
        Ok((images, digest))
    }

    fn image(&self, plan: &Plan, platform: &Platform) -> Result<Image, Failure> {
        lock::check(plan, platform)?;
        let mut base = self.base(plan, platform)?;
        let own_config = base.config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
        let env = image::environment(&own_config, plan);
        let base_count = base.layers.len();
        let mut layers = base.layers.clone();
        let has_conda = plan.steps.iter().any(|step| matches!(step, Step::Conda(_)));
        for step in &plan.steps {
            self.check_cancelled()?;
            // The Python of a bootstrapped base is known, unless another one is named, or conda brings it.
            if let Step::Python(python) = step
                && !has_conda
                && (base.python.is_none() || python.executable.is_some())
            {
                let (below, distributions) = (&layers, &base.distributions);
                let position =
                    Position { plan, platform, below, env: &env, python: None, distributions, learned: None };
                let (found, brought) = python::find(self, python, &position, &base.config)?;
                base.python = Some(found);
                layers.extend(brought);
            }
            let (python, distributions) = (base.python.as_ref(), &base.distributions);
            let position = Position { plan, platform, below: &layers, env: &env, python, distributions, learned: None };
            let made = match step {
                Step::Python(_) if has_conda => Vec::new(),
                Step::Conda(step) => {
                    let solution = match lock::image(&position) {
                        Some(image) => conda::Solution::of_lock(&image.conda).ok_or_else(|| LockFailure::Missing {
                            part: "conda packages",
                            platform: platform.clone(),
                        })?,
                        None => conda::solution(self, step, plan.python(), &position)?,
                    };
                    let made = conda::install(self, step, &solution, &position)?;
                    lock::check_python(&position, &made.python)?;
                    (base.python, base.distributions) = (Some(made.python), made.distributions);
                    made.layers
                }
                step => {
                    if let (Step::Python(_), Some(python)) = (step, python) {
                        lock::check_python(&position, python)?;
                    }
                    self.step(step, &position)?
                }
            };
            layers.extend(made);
        }
        layers.extend(runtime::layers(self, plan, platform)?);
        layers.extend(workdir::layer(self, plan, &own_config, &layers)?);
        if layers.len() > LAYERS_MAX {
            return Err(Failure::TooManyLayers { count: layers.len(), base_count });
        }
        let own = layers.split_off(base_count);
        Ok(image::assemble(self.request, plan, platform, base, own))
    }

    pub(crate) fn base(&self, plan: &Plan, platform: &Platform) -> Result<BaseImage, Failure> {
        let locked = plan.lock.get(platform).and_then(|image| image.base.as_ref());
        match &plan.base {
            Base::Scratch => Ok(BaseImage::default()),
            Base::Registry(reference) => self.progress.step(
                &format!("base {}", reference.familiar()),
                || base::from_registry(self, reference, platform, locked.and_then(lock::manifest)),
                |base| (Outcome::Done, progress::count(base.layers.len(), "layer")),
            ),
            Base::OciLayout { digest } => {
                let folder = self.request.base_paths.get(digest);
                let folder = folder.ok_or(Failure::BaseNotHandedOver { digest: *digest })?;
                self.progress.step(
                    &format!("base oci:{}", folder.display()),
                    || base::from_layout(self, folder, *digest, platform),
                    |base| (Outcome::Done, progress::count(base.layers.len(), "layer")),
                )
            }
            Base::Plan(plan) => {
                let image = self.image(plan, platform).map_err(|failure| Failure::Nested(Box::new(failure)))?;
                Ok(BaseImage {
                    digest: Some(image.digest),
                    reference: None,
                    config: parse(&image.config),
                    layers: image.layers,
                    python: image.python,
                    distributions: image.distributions,
                })
            }
            Base::Bootstrap(wanted) => base::from_bootstrap(self, wanted, platform, locked),
            Base::DockerArchive { digest } => {
                let file = self.request.base_paths.get(digest);
                let file = file.ok_or(Failure::BaseNotHandedOver { digest: *digest })?;
                self.progress
                    .step(
                        &format!("base docker-archive:{}", file.display()),
                        || base::from_docker_archive(self, file, *digest, platform),
                        |(base, outcome)| (*outcome, progress::count(base.layers.len(), "layer")),
                    )
                    .map(|(base, _)| base)
            }
        }
    }

    fn step(&self, step: &Step, position: &Position<'_>) -> Result<Vec<ImageLayer>, Failure> {
        let python = || position.python.expect("a plan with packages has a Python step, which found it");
        match step {
            Step::Python(step) => {
                let made = python::environment(self, step, python())?;
                Ok(made.map(|(layer, outcome)| own_layer(layer, outcome, "python environment")).into_iter().collect())
            }
            Step::Pip(step) => {
                let layers = python::packages(self, step, python(), position)?;
                let mut layers: Vec<_> =
                    layers.into_iter().map(|(layer, outcome, title)| own_layer(layer, outcome, &title)).collect();
                let sources = Sources {
                    title: "compile packages to bytecode",
                    layers: &layers,
                    folder: &python().site_packages(),
                };
                let compiled = bytecode::layers(self, &sources, python(), position)?;
                layers.extend(compiled);
                Ok(layers)
            }
            Step::Copy(copy) => {
                let sizes = copy.files.values().map(|file| match file {
                    CopiedFile::File { size_bytes, .. } => *size_bytes,
                    CopiedFile::Link { .. } | CopiedFile::Directory => 0,
                });
                let size_bytes = sizes.sum();
                let (layer, outcome) = self.progress.step(
                    &format!("copy {}", progress::count(copy.files.len(), "file")),
                    || files::layer(&self.cache, copy, &self.request.files, self.request.timestamp),
                    |(_, outcome)| (*outcome, event::size(size_bytes)),
                )?;
                Ok(vec![own_layer(layer, outcome, "files")])
            }
            Step::Apt(step) => {
                let locked = lock::image(position).map(|image| image.apt.as_slice());
                let (layer, outcome) = apt::layer(self, step, position, locked)?;
                let packages: Vec<_> = step.packages.iter().map(String::as_str).collect();
                Ok(vec![own_layer(layer, outcome, &packages.join(", "))])
            }
            Step::Run(step) => {
                let (layer, outcome) = command::layer(self, step, position)?;
                Ok(vec![own_layer(layer, outcome, "commands")])
            }
            Step::Conda(_) => Err(Failure::Unsupported { step: step.kind() }),
        }
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Failure> {
        if self.progress.is_cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }
}

fn parse(config: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(config).expect("a config that was made here is a JSON object")
}

fn report(image: &Image) -> PlatformImage {
    let layers = image.layers.iter().map(|layer| ReportedLayer {
        digest: layer.layer.digest,
        size_bytes: layer.layer.size_bytes,
        title: layer.title.clone(),
        outcome: layer.outcome,
    });
    PlatformImage {
        platform: image.platform.clone(),
        digest: image.digest,
        config_digest: image.config_digest,
        base_digest: image.base_digest,
        layers: layers.collect(),
    }
}
