//! A builder of next to nothing, for the tests of the kit: honest, but for one lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use imagespec_core::builder::{BuildError, BuildRequest, Builder, Description, FailureKind, Feature, Output, Session};
use imagespec_core::digest::Digest;
use imagespec_core::event::{Event, Outcome};
use imagespec_core::hash::SpecHash;
use imagespec_core::plan::{CopiedFile, ID_VARIABLE, Step};
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_core::report::{PlatformImage, Report};
use serde_json::{Value, json};

use super::layout::{self, Written};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    DescribesItselfAnew,
    HasAnOptionWithoutType,
    RefusesLabels,
    ForgetsLabels,
    CopiesNothing,
    ForgetsTheId,
    CountsItsBuilds,
    LooksAtTheCacheFolder,
    TellsOfAFinishedStep,
    NeverFinishesAStep,
    BeginsWhatIsCancelled,
    StopsForNobody,
    DoesNotDigest,
    LeavesHalfALayout,
    PanicsOnManyVariables,
    FailsEverAfterManyVariables,
    AnswersWithoutAMessage,
    NeverEnds,
    TakesADiskForABug,
    RendersTheTime,
    RendersNothing,
    RendersWithoutFiles,
    RendersWhatItDoesNotOffer,
    FindsNothing,
    FindsByName,
    FindsWhatGoesElsewhere,
    FindsWhatItDoesNotOffer,
}

/// The builder.
pub(super) struct Tiny {
    lie: Lie,
    /// How often it did what it should not.
    count: AtomicU64,
    /// What it keeps.
    kept: Mutex<BTreeMap<Reference, (SpecHash, Report)>>,
}

impl Tiny {
    pub(super) fn new(lie: Lie) -> Self {
        Self { lie, count: AtomicU64::new(0), kept: Mutex::default() }
    }

    fn config(&self, request: &BuildRequest) -> Value {
        let wanted = &request.plan.config;
        let mut env: Vec<_> = wanted.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if self.lie != Lie::ForgetsTheId {
            env.push(format!("{ID_VARIABLE}={}", request.id));
        }
        if self.lie == Lie::CountsItsBuilds {
            env.insert(0, format!("COUNT={}", self.count.fetch_add(1, Ordering::Relaxed)));
        }
        if self.lie == Lie::LooksAtTheCacheFolder {
            env.insert(0, format!("CACHE={}", request.cache_dir.display()));
        }
        let mut config = json!({"Env": env, "WorkingDir": wanted.workdir});
        if self.lie != Lie::ForgetsLabels {
            config["Labels"] = json!(wanted.labels);
        }
        config
    }

    fn layer(&self, request: &BuildRequest) -> Result<Vec<u8>, BuildError> {
        let broken = |error: &dyn std::error::Error| BuildError::new(FailureKind::Spec, error);
        let mut archive = tar::Builder::new(Vec::new());
        let files = request.plan.steps.iter().flat_map(|step| match step {
            Step::Copy(step) => step.files.iter(),
            _ => unreachable!("it was not offered"),
        });
        for (path, file) in files.filter(|_| self.lie != Lie::CopiesNothing) {
            let mut header = tar::Header::new_ustar();
            let path = format!("root/{path}");
            let content = match file {
                CopiedFile::File { digest, executable, .. } => {
                    let source = request.files.get(digest).ok_or_else(|| failure("a file was not handed over"))?;
                    let content = fs::read(source).map_err(|error| broken(&error))?;
                    if Digest::of(&content) != *digest && self.lie != Lie::DoesNotDigest {
                        return Err(failure("a file was changed"));
                    }
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    content
                }
                CopiedFile::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_link_name(target).map_err(|error| broken(&error))?;
                    Vec::new()
                }
                CopiedFile::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    Vec::new()
                }
            };
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, content.as_slice()).map_err(|error| broken(&error))?;
        }
        archive.into_inner().map_err(|error| broken(&error))
    }

    fn make(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        if self.lie == Lie::RefusesLabels && !request.plan.config.labels.is_empty() {
            return Err(failure("labels cannot be set").hint("leave them out"));
        }
        let is_crowded = request.plan.config.env.len() > 5_000;
        assert!(!(is_crowded && self.lie == Lie::PanicsOnManyVariables), "so many variables");
        if self.lie == Lie::AnswersWithoutAMessage && is_crowded {
            return Err(failure(" "));
        }
        if self.lie == Lie::FailsEverAfterManyVariables {
            self.count.fetch_add(u64::from(is_crowded), Ordering::Relaxed);
            if self.count.load(Ordering::Relaxed) > 0 {
                return Err(failure("there were so many variables"));
            }
        }
        let dest = match request.outputs.as_slice() {
            [Output::Oci { dest }] => dest,
            [Output::Store] => &request.cache_dir.join("store"),
            _ => return Err(failure("one output, please")),
        };
        if self.lie == Lie::LeavesHalfALayout {
            fs::create_dir_all(dest.join("blobs")).map_err(|error| BuildError::new(FailureKind::Machine, &error))?;
        }
        session.event(Event::StepStarted { step: 0, title: "write the image".to_owned() });
        let layers = vec![self.layer(request)?];
        match self.lie {
            Lie::BeginsWhatIsCancelled => {}
            // Whoever waits for it waits in vain.
            Lie::StopsForNobody => {
                while session.is_cancelled() {
                    thread::park();
                }
            }
            _ if session.is_cancelled() => return Err(cancelled()),
            _ => {}
        }
        let image = Written {
            platform: request.plan.platforms.first().expect("a plan has one").clone(),
            config: self.config(request),
            layers,
        };
        let written = layout::write(dest, &[image]);
        let kind = if self.lie == Lie::TakesADiskForABug { FailureKind::Internal } else { FailureKind::Machine };
        let digest = written.map_err(|error| BuildError::new(kind, &error))?;
        let summary = String::new();
        let finished = Event::StepFinished { step: 0, duration_ms: 0, outcome: Outcome::Done, summary };
        if self.lie != Lie::NeverFinishesAStep {
            session.event(finished);
        }
        if self.lie == Lie::TellsOfAFinishedStep {
            session.event(Event::Output { step: 0, line: "and another thing".to_owned() });
        }
        let image = |platform: &Platform| PlatformImage {
            platform: platform.clone(),
            digest,
            config_digest: digest,
            base_digest: None,
            layers: Vec::new(),
        };
        let images = request.plan.platforms.iter().map(image).collect();
        Ok(Report { digest, images, name: None, duration_ms: 0 })
    }
}

