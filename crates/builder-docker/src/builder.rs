//! The builder itself: engine, base, recipe, solve, outputs, in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use imagespec_buildkit::registry::Registry;
use imagespec_buildkit::{
    LocalCache, NoPython, Progress, Recipe, RecipeError, Session as BuildSession, Solve, SolveError, Solved,
    WriteError, check_caches, check_pythons, recipe, solve,
};
use imagespec_core::builder::{
    BuildError, BuildRequest, Builder, Bundled, Description, Feature, NetworkPolicy, Output, Session,
};
use imagespec_core::cache_location::CacheLocation;
use imagespec_core::digest::Digest;
use imagespec_core::plan::Plan;
use imagespec_core::platform::Platform;
use imagespec_core::report::Report;
use imagespec_distribution::CredentialStore;
use imagespec_layout::{LayoutError, SavedError};
use tokio::runtime::Runtime;

use crate::base::{self, BaseError};
use crate::engine::{Engine, EngineError, Place};
use crate::options::Options;
use crate::output;
use crate::report;

/// How often somebody looks whether the user asked to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// What becomes of a result in an engine: an image of its own.
const EXPORTER: &str = "moby";

/// The name that users choose it by.
pub const NAME: &str = "docker";

/// The builder `docker`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerBuilder;

/// What is at hand during one build.
pub(crate) struct Building<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) engine: &'a Engine,
    pub(crate) progress: Progress<'a>,
    pub(crate) registry: Registry<'a>,
    pub(crate) credentials: Arc<CredentialStore>,
    options: Options,
    runtime: &'a Runtime,
}

