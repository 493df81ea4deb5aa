//! The builder itself: base, recipe, a daemon for each platform, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use imagespec_buildkit::base::{GivenBaseError, LentBase, OtherBase, innermost, lend_given, push_given};
use imagespec_buildkit::registry::Registry;
use imagespec_buildkit::{
    KnownBase, LocalCache, Progress, Recipe, RecipeError, SolveError, WriteError, check_caches, recipe,
};
use imagespec_core::builder::{BuildError, BuildRequest, Builder, Bundled, Description, Feature, Output, Session};
use imagespec_core::event::Event;
use imagespec_core::plan::{Base, Plan};
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use imagespec_distribution::CredentialStore;
use imagespec_layout::{LayoutError, SavedError};

use crate::daemon::ConnectError;
use crate::job::{Job, Made};
use crate::options::{Options, OptionsError};
use crate::output;

/// The builder `remote`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoteBuilder;

/// What is at hand during one build.
pub(crate) struct Building<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) lent: Option<LentBase>,
    pub(crate) progress: &'a Progress<'a>,
    pub(crate) registry: &'a Registry<'a>,
    pub(crate) credentials: Arc<CredentialStore>,
    pub(crate) options: &'a Options,
    together: &'a Together<'a>,
}

/// The caller of a build that is several: when one part fails, the others need not go on.
struct Together<'a> {
    session: &'a dyn Session,
    has_failed: AtomicBool,
}

impl Session for Together<'_> {
    fn event(&self, event: Event) {
        self.session.event(event);
    }

    fn is_cancelled(&self) -> bool {
        self.session.is_cancelled() || self.has_failed.load(Ordering::Relaxed)
    }
}

