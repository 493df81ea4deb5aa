//! The process in which a builder is examined: `imagespec __plugin kit SCENE MODE SUBJECT FOLDER`. It writes what it finds
//! to `FOLDER/results` as it finds it, a line each, so that a builder that takes the process with it did so in a check.
//! Its stdout is for nobody.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::boundary::Door;
use imagespec_core::builder::Restart;
use imagespec_plugin_host::{Loaded, Mode, PluginFile, bundled};
use imagespec_plugin_sdk::Speaker;
use imagespec_plugin_sdk::conformance::{self, Check, Disk, Note, Verdict};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{DumpableBehavior, Pid, Signal, kill_process, set_child_subreaper, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde_json::json;

/// The word that begins it.
pub(super) const ARGUMENT: &str = "kit";
/// The check that a builder can be examined at all.
pub(super) const LOADED: &str = "is loaded";
/// The file that it writes to.
pub(super) const RESULTS: &str = "results";

/// What is done with the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// Everything that needs no disk of its own.
    Kit,
    /// A build to a disk that takes nothing.
    Disk(Disk),
}

/// Where the builder's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is linked into this program.
    Bundled,
    /// It is a file.
    File(Mode),
}

impl Scene {
    pub(super) const ALL: [Self; 3] = [Self::Kit, Self::Disk(Disk::Full), Self::Disk(Disk::ReadOnly)];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kit => "everything",
            Self::Disk(Disk::Full) => "full-disk",
            Self::Disk(Disk::ReadOnly) => "read-only-disk",
        }
    }
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Bundled, Self::File(Mode::InProcess), Self::File(Mode::Worker)];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::File(Mode::InProcess) => "in-process",
            Self::File(Mode::Worker) => "worker",
        }
    }
}

/// Where results go.
struct Results(File);

impl Results {
    fn note(&mut self, note: Note<'_>) {
        let line = match note {
            Note::Begun(name) => json!({"begun": name}),
            Note::Ended(check) => json!({"ended": check}),
        };
        // In one piece; whoever reads them sees that something is missing.
        let _ = self.0.write_all(format!("{line}\n").as_bytes());
    }

    /// Has something done that comes before the kit, and is no news where it goes well.
    fn prepare<T>(&mut self, name: &str, trial: impl FnOnce() -> Result<T, Verdict>) -> Option<T> {
        self.note(Note::Begun(name));
        match trial() {
            Ok(value) => Some(value),
            Err(verdict) => {
                self.note(Note::Ended(&Check { name: name.to_owned(), verdict }));
                None
            }
        }
    }

    /// Has one thing done that the kit does not do.
    fn check<T>(&mut self, name: &str, trial: impl FnOnce() -> Result<T, Verdict>) -> Option<T> {
        self.note(Note::Begun(name));
        let (verdict, value) = match trial() {
            Ok(value) => (Verdict::Passed, Some(value)),
            Err(verdict) => (verdict, None),
        };
        self.note(Note::Ended(&Check { name: name.to_owned(), verdict }));
        value
    }
}

/// Examines a builder. This must be the only thread.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let [scene, place, subject, folder] = arguments else { return ExitCode::FAILURE };
    let scene = Scene::ALL.into_iter().find(|known| scene == known.name());
    let place = Place::ALL.into_iter().find(|known| place == known.name());
    let folder = Path::new(folder);
    let (Some(scene), Some(place), Ok(file)) = (scene, place, File::create(folder.join(RESULTS))) else {
        return ExitCode::FAILURE;
    };
    examine(scene, place, subject, folder, &mut Results(file));
    // Not through `main`'s end: a call that hangs must not keep it.
    std::process::exit(0)
}