/// Why a build failed. Each part has an error of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the build was cancelled")]
    Cancelled,
    #[error("cannot start what talks to the engine")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine at `{place}` is {name} {version}, which has no BuildKit")]
    NoBuildKit { place: String, name: String, version: String },
    #[error("the engine keeps one platform under a name, and this image has {count}")]
    ManyPlatforms { count: usize },
    #[error("an archive for `docker load` holds one platform, and this image has {count}")]
    ManyInArchive { count: usize },
    #[error("`--output type=docker` names the engine at `{wanted}`, and the image is made in that at `{place}`")]
    OtherEngine { wanted: String, place: String },
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    LocalCache(#[from] LocalCache),
    #[error("the engine at `{place}` exports caches with the containerd image store alone")]
    NoCacheExport { place: String },
    #[error(transparent)]
    NoPython(#[from] NoPython),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
    #[error(transparent)]
    Credentials(#[from] imagespec_distribution::CredentialError),
    #[error("the engine built the image and does not have it")]
    Lost,
}

inventory::submit! { Bundled { name: NAME, make: |_| Box::new(DockerBuilder) } }

impl Builder for DockerBuilder {
    fn describe(&self) -> Description {
        Description {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Docker Engine, by its own BuildKit".to_owned(),
            features: BTreeSet::from([
                Feature::BaseScratch,
                Feature::BaseRegistry,
                Feature::BaseOciLayout,
                Feature::BaseDockerArchive,
                Feature::BaseNested,
                Feature::MultiplePlatforms,
                Feature::Apt,
                Feature::Python,
                Feature::PythonExecutable,
                Feature::Conda,
                Feature::Pip,
                Feature::LockFiles,
                Feature::PipSecrets,
                Feature::Copy,
                Feature::Run,
                Feature::RunSecrets,
                Feature::Env,
                Feature::Workdir,
                Feature::User,
                Feature::Entrypoint,
                Feature::Cmd,
                Feature::Labels,
                Feature::RuntimePackages,
                Feature::Render,
                Feature::Find,
                Feature::CacheImport,
                Feature::CacheExport,
                Feature::Ssh,
                Feature::OutputStore,
                Feature::OutputRegistry,
                Feature::OutputOci,
                Feature::OutputDockerArchive,
                Feature::OutputDocker,
            ]),
            options_schema: Options::schema(),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        let mut report = with_building(request, session, |building| building.run())?;
        report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    fn render(
        &self,
        request: &BuildRequest,
        folder: Option<&Path>,
        session: &dyn Session,
    ) -> Result<String, BuildError> {
        let progress = Progress::new(session);
        let render = || -> Result<String, Failure> {
            // No engine is asked: what stands in the text should not depend on one.
            let recipe = recipe(request, &progress, &base::described(request)?)?;
            if let Some(folder) = folder {
                recipe.write(folder)?;
                base::write(request, folder, &progress)?;
            }
            Ok(recipe.dockerfile)
        };
        render().map_err(|failure| failure.tell(request.name.registry()))
    }

    fn find(&self, request: &BuildRequest, session: &dyn Session) -> Result<Option<Report>, BuildError> {
        let start = Instant::now();
        let found = with_building(request, session, |building| {
            building.check()?;
            let existing = building.existing()?;
            if existing.is_none() {
                check_pythons(request, &building.progress)?;
            }
            Ok(existing)
        })?;
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(found.map(|report| Report { duration_ms, ..report }))
    }
}

/// Brings the image of `request` that the engine keeps from an earlier build to a layout or an archive, which is its only
/// output, and returns its digest there; nothing where there is no such image.
///
/// # Errors
/// When there is no engine, or the image cannot be written.
pub fn export(request: &BuildRequest, session: &dyn Session) -> Result<Option<Digest>, BuildError> {
    with_building(request, session, |building| {
        building.check()?;
        if building.kept()?.is_none() {
            return Ok(None);
        }
        Ok(output::deliver(building)?.saved.map(|saved| saved.digest()))
    })
}

/// Does `work` with what is at hand during one build.
fn with_building<T>(
    request: &BuildRequest,
    session: &dyn Session,
    work: impl FnOnce(&Building<'_>) -> Result<T, Failure>,
) -> Result<T, BuildError> {
    let cancelled = || session.is_cancelled();
    let build = || -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
        let progress = Progress::new(session);
        let options = Options::of(&request.options);
        let engine = wait(&runtime, &progress, Engine::connect(&options.wishes()))?;
        let credentials = Arc::new(CredentialStore::from_files(request.credential_files.clone()));
        let registry = Registry::new(request, &cancelled);
        let building =
            Building { request, engine: &engine, progress, registry, credentials, options, runtime: &runtime };
        let result = work(&building);
        // A thread that reads for somebody who hung up ends by itself, and is not waited for.
        drop(building);
        runtime.shutdown_background();
        result
    };
    build().map_err(|failure| match session.is_cancelled() {
        // Whatever broke off because of it is no news.
        true => Failure::Cancelled.tell(""),
        false => failure.tell(request.name.registry()),
    })
}

/// Waits for `work`, until the user asks to stop.
fn wait<T, E: Into<Failure>>(
    runtime: &Runtime,
    progress: &Progress<'_>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    runtime.block_on(async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result.map_err(Into::into),
                () = tokio::time::sleep(WATCH_INTERVAL) => if progress.is_cancelled() { return Err(Failure::Cancelled) },
            }
        }
    })
}