/// Why a build failed. Each part has an error of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the build was cancelled")]
    Cancelled,
    #[error("cannot start what talks to the daemon")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("cannot remember what the daemons do in `{folder}`")]
    Queue { folder: String, source: std::io::Error },
    #[error("cannot reach the BuildKit daemon at `{address}`")]
    Unreachable { address: String, source: ConnectError },
    #[error("no BuildKit daemon can be reached that may build for `{wanted}`")]
    AllUnreachable { wanted: Platform, passed: Vec<(String, ConnectError)> },
    #[error("no BuildKit daemon builds for `{wanted}`: {offered}")]
    NoPlatform { wanted: Platform, offered: String },
    #[error("the build was lost with the BuildKit daemon at `{address}`")]
    Lost { address: String, source: SolveError, has_failed_over: bool },
    #[error(transparent)]
    Given(#[from] GivenBaseError),
    #[error(transparent)]
    LocalCache(#[from] LocalCache),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error("the daemon at `{address}` built the image and does not say its digest")]
    NoDigest { address: String },
    #[error(transparent)]
    OtherBase(#[from] OtherBase),
    #[error("the daemon handed over something else than an image for `{wanted}`")]
    OtherImage { wanted: Platform },
    #[error("an archive for `docker load` holds one platform, and this image has {count}")]
    ManyInArchive { count: usize },
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
}

inventory::submit! { Bundled { name: "remote", make: |_| Box::new(RemoteBuilder) } }

impl Builder for RemoteBuilder {
    fn describe(&self) -> Description {
        Description {
            name: "remote".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "one or many BuildKit daemons, wherever they run".to_owned(),
            features: BTreeSet::from([
                Feature::BaseScratch,
                Feature::BaseRegistry,
                Feature::BaseOciLayout,
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
                Feature::CacheImport,
                Feature::CacheExport,
                Feature::Ssh,
                Feature::OutputRegistry,
                Feature::OutputOci,
                Feature::OutputDockerArchive,
            ]),
            options_schema: Options::schema(),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let start = Instant::now();
        let cancelled = || session.is_cancelled();
        let build = || -> Result<Report, Failure> {
            let options = Options::of(&request.options)?;
            output::check(request)?;
            check_caches(request)?;
            let together = Together { session, has_failed: AtomicBool::new(false) };
            let progress = Progress::new(&together);
            let registry = Registry::new(request, &cancelled);
            warn_of_own_registry(request, &options, &progress);
            let credentials = Arc::new(CredentialStore::from_files(request.credential_files.clone()));
            let Ground { request, bases, lent } = ground(request, &registry, &progress)?;
            let (request, progress, registry, options, together) =
                (&request, &progress, &registry, &options, &together);
            Building { request, lent, progress, registry, credentials, options, together }.run(&bases)
        };
        let mut report = build().map_err(|failure| match session.is_cancelled() {
            // Whatever broke off because of it is no news.
            true => Failure::Cancelled.tell(""),
            false => failure.tell(request.name.registry()),
        })?;
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
            // Nothing is pushed for a text: a base that was handed over stands there as in an image that comes back.
            let lent = lend_given(request)?.map(|lent| (lent.name, lent.known));
            let recipe = recipe(request, &progress, &lent.into_iter().collect())?;
            if let Some(folder) = folder {
                recipe.write(folder)?;
            }
            Ok(recipe.dockerfile)
        };
        render().map_err(|failure| failure.tell(request.name.registry()))
    }
}

/// What a build stands on.
pub(crate) struct Ground {
    /// The request, with a base that daemons can have.
    request: BuildRequest,
    /// What is known of bases, by their name behind FROM.
    bases: BTreeMap<String, KnownBase>,
    /// The base that this machine lends to them.
    lent: Option<LentBase>,
}

/// Sees to it that daemons can have the base. One that is not in a registry goes to that of the image, where each daemon finds
/// it again; an image that comes back needs no registry, and its base is lent over the session.
fn ground(request: &BuildRequest, registry: &Registry<'_>, progress: &Progress<'_>) -> Result<Ground, Failure> {
    let mut ground = Ground { request: request.clone(), bases: BTreeMap::new(), lent: None };
    if request.outputs.contains(&Output::Registry) {
        if let Some((reference, known)) = push_given(request, registry, progress)? {
            ground.bases.insert(reference.familiar(), known);
            *innermost_mut(&mut ground.request.plan) = Base::Registry(reference);
            return Ok(ground);
        }
    } else if let Some(lent) = lend_given(request)? {
        ground.bases.insert(lent.name.clone(), lent.known.clone());
        ground.lent = Some(lent);
    }
    if let Base::Registry(reference) = innermost(&request.plan) {
        ground.bases = look_up(registry, reference, &request.plan, progress)?;
    }
    Ok(ground)
}

/// What its registry says of the base `reference`. Nothing is no error, for a daemon may reach what this machine does not.
fn look_up(
    registry: &Registry<'_>,
    reference: &Reference,
    plan: &Plan,
    progress: &Progress<'_>,
) -> Result<BTreeMap<String, KnownBase>, Failure> {
    let mut known = BTreeMap::new();
    for platform in &plan.platforms {
        match registry.config(reference, platform) {
            Ok((digest, config)) => {
                OtherBase::check(&reference.familiar(), &config, platform)?;
                // What stands in one Dockerfile is of the first one.
                known.entry(reference.familiar()).or_insert_with(|| KnownBase::of_config(Some(digest), &config));
            }
            Err(_) if progress.is_cancelled() => return Err(Failure::Cancelled),
            Err(error) => tracing::debug!(%error, base = %reference, "the base is not looked up"),
        }
    }
    Ok(known)
}

fn innermost_mut(plan: &mut Plan) -> &mut Base {
    match &mut plan.base {
        Base::Plan(nested) => innermost_mut(nested),
        base => base,
    }
}

/// Says that `localhost` is somebody else to a daemon on another machine.
fn warn_of_own_registry(request: &BuildRequest, options: &Options, progress: &Progress<'_>) {
    let registry = request.name.registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let is_own = host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let elsewhere = options.endpoints.iter().find(|endpoint| !endpoint.is_here());
    if let (true, true, Some(endpoint)) = (is_own, request.outputs.contains(&Output::Registry), elsewhere) {
        progress.warn(format!(
            "`{registry}` is the machine of `{}` for the daemon there, and not this one",
            endpoint.address
        ));
    }
}

impl Building<'_> {
    fn run(&self, bases: &BTreeMap<String, KnownBase>) -> Result<Report, Failure> {
        let recipe = recipe(self.request, self.progress, bases)?;
        // A daemon does not ask for what it has from an earlier build, and still the files must be those of the plan.
        recipe.verify()?;
        let made = self.make(&recipe)?;
        output::deliver(self, &recipe, &made)
    }

    /// Builds for each platform, all at once: each has a daemon of its own, if there are as many.
    fn make(&self, recipe: &Recipe) -> Result<Vec<Made>, Failure> {
        let is_handed_over = self.request.outputs.iter().any(|output| *output != Output::Registry);
        let job = |platform| Job { building: self, recipe, platform, is_handed_over };
        let platforms = &self.request.plan.platforms;
        if let (1, Some(platform)) = (platforms.len(), platforms.first()) {
            return Ok(vec![job(platform).run()?]);
        }
        let results: Vec<_> = thread::scope(|scope| {
            let run =
                |platform| job(platform).run().inspect_err(|_| self.together.has_failed.store(true, Ordering::Relaxed));
            let running: Vec<_> = platforms.iter().map(|platform| scope.spawn(move || run(platform))).collect();
            running.into_iter().map(|thread| thread.join().expect("no panic leaves it")).collect()
        });
        // What failed is told, and not that the others were given up because of it.
        let (failures, made): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_err);
        let first =
            failures.into_iter().filter_map(Result::err).min_by_key(|failure| matches!(failure, Failure::Cancelled));
        match first {
            Some(failure) => Err(failure),
            None => Ok(made.into_iter().filter_map(Result::ok).collect()),
        }
    }
}
