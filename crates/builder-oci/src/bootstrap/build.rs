//! From a suite to a layer: fetches, unpacks, lets the packages configure themselves, and takes away what is not the
//! same each time.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use imagespec_core::digest::Digest;
use rayon::prelude::*;

use super::deb::{Deb, DebError};
use super::mirror::{Fetcher, Mirror, MirrorError};
use super::packages::{Archive, Index, Package, PackageTable, PackagesError};
use super::release::{ByHash, Release, ReleaseError};
use super::solve::{SolveError, solve};
use super::tree::Tree;
use crate::cache::{Cache, CacheError, Key};
use crate::layer::{FORMAT_VERSION, Layer, LayerError};
use crate::sandbox::{
    ArchiveOptions, Devices, Form, Line, Network, Output, Root, Run, Sandbox, SandboxError, UnpackOptions, User,
    Whiteouts,
};

/// Raised whenever the same packages would give another tree.
const BOOTSTRAP_VERSION: &str = "1";

/// How many packages are decompressed at once, which bounds the memory that they take.
const BATCH_LENGTH: usize = 8;

/// Lets the packages' scripts run in the order that dpkg has, and removes what differs from run to run.
const CONFIGURE: &str = include_str!("configure.sh");

/// The suites that were found, each with the archive that has it.
type Suites = Vec<(Archive, String)>;

/// What is to be bootstrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The suite's code name: `bookworm`.
    pub suite: String,
    /// Packages besides the required ones and apt: `ca-certificates`, `python3`.
    pub packages: Vec<String>,
}

/// A base that was made of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrappedBase {
    /// Its only layer.
    pub layer: Layer,
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
    /// So many packages are here, of so many.
    Fetched {
        /// How many are here.
        done: usize,
        /// How many there are.
        total: usize,
    },
    /// The packages are unpacked.
    Unpacking,
    /// A line that the packages' scripts wrote.
    Output(String),
    /// The tree is compressed.
    Archiving,
    /// Something that the user should know.
    Warning(String),
}

/// The caller's side: hears how far it is, and says whether to stop.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
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
    /// A package that was fetched is gone from the cache, or was corrupt.
    #[error("package `{package}` is no longer in the cache")]
    Gone {
        /// The package.
        package: String,
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

/// Makes the base of a suite for an `architecture` in Debian's name. Files that are newer than `timestamp`, in seconds
/// since 1970, get that time. The machine must be able to run the architecture's programs.
///
/// # Errors
/// When something cannot be fetched or is not believed, when the packages do not fit together, or when their scripts
/// fail.
pub fn bootstrap(
    cache: &Cache,
    sandbox: &Sandbox,
    wanted: &Bootstrap,
    architecture: &str,
    mirror: &Mirror,
    timestamp: u64,
    observer: Observer<'_>,
) -> Result<BootstrappedBase, BootstrapError> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !is_name(&wanted.suite) {
        return Err(BootstrapError::Suite { suite: wanted.suite.clone() });
    }
    if !is_name(architecture) {
        let (suite, architecture) = (wanted.suite.clone(), architecture.to_owned());
        return Err(BootstrapError::Architecture { suite, architecture });
    }
    let fetcher = Fetcher::new(cache, observer.cancelled)?;
    (observer.progress)(Progress::Indexes);
    let (indexes, suites) = indexes(&fetcher, mirror, &wanted.suite, architecture, observer)?;
    let packages = choose(&indexes, wanted)?;
    fetch(&fetcher, mirror, &packages, observer)?;

    let sources = sources(mirror, &suites);
    let digests: Vec<Digest> = packages.iter().map(|package| package.digest).collect();
    let time = timestamp.to_string();
    let settings = [BOOTSTRAP_VERSION, FORMAT_VERSION, CONFIGURE, &sources, &time].map(str::as_bytes);
    let parts = settings.into_iter().chain(digests.iter().map(|digest| digest.as_bytes().as_slice()));
    let (layer, _) = cache.layer_of_archive(Key::new("bootstrap", parts), |compressor| {
        let folder = tempfile::Builder::new().prefix("bootstrap-").tempdir_in(cache.temporary_folder());
        let folder = folder.map_err(|source| BootstrapError::Folder { path: cache.temporary_folder(), source })?;
        let root = folder.path().join("root");
        std::fs::create_dir(&root).map_err(|source| BootstrapError::Folder { path: root.clone(), source })?;
        let made = make(cache, sandbox, &root, &packages, &sources, timestamp, observer).and_then(|()| {
            (observer.progress)(Progress::Archiving);
            let options =
                ArchiveOptions { form: Form::Tree, exclude: Vec::new(), newest_kept: timestamp, otherwise: timestamp };
            Ok(sandbox.archive(&root, &options, compressor)?)
        });
        // What is in it may belong to users that only the sandbox can act for.
        let removed = sandbox.remove(&root);
        made?;
        Ok::<(), BootstrapError>(removed?)
    })?;
    let python = packages.iter().find(|package| package.name == "python3").map(|package| package.version.clone());
    let packages = packages.into_iter().map(|package| (package.name, package.version)).collect();
    Ok(BootstrappedBase { layer, packages, python })
}

