//! The builder itself: home, base, recipe, envd, what it made, outputs, in that order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use imagespec_buildkit::{Machine, Progress, UvError, UvProgram, WriteError, pinned_uv, write_context};
use imagespec_core::builder::{
    BuildError, BuildRequest, Builder, Bundled, CachePolicy, Description, Feature, NetworkPolicy, Output, Session,
};
use imagespec_core::digest::Digest;
use imagespec_core::plan::{Base, Step};
use imagespec_core::report::Report;
use imagespec_distribution::CredentialError;
use imagespec_layout::{Image, LayoutError, Saved, SavedError};

use crate::base::{self, BaseError, ReadyBase};
use crate::config::{self, ConfigError};
use crate::engine::{Engine, EngineError};
use crate::follow::{Followed, Follower};
use crate::home::{Home, HomeError, MOBY, find_program};
use crate::lower::{LowerError, MANIFEST, Parts, Recipe, check, lower, needs_uv};
use crate::options::Options;
use crate::output;
use crate::process::{End, ProcessError, ending};
use crate::registry::Registry;

/// The archive that envd writes, in its home.
const ARCHIVE: &str = "image.tar";

/// The builder `envd`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnvdBuilder;

/// Why a build failed. Each part has an error of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the build was cancelled")]
    Cancelled,
    #[error("the build is offline, and envd keeps neither itself nor what it runs from the network")]
    Offline,
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error(transparent)]
    Uv(#[from] UvError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("envd ended with {ending}")]
    Envd { ending: String, followed: Followed },
    #[error("envd does not say which image it pushed")]
    NoDigest,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error("cannot read what envd wrote to `{path}`")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// How the image leaves envd's BuildKit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// BuildKit pushes its layers, without a tag.
    Push,
    /// As an archive of an OCI layout.
    Archive,
    /// It is left in the engine, which hands it over: its BuildKit does neither of the others everywhere.
    Engine,
}

/// What envd made, and where its layers lie; nowhere here if they are in the registry.
pub(crate) struct Made {
    pub(crate) image: Image,
    pub(crate) saved: Option<Saved>,
    /// Whether an engine built it.
    pub(crate) is_in_engine: bool,
}

impl Made {
    /// The one image of an archive.
    fn of(saved: Saved, way: Way) -> Result<Self, Failure> {
        let image = saved.images.first().cloned().ok_or(Failure::NoDigest)?;
        Ok(Self { image, saved: Some(saved), is_in_engine: way == Way::Engine })
    }

    /// A reader of the layer `digest`.
    pub(crate) fn open(&self, digest: Digest) -> Result<Box<dyn io::Read + Send>, Failure> {
        let saved = self.saved.as_ref().expect("an image that goes elsewhere was handed over");
        Ok(saved.open(digest)?)
    }
}

/// What is at hand during one build.
pub(crate) struct Building<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) progress: &'a Progress<'a>,
    pub(crate) registry: Registry<'a>,
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
    options: Options,
    start: Instant,
}

inventory::submit! { Bundled { name: "envd", make: |_| Box::new(EnvdBuilder) } }

