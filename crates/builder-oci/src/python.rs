//! The Python environment at `/opt/venv`: the venv itself, and packages resolved by uv and laid out from their wheels.

use std::collections::{BTreeMap, BTreeSet};

use imagespec_core::builder::SecretSource;
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome, Unit};
use imagespec_core::lock::LockedPackage;
use imagespec_core::plan::{
    AptStep, Base, PipInput, PipStep, PythonStep, Requirement, SecretMount, SecretTarget, VENV,
};
use imagespec_core::resolve::suite_python;
use pep440_rs::Version;
use serde_json::{Map, Value};

use crate::apt::{self, AptError};
use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure, Position};
use crate::cache::{Cache, Key};
use crate::conda::CondaError;
use crate::files::{self, FilesError};
use crate::layer::{FORMAT_VERSION, Layer, LayerPath};
use crate::lock;
use crate::managed::{self, ManagedError};
use crate::point::{self, Point};
use crate::progress;
use crate::secret::{self, SecretError, Secrets};
use crate::source::{SourceError, Workshop};
use crate::survey;
use crate::wheel::{
    self, AllowedDigests, Dependencies, DownloadError, Environment, Interpreter, Libc, Observer, PylockError,
    Resolution, ResolveError, Scheme, SelectedSource, SelectedWheel, Selection, Target, Uv, VenvFileKind, Wanted,
    Weighed, WheelError, assign, download, layer, select, venv, write_venv,
};

/// The Python of a base, and what wheels must know of it.
#[derive(Debug, Clone)]
pub(crate) struct BasePython {
    pub(crate) interpreter: Interpreter,
    pub(crate) libc: Libc,
    /// Digest of the archive that it was unpacked from, where that was done here.
    pub(crate) archive: Option<Digest>,
}

