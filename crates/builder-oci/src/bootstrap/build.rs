//! From a suite to a layer: fetches, unpacks, lets the packages configure themselves, and takes away what is not the
//! same each time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;

use super::deb::{Deb, DebError};
use super::fetch::{choose, fetch, indexes};
use super::mirror::{Fetcher, Mirror, MirrorError};
use super::packages::{Package, PackagesError};
use super::release::ReleaseError;
use super::selection::Selection;
use super::solve::SolveError;
use super::tree::Tree;
use crate::cache::{Cache, CacheError, Key};
use crate::emulation::{self, CannotExecute};
use crate::image::PATH_DEFAULT;
use crate::layer::{FORMAT_VERSION, Layer, LayerError};
use crate::point::{self, Point};
use crate::sandbox::{
    ArchiveOptions, Devices, Form, Line, Network, Output, Root, Run, Sandbox, SandboxError, UnpackOptions, User,
    Whiteouts,
};

/// Raised whenever the same packages would give another tree.
const BOOTSTRAP_VERSION: &str = "1";

/// How many packages are decompressed ahead of the one that is unpacked, which bounds the memory that they take.
const AHEAD_MAX: usize = 8;

/// Lets the packages' scripts run in the order that dpkg has, and removes what differs from run to run.
const CONFIGURE: &str = include_str!("configure.sh");

/// What is to be bootstrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The suite's code name: `bookworm`.
    pub suite: String,
    /// What the base is for.
    pub platform: Platform,
    /// Packages besides the required ones and apt: `ca-certificates`, `python3`.
    pub packages: Vec<String>,
    /// The exact packages, if they were chosen earlier. Then nothing is asked of the mirror but them.
    pub locked: Option<Selection>,
}

/// A base that was made of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrappedBase {
    /// Its only layer.
    pub layer: Layer,
    /// Whether the layer was made earlier.
    pub outcome: Outcome,
    /// Name and version of each package, sorted by name.
    pub packages: Vec<(String, String)>,
    /// The version of the package python3, if it is among them: `3.11.2-1+b1`.
    pub python: Option<String>,
}

/// How far a bootstrap is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The lists of packages are fetched and verified.
    Indexes,
    /// Packages are fetched that are not in the cache.
    Fetching {
        /// How many.
        packages: usize,
        /// Their length in bytes.
        size_bytes: u64,
    },
    /// So many more bytes of packages are here.
    Received(u64),
    /// All packages are here.
    Fetched,
    /// The packages are unpacked.
    Unpacking,
    /// So many packages are being configured or are so already.
    Configuring {
        /// How many, this one included.
        package: usize,
        /// How many there are.
        packages: usize,
    },
    /// A line that the packages' scripts wrote.
    Output(String),
    /// The tree is compressed.
    Archiving,
    /// Something that the user should know.
    Warning(String),
}

/// The caller's side: says what time it is and whether to stop, and hears how far it is.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// The time now, in seconds since 1970, by which releases and keys expire.
    pub now: u64,
    /// Called from any thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Whether to stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Why a base could not be bootstrapped.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The suite's name is none.
    #[error("`{suite}` is not the name of a Debian suite")]
    Suite {
        /// What was asked for.
        suite: String,
    },
    /// The mirror does not have the suite.
    #[error("the mirror `{mirror}` has no suite `{suite}`")]
    NoSuite {
        /// The suite.
        suite: String,
        /// URL of the archive.
        mirror: String,
    },
    /// The suite has no packages for the architecture.
    #[error("Debian's `{suite}` has no packages for `{architecture}`")]
    Architecture {
        /// The suite.
        suite: String,
        /// The architecture, in Debian's name.
        architecture: String,
    },
    /// The scripts are programs of another processor.
    #[error("`bootstrap:debian/{suite}` for {platform} runs the packages' own scripts, which this machine cannot")]
    CannotExecute {
        /// The suite.
        suite: String,
        /// What the base is for.
        platform: Platform,
        /// What is missing.
        source: CannotExecute,
    },
    /// A package that was fetched is gone from the cache, or was corrupt.
    #[error("package `{package}` is no longer in the cache")]
    Gone {
        /// The package.
        package: String,
    },
    /// The mirror has another version of a package by now.
    #[error("the mirror `{mirror}` has no version {version} of package `{package}`, which is locked")]
    Lost {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// URL of the archive.
        mirror: String,
        /// The name of a snapshot of Debian's archive that has it.
        snapshot: String,
    },
    /// The packages' scripts failed.
    #[error("configuring the packages ended with exit code {code}: {last_line}")]
    Configure {
        /// The exit code.
        code: i32,
        /// What was written last.
        last_line: String,
    },
    /// A release is not believed.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// An index cannot be read.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// There is no set of packages.
    #[error(transparent)]
    Solve(#[from] SolveError),
    /// Something cannot be fetched.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A package cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The layer could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// No folder could be made for the tree.
    #[error("cannot make a folder in `{path}`")]
    Folder {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BootstrapError {
    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Mirror(MirrorError::Transfer { .. } | MirrorError::Status { status: 408 | 429 | 500.., .. }) => true,
            Self::Mirror(MirrorError::Cache(error)) | Self::Cache(error) => error.is_temporary(),
            _ => false,
        }
    }
}

