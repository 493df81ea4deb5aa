//! The build for one platform: a daemon that runs it, a place in that one's queue, and another daemon if it is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use imagespec_buildkit::base::LentBase;
use imagespec_buildkit::{Recipe, Session, Solve, SolveError, Solved, stream};
use imagespec_core::builder::{Feature, NetworkPolicy, RegistryAccess};
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::plan::Plan;
use imagespec_core::platform::Platform;
use imagespec_layout::Saved;
use tokio::runtime::Runtime;

use crate::builder::{Building, Failure};
use crate::daemon::{ConnectError, Daemon, until_cancelled};
use crate::endpoint::Endpoint;
use crate::fleet::{self, Health, Slot};

/// The build for one platform.
pub(crate) struct Job<'a> {
    pub(crate) building: &'a Building<'a>,
    pub(crate) recipe: &'a Recipe,
    pub(crate) platform: &'a Platform,
    /// Whether the image comes back instead of being pushed by the daemon.
    pub(crate) is_handed_over: bool,
}

/// What it came to.
pub(crate) struct Made {
    pub(crate) platform: Platform,
    pub(crate) solved: Solved,
    pub(crate) image: MadeImage,
}

/// Where the image is.
pub(crate) enum MadeImage {
    /// In the registry, under its digest alone.
    Pushed(Digest),
    /// Here.
    Saved(Saved),
}

/// A daemon with room for this build.
struct Chosen {
    daemon: Daemon,
    place: usize,
    _slot: Slot,
}

