//! The builder itself: base, recipe, a daemon for each platform, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use imagespec_buildkit::base::{GivenBaseError, LentBase, innermost, lend_given, push_given};
use imagespec_buildkit::registry::Registry;
use imagespec_buildkit::{
    KnownBase, LocalCache, Progress, Recipe, RecipeError, SolveError, WriteError, check_caches, recipe,
};
use imagespec_core::builder::{BuildError, BuildRequest, Builder, Bundled, Description, Feature, Output, Session};
use imagespec_core::cache_location::CacheLocation;
use imagespec_core::plan::{Base, Plan};
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use imagespec_distribution::CredentialStore;
use imagespec_layout::{LayoutError, SavedError};

use crate::daemon::ConnectError;
use crate::fleet;
use crate::job::{Job, Made};
use crate::options::{Options, OptionsError};
use crate::output;

/// Digits of the digest in the tag of a cache.
const CACHE_TAG_DIGITS: usize = 32;

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
    #[error("none of the {} BuildKit daemons can be reached", .0.len())]
    AllUnreachable(Vec<(String, ConnectError)>),
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
            let progress = Progress::new(session);
            let registry = Registry::new(request, &cancelled);
            let credentials = Arc::new(CredentialStore::from_files(request.credential_files.clone()));
            let Ground { request, bases, lent } = ground(request, &registry, &progress)?;
            let request = with_cache(request, &options);
            let (request, progress, registry, options) = (&request, &progress, &registry, &options);
            Building { request, lent, progress, registry, credentials, options }.run(&bases)
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
    let platform = plan.platforms.first().expect("a plan has a platform");
    match registry.config(reference, platform) {
        Ok((digest, config)) => {
            Ok(BTreeMap::from([(reference.familiar(), KnownBase::of_config(Some(digest), &config))]))
        }
        Err(_) if progress.is_cancelled() => Err(Failure::Cancelled),
        // The daemon would be told nothing else.
        Err(error @ imagespec_distribution::Error::Credentials { .. }) => Err(error.into()),
        Err(error) => {
            tracing::debug!(%error, base = %reference, "the base is not looked up");
            Ok(BTreeMap::new())
        }
    }
}

fn innermost_mut(plan: &mut Plan) -> &mut Base {
    match &mut plan.base {
        Base::Plan(nested) => innermost_mut(nested),
        base => base,
    }
}

/// The request with the caches that the project names, unless the user names others.
fn with_cache(mut request: BuildRequest, options: &Options) -> BuildRequest {
    let Some(repository) = &options.cache else { return request };
    if !request.cache_from.is_empty() || !request.cache_to.is_empty() {
        return request;
    }
    // One for all images that share their slow steps: whoever comes first leaves them for the others.
    let platform = request.plan.platforms.first().expect("a plan has a platform");
    let key = fleet::affinity(&request.plan, platform).to_hex();
    let name = format!("{repository}:imagespec-{}", &key[..CACHE_TAG_DIGITS]);
    let location = |attributes: &[(&str, &str)]| CacheLocation {
        kind: "registry".to_owned(),
        attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    request.cache_from.push(location(&[("ref", &name)]));
    request.cache_to.push(location(&[("ref", &name), ("mode", "max"), ("ignore-error", "true")]));
    request
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
        thread::scope(|scope| {
            let running: Vec<_> = platforms.iter().map(|platform| scope.spawn(move || job(platform).run())).collect();
            running.into_iter().map(|thread| thread.join().expect("no panic leaves it")).collect()
        })
    }
}