/// The indexes of a suite, its updates and its security updates; and the suites that exist, with their archive.
fn indexes(
    fetcher: &Fetcher<'_>,
    mirror: &Mirror,
    suite: &str,
    architecture: &str,
    observer: Observer<'_>,
) -> Result<(Vec<Index>, Suites), BootstrapError> {
    let wanted = [
        (Archive::Main, suite.to_owned()),
        (Archive::Main, format!("{suite}-updates")),
        (Archive::Security, format!("{suite}-security")),
    ];
    let (mut indexes, mut suites) = (Vec::new(), Vec::new());
    for (archive, name) in wanted {
        let folder = format!("{}/dists/{name}", mirror.url(archive));
        let in_release = match fetcher.release(&format!("{folder}/InRelease")) {
            Err(error) if error.is_absent() && name != suite => {
                (observer.progress)(Progress::Warning(format!("the mirror has no suite `{name}`")));
                continue;
            }
            Err(error) if error.is_absent() => {
                return Err(BootstrapError::NoSuite { suite: name, mirror: mirror.url(archive).to_owned() });
            }
            result => result?,
        };
        let release = Release::verify(&in_release, &name)?;
        let component = format!("main/binary-{architecture}");
        let Some(file) = release.file(&format!("{component}/Packages.xz")) else {
            return Err(BootstrapError::Architecture { suite: name, architecture: architecture.to_owned() });
        };
        let plain = format!("{folder}/{component}/Packages.xz");
        let by_hash = format!("{folder}/{component}/by-hash/SHA256/{}", file.digest.to_hex());
        match release.by_hash {
            ByHash::Offered => match fetcher.blob(&by_hash, file.digest, file.size_bytes) {
                Err(error) if error.is_absent() => fetcher.blob(&plain, file.digest, file.size_bytes)?,
                result => result?,
            },
            ByHash::Absent => fetcher.blob(&plain, file.digest, file.size_bytes)?,
        }
        let bytes = fetcher.cache.read_blob(file.digest)?.ok_or(BootstrapError::Gone { package: plain })?;
        indexes.push(Index::read(&bytes, archive, &name)?);
        suites.push((archive, name));
    }
    Ok((indexes, suites))
}

fn choose(indexes: &[Index], wanted: &Bootstrap) -> Result<Vec<Package>, BootstrapError> {
    let table = PackageTable::new(indexes);
    let mut asked = vec!["apt".to_owned()];
    // The tree is merged from the start, so the package that merges old ones is not needed.
    asked.extend(table.get("usr-is-merged").map(|_| "usr-is-merged".to_owned()));
    asked.extend(wanted.packages.iter().cloned());
    Ok(solve(&table, &asked, &wanted.suite)?)
}

fn fetch(
    fetcher: &Fetcher<'_>,
    mirror: &Mirror,
    packages: &[Package],
    observer: Observer<'_>,
) -> Result<(), BootstrapError> {
    let done = std::sync::atomic::AtomicUsize::new(0);
    packages.par_iter().try_for_each(|package| {
        if (observer.cancelled)() {
            return Err(BootstrapError::Sandbox(SandboxError::Cancelled));
        }
        let url = format!("{}/{}", mirror.url(package.archive), package.path);
        fetcher.blob(&url, package.digest, package.size_bytes)?;
        let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (observer.progress)(Progress::Fetched { done, total: packages.len() });
        Ok(())
    })
}

/// apt's sources in the image (sources.list(5), "deb822-style format").
fn sources(mirror: &Mirror, suites: &[(Archive, String)]) -> String {
    let (main, security) = mirror.published();
    let stanza = |url: &str, archive: Archive| {
        let names: Vec<&str> = suites.iter().filter(|(of, _)| *of == archive).map(|(_, name)| name.as_str()).collect();
        let signed_by = "/usr/share/keyrings/debian-archive-keyring.gpg";
        match names.as_slice() {
            [] => String::new(),
            names => format!(
                "Types: deb\nURIs: {url}\nSuites: {}\nComponents: main\nSigned-By: {signed_by}\n\n",
                names.join(" ")
            ),
        }
    };
    stanza(main, Archive::Main) + &stanza(security, Archive::Security)
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
    let (sender, receiver) = sync_channel(2 * BATCH_LENGTH);
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
    configure(sandbox, root, &scripts, timestamp, observer)
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
    for batch in ordered.chunks(BATCH_LENGTH) {
        if (observer.cancelled)() {
            return Err(SandboxError::Cancelled.into());
        }
        let read = |package: &&Package| {
            let gone = || BootstrapError::Gone { package: package.name.clone() };
            let bytes = cache.read_blob(package.digest)?.ok_or_else(gone)?;
            Ok::<_, BootstrapError>(Deb::read(&bytes, &package.name)?)
        };
        let debs: Vec<Deb> = batch.par_iter().map(read).collect::<Result<_, _>>()?;
        for (package, deb) in batch.iter().zip(&debs) {
            if sender.send(tree.add(&package.name, deb)?).is_err() {
                return Ok(None);
            }
        }
    }
    let (last, scripts) = tree.last(sources, timestamp).map_err(failed)?;
    Ok(sender.send(last).is_ok().then_some(scripts))
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

fn configure(
    sandbox: &Sandbox,
    root: &Path,
    scripts: &[(String, String)],
    timestamp: u64,
    observer: Observer<'_>,
) -> Result<(), BootstrapError> {
    let mut argv: Vec<String> = ["/bin/sh", "-eu", "-c", CONFIGURE, "configure"].map(str::to_owned).into();
    argv.extend(scripts.iter().map(|(package, file)| format!("{package}/{file}")));
    let env = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("PERL_HASH_SEED", "0"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", &timestamp.to_string()),
    ];
    let run = Run {
        root: Root::Directory(root.to_owned()),
        argv,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cwd: PathBuf::from("/"),
        user: User::root(),
        mounts: Vec::new(),
        network: Network::None,
        hostname: "imagespec".to_owned(),
    };
    let mut last_line = String::new();
    let mut on_line = |line: Line| {
        last_line.clone_from(&line.text);
        (observer.progress)(Progress::Output(line.text));
    };
    let status = sandbox.run(&run, Output::Lines(&mut on_line), observer.cancelled)?;
    match status.code {
        0 => Ok(()),
        code => Err(BootstrapError::Configure { code, last_line }),
    }
}