/// Chooses the packages of a base, and fetches none of them.
///
/// # Errors
/// When an index cannot be fetched or is not believed, or when the packages do not fit together.
pub fn resolve(
    cache: &Cache,
    wanted: &Bootstrap,
    mirror: &Mirror,
    observer: Observer<'_>,
) -> Result<Selection, BootstrapError> {
    if let Some(locked) = &wanted.locked {
        return Ok(locked.clone());
    }
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !is_name(&wanted.suite) {
        return Err(BootstrapError::Suite { suite: wanted.suite.clone() });
    }
    let fetcher = Fetcher::new(cache, observer.cancelled)?;
    (observer.progress)(Progress::Indexes);
    let (indexes, suites) = indexes(&fetcher, mirror, wanted, observer)?;
    point::reached(Point::ReleaseVerified);
    Ok(Selection::new(choose(&indexes, wanted)?, suites, mirror))
}

/// Makes the base of a suite. Files that are newer than `timestamp`, in seconds since 1970, get that time.
///
/// # Errors
/// When something cannot be fetched or is not believed, when the packages do not fit together, when their scripts fail,
/// or when this machine cannot run the platform's programs.
pub fn bootstrap(
    cache: &Cache,
    sandbox: &Sandbox,
    wanted: &Bootstrap,
    mirror: &Mirror,
    timestamp: u64,
    observer: Observer<'_>,
) -> Result<BootstrappedBase, BootstrapError> {
    let selection = resolve(cache, wanted, mirror, observer)?;
    let sources = selection.sources();
    let Selection { packages, snapshot, .. } = selection;
    let digests: Vec<Digest> = packages.iter().map(|package| package.digest).collect();
    let time = timestamp.to_string();
    let settings = [BOOTSTRAP_VERSION, FORMAT_VERSION, CONFIGURE, &sources, &time].map(str::as_bytes);
    let parts = settings.into_iter().chain(digests.iter().map(|digest| digest.as_bytes().as_slice()));
    let key = Key::new("bootstrap", parts);
    if cache.remembered_layer(key)?.is_none() {
        check_execution(wanted)?;
        let fetcher = Fetcher::new(cache, observer.cancelled)?;
        fetch(&fetcher, mirror, &packages, snapshot.as_deref(), observer)?;
    }
    let (layer, outcome) = cache.layer_of_archive(key, |compressor| {
        let folder = tempfile::Builder::new().prefix("bootstrap-").tempdir_in(cache.temporary_folder());
        let folder = folder.map_err(|source| BootstrapError::Folder { path: cache.temporary_folder(), source })?;
        let root = folder.path().join("root");
        std::fs::create_dir(&root).map_err(|source| BootstrapError::Folder { path: root.clone(), source })?;
        let made = make(cache, sandbox, &root, &packages, &sources, timestamp, observer).and_then(|()| {
            (observer.progress)(Progress::Archiving);
            point::reached(Point::TreeConfigured);
            let options =
                ArchiveOptions { form: Form::Tree, exclude: Vec::new(), newest_kept: timestamp, otherwise: timestamp };
            let mut layer = Cancellable { output: compressor, observer };
            match sandbox.archive(&root, &options, &mut layer) {
                Err(_) if (observer.cancelled)() => Err(SandboxError::Cancelled.into()),
                result => Ok(result?),
            }
        });
        // What is in it may belong to users that only the sandbox can act for.
        let removed = sandbox.remove(&root);
        made?;
        Ok::<(), BootstrapError>(removed?)
    })?;
    let python = packages.iter().find(|package| package.name == "python3").map(|package| package.version.clone());
    let packages = packages.into_iter().map(|package| (package.name, package.version)).collect();
    Ok(BootstrappedBase { layer, outcome, packages, python })
}

/// Fails where the programs of the packages cannot run, before anything is fetched for nothing.
fn check_execution(wanted: &Bootstrap) -> Result<(), BootstrapError> {
    // Nothing is known of a machine that has no name as a platform.
    let Some(machine) = emulation::machine() else { return Ok(()) };
    emulation::check(&wanted.platform, &machine).map_err(|source| BootstrapError::CannotExecute {
        suite: wanted.suite.clone(),
        platform: wanted.platform.clone(),
        source,
    })
}