fn examine(scene: Scene, place: Place, subject: &OsStr, folder: &Path, results: &mut Results) {
    // Before a namespace in which its owner may have no name.
    let file = match place {
        Place::Bundled => None,
        Place::File(_) => {
            let read =
                || PluginFile::read(Path::new(subject)).map_err(|error| failed(&error.into_build_error().to_string()));
            let Some(file) = results.prepare("is a file that nobody else may change", read) else { return };
            Some(file)
        }
    };
    let disk = match scene {
        Scene::Kit => None,
        Scene::Disk(disk) => {
            let disk = results.prepare(disk.check(), || {
                let mounted = mount_disk(&folder.join("disk"), disk).map(|path| (path, disk));
                mounted.map_err(|error| Verdict::Skipped(format!("no disk can be mounted here: {error}")))
            });
            if disk.is_none() {
                return;
            }
            disk
        }
    };
    // What the builder starts and forgets becomes a child of this process.
    let is_reaper = set_child_subreaper(Pid::from_raw(1)).is_ok();
    let door = results.prepare(LOADED, || open(place, subject, file.as_ref()));
    let Some(door) = door else { return };
    let mut notes = |note: Note<'_>| results.note(note);
    match &disk {
        None => drop(conformance::examine(Arc::clone(&door), &mut notes)),
        Some((folder, disk)) => drop(conformance::examine_disk(Arc::clone(&door), folder, *disk, &mut notes)),
    }
    // Ends a worker.
    drop(door);
    if scene == Scene::Kit {
        results.check("leaves no process behind", || if is_reaper { children() } else { Err(no_proc()) });
    }
}

fn open(place: Place, subject: &OsStr, file: Option<&PluginFile>) -> Result<Arc<dyn Door>, Verdict> {
    let program = std::env::current_exe().map_err(|error| failed(&format!("this program is not found: {error}")))?;
    let (Place::File(mode), Some(file)) = (place, file) else {
        let builder = bundled().find(|bundled| subject == bundled.name);
        let builder = builder.ok_or_else(|| failed("it is not linked into this program"))?;
        return Ok(Arc::new(Speaker::new((builder.make)(Restart::bundled(program)))));
    };
    let loaded = Loaded::load(file, mode, &program).map_err(|error| {
        let error = error.into_build_error();
        failed(&std::iter::once(&error.message).chain(&error.causes).cloned().collect::<Vec<_>>().join(": "))
    })?;
    Ok(loaded.door())
}

fn failed(why: &str) -> Verdict {
    Verdict::Failed(why.to_owned())
}

/// Mounts a tiny disk on `folder` that takes nothing, for this process and its children alone.
fn mount_disk(folder: &Path, disk: Disk) -> io::Result<PathBuf> {
    const FULL: &str = "full";
    let none: Option<&str> = None;
    fs::create_dir_all(folder)?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS)?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        fs::write("/proc/self/setgroups", "deny")?;
        let (user, group) = (user.as_raw(), group.as_raw());
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = if disk == Disk::ReadOnly { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("size=64k"))?;
    if disk == Disk::Full {
        let mut file = File::create(folder.join(FULL))?;
        while file.write_all(&[0; 4096]).is_ok() {}
    }
    if !user.is_root() {
        // A process that may do more than others of its user is closed to them: no worker could open the plugin.
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    }
    Ok(folder.to_owned())
}

/// Waits a moment for the processes that are left to end, and says which do not.
fn children() -> Result<(), Verdict> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let start = Instant::now();
    loop {
        let alive = alive().map_err(|_| no_proc())?;
        if alive.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            for (pid, _) in &alive {
                // They are the builder's, and nobody else would end them.
                let _ = kill_process(*pid, Signal::KILL);
            }
            let told: Vec<_> =
                alive.iter().map(|(pid, name)| format!("`{name}` (process {})", pid.as_raw_nonzero())).collect();
            return Err(Verdict::Failed(format!(
                "{} still runs after its work: wait for what you start, or end it",
                told.join(", ")
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn no_proc() -> Verdict {
    Verdict::Skipped("this kernel does not tell which processes there are".to_owned())
}

/// The children of this process that have not ended, with their names.
fn alive() -> io::Result<Vec<(Pid, String)>> {
    let mut alive = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end while one looks.
        let Ok(children) = fs::read_to_string(thread?.path().join("children")) else { continue };
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            // `12 (sleep) S …`, where the name may hold anything.
            let Some((before, after)) = stat.rsplit_once(')') else { continue };
            if !after.trim_start().starts_with(['Z', 'X']) {
                let name = before.split_once('(').map(|(_, name)| name.escape_debug().to_string());
                alive.push((pid, name.unwrap_or_default()));
            }
        }
    }
    // A kernel without such files has no list of them at all.
    fs::read_to_string("/proc/thread-self/children")?;
    Ok(alive)
}
