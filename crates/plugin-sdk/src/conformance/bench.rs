//! Where a builder is put to work: a folder, what it builds of, and what it was seen to do so far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imagespec_core::boundary::{self, BUILD, InvalidRequest};
use imagespec_core::builder::{BuildError, BuildRequest, CachePolicy, FailureKind, Feature, NetworkPolicy, Output};
use imagespec_core::digest::Digest;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::plan::{Base, Plan};
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use imagespec_core::spec::Spec;
use tempfile::TempDir;

use super::material::{self, Material};
use super::subject::{Cancel, Fault, Running, Subject, is_panic, told};

/// The bases that the kit tries, the simplest first.
const BASES: [Feature; 4] =
    [Feature::BaseScratch, Feature::BaseOciLayout, Feature::BaseDockerArchive, Feature::BaseRegistry];

/// The outputs that need nothing but a disk, the one that shows most first.
const OUTPUTS: [Feature; 3] = [Feature::OutputOci, Feature::OutputStore, Feature::OutputDockerArchive];

/// What the names of its folders begin with.
const PREFIX: &str = "imagespec-conformance-";

/// A builder at work.
pub(super) struct Bench {
    pub(super) subject: Subject,
    pub(super) material: Material,
    base: (Feature, Base),
    output: Feature,
    /// What it was seen to have, beside the base.
    pub(super) features: BTreeSet<Feature>,
    /// The digest that [`Bench::full`] has, if it is always the same.
    pub(super) digest: Option<Digest>,
    folder: TempDir,
}