/// Why there is no Python environment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    /// The base has no Python, or none that says its version.
    #[error("no Python was found in the base")]
    Absent,
    /// What `python_exec` names is no Python that is known.
    #[error("the base has no Python at `{path}`")]
    NotAt {
        /// The path.
        path: String,
    },
    /// A Python without a C library that is known.
    #[error("the base has `{python}`, but neither glibc nor musl, which wheels are made for")]
    NoLibc {
        /// The interpreter's path in the base.
        python: String,
    },
    /// The base has another version.
    #[error("the base has Python {found}, and `python_version` asks for {wanted}")]
    Version {
        /// What was asked for.
        wanted: String,
        /// What the base has.
        found: String,
    },
    /// A lock file cannot be read.
    #[error(transparent)]
    Lock(#[from] FilesError),
    /// uv failed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// What uv found cannot be used.
    #[error(transparent)]
    Pylock(#[from] PylockError),
    /// A wheel cannot be had.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A secret of the resolver cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A package cannot be built from source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file that the resolver does not read.
    #[error("secret `{id}` is to lie at `{path}`, where the resolver reads no file")]
    SecretFile {
        /// Its name.
        id: String,
        /// Its target.
        path: String,
    },
    /// A wheel cannot be installed.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// A build of Python cannot be had.
    #[error(transparent)]
    Managed(#[from] ManagedError),
}

impl BasePython {
    /// Where its packages lie in an image, without a leading `/`.
    pub(crate) fn site_packages(&self) -> String {
        Scheme::new(venv_path(), self.interpreter.minor).site_packages()
    }

    /// From the versions of Debian's packages `python3` and `libc6`: `3.11.2-1+b1`, `2.36-9+deb12u10`.
    pub(crate) fn of_debian(python3: &str, libc6: &str) -> Option<Self> {
        let mut version = python3.split(['-', '+', '~']).next()?.split('.');
        let ("3", minor) = (version.next()?, version.next()?.parse().ok()?) else { return None };
        let patch = version.next().and_then(|patch| patch.parse().ok()).unwrap_or(0);
        let libc_minor = libc6.strip_prefix("2.")?.split(['-', '.', '+']).next()?.parse().ok()?;
        let interpreter = Interpreter { path: format!("/usr/bin/python3.{minor}"), minor, patch };
        Some(Self { interpreter, libc: Libc::Glibc { minor: libc_minor }, archive: None })
    }

    /// What wheels must fit to on a processor that the kernel calls `machine`.
    fn target(&self, machine: &str) -> Target {
        Target {
            python_minor: self.interpreter.minor,
            python_patch: self.interpreter.patch,
            machine: machine.to_owned(),
            libc: self.libc,
        }
    }
}

/// The Python that `step` asks for: the one of the layers so far, else Debian's package of it, else a build of it. The
/// layers that bring it come too.
pub(crate) fn find(
    building: &Building<'_>,
    step: &PythonStep,
    position: &Position<'_>,
    config: &Map<String, Value>,
) -> Result<(BasePython, Vec<ImageLayer>), Failure> {
    let absent = match survey::python(building, position.below, config, step) {
        Err(Failure::Python(error @ (PythonError::Absent | PythonError::Version { .. }))) => error,
        found => return Ok((found?, Vec::new())),
    };
    if step.executable.is_some() {
        return Err(absent.into());
    }
    if let Some(layer) = of_apt(building, step.version.as_deref(), position)? {
        let layers: Vec<_> = position.below.iter().cloned().chain([layer.clone()]).collect();
        return match survey::python(building, &layers, config, step) {
            // The release has another patch version.
            Err(Failure::Python(PythonError::Version { wanted, .. })) => managed::find(building, &wanted, position),
            found => Ok((found?, vec![layer])),
        };
    }
    let locked = lock::image(position).and_then(|image| image.python.as_ref());
    match locked.or(step.version.as_ref()) {
        Some(wanted) => managed::find(building, wanted, position),
        None => Err(absent.into()),
    }
}

/// The layer with Debian's package of Python `wanted`, if there is one.
fn of_apt(
    building: &Building<'_>,
    wanted: Option<&str>,
    position: &Position<'_>,
) -> Result<Option<ImageLayer>, Failure> {
    // Of a release that is known, apt need not be asked for what it does not have.
    if let (Base::Bootstrap(bootstrap), Some(wanted)) = (&position.plan.base, wanted)
        && suite_python(&bootstrap.suite).is_some_and(|(minor, patch)| wanted != minor && wanted != patch)
    {
        return Ok(None);
    }
    let locked = lock::image(position).map(|image| image.python_apt.as_slice());
    // A lock without packages says that Python came from elsewhere.
    if locked.is_some_and(<[_]>::is_empty) || !survey::has_apt(building, position.below)? {
        return Ok(None);
    }
    let package = match wanted {
        // A release has one patch version, which apt calls otherwise: `3.11.2-1+b1`.
        Some(wanted) => format!("python{}", wanted.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")),
        None => "python3".to_owned(),
    };
    let below: Vec<_> = position.below.iter().map(|layer| layer.layer.diff_id.to_string()).collect();
    let key = Key::new(
        "apt-without",
        [package.as_str()].into_iter().chain(below.iter().map(String::as_str)).map(str::as_bytes),
    );
    if building.cache.finds_layers() && building.cache.record::<bool>(key)?.is_some() {
        return Ok(None);
    }
    let packages = AptStep { packages: BTreeSet::from([package.clone()]) };
    match apt::layer(building, &packages, position, locked) {
        Ok((layer, outcome)) => Ok(Some(own_layer(layer, outcome, &package))),
        // What cannot be run cannot be asked: the base stays without.
        Err(Failure::Apt(AptError::CannotExecute { .. })) => Ok(None),
        Err(Failure::Apt(error)) if error.is_unknown_package() => {
            building.cache.remember(key, &true)?;
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Makes or finds the layer of the empty environment; none if the interpreter has one of its own there, as conda's has.
pub(crate) fn environment(
    building: &Building<'_>,
    step: &PythonStep,
    python: &BasePython,
) -> Result<Option<(Layer, Outcome)>, Failure> {
    let Interpreter { path, .. } = &python.interpreter;
    let version = python.interpreter.version();
    if let Some(wanted) = &step.version
        && !python.interpreter.is_version(wanted)
    {
        return Err(PythonError::Version { wanted: wanted.clone(), found: version }.into());
    }
    if path.starts_with(&format!("{VENV}/")) {
        return Ok(None);
    }
    let files = venv(&venv_path(), &python.interpreter).map_err(FilesError::from)?;
    let timestamp = building.request.timestamp;
    let parts = [FORMAT_VERSION.to_owned(), path.clone(), version, timestamp.to_string()];
    let described = files.iter().map(|file| match &file.kind {
        VenvFileKind::Text(text) => format!("{} file {text}", file.path),
        VenvFileKind::Symlink(target) => format!("{} link {target}", file.path),
        VenvFileKind::Directory => format!("{} directory", file.path),
    });
    let parts: Vec<_> = parts.into_iter().chain(described).collect();
    let key = Key::new("venv", parts.iter().map(String::as_bytes));
    building.cache.layer(key, timestamp, |writer| Ok(write_venv(writer, &files)?)).map(Some)
}

/// A layer with packages, and what to call it.
pub(crate) type PackageLayer = (Layer, Outcome, String);

/// Resolves, fetches and lays out the packages of `step`.
pub(crate) fn packages(
    building: &Building<'_>,
    step: &PipStep,
    python: &BasePython,
    position: &Position<'_>,
) -> Result<Vec<PackageLayer>, Failure> {
    if matches!(&step.input, PipInput::Requirements { requirements, .. } if requirements.is_empty()) {
        return Ok(Vec::new());
    }
    let target = python.target(position.platform.machine());
    let (environment, secrets) = environment_of(&building.request.secrets, step)?;
    let workshop = Workshop { building, step, position, environment: &environment, secrets: &secrets };
    let lock = match lock::image(position) {
        Some(image) => wheel::pylock(&image.packages),
        None => lock(&workshop, &target)?,
    };
    point::reached(Point::Resolved);
    let selection = select(&lock, &target, &allowed(step, &target)?).map_err(PythonError::from)?;
    let Selection { mut wheels, sources } = without_installed(selection, position.distributions)?;
    let archives = sources.iter().filter_map(SelectedSource::wanted);
    let files: Vec<_> = wheels.iter().map(Wanted::from).chain(archives).collect();
    let missing = missing(&building.cache, &files);
    let thing = if files.len() == wheels.len() { "wheel" } else { "file" };
    building.progress.counted(
        &format!("fetch {}", progress::count(files.len(), thing)),
        Unit::Bytes,
        missing.size_bytes,
        |step| {
            let cancelled = || building.progress.is_cancelled();
            let observer = Observer { received: &|count| step.add(count), cancelled: &cancelled };
            download(&building.cache, files, &environment, observer).map_err(PythonError::from)
        },
        |()| missing.summary(),
    )?;
    for source in &sources {
        building.check_cancelled()?;
        wheels.push(workshop.wheel(source, &target)?);
    }
    wheels.sort_by(|left, right| left.name.cmp(&right.name));
    building.check_cancelled()?;
    building.progress.step(
        &format!("install {}", progress::count(wheels.len(), "package")),
        || install(building, &wheels, python.interpreter.minor, layers_max(position.below.len())),
        |layers| {
            let is_cached = layers.iter().all(|(_, outcome, _)| *outcome == Outcome::Cached);
            let outcome = if is_cached { Outcome::Cached } else { Outcome::Done };
            (outcome, progress::count(layers.len(), "layer"))
        },
    )
}

/// The packages of `step` for a lock: resolved, and none of them fetched.
pub(crate) fn locked_packages(
    building: &Building<'_>,
    step: &PipStep,
    python: &BasePython,
    position: &Position<'_>,
) -> Result<Vec<LockedPackage>, Failure> {
    let target = python.target(position.platform.machine());
    let (environment, secrets) = environment_of(&building.request.secrets, step)?;
    let workshop = Workshop { building, step, position, environment: &environment, secrets: &secrets };
    let lock = lock(&workshop, &target)?;
    let selection = select(&lock, &target, &allowed(step, &target)?).map_err(PythonError::from)?;
    let Selection { wheels, sources } = without_installed(selection, position.distributions)?;
    let wheels = wheels.into_iter().map(|wheel| (wheel.name, Some(wheel.sha256)));
    let chosen: Vec<_> =
        wheels.chain(sources.into_iter().map(|source| (source.name.clone(), source.sha256()))).collect();
    Ok(wheel::packages(&lock, &chosen).map_err(PythonError::from)?)
}

/// uv takes the hashes to choose versions by and does not insist on them, so that it is done here.
fn allowed(step: &PipStep, target: &Target) -> Result<AllowedDigests, PythonError> {
    match &step.input {
        PipInput::Requirements { requirements, constraints } => {
            Ok(AllowedDigests::new(requirements.iter().chain(constraints), target)?)
        }
        PipInput::Locked { requirements, .. } => Ok(AllowedDigests::new(requirements, target)?),
        // The lock file is where the digests of the wheels come from.
        PipInput::UvLock { .. } | PipInput::Pylock { .. } => Ok(AllowedDigests::default()),
    }
}

/// What uv and the downloads of `step` know of this machine, of the spec's indexes and of the secrets. The secrets are
/// gone when the second value is dropped.
pub(crate) fn environment_of(
    given: &BTreeMap<String, SecretSource>,
    step: &PipStep,
) -> Result<(Environment, Secrets), PythonError> {
    for SecretMount { id, target } in &step.secrets {
        if let SecretTarget::File(path) = target
            && !path.ends_with("netrc")
            && !names_repositories(&step.input)
        {
            return Err(PythonError::SecretFile { id: id.clone(), path: path.clone() });
        }
    }
    let secrets = secret::read(given, &step.secrets)?;
    let mut environment = Environment::of_machine().with_indexes(step.index.as_deref(), &step.extra_indexes);
    // Others are for git, in the sandbox.
    for mount in secrets.mounts.iter().filter(|mount| mount.target.to_string_lossy().ends_with("netrc")) {
        environment = environment.with("NETRC", &mount.source);
    }
    for (name, value) in &secrets.env {
        environment = environment.with_secret(name, value);
    }
    Ok((environment, secrets))
}

/// Whether git may have to say who it is. What a lock file names is not known before it was read.
fn names_repositories(input: &PipInput) -> bool {
    match input {
        PipInput::Requirements { requirements, .. } | PipInput::Locked { requirements, .. } => {
            requirements.iter().any(Requirement::is_git)
        }
        PipInput::UvLock { .. } | PipInput::Pylock { .. } => true,
    }
}

/// The packages of the workshop's step as the text of a `pylock.toml`.
fn lock(workshop: &Workshop<'_>, target: &Target) -> Result<String, Failure> {
    let building = workshop.building;
    let cache = &building.cache;
    match &workshop.step.input {
        PipInput::Requirements { requirements, constraints } => {
            let constraints = lines(constraints) + &pinned(workshop.position.distributions);
            resolve(workshop, target, (&lines(requirements), &constraints), Dependencies::Followed)
        }
        // poetry.lock has no addresses: the index is asked for them, for these versions and digests alone.
        PipInput::Locked { requirements, .. } => {
            resolve(workshop, target, (&lines(requirements), ""), Dependencies::Listed)
        }
        PipInput::UvLock { lock, pyproject } => {
            let (lock, pyproject) = (handed_over(building, *lock)?, handed_over(building, *pyproject)?);
            building.progress.counted(
                "read uv.lock",
                Unit::Bytes,
                None,
                |progress| {
                    let cancelled = || building.progress.is_cancelled();
                    let observer = Observer { received: &|count| progress.add(count), cancelled: &cancelled };
                    let uv = Uv::find(cache, observer).map_err(PythonError::from)?.tied(building.sandbox.tie());
                    Ok(uv.export(cache, &lock, &pyproject, observer).map_err(PythonError::from)?)
                },
                |_| (Outcome::Done, String::new()),
            )
        }
        PipInput::Pylock { lock } => String::from_utf8(handed_over(building, *lock)?)
            .map_err(|_| PythonError::from(ResolveError::NotText).into()),
    }
}

fn handed_over(building: &Building<'_>, digest: Digest) -> Result<Vec<u8>, Failure> {
    Ok(files::read(&building.request.files, digest).map_err(PythonError::from)?)
}

/// Wheels alone are looked at first, on the host, where nothing executes. What has none, or is named as sources, is left to
/// the sandbox.
fn resolve(
    workshop: &Workshop<'_>,
    target: &Target,
    (requirements, constraints): (&str, &str),
    dependencies: Dependencies,
) -> Result<String, Failure> {
    let Workshop { building, step, environment, .. } = *workshop;
    let resolution = Resolution {
        requirements,
        constraints,
        target,
        find_links: &step.find_links,
        extra_args: &step.extra_args,
        dependencies,
        environment,
    };
    let sources = sources_of(&step.input);
    let title = format!("resolve {}", progress::count(requirements.lines().count(), "requirement"));
    let resolved = building.progress.counted(
        &title,
        Unit::Bytes,
        None,
        |progress| {
            // A lock begins anew.
            if workshop.position.learned.is_none()
                && let Some(lock) = workshop.resolved(&resolution)?
            {
                return Ok::<_, Failure>((lock, Outcome::Cached));
            }
            if !sources.is_empty() {
                return Ok((workshop.resolve(&resolution, progress, &sources.join("\n"))?, Outcome::Done));
            }
            let indexes: Vec<_> = step.index.iter().chain(&step.extra_indexes).map(String::as_str).collect();
            let cancelled = || building.progress.is_cancelled();
            let observer = Observer { received: &|count| progress.add(count), cancelled: &cancelled };
            // An index that cannot be asked has nothing new.
            if building.cache.is_offline()
                && let Some(text) = wheel::recall(&building.cache, &resolution, &indexes)?
            {
                return Ok((text, Outcome::Cached));
            }
            let uv = Uv::find(&building.cache, observer).map_err(PythonError::from)?.tied(building.sandbox.tie());
            match uv.resolve(&building.cache, &resolution, observer) {
                Err(ResolveError::Failed { source }) if source.wants_wheels() && !refuses_sources(&step.extra_args) => {
                    let lock = workshop.resolve(&resolution, progress, &source.to_string())?;
                    Ok((lock, Outcome::Done))
                }
                resolved => {
                    let text = resolved.map_err(PythonError::from)?;
                    wheel::keep(&building.cache, &resolution, &indexes, &text)?;
                    Ok((text, Outcome::Done))
                }
            }
        },
        |(_, outcome)| (*outcome, String::new()),
    );
    resolved.map(|(lock, _)| lock)
}

/// Requirements that name repositories and archives of sources.
fn sources_of(input: &PipInput) -> Vec<&str> {
    let named: Vec<&Requirement> = match input {
        PipInput::Requirements { requirements, constraints } => requirements.iter().chain(constraints).collect(),
        PipInput::Locked { requirements, .. } => requirements.iter().collect(),
        PipInput::UvLock { .. } | PipInput::Pylock { .. } => Vec::new(),
    };
    let sources = named.into_iter().filter(|requirement| requirement.is_source());
    sources.map(|requirement| requirement.text.as_str()).collect()
}

/// Whether the resolver is told to take wheels and nothing else.
fn refuses_sources(arguments: &[String]) -> bool {
    let is_all = |value: &str| value.split(',').any(|package| package.trim() == ":all:");
    let joined = arguments.iter().filter_map(|word| word.strip_prefix("--only-binary="));
    let apart = arguments.windows(2).filter(|words| words[0] == "--only-binary").map(|words| words[1].as_str());
    joined.chain(apart).any(is_all)
}

/// What of the files is to be fetched.
struct Missing {
    count: usize,
    /// Length in bytes, if the index says all of them.
    size_bytes: Option<u64>,
}

impl Missing {
    fn summary(&self) -> (Outcome, String) {
        match (self.count, self.size_bytes) {
            (0, _) => (Outcome::Cached, String::new()),
            (_, Some(size_bytes)) => (Outcome::Done, event::size(size_bytes)),
            (_, None) => (Outcome::Done, String::new()),
        }
    }
}

fn missing(cache: &Cache, files: &[Wanted<'_>]) -> Missing {
    let sizes: Vec<_> = files.iter().filter(|file| !cache.has_blob(file.digest)).map(|file| file.size_bytes).collect();
    Missing { count: sizes.len(), size_bytes: sizes.into_iter().sum() }
}

fn lines<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> String {
    let mut text = String::new();
    for requirement in requirements {
        text.push_str(&requirement.text);
        for hash in &requirement.hashes {
            text.push_str(" --hash=");
            text.push_str(hash);
        }
        text.push('\n');
    }
    text
}

/// What conda installed already, as constraints: nothing of it is installed again, or in another version.
fn pinned(installed: &BTreeMap<String, String>) -> String {
    let proper = installed.iter().filter(|(_, version)| version.parse::<Version>().is_ok());
    proper.map(|(name, version)| format!("{name}=={version}\n")).collect()
}

/// `wheels` but for what conda installed already.
fn without_installed(selection: Selection, installed: &BTreeMap<String, String>) -> Result<Selection, CondaError> {
    let is_left = |name: &str, wanted: Option<&str>| match (installed.get(name), wanted) {
        (None, _) => Ok(true),
        (Some(_), None) => Ok(false),
        (Some(version), Some(wanted)) if version.parse::<Version>().ok() == wanted.parse().ok() => Ok(false),
        (Some(version), Some(wanted)) => {
            let (name, wanted, installed) = (name.to_owned(), wanted.to_owned(), version.clone());
            Err(CondaError::OtherVersion { name, wanted, installed })
        }
    };
    let mut left = Selection::default();
    for wheel in selection.wheels {
        if is_left(&wheel.name, Some(&wheel.version))? {
            left.wheels.push(wheel);
        }
    }
    for source in selection.sources {
        if is_left(&source.name, source.version.as_deref())? {
            left.sources.push(source);
        }
    }
    Ok(left)
}

/// overlayfs mounts 127 layers at most. Each of these may have another one with its bytecode, and those that come after
/// need some, too.
fn layers_max(below: usize) -> usize {
    (110_usize.saturating_sub(below) / 2).clamp(16, 50)
}

fn install(
    building: &Building<'_>,
    wheels: &[SelectedWheel],
    minor: u16,
    layers_max: usize,
) -> Result<Vec<PackageLayer>, Failure> {
    let scheme = Scheme::new(venv_path(), minor);
    let weighed: Vec<_> = wheels
        .iter()
        .map(|wheel| {
            let path = building.cache.blob_path(wheel.sha256);
            let size_bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            Weighed { name: wheel.name.clone(), size_bytes }
        })
        .collect();
    let mut layers = Vec::new();
    for group in assign(&weighed, layers_max).into_iter().filter(|group| !group.is_empty()) {
        building.check_cancelled()?;
        let members: Vec<_> =
            group.iter().map(|&index| (wheels[index].file_name.clone(), wheels[index].sha256)).collect();
        let names: Vec<_> =
            group.iter().map(|&index| format!("{} {}", wheels[index].name, wheels[index].version)).collect();
        let (layer, outcome) =
            layer(&building.cache, &members, &scheme, building.request.timestamp).map_err(PythonError::from)?;
        layers.push((layer, outcome, names.join(", ")));
    }
    Ok(layers)
}

fn venv_path() -> LayerPath {
    LayerPath::new(VENV).expect("the path of the environment is a proper one")
}
