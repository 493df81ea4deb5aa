//! The builder itself: base, steps, image, outputs, in that order, for each platform.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use imagespec_core::builder::{BuildError, BuildRequest, Builder, Description, Feature, Session};
use imagespec_core::digest::Digest;
use imagespec_core::event::{Event, Outcome, Unit};
use imagespec_core::plan::{Base, CopiedFile, FILES_ROOT, Plan, Step};
use imagespec_core::platform::Platform;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use imagespec_distribution::{Client, ClientOptions, CredentialStore};
use serde_json::{Map, Value, json};

use crate::apt::{self, AptError};
use crate::base::{self, BaseError, BaseImage, GZIP_LAYER, ImageLayer, Origin};
use crate::bootstrap::{self, Bootstrap, BootstrapError, Mirror, Observer, ValidUntil};
use crate::cache::{Cache, CacheError, Patience};
use crate::command;
use crate::execute::ExecuteError;
use crate::files::{self, FilesError};
use crate::image::{self, Image};
use crate::layer::{Attributes, FORMAT_VERSION, LayerError, LayerPath};
use crate::output::{self, OutputError};
use crate::progress::{self, Progress};
use crate::python::{self, BasePython, PythonError};
use crate::sandbox::Sandbox;
use crate::secret::SecretError;
use crate::survey::{self, Standing, SurveyError};

/// How often somebody looks whether the user asked to stop.
const WATCH_STEP: Duration = Duration::from_millis(50);

/// The embedded builder, `oci`.
#[derive(Debug, Clone)]
pub struct OciBuilder {
    launcher: PathBuf,
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
}

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
    Secret(#[from] SecretError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("step `{step}` reached a builder that did not offer it")]
    Unsupported { step: &'static str },
    #[error("the path of base {digest} was not handed over")]
    BaseNotHandedOver { digest: Digest },
}

impl OciBuilder {
    /// The builder. `launcher` is a program that calls [`crate::sandbox::main`] for [`crate::sandbox::ARGUMENT`].
    pub fn new(launcher: PathBuf) -> Self {
        Self { launcher }
    }
}

impl Builder for OciBuilder {
    fn describe(&self) -> Description {
        Description {
            name: "oci".to_owned(),
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
                Feature::Pip,
                Feature::PipSecrets,
                Feature::MultiplePlatforms,
                Feature::Copy,
                Feature::Apt,
                Feature::Run,
                Feature::RunSecrets,
                Feature::User,
                Feature::Entrypoint,
                Feature::Cmd,
                Feature::Labels,
            ]),
            options_schema: json!({ "type": "object", "properties": { "debian_mirror": { "type": "string" }, "debian_check_valid_until": { "type": "boolean" } }, "additionalProperties": false }),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        let cancelled = || session.is_cancelled();
        let options = ClientOptions {
            registries: request.registries.clone(),
            credentials: CredentialStore::from_files(request.credential_files.clone()),
            ..ClientOptions::default()
        };
        let build = |patience| {
            let cache = Cache::open_patiently(&request.cache_dir, patience)?;
            let building = Building {
                sandbox: Sandbox::new(self.launcher.clone()),
                request,
                cache: cache.with_layers(request.cache),
                client: Client::new(options, &cancelled),
                progress: Progress::new(session),
            };
            building.run()
        };
        let (images, digest) = watched(session, build).map_err(|failure| match session.is_cancelled() {
            // Whatever broke off because of it is no news.
            true => Failure::Cancelled.tell(),
            false => failure.tell(),
        })?;
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Report { digest, images: images.iter().map(report).collect(), duration_ms })
    }
}

/// Does `work` while somebody watches whether the user asked to stop, and says when another process is waited for.
fn watched<T>(session: &dyn Session, work: impl FnOnce(Arc<Patience>) -> T) -> T {
    let patience = Arc::<Patience>::default();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut is_told = false;
            while !is_done.load(Ordering::SeqCst) {
                if session.is_cancelled() {
                    patience.end();
                }
                if patience.is_tried() && !is_told {
                    session.event(Event::Warning { message: "waiting for another imagespec process".to_owned() });
                }
                is_told = patience.is_tried();
                thread::park_timeout(WATCH_STEP);
            }
        });
        // A panic passes by here, and the watcher must not wait for it.
        let _done = OnDrop(|| {
            is_done.store(true, Ordering::SeqCst);
            watcher.thread().unpark();
        });
        work(Arc::clone(&patience))
    })
}