impl Bench {
    /// Lays everything out.
    pub(super) fn new(subject: Subject) -> Result<Self, Fault> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let written = folder.and_then(|folder| Ok((Material::write(folder.path())?, folder)));
        let (material, folder) = written
            .map_err(|error| Fault::Skipped(format!("a folder for temporary files cannot be written: {error}")))?;
        let has = |feature: &&Feature| subject.description.features.contains(feature);
        let base = BASES.iter().filter(has).find_map(|feature| Some((*feature, material.base(*feature)?)));
        let base = base.ok_or_else(|| Fault::Skipped("all its bases need a network".to_owned()))?;
        let output = OUTPUTS.iter().find(has).copied();
        let output = output.ok_or_else(|| Fault::Skipped("all its outputs need a network or an engine".to_owned()))?;
        // What it has is known when it was tried.
        let features = subject.description.features.clone();
        Ok(Self { subject, material, base, output, features, digest: None, folder })
    }

    /// Whether it says that it has `feature`.
    pub(super) fn claims(&self, feature: Feature) -> bool {
        self.subject.description.features.contains(&feature)
    }

    /// The base that everything stands on.
    pub(super) fn base(&self) -> Feature {
        self.base.0
    }

    /// Builds the smallest plan.
    pub(super) fn begins(&self) -> Result<(), Fault> {
        match self.attempt(&self.request(self.smallest(), "smallest"))? {
            Err(error) if self.base.0 == Feature::BaseRegistry && error.kind != FailureKind::Internal => {
                Err(Fault::Skipped(format!("its only base is in a registry, and there is none here: {}", told(&error))))
            }
            answer => answer.map(drop).map_err(|error| refused(&error)),
        }
    }

    /// An image of the simplest base and nothing else.
    pub(super) fn smallest(&self) -> Plan {
        material::plan(self.base.1.clone())
    }

    /// An image with all that the builder was seen to have, but for further bases.
    pub(super) fn full(&self) -> Plan {
        let mut plan = self.smallest();
        for feature in self.features.iter().filter(|feature| **feature != Feature::BaseNested) {
            material::ask(&mut plan, *feature);
        }
        plan
    }

    /// A name of an image that no other examination gives.
    pub(super) fn own_name(&self, name: &str) -> Reference {
        let own = self.folder.path().file_name().and_then(|own| own.to_str()).unwrap_or_default();
        let own = own.trim_start_matches(PREFIX).to_lowercase();
        format!("registry.invalid/conformance/{name}:{own}").parse().expect("it is a name with a tag")
    }

    /// A folder of the builder's own, which need not be there yet.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the image of the request called `name` goes, if that is a layout.
    pub(super) fn layout(&self, name: &str) -> Option<PathBuf> {
        (self.output == Feature::OutputOci).then(|| destination(&self.folder(name)))
    }

    /// A request of `plan`, with an output of its own that is called `name`.
    pub(super) fn request(&self, plan: Plan, name: &str) -> BuildRequest {
        self.request_in(plan, &self.folder("cache"), &self.folder(name))
    }

    /// A request of `plan` with this cache and this folder for what it makes.
    pub(super) fn request_in(&self, plan: Plan, cache: &Path, folder: &Path) -> BuildRequest {
        BuildRequest {
            id: SpecId::of(&Spec::default()),
            spec_hash: SpecHash::of(&plan),
            plan,
            name: "registry.invalid/conformance/image:1".parse().expect("it is a name with a tag"),
            outputs: vec![self.output(self.output, folder).expect("it was chosen because it needs nothing else")],
            files: self.material.files.clone(),
            base_paths: self.material.base_paths.clone(),
            options: BTreeMap::new(),
            secrets: BTreeMap::new(),
            cache: CachePolicy::Use,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            network: NetworkPolicy::Offline,
            cache_dir: cache.to_owned(),
            timestamp: 0,
            registries: BTreeMap::new(),
            ssh_agent: None,
            credential_files: Vec::new(),
        }
    }

    /// The output that a feature stands for, if it needs nothing but a disk.
    pub(super) fn output(&self, feature: Feature, folder: &Path) -> Option<Output> {
        match feature {
            Feature::OutputOci => Some(Output::Oci { dest: destination(folder) }),
            Feature::OutputStore => Some(Output::Store),
            Feature::OutputDockerArchive => Some(Output::DockerArchive { dest: folder.with_extension("tar") }),
            _ => None,
        }
    }

    /// Builds what must go well.
    pub(super) fn build(&self, request: &BuildRequest) -> Result<Report, Fault> {
        self.answer(&json(request)?)?.map_err(|error| refused(&error))
    }

    /// Builds what may go well or not.
    pub(super) fn attempt(&self, request: &BuildRequest) -> Result<Result<Report, BuildError>, Fault> {
        self.answer(&json(request)?)
    }

    /// What it answers to the text of a request.
    pub(super) fn answer(&self, request: &str) -> Result<Result<Report, BuildError>, Fault> {
        let conversation = self.subject.call(BUILD, request)?;
        match conversation.answer {
            Ok(text) => report(&text).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Begins to build.
    pub(super) fn begin(&self, request: &BuildRequest, cancel: Cancel) -> Result<Running, Fault> {
        Ok(self.subject.begin(BUILD, &json(request)?, cancel))
    }

    /// Whether it still builds, after `what`.
    pub(super) fn is_well_after(&self, what: &str) -> Result<(), Fault> {
        let built = self.build(&self.request(self.full(), "after"));
        let report = built.map_err(|fault| fault.when(&format!("{what}, and the next build did not go well")))?;
        self.compare(report.digest, what)
    }

    /// Whether the full image has the digest that it always has, if it should.
    pub(super) fn compare(&self, digest: Digest, what: &str) -> Result<(), Fault> {
        match self.digest {
            Some(always) if always != digest && self.claims(Feature::Reproducible) => {
                Err(Fault::Failed(format!("{what}, and the image was {digest} where it had been {always}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether it says of itself what it said first.
    pub(super) fn is_unchanged(&self) -> Result<(), Fault> {
        self.subject.is_unchanged()
    }
}

fn destination(folder: &Path) -> PathBuf {
    folder.join("layout")
}

/// A report as it must be.
pub(super) fn report(text: &str) -> Result<Report, Fault> {
    boundary::report_from_json(text).map_err(|invalid| {
        let cause = std::error::Error::source(&invalid).map(|source| format!(": {source}")).unwrap_or_default();
        Fault::Failed(format!("{invalid}{cause}"))
    })
}

/// The request as text.
pub(super) fn json(request: &BuildRequest) -> Result<String, Fault> {
    text_of(request.to_json())
}

/// A request that became text.
pub(super) fn text_of(request: Result<String, InvalidRequest>) -> Result<String, Fault> {
    request.map_err(|error| Fault::Skipped(format!("the folder for temporary files has a strange name: {error}")))
}

/// A build that must go well, and did not.
pub(super) fn refused(error: &BuildError) -> Fault {
    let what = if is_panic(error) { "it panicked" } else { "it answered an error" };
    Fault::Failed(format!("{what}: {}", told(error)))
}
