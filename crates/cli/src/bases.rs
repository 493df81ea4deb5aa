//! Bases that the chosen builder cannot make: another builder makes such a base alone, as an OCI layout, and the chosen
//! one stands on it. The image stays the one that was asked for, with its own id, hash and name.
//!
//! What differs from an image whose builder made the base, too: the base is an image by itself, with an id, labels, a
//! working directory and a line of history of its own. Id, labels and working directory are set anew by what stands on
//! it, as they are on any base that imagespec made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use imagespec_core::builder::{BuildRequest, Builder, Description, Feature, Output, Session, Unsupported};
use imagespec_core::digest::Digest;
use imagespec_core::event::Event;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::lock::LockedImage;
use imagespec_core::plan::{Base, FILES_ROOT, ImageConfig, Plan};
use imagespec_core::platform::Platform;
use imagespec_core::spec::Spec;
use imagespec_plugin_host::Origin;
use serde_json::Value;

use crate::commands::build::told;
use crate::commands::plan::base_name;
use crate::failure::Failure;
use crate::local::{self, Workspace};
use crate::options;
use crate::prepare::{Prepared, Surroundings};

/// A base that another builder makes for the chosen one.
pub(crate) struct ForeignBase {
    maker: Box<dyn Builder>,
    /// What the maker says of itself.
    description: Description,
    /// The base and nothing else.
    plan: Plan,
}

/// A base that was made. It is there for as long as this lives.
pub(crate) struct MadeBase {
    digest: Digest,
    folder: PathBuf,
    _workspace: Workspace,
}

/// Compares what the builder of `description` can do with `plan`, and finds another builder for its base where that is
/// all that it lacks.
///
/// # Errors
/// What it cannot do, whoever makes the base.
pub(crate) fn check(
    surroundings: &Surroundings,
    description: &Description,
    plan: &Plan,
) -> Result<Option<ForeignBase>, Vec<Unsupported>> {
    let Err(unsupported) = description.check(plan) else { return Ok(None) };
    let alone = alone(innermost(plan));
    let lacks_base = alone.required_features().iter().any(|(feature, _)| {
        // The plan has nothing else that one could lack, but for platforms and the lock, which `plan` has as well.
        !description.features.contains(feature) && !matches!(feature, Feature::MultiplePlatforms | Feature::Lock)
    });
    if !lacks_base || !description.features.contains(&Feature::BaseOciLayout) {
        return Err(unsupported);
    }
    let rest = description.check(&standing_on(plan, Digest::of(b"a base that is not made yet")));
    match (rest, find(surroundings, &alone, &description.name)) {
        (Ok(()), Some((maker, description))) => Ok(Some(ForeignBase { maker, description, plan: alone })),
        // The base is what another builder could do.
        (Err(rest), Some(_)) => Err(rest),
        (_, None) => Err(unsupported),
    }
}

/// A builder other than `not` that makes layouts of `plan`: bundled ones first, which need nothing but this program.
fn find(surroundings: &Surroundings, plan: &Plan, not: &str) -> Option<(Box<dyn Builder>, Description)> {
    let catalog = surroundings.catalog().ok()?;
    let mut candidates = catalog.candidates();
    candidates.retain(|candidate| candidate.problem.is_none() && candidate.name != not);
    // Among those, the one that keeps what it makes on this machine: another one may need an engine for it.
    candidates.sort_by_key(|candidate| (candidate.origin != Origin::Bundled, !local::keeps(&candidate.name)));
    let opened = candidates.into_iter().filter_map(|candidate| catalog.open(candidate).ok());
    let described = opened.map(|builder| {
        let description = builder.describe();
        (builder, description)
    });
    let mut able = described.filter(|(_, description)| {
        description.features.contains(&Feature::OutputOci) && description.check(plan).is_ok()
    });
    able.next()
}

impl ForeignBase {
    /// Who makes what, for people.
    pub(crate) fn notice(&self) -> String {
        format!("base {} is made by builder {}", base_name(&self.plan.base), self.description.name)
    }

    /// The maker's options, which the spec does not set.
    ///
    /// # Errors
    /// Those that are wrong.
    pub(crate) fn options(&self, surroundings: &Surroundings) -> Result<BTreeMap<String, Value>, Failure> {
        options::of_files(&self.description, surroundings)
    }

    /// Has it made for `request`, which is of `prepared`.
    pub(crate) fn make(
        &self,
        surroundings: &Surroundings,
        prepared: &Prepared,
        request: &BuildRequest,
        session: &dyn Session,
    ) -> Result<MadeBase, Failure> {
        let workspace = local::workspace()?;
        let folder = workspace.path().join("base");
        let spec_hash = SpecHash::of(&self.plan);
        let name = format!("imagespec-base:{spec_hash}").parse().expect("it is a name with a tag");
        let request = BuildRequest {
            plan: self.plan.clone(),
            // It is declared by nobody, and the same base is the same image, whatever comes to stand on it.
            id: SpecId::of(&Spec::default()),
            spec_hash,
            name,
            outputs: vec![Output::Oci { dest: folder.clone() }],
            files: BTreeMap::new(),
            options: self.options(surroundings)?,
            secrets: BTreeMap::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            ssh_agent: None,
            ..request.clone()
        };
        let report = self.maker.build(&request, session).map_err(|error| told(error, prepared))?;
        Ok(MadeBase { digest: report.digest, folder, _workspace: workspace })
    }
}