fn make(
    cache: &Cache,
    sandbox: &Sandbox,
    root: &Path,
    packages: &[Package],
    sources: &str,
    timestamp: u64,
    observer: Observer<'_>,
) -> Result<(), BootstrapError> {
    (observer.progress)(Progress::Unpacking);
    let (sender, receiver) = sync_channel(AHEAD_MAX);
    let scripts = thread::scope(|scope| {
        let merging = scope.spawn(move || merge(cache, packages, sources, timestamp, observer, &sender));
        let mut stream = Parts { receiver, current: io::Cursor::new(Vec::new()) };
        let options = UnpackOptions { whiteouts: Whiteouts::Apply, devices: Devices::Refuse };
        let unpacked = sandbox.unpack(root, &mut stream, options);
        // Lets the other thread end if it still wants to send.
        drop(stream);
        let scripts = merging.join().expect("merging does not panic");
        match (scripts, unpacked) {
            (Ok(Some(scripts)), Ok(())) => Ok(scripts),
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Ok(None), Ok(())) => Err(SandboxError::Cancelled.into()),
        }
    })?;
    point::reached(Point::TreeUnpacked);
    configure(sandbox, root, packages.len(), &scripts, timestamp, observer)
}

/// Sends the tar of all packages in parts, and gives the scripts to run before; nothing when nobody receives.
fn merge(
    cache: &Cache,
    packages: &[Package],
    sources: &str,
    timestamp: u64,
    observer: Observer<'_>,
    sender: &SyncSender<Vec<u8>>,
) -> Result<Option<Vec<(String, String)>>, BootstrapError> {
    let failed = |source| DebError::Read { package: "base".to_owned(), member: "data.tar", source };
    let mut tree = Tree::default();
    if sender.send(tree.first(timestamp).map_err(failed)?).is_err() {
        return Ok(None);
    }
    // The modes of folders that many packages have are those of base-files.
    let (mut ordered, others): (Vec<_>, Vec<_>) = packages.iter().partition(|package| package.name == "base-files");
    ordered.extend(others);
    let mut waiting = ordered.iter();
    let mut ahead = VecDeque::new();
    loop {
        ahead.extend(
            waiting.by_ref().take(AHEAD_MAX - ahead.len()).map(|package| (package, decompress(cache, package))),
        );
        let Some((package, deb)) = ahead.pop_front() else { break };
        if (observer.cancelled)() {
            return Err(SandboxError::Cancelled.into());
        }
        let deb = deb.recv().expect("a thread that decompresses always answers")?;
        if sender.send(tree.add(&package.name, &deb)?).is_err() {
            return Ok(None);
        }
    }
    let (last, scripts) = tree.last(sources, timestamp).map_err(failed)?;
    Ok(sender.send(last).is_ok().then_some(scripts))
}

/// Has a package read and decompressed by another thread.
fn decompress(cache: &Cache, package: &Package) -> Receiver<Result<Deb, BootstrapError>> {
    let (sender, receiver) = sync_channel(1);
    let (cache, name, digest) = (cache.clone(), package.name.clone(), package.digest);
    rayon::spawn(move || {
        let read = || {
            let gone = || BootstrapError::Gone { package: name.clone() };
            let bytes = cache.read_blob(digest)?.ok_or_else(gone)?;
            Ok(Deb::read(&bytes, &name)?)
        };
        // Nobody receives when the base was given up.
        drop(sender.send(read()));
    });
    receiver
}

/// Writes until the build is cancelled.
struct Cancellable<'a, W> {
    output: W,
    observer: Observer<'a>,
}

impl<W: Write> Write for Cancellable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.observer.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Reads what another thread sends.
struct Parts {
    receiver: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(part) => self.current = io::Cursor::new(part),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// What packages' own scripts find: no questions, and nothing that differs from run to run.
pub(crate) fn script_environment(timestamp: u64) -> Vec<(String, String)> {
    let env = [
        ("PATH", PATH_DEFAULT),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("PERL_HASH_SEED", "0"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", &timestamp.to_string()),
    ];
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn configure(
    sandbox: &Sandbox,
    root: &Path,
    packages: usize,
    scripts: &[(String, String)],
    timestamp: u64,
    observer: Observer<'_>,
) -> Result<(), BootstrapError> {
    let mut argv: Vec<String> = ["/bin/sh", "-eu", "-c", CONFIGURE, "configure"].map(str::to_owned).into();
    argv.extend(scripts.iter().map(|(package, file)| format!("{package}/{file}")));
    let run = Run {
        root: Root::Directory(root.to_owned()),
        argv,
        env: script_environment(timestamp),
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "imagespec".to_owned(),
    };
    let (mut last_line, mut package) = (String::new(), 0);
    let mut on_line = |line: Line| {
        last_line.clone_from(&line.text);
        if line.text.starts_with("Setting up ") {
            package += 1;
            (observer.progress)(Progress::Configuring { package, packages });
        }
        (observer.progress)(Progress::Output(line.text));
    };
    let status = sandbox.run(&run, Output::Lines(&mut on_line), observer.cancelled)?;
    match status.code {
        0 => Ok(()),
        code => Err(BootstrapError::Configure { code, last_line }),
    }
}