impl Builder for EnvdBuilder {
    fn describe(&self) -> Description {
        Description {
            name: "envd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "envd, with a BuildKit of its own or of an engine".to_owned(),
            features: BTreeSet::from([
                Feature::BaseRegistry,
                Feature::BaseOciLayout,
                Feature::Apt,
                Feature::Python,
                Feature::Conda,
                Feature::Pip,
                Feature::Copy,
                Feature::Run,
                Feature::Env,
                Feature::Workdir,
                Feature::Entrypoint,
                Feature::Cmd,
                Feature::Labels,
                Feature::Render,
                Feature::Find,
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
        with_building(request, session, |building| building.run())
    }

    fn find(&self, request: &BuildRequest, session: &dyn Session) -> Result<Option<Report>, BuildError> {
        with_building(request, session, |building| {
            building.check()?;
            Ok(output::kept(building)?.map(|report| building.timed(report)))
        })
    }

    fn render(
        &self,
        request: &BuildRequest,
        folder: Option<&Path>,
        session: &dyn Session,
    ) -> Result<String, BuildError> {
        let progress = Progress::new(session);
        let render = || -> Result<String, Failure> {
            check(&request.plan)?;
            // No registry is asked: what stands in the text should not depend on one.
            let (name, _) = base::name(request)?;
            let uv = uv(request, &progress)?;
            let recipe = lower(Parts { request, base: &name, machine: None, uv: uv.as_ref() })?;
            if let Some(folder) = folder {
                write(&recipe, folder)?;
                output::write_base(request, folder, &progress)?;
            }
            Ok(recipe.text)
        };
        render().map_err(|failure| failure.tell(request))
    }
}

/// Does `work` with what is at hand during one build.
fn with_building<T>(
    request: &BuildRequest,
    session: &dyn Session,
    work: impl FnOnce(&Building<'_>) -> Result<T, Failure>,
) -> Result<T, BuildError> {
    let start = Instant::now();
    let progress = Progress::new(session);
    let is_cancelled = || session.is_cancelled();
    let building = Building {
        request,
        progress: &progress,
        registry: Registry::new(request, &is_cancelled),
        is_cancelled: &is_cancelled,
        options: Options::of_process(&request.options),
        start,
    };
    work(&building).map_err(|failure| match session.is_cancelled() {
        // Whatever broke off because of it is no news.
        true => Failure::Cancelled.tell(request),
        false => failure.tell(request),
    })
}

/// The uv for the image's processor, if the plan needs one.
fn uv(request: &BuildRequest, progress: &Progress<'_>) -> Result<Option<UvProgram>, Failure> {
    if !needs_uv(&request.plan) {
        return Ok(None);
    }
    let platform = request.plan.platforms.first().expect("a plan has a platform");
    let fetching = std::cell::OnceCell::new();
    let done_bytes = std::cell::Cell::new(0);
    // It is there but for the first time, which takes a while.
    let received = |count| {
        done_bytes.set(done_bytes.get() + count);
        fetching.get_or_init(|| progress.begin("fetch uv")).reach(done_bytes.get(), None);
    };
    let cancelled = || progress.is_cancelled();
    let program = pinned_uv(&request.cache_dir, platform.machine(), request.network, &received, &cancelled)?;
    if let Some(step) = fetching.into_inner() {
        step.finish(imagespec_core::event::Outcome::Done, imagespec_core::event::size(done_bytes.get()));
    }
    Ok(program)
}

/// Writes a recipe to a folder that is there.
fn write(recipe: &Recipe, folder: &Path) -> Result<(), WriteError> {
    write_context(&recipe.context, folder)?;
    let path = folder.join(MANIFEST);
    fs::write(&path, &recipe.text).map_err(|source| WriteError::Write { path, source })
}

impl Building<'_> {
    /// Finds out before any work whether envd can do it, and the outputs can take it.
    fn check(&self) -> Result<(), Failure> {
        if (self.is_cancelled)() {
            return Err(Failure::Cancelled);
        }
        if self.request.network == NetworkPolicy::Offline && self.needs_network() {
            return Err(Failure::Offline);
        }
        find_program(&self.options)?;
        output::check(self)
    }

    fn timed(&self, report: Report) -> Report {
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Report { duration_ms, ..report }
    }

    fn run(&self) -> Result<Report, Failure> {
        self.check()?;
        check(&self.request.plan)?;
        let home = Home::new(&self.request.cache_dir.join("envd"), &self.options, self.progress)?;
        let base = base::prepare(self.request, &self.registry, self.progress)?;
        let uv = uv(self.request, self.progress)?;
        let machine = Machine::of(std::env::vars_os());
        let recipe =
            lower(Parts { request: self.request, base: &base.name, machine: Some(&machine), uv: uv.as_ref() })?;
        let folder = home.folder(&self.folder_name(&base))?;
        write(&recipe, &folder)?;
        let name = &self.request.name;
        let known = [(name.registry(), name.repository()), (base.reference.registry(), base.reference.repository())];
        home.registries(self.request, &known)?;
        if let Some(config) = self.registry_config() {
            home.bootstrap(&config, self.progress)?;
        }
        let (followed, made) = self.make(&home, &recipe, &folder)?;
        let finished = config::finished(&made.image, &base.known, self.request)?;
        let made = Made { image: finished, ..made };
        let digest = output::deliver(self, &made)?;
        Ok(self.timed(output::report(self.request, &base, &made, digest, &recipe, &followed)))
    }

    /// Whether the build asks somebody else than this machine. envd cannot keep commands from doing so.
    fn needs_network(&self) -> bool {
        let request = self.request;
        matches!(request.plan.base, Base::Registry(_))
            || request.outputs.contains(&Output::Registry)
            || request.plan.steps.iter().any(|step| !matches!(step, Step::Copy(_)))
    }

    /// What the folder of `build.envd` is called. envd calls its caches and the folder of commands by it, and two builds at
    /// once would be in each other's way in the caches of apt: so it says what goes into these.
    fn folder_name(&self, base: &ReadyBase) -> String {
        let apt = self.request.plan.steps.iter().find_map(|step| match step {
            Step::Apt(step) => Some(step.packages.iter().cloned().collect::<Vec<_>>().join(" ")),
            _ => None,
        });
        let mut text = format!("{} {}", base.known.digest, apt.unwrap_or_default());
        if self.request.cache == CachePolicy::Rebuild {
            // A folder that there has never been makes everything anew: envd has no word for it.
            text.push_str(&format!(" {:?} {}", std::time::SystemTime::now(), std::process::id()));
        }
        format!("imagespec-{}", &Digest::of(text.as_bytes()).to_hex()[..12])
    }

    /// The file that tells envd about registries: that of the options, else one of its form among the files with logins.
    fn registry_config(&self) -> Option<PathBuf> {
        let is_of_envd = |path: &&PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|document| document["registries"].is_array())
        };
        let given = || self.request.credential_files.iter().find(is_of_envd).cloned();
        self.options.registry_config.clone().or_else(given)
    }

    /// Has envd build, and reads what it made.
    fn make(&self, home: &Home, recipe: &Recipe, folder: &Path) -> Result<(Followed, Made), Failure> {
        let name = &self.request.name;
        let is_pushed_only = self.request.outputs.iter().all(|output| *output == Output::Registry);
        let way = match home.context.builder == MOBY {
            true => Way::Engine,
            false if is_pushed_only => Way::Push,
            false => Way::Archive,
        };
        let archive = home.path().join(ARCHIVE);
        // A name that nobody else gives, for as long as it takes to hand the image over.
        let own = home.path().file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let own = format!("imagespec-build:{own}");
        let platform = self.request.plan.platforms.first().expect("a plan has a platform");
        let mut words: Vec<OsString> = ["build", "--force", "--path"].map(Into::into).into();
        words.push(folder.into());
        words.extend(["--platform".into(), platform.to_string().into()]);
        if home.has_proxy {
            words.push("--use-proxy".into());
        }
        match way {
            Way::Push => {
                let target = format!("{}/{}", name.registry(), name.repository());
                let mut to = format!("type=image,name={target},push=true,push-by-digest=true");
                if self.request.registries.get(name.registry()).is_some_and(|access| access.insecure) {
                    to.push_str(",registry.insecure=true");
                }
                words.extend(["--output".into(), to.into()]);
            }
            Way::Archive => {
                // By a name that has no comma: envd reads the words as CSV.
                words.extend(["--output".into(), format!("type=oci,dest=../{ARCHIVE}").into()]);
            }
            Way::Engine => words.extend(["--tag".into(), own.clone().into()]),
        }
        let mut follower = Follower::new(self.progress, recipe);
        let end = home.program(words, folder).run(self.is_cancelled, &mut |stream, line| follower.take(stream, &line));
        let followed = match end? {
            End::Cancelled => return Err(Failure::Cancelled),
            End::Status(status) if status.success() => follower.finish(true),
            End::Status(status) => {
                return Err(Failure::Envd { ending: ending(status), followed: follower.finish(false) });
            }
        };
        let made = match way {
            Way::Push => {
                let digest = followed.digest.ok_or(Failure::NoDigest)?;
                let image = self.registry.image(&name.with_digest(digest), platform)?;
                Made { image, saved: None, is_in_engine: false }
            }
            Way::Archive => {
                let unreadable = |source| Failure::Unreadable { path: archive.clone(), source };
                Made::of(self.unpack(&mut File::open(&archive).map_err(unreadable)?, home)?, way)?
            }
            Way::Engine => {
                let engine = Engine::of_process()?;
                let step = self.progress.begin("hand the image over");
                let saved = engine.save(&own, self.is_cancelled, |archive| self.unpack(archive, home));
                engine.forget(&own);
                let made = Made::of(saved??, way)?;
                step.finish(imagespec_core::event::Outcome::Done, String::new());
                made
            }
        };
        Ok((followed, made))
    }

    fn unpack(&self, mut archive: &mut dyn io::Read, home: &Home) -> Result<Saved, Failure> {
        let is_given_up = AtomicBool::new(false);
        let watched = Watched { source: &mut archive, is_cancelled: self.is_cancelled, is_given_up: &is_given_up };
        Ok(Saved::unpack(watched, home.path(), &is_given_up)?)
    }
}

/// Reads until the user asks to stop.
struct Watched<'a, R> {
    source: R,
    is_cancelled: &'a dyn Fn() -> bool,
    is_given_up: &'a AtomicBool,
}

impl<R: io::Read> io::Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_cancelled)() {
            self.is_given_up.store(true, Ordering::Relaxed);
            return Err(io::Error::other("cancelled"));
        }
        self.source.read(buffer)
    }
}