/// Does something when it goes out of scope.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
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
        let mut base = self.base(&plan.base, platform)?;
        let own_config = base.config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
        let env = image::environment(&own_config, plan);
        let base_count = base.layers.len();
        let mut layers = base.layers.clone();
        for step in &plan.steps {
            self.check_cancelled()?;
            // The Python of a bootstrapped base is known, unless another one is named.
            if let Step::Python(python) = step
                && (base.python.is_none() || python.executable.is_some())
            {
                let position = Position { plan, platform, below: &layers, env: &env, python: None };
                let (found, brought) = python::find(self, python, &position, &base.config)?;
                base.python = Some(found);
                layers.extend(brought);
            }
            let position = Position { plan, platform, below: &layers, env: &env, python: base.python.as_ref() };
            let made = self.step(step, &position)?;
            layers.extend(made);
        }
        layers.extend(self.workdir_layer(plan, &own_config, &layers)?);
        let own = layers.split_off(base_count);
        Ok(image::assemble(self.request, plan, platform, base, own))
    }

    fn base(&self, base: &Base, platform: &Platform) -> Result<BaseImage, Failure> {
        match base {
            Base::Scratch => Ok(BaseImage::default()),
            Base::Registry(reference) => self.progress.step(
                &format!("base {}", reference.familiar()),
                || base::from_registry(self, reference, platform),
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
                })
            }
            Base::Bootstrap(wanted) => self.bootstrap(wanted, platform),
            Base::DockerArchive { digest } => {
                let file = self.request.base_paths.get(digest);
                let file = file.ok_or(Failure::BaseNotHandedOver { digest: *digest })?;
                self.progress
                    .step(
                        &format!("base docker-archive:{}", file.display()),
                        || base::from_docker_archive(self, file, *digest, platform),
                        |(base, outcome)| (*outcome, format!("{} layers", base.layers.len())),
                    )
                    .map(|(base, _)| base)
            }
        }
    }

    fn bootstrap(&self, wanted: &imagespec_core::plan::Bootstrap, platform: &Platform) -> Result<BaseImage, Failure> {
        let mirror = match self.request.options.get("debian_mirror").and_then(Value::as_str) {
            Some(url) => Mirror::of_project(url),
            None => Mirror::of_machine(),
        };
        let mirror = match self.request.options.get("debian_check_valid_until").and_then(Value::as_bool) {
            Some(false) => Mirror { valid_until: ValidUntil::Ignored, ..mirror },
            Some(true) | None => mirror,
        };
        let asked = Bootstrap {
            suite: wanted.suite.clone(),
            platform: platform.clone(),
            packages: wanted.packages.iter().cloned().collect(),
        };
        let made = self.progress.counted(
            &format!("bootstrap debian/{} {}", wanted.suite, platform.debian_architecture()),
            Unit::Items,
            None,
            |step| {
                let fetching = Mutex::new(None);
                let tell = |progress| self.tell_bootstrap(step, &fetching, progress);
                let cancelled = || self.progress.is_cancelled();
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let observer = Observer { now, progress: &tell, cancelled: &cancelled };
                bootstrap::bootstrap(&self.cache, &self.sandbox, &asked, &mirror, self.request.timestamp, observer)
            },
            |made| (made.outcome, progress::count(made.packages.len(), "package")),
        )?;
        let libc6 = made.packages.iter().find(|(name, _)| name == "libc6").map(|(_, version)| version.as_str());
        let python = made.python.as_deref().zip(libc6);
        Ok(BaseImage {
            layers: vec![own_layer(made.layer, made.outcome, &format!("debian {}", wanted.suite))],
            python: python.and_then(|(python3, libc6)| BasePython::of_debian(python3, libc6)),
            ..BaseImage::default()
        })
    }

    /// Fetching packages is a step inside the bootstrap.
    fn tell_bootstrap<'s>(
        &'s self,
        step: &progress::Step<'_>,
        fetching: &Mutex<Option<progress::Step<'s>>>,
        progress: bootstrap::Progress,
    ) {
        tracing::debug!(?progress, "bootstrap");
        let mut fetching = fetching.lock().expect("no thread panics while it tells");
        match progress {
            bootstrap::Progress::Fetching { packages, size_bytes } => {
                let title = format!("fetch {}", progress::count(packages, "package"));
                *fetching = Some(self.progress.begin(&title, Unit::Bytes, Some(size_bytes)));
            }
            bootstrap::Progress::Received(count) => {
                if let Some(step) = &*fetching {
                    step.add(count);
                }
            }
            bootstrap::Progress::Fetched => {
                if let Some(step) = fetching.take() {
                    let size_bytes = step.total().unwrap_or_default();
                    step.finish(Outcome::Done, progress::size(size_bytes));
                }
            }
            bootstrap::Progress::Configuring { package, packages } => step.reach_of(package as u64, packages as u64),
            bootstrap::Progress::Warning(message) => self.progress.warn(message),
            bootstrap::Progress::Indexes
            | bootstrap::Progress::Unpacking
            | bootstrap::Progress::Output(_)
            | bootstrap::Progress::Archiving => {}
        }
    }

    fn step(&self, step: &Step, position: &Position<'_>) -> Result<Vec<ImageLayer>, Failure> {
        let python = || position.python.expect("a plan with packages has a Python step, which found it");
        match step {
            Step::Python(step) => {
                let (layer, outcome) = python::environment(self, step, python())?;
                Ok(vec![own_layer(layer, outcome, "python environment")])
            }
            Step::Pip(step) => {
                let layers = python::packages(self, step, python(), position.platform.machine())?;
                Ok(layers.into_iter().map(|(layer, outcome, title)| own_layer(layer, outcome, &title)).collect())
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
                    |(_, outcome)| (*outcome, progress::size(size_bytes)),
                )?;
                Ok(vec![own_layer(layer, outcome, "files")])
            }
            Step::Apt(step) => {
                let (layer, outcome) = apt::layer(self, step, position)?;
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

    /// The working directory, if no layer of the image brings it. What stands there already keeps its owner and mode.
    fn workdir_layer(
        &self,
        plan: &Plan,
        base: &Map<String, Value>,
        layers: &[ImageLayer],
    ) -> Result<Option<ImageLayer>, Failure> {
        let workdir = plan.config.workdir.trim_end_matches('/');
        let of_base = base.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
        // Every system has a home for root, copied files lie in it, and every image has its own working directory: no
        // layer is read for these.
        let has_files = plan.steps.iter().any(|step| matches!(step, Step::Copy(copy) if !copy.files.is_empty()));
        let is_known = (workdir == FILES_ROOT && (has_files || plan.base != Base::Scratch))
            || of_base.strip_prefix(workdir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let (false, Ok(path)) = (is_known, LayerPath::new(workdir)) else { return Ok(None) };
        let standings = survey::folders(self, layers, &path)?;
        let is_complete = standings.iter().all(|standing| matches!(standing, Standing::Folder { .. }));
        // A link on the way leads to where only an engine can make a folder.
        if is_complete || standings.contains(&Standing::Other) {
            return Ok(None);
        }
        let described = format!("{standings:?}");
        let key = crate::cache::Key::new(
            "workdir",
            [FORMAT_VERSION, path.as_str(), &described, &self.request.timestamp.to_string()].map(str::as_bytes),
        );
        let (layer, outcome) = self.cache.layer::<Failure>(key, self.request.timestamp, |writer| {
            for (folder, standing) in path.parents().chain([path.as_str()]).zip(&standings) {
                let attributes = match *standing {
                    Standing::Folder { mode, user, group } => Attributes { mode, uid: user.into(), gid: group.into() },
                    Standing::Absent | Standing::Other => Attributes::root(0o755),
                };
                writer.directory(&LayerPath::new(folder).expect("a parent of a path is one"), attributes)?;
            }
            Ok(())
        })?;
        Ok(Some(own_layer(layer, outcome, "working directory")))
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Failure> {
        if self.progress.is_cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }
}

pub(crate) fn own_layer(layer: crate::layer::Layer, outcome: Outcome, title: &str) -> ImageLayer {
    ImageLayer { layer, media_type: GZIP_LAYER.to_owned(), title: title.to_owned(), outcome, origin: Origin::Cache }
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