impl Building<'_> {
    fn run(&self) -> Result<Report, Failure> {
        self.check()?;
        let bases = base::prepare(self)?;
        let recipe = recipe(self.request, &self.progress, &bases)?;
        // BuildKit does not ask for what it has from an earlier build, and still the files must be those of the plan.
        recipe.verify()?;
        let solved = self.solve(&recipe)?;
        let delivered = output::deliver(self)?;
        report::report(self, &recipe, &solved, &delivered)
    }

    /// Finds out before any work whether the engine can do it, and the outputs can take it.
    fn check(&self) -> Result<(), Failure> {
        let about = &self.engine.about;
        let place = self.engine.address().place.to_string();
        if !about.has_buildkit {
            let (name, version) = (about.name.clone(), about.version.clone());
            return Err(Failure::NoBuildKit { place, name, version });
        }
        let count = self.request.plan.platforms.len();
        if count > 1 && !about.has_containerd_store {
            return Err(Failure::ManyPlatforms { count });
        }
        check_caches(self.request)?;
        let is_inside = |cache: &CacheLocation| cache.kind == "inline";
        if !about.has_containerd_store && !self.request.cache_to.iter().all(is_inside) {
            return Err(Failure::NoCacheExport { place });
        }
        for output in &self.request.outputs {
            if let Output::Docker { socket } = output
                && self.engine.address().place != Place::Unix(socket.clone())
            {
                return Err(Failure::OtherEngine { wanted: format!("unix://{}", socket.display()), place });
            }
        }
        output::check(self)
    }

    /// The image, if the engine has it and it need not go anywhere else.
    fn existing(&self) -> Result<Option<Report>, Failure> {
        let stays = self.request.outputs.iter().all(|output| matches!(output, Output::Store | Output::Docker { .. }));
        if !stays {
            return Ok(None);
        }
        self.kept()?.map(|image| report::kept(self, &image)).transpose()
    }

    /// The image of the request's name, if it is one of its spec hash.
    fn kept(&self) -> Result<Option<ImageInspect>, Failure> {
        let name = self.request.name.familiar();
        let Some(image) = self.wait(self.engine.image(&name))? else { return Ok(None) };
        let labels = image.config.as_ref().and_then(|config| config.labels.as_ref());
        let hash = labels.and_then(|labels| labels.get("imagespec.spec-hash"));
        let is_it = hash.is_some_and(|hash| *hash == self.request.spec_hash.to_string());
        Ok(is_it.then_some(image))
    }

    /// Builds the image in the engine.
    fn solve(&self, recipe: &Recipe) -> Result<Solved, Failure> {
        let request = self.request;
        let name = format!("{}/{}", request.name.registry(), request.name.repository());
        let tag = request.name.tag().unwrap_or("latest");
        let exporter = (EXPORTER, BTreeMap::from([("name".to_owned(), format!("{name}:{tag}"))]));
        let mut attributes = BTreeMap::new();
        let offline = (request.network == NetworkPolicy::Offline).then(|| "none".to_owned());
        if let Some(mode) = offline.or_else(|| self.options.network.clone()).filter(|mode| mode != "default") {
            attributes.insert("force-network-mode".to_owned(), mode);
        }
        if request.network == NetworkPolicy::Offline {
            attributes.insert("image-resolve-mode".to_owned(), "local".to_owned());
        }
        let wanted = Solve {
            recipe,
            platforms: request.plan.platforms.iter().cloned().collect(),
            exporter,
            cache_from: request.cache_from.clone(),
            cache_to: request.cache_to.clone(),
            cache: request.cache,
            timestamp: request.timestamp,
            attributes,
        };
        match self.solve_once(&wanted) {
            Err(Failure::Solve(error)) if is_lost_snapshot(&error) => self.solve_once(&wanted),
            result => result,
        }
    }

    fn solve_once(&self, wanted: &Solve<'_>) -> Result<Solved, Failure> {
        let session = BuildSession::new(wanted.recipe, self.request, Arc::clone(&self.credentials));
        self.wait(async {
            let connection = self.engine.session(&session).await?;
            let channel = self.engine.buildkit().await?;
            tokio::select! {
                result = solve(channel, &session, wanted, &self.progress) => Ok::<_, Failure>(result?),
                // It ends when somebody drops it.
                ended = session.serve(connection) => {
                    ended.map_err(EngineError::Grpc)?;
                    unreachable!("a session that is served does not end")
                }
            }
        })
    }

    /// Waits for `work`, until the user asks to stop.
    pub(crate) fn wait<T, E: Into<Failure>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        wait(self.runtime, &self.progress, work)
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.request.plan
    }

    /// The first platform, which decides what is looked up of a base.
    pub(crate) fn platform(&self) -> &Platform {
        self.plan().platforms.first().expect("a plan has a platform")
    }
}

/// Whether containerd removed what it thought that nobody needs, as Docker 26 does when a build of the same was cancelled a
/// moment before. The next try makes it anew.
fn is_lost_snapshot(error: &SolveError) -> bool {
    let said = match error {
        SolveError::Refused { message } => message,
        SolveError::Step(failed) => &failed.message,
        SolveError::Cancelled | SolveError::Connection(_) => return false,
    };
    said.contains("snapshot") && said.contains("does not exist")
}