impl Job<'_> {
    /// Builds, a second time elsewhere if the daemon is lost.
    pub(crate) fn run(&self) -> Result<Made, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
        let made = self.run_on(&runtime);
        // Whoever reads a name or a file for somebody who hung up ends by itself, and is not waited for.
        runtime.shutdown_background();
        made
    }

    fn run_on(&self, runtime: &Runtime) -> Result<Made, Failure> {
        let mut lost: Option<(usize, SolveError)> = None;
        loop {
            let chosen = match (self.choose(runtime, lost.as_ref().map(|(place, _)| *place)), lost.take()) {
                (Ok(chosen), before) => {
                    lost = before;
                    chosen
                }
                // What was lost is told, and not that there is nobody else.
                (Err(failure), Some((place, source))) if !matches!(failure, Failure::Cancelled) => {
                    return Err(self.lost(place, source, false));
                }
                (Err(failure), _) => return Err(failure),
            };
            match self.solve(runtime, &chosen) {
                Err(Failure::Solve(source @ SolveError::Connection(_))) => {
                    self.note(chosen.place, Health::note_failure);
                    if lost.is_some() {
                        return Err(self.lost(chosen.place, source, true));
                    }
                    let address = &self.endpoints()[chosen.place].address;
                    if self.endpoints().len() > 1 {
                        self.building.progress.warn(format!("`{address}` was lost: the build goes on elsewhere"));
                    }
                    lost = Some((chosen.place, source));
                }
                result => return result,
            }
        }
    }

    /// Finds a daemon that runs the platform, and waits until it has room. One that only emulates it will do where there is no
    /// other.
    fn choose(&self, runtime: &Runtime, lost: Option<usize>) -> Result<Chosen, Failure> {
        let mut passed: BTreeMap<usize, ConnectError> = BTreeMap::new();
        let mut offers: BTreeMap<usize, Vec<Platform>> = BTreeMap::new();
        while let Some((place, slot)) = self.queue(|place| {
            let endpoint = &self.endpoints()[place];
            let is_fit = endpoint.platforms.is_empty() || endpoint.platforms.contains(self.platform);
            is_fit && lost != Some(place) && !passed.contains_key(&place) && !offers.contains_key(&place)
        })? {
            match self.connect(runtime, place) {
                Ok(daemon) if self.is_native(place, &daemon) => return Ok(Chosen { daemon, place, _slot: slot }),
                Ok(daemon) => drop(offers.insert(place, daemon.about.platforms)),
                Err(ConnectError::Cancelled) => return Err(Failure::Cancelled),
                Err(error) => drop(passed.insert(place, error)),
            }
        }
        // Where nothing runs, any will do.
        let will_do = |offered: &Vec<Platform>| offered.contains(self.platform) || !runs_programs(self.plan());
        let emulates = |place: usize| offers.get(&place).is_some_and(will_do);
        if let Some((place, slot)) = self.queue(emulates)? {
            let address = &self.endpoints()[place].address;
            if runs_programs(self.plan()) {
                self.building
                    .progress
                    .warn(format!("no daemon runs {} natively: `{address}` emulates it", self.platform));
            }
            let daemon = self.connect(runtime, place).map_err(|source| self.unreachable(place, source))?;
            return Ok(Chosen { daemon, place, _slot: slot });
        }
        if offers.is_empty() && !passed.is_empty() {
            let named = |(place, error): (usize, ConnectError)| (self.endpoints()[place].address.clone(), error);
            let mut passed: Vec<_> = passed.into_iter().map(named).collect();
            return Err(match passed.pop() {
                Some((address, source)) if passed.is_empty() => Failure::Unreachable { address, source },
                last => Failure::AllUnreachable(passed.into_iter().chain(last).collect()),
            });
        }
        Err(self.no_platform(&offers))
    }

    /// A place at the daemon that is best for this build among those that `is_open` to it, once it has room.
    fn queue(&self, is_open: impl Fn(usize) -> bool) -> Result<Option<(usize, Slot)>, Failure> {
        let request = self.building.request;
        let open: Vec<usize> = (0..self.endpoints().len()).filter(|place| is_open(*place)).collect();
        let members: Vec<_> = open
            .iter()
            .map(|place| {
                let Endpoint { address, weight, in_flight, .. } = &self.endpoints()[*place];
                fleet::Endpoint { address, weight: *weight, in_flight: *in_flight }
            })
            .collect();
        let key = fleet::affinity(self.plan(), self.platform);
        let failed = |source| {
            let folder = request.cache_dir.join("builders/remote").display().to_string();
            Failure::Queue { folder, source }
        };
        let queued = fleet::queue(&request.cache_dir, &key, &members, now());
        let Some((chosen, ticket)) = queued.map_err(failed)? else { return Ok(None) };
        let place = open[chosen];
        let address = &self.endpoints()[place].address;
        let cancelled = || self.building.progress.is_cancelled();
        let mut waiting = |position: usize| {
            let told = format!("waiting for `{address}`: place {position} in the queue");
            self.building.progress.notice(told);
        };
        let slot = ticket.wait(&cancelled, &mut waiting).map_err(failed)?.ok_or(Failure::Cancelled)?;
        Ok(Some((place, slot)))
    }

    fn connect(&self, runtime: &Runtime, place: usize) -> Result<Daemon, ConnectError> {
        let endpoint = &self.endpoints()[place];
        let step = self.building.progress.begin(&format!("connect to {}", endpoint.address));
        let connected = runtime.block_on(until_cancelled(self.building.progress, Daemon::connect(endpoint)));
        match connected.unwrap_or(Err(ConnectError::Cancelled)) {
            Ok(daemon) => {
                self.note(place, |folder, _| Health::note_success(folder));
                step.finish(Outcome::Done, daemon.about.version.clone().unwrap_or_default());
                Ok(daemon)
            }
            Err(error) => {
                self.note(place, Health::note_failure);
                if self.endpoints().len() > 1 {
                    self.building.progress.warn(format!("`{}` is passed over: {}", endpoint.address, told(&error)));
                }
                Err(error)
            }
        }
    }

    fn solve(&self, runtime: &Runtime, chosen: &Chosen) -> Result<Made, Failure> {
        let Building { request, progress, credentials, .. } = self.building;
        let mut session = Session::new(self.recipe, request, Arc::clone(credentials));
        let mut attributes = BTreeMap::new();
        if let Some(LentBase { attribute: (name, value), blobs, .. }) = &self.building.lent {
            attributes.insert(name.clone(), value.clone());
            session = session.with_blobs(blobs.clone());
        }
        if request.network == NetworkPolicy::Offline {
            attributes.insert("force-network-mode".to_owned(), "none".to_owned());
            attributes.insert("image-resolve-mode".to_owned(), "local".to_owned());
        }
        let wanted = |exporter| Solve {
            recipe: self.recipe,
            platforms: vec![self.platform.clone()],
            exporter,
            cache_from: request.cache_from.clone(),
            cache_to: request.cache_to.clone(),
            cache: request.cache,
            timestamp: request.timestamp,
            attributes: attributes.clone(),
        };
        let solve = |session: &Session, wanted: &Solve<'_>| {
            let solving = chosen.daemon.solve(session, wanted, progress);
            runtime.block_on(until_cancelled(progress, solving)).unwrap_or(Err(SolveError::Cancelled))
        };
        let platform = self.platform.clone();
        if !self.is_handed_over {
            let solved = solve(&session, &wanted(("image", self.pushed())))?;
            let digest = solved.exporter.get("containerimage.digest").and_then(|digest| digest.parse().ok());
            let address = self.endpoints()[chosen.place].address.clone();
            let digest = digest.ok_or(Failure::NoDigest { address })?;
            return Ok(Made { platform, solved, image: MadeImage::Pushed(digest) });
        }
        let (feeder, reader) = stream::pipe();
        let session = session.receiving(feeder.clone());
        let folder = request.cache_dir.join("tmp");
        let is_given_up = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&is_given_up);
        let unpacking = thread::spawn(move || Saved::unpack(reader, &folder, &flag));
        let exporter = BTreeMap::from([("oci-mediatypes".to_owned(), "true".to_owned())]);
        let solved = solve(&session, &wanted(("oci", exporter)));
        if solved.is_err() {
            is_given_up.store(true, Ordering::Relaxed);
        }
        // Nothing comes any more, and what holds the other end may not know yet.
        feeder.close();
        // It is waited for in any case, so that it leaves nothing behind.
        let saved = unpacking.join().expect("no panic leaves it");
        Ok(Made { platform, solved: solved?, image: MadeImage::Saved(saved?) })
    }

    /// How the daemon pushes: by digest, without a name. The name is given when all platforms are there, and by this machine
    /// alone: a build that was lost and done again elsewhere never gives it twice.
    fn pushed(&self) -> BTreeMap<String, String> {
        let name = &self.building.request.name;
        let access = self.building.request.registries.get(name.registry());
        let is_insecure = access.is_some_and(|RegistryAccess { insecure, .. }| *insecure);
        let mut attributes = BTreeMap::from(
            [
                ("name", format!("{}/{}", name.registry(), name.repository()).as_str()),
                ("push", "true"),
                ("push-by-digest", "true"),
                ("name-canonical", "true"),
                ("oci-mediatypes", "true"),
                ("store", "false"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if is_insecure {
            attributes.insert("registry.insecure".to_owned(), "true".to_owned());
        }
        attributes
    }

    fn plan(&self) -> &Plan {
        &self.building.request.plan
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.building.options.endpoints
    }

    /// Whether programs of the platform run there as they are.
    fn is_native(&self, place: usize, daemon: &Daemon) -> bool {
        let said = &self.endpoints()[place].platforms;
        // What the user says of it counts more.
        said.contains(self.platform) || (said.is_empty() && daemon.about.platforms.first() == Some(self.platform))
    }

    /// Notes in the daemon's folder how it fared. A note that cannot be written costs the next build a moment.
    fn note(&self, place: usize, write: impl Fn(&std::path::Path, u64) -> std::io::Result<()>) {
        let folder = fleet::folder(&self.building.request.cache_dir, &self.endpoints()[place].address);
        if let Err(error) = write(&folder, now()) {
            tracing::debug!(%error, folder = %folder.display(), "how a daemon fared is not noted");
        }
    }

    fn unreachable(&self, place: usize, source: ConnectError) -> Failure {
        Failure::Unreachable { address: self.endpoints()[place].address.clone(), source }
    }

    fn lost(&self, place: usize, source: SolveError, has_failed_over: bool) -> Failure {
        Failure::Lost { address: self.endpoints()[place].address.clone(), source, has_failed_over }
    }

    fn no_platform(&self, offers: &BTreeMap<usize, Vec<Platform>>) -> Failure {
        let told = self.endpoints().iter().enumerate().map(|(place, endpoint)| {
            let platforms = offers.get(&place).unwrap_or(&endpoint.platforms);
            let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            format!("`{}` builds for {}", endpoint.address, names.join(", "))
        });
        Failure::NoPlatform { wanted: self.platform.clone(), offered: told.collect::<Vec<_>>().join("; ") }
    }
}

/// Whether programs of the image run while it is built.
fn runs_programs(plan: &Plan) -> bool {
    let needs = plan.required_features();
    needs.iter().any(|(feature, _)| {
        use Feature::{Apt, Conda, Pip, Python, PythonExecutable, Run};
        matches!(feature, Apt | Conda | Pip | Python | PythonExecutable | Run)
    })
}

/// An error with what it came from, on one line.
pub(crate) fn told(error: &ConnectError) -> String {
    let errors = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