impl Builder for Tiny {
    fn describe(&self) -> Description {
        let version = match self.lie {
            Lie::DescribesItselfAnew => format!("1.{}", self.count.fetch_add(1, Ordering::Relaxed)),
            _ => "1".to_owned(),
        };
        let properties = match self.lie {
            Lie::HasAnOptionWithoutType => json!({"jobs": {"description": "how many"}}),
            _ => json!({"jobs": {"type": "integer"}}),
        };
        let mut features = BTreeSet::from([
            Feature::BaseScratch,
            Feature::Env,
            Feature::Labels,
            Feature::Copy,
            Feature::Reproducible,
            Feature::OutputStore,
            Feature::OutputOci,
        ]);
        if self.lie != Lie::FindsWhatItDoesNotOffer {
            features.insert(Feature::Find);
        }
        if self.lie != Lie::RendersWhatItDoesNotOffer {
            features.insert(Feature::Render);
        }
        Description {
            name: "tiny".to_owned(),
            version,
            summary: "of next to nothing".to_owned(),
            features,
            options_schema: json!({"type": "object", "properties": properties, "additionalProperties": false}),
        }
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        if self.lie == Lie::NeverEnds {
            loop {
                thread::park();
            }
        }
        match session.is_cancelled() && self.lie != Lie::BeginsWhatIsCancelled {
            true => Err(cancelled()),
            false => {
                let report = self.make(request, session)?;
                let mut kept = self.kept.lock().expect("nobody panics while it is held");
                if request.outputs == [Output::Store] {
                    kept.insert(request.name.clone(), (request.spec_hash.clone(), report.clone()));
                }
                Ok(report)
            }
        }
    }

    fn find(&self, request: &BuildRequest, _: &dyn Session) -> Result<Option<Report>, BuildError> {
        let stays = request.outputs == [Output::Store] || self.lie == Lie::FindsWhatGoesElsewhere;
        let kept = self.kept.lock().expect("nobody panics while it is held");
        let found = kept.get(&request.name).filter(|_| stays && self.lie != Lie::FindsNothing);
        let found = found.filter(|(hash, _)| *hash == request.spec_hash || self.lie == Lie::FindsByName);
        match (found, self.lie) {
            (None, Lie::FindsWhatItDoesNotOffer) => {
                let name = Some(request.name.clone());
                Ok(Some(Report { digest: Digest::of(b""), images: Vec::new(), name, duration_ms: 0 }))
            }
            (found, _) => Ok(found.map(|(_, report)| report.clone())),
        }
    }

    fn render(&self, request: &BuildRequest, folder: Option<&Path>, _: &dyn Session) -> Result<String, BuildError> {
        let count = if self.lie == Lie::RendersTheTime { self.count.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let text = match self.lie {
            Lie::RendersNothing => String::new(),
            _ => format!(
                "an image of {} and {} variables\n",
                request.spec_hash,
                request.plan.config.env.len() as u64 + count
            ),
        };
        if let Some(folder) = folder {
            let broken = |error| BuildError::new(FailureKind::Machine, &error);
            fs::write(folder.join("recipe"), &text).map_err(broken)?;
            if self.lie != Lie::RendersWithoutFiles {
                fs::write(folder.join("files.tar"), self.layer(request)?).map_err(broken)?;
            }
        }
        Ok(text)
    }
}

fn cancelled() -> BuildError {
    BuildError { kind: FailureKind::Cancelled, ..failure("the build was cancelled") }
}

fn failure(message: &str) -> BuildError {
    BuildError {
        kind: FailureKind::Spec,
        message: message.to_owned(),
        causes: Vec::new(),
        hints: Vec::new(),
        field: None,
    }
}