impl MadeBase {
    /// Has `request` stand on it.
    pub(crate) fn lend(&self, request: &mut BuildRequest) {
        request.plan = standing_on(&request.plan, self.digest);
        request.base_paths.insert(self.digest, self.folder.clone());
    }
}

/// The plan at the bottom.
fn innermost(plan: &Plan) -> &Plan {
    match &plan.base {
        Base::Plan(nested) => innermost(nested),
        _ => plan,
    }
}

/// The base of `plan` and nothing else, with what is locked of it.
fn alone(plan: &Plan) -> Plan {
    let of_base = |image: &LockedImage| LockedImage { base: image.base.clone(), ..LockedImage::default() };
    Plan {
        platforms: plan.platforms.clone(),
        base: plan.base.clone(),
        steps: Vec::new(),
        config: ImageConfig { workdir: FILES_ROOT.to_owned(), ..ImageConfig::default() },
        lock: map_lock(plan, of_base),
    }
}

/// `plan`, with the layout of this digest at the bottom.
fn standing_on(plan: &Plan, digest: Digest) -> Plan {
    if let Base::Plan(nested) = &plan.base {
        return Plan { base: Base::Plan(Box::new(standing_on(nested, digest))), ..plan.clone() };
    }
    // A digest says exactly what it is.
    let without_base = |image: &LockedImage| LockedImage { base: None, ..image.clone() };
    Plan { base: Base::OciLayout { digest }, lock: map_lock(plan, without_base), ..plan.clone() }
}

fn map_lock(plan: &Plan, change: impl Fn(&LockedImage) -> LockedImage) -> BTreeMap<Platform, LockedImage> {
    plan.lock.iter().map(|(platform, image)| (platform.clone(), change(image))).collect()
}

/// A session for several builds, one after the other, so that no two steps have the same number.
pub(crate) struct InTurn<'a> {
    session: &'a dyn Session,
    /// The number of the first step of the build that runs.
    first: AtomicU32,
    /// The number after the highest one so far.
    next: AtomicU32,
}

impl<'a> InTurn<'a> {
    pub(crate) fn new(session: &'a dyn Session) -> Self {
        Self { session, first: AtomicU32::new(0), next: AtomicU32::new(0) }
    }

    /// Another build begins.
    pub(crate) fn next(&self) {
        self.first.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn number(&self, step: u32) -> u32 {
        let step = step.saturating_add(self.first.load(Ordering::Relaxed));
        self.next.fetch_max(step.saturating_add(1), Ordering::Relaxed);
        step
    }
}

impl Session for InTurn<'_> {
    fn event(&self, mut event: Event) {
        match &mut event {
            Event::StepStarted { step, .. }
            | Event::StepProgress { step, .. }
            | Event::StepFinished { step, .. }
            | Event::Output { step, .. } => *step = self.number(*step),
            Event::Notice { .. } | Event::Warning { .. } => {}
        }
        self.session.event(event);
    }

    fn is_cancelled(&self) -> bool {
        self.session.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn plan(base: &str) -> Plan {
        let text = format!(
            r#"{{"version":1,"platforms":["linux/amd64"],"base":{base},"steps":[],"config":{{"workdir":"/srv"}}}}"#
        );
        Plan::from_json(&text).unwrap()
    }

    #[test]
    fn the_base_at_the_bottom_is_exchanged_and_nothing_else() {
        let inner = plan(r#"{"kind":"scratch"}"#);
        let outer = Plan { base: Base::Plan(Box::new(inner.clone())), ..inner.clone() };
        let digest = Digest::of(b"x");
        let standing = standing_on(&outer, digest);
        let Base::Plan(nested) = &standing.base else { panic!("{standing:?}") };
        assert_eq!(nested.base, Base::OciLayout { digest });
        assert_eq!(Plan { base: Base::Scratch, ..*nested.clone() }, inner);
        let alone = alone(innermost(&outer));
        assert_eq!((alone.base, alone.config.workdir.as_str()), (Base::Scratch, "/root"));
    }

    #[test]
    fn what_is_locked_goes_with_the_base_or_stays() {
        let digest = Digest::of(b"x");
        let base = imagespec_core::lock::LockedBase::Registry { digest };
        let image = LockedImage { base: Some(base), python: Some("3.11.2".to_owned()), ..LockedImage::default() };
        let locked = Plan { lock: [(Platform::linux_amd64(), image.clone())].into(), ..plan(r#"{"kind":"scratch"}"#) };
        let alone = &alone(&locked).lock[&Platform::linux_amd64()];
        assert_eq!((&alone.base, &alone.python), (&image.base, &None));
        let standing = &standing_on(&locked, digest).lock[&Platform::linux_amd64()];
        assert_eq!((&standing.base, &standing.python), (&None, &image.python));
    }

    struct Numbers(Mutex<Vec<u32>>);

    impl Session for Numbers {
        fn event(&self, event: Event) {
            if let Event::StepStarted { step, .. } = event {
                self.0.lock().unwrap().push(step);
            }
        }

        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn steps_of_two_builds_have_numbers_of_their_own() {
        let numbers = Numbers(Mutex::default());
        let session = InTurn::new(&numbers);
        let start = |step| session.event(Event::StepStarted { step, title: String::new() });
        start(1);
        start(0);
        session.next();
        start(0);
        start(1);
        assert_eq!(*numbers.0.lock().unwrap(), [1, 0, 2, 3]);
    }
}
