//! What the checks build of: bases, files and plans, all of them tiny and made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::builder::Feature;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{Base, CopiedFile, CopyStep, FILES_ROOT, ImageConfig, Plan, Step};
use imagespec_core::platform::Platform;
use serde_json::json;

use super::layout::{self, Written};

/// What the copied files are called in the image, beneath [`FILES_ROOT`], and what is in them.
pub(super) const FILES: [(&str, &str); 2] =
    [("conformance/data.txt", "a line\nand another\n"), ("conformance/run.sh", "#!/bin/sh\necho it runs\n")];
/// A link among them, and where it points.
pub(super) const LINK: (&str, &str) = ("conformance/link", "data.txt");
/// An empty folder among them.
pub(super) const DIRECTORY: &str = "conformance/empty";
/// Variables; one has what a careless shell or list would take apart.
pub(super) const ENV: [(&str, &str); 2] =
    [("CONFORMANCE", "a \"quoted\" value, $HOME and 100 %"), ("CONFORMANCE_EMPTY", "")];
/// Labels.
pub(super) const LABELS: [(&str, &str); 1] = [("org.example.conformance", "a label = a value")];
/// User.
pub(super) const USER: &str = "1000:1000";
/// Working directory.
pub(super) const WORKDIR: &str = "/srv/conformance";
/// Entry point.
pub(super) const ENTRYPOINT: [&str; 2] = ["/root/conformance/run.sh", "--an argument"];
/// Arguments.
pub(super) const CMD: [&str; 2] = ["one", "two words"];
/// A variable of the base.
pub(super) const BASE_ENV: &str = "CONFORMANCE_BASE=1";

/// Bases and files that lie in a folder.
pub(super) struct Material {
    /// Where the files are, by digest.
    pub(super) files: BTreeMap<Digest, PathBuf>,
    /// Where the bases are, by digest.
    pub(super) base_paths: BTreeMap<Digest, PathBuf>,
    layout: Digest,
    archive: Digest,
}

/// The platform of this machine, or the usual one.
pub(super) fn platform() -> Platform {
    Platform::of_machine(std::env::consts::ARCH).unwrap_or_else(|_| Platform::linux_amd64())
}

/// Another platform than this machine's.
fn other_platform() -> Platform {
    let name = if platform() == Platform::linux_amd64() { "linux/arm64" } else { "linux/amd64" };
    name.parse().expect("both are platforms")
}

impl Material {
    /// Writes everything to `folder`.
    pub(super) fn write(folder: &Path) -> io::Result<Self> {
        let files = folder.join("files");
        fs::create_dir_all(&files)?;
        let mut paths = BTreeMap::new();
        for (number, (_, content)) in FILES.iter().enumerate() {
            let path = files.join(number.to_string());
            fs::write(&path, content)?;
            paths.insert(Digest::of(content.as_bytes()), path);
        }
        let image = |platform| {
            let mut archive = tar::Builder::new(Vec::new());
            layout::append(&mut archive, "etc/conformance", b"a file of the base\n")?;
            let config = json!({"Env": [BASE_ENV]});
            io::Result::Ok(Written { platform, config, layers: vec![archive.into_inner()?] })
        };
        let (oci, docker) = (folder.join("base"), folder.join("base.tar"));
        let archive = layout::write_docker_archive(&docker, &image(platform())?)?;
        let layout = layout::write(&oci, &[image(platform())?, image(other_platform())?])?;
        Ok(Self { files: paths, base_paths: BTreeMap::from([(layout, oci), (archive, docker)]), layout, archive })
    }

    /// The base that a feature stands for, if nothing must be fetched for it.
    pub(super) fn base(&self, feature: Feature) -> Option<Base> {
        match feature {
            Feature::BaseScratch => Some(Base::Scratch),
            Feature::BaseOciLayout => Some(Base::OciLayout { digest: self.layout }),
            Feature::BaseDockerArchive => Some(Base::DockerArchive { digest: self.archive }),
            // Nobody has it. A builder that answers of what it is told does without; any other says that it is not there.
            Feature::BaseRegistry => {
                let name = format!("registry.invalid/conformance/base@{}", Digest::of(b"conformance"));
                Some(Base::Registry(name.parse().expect("it is a name with a digest")))
            }
            _ => None,
        }
    }
}

/// An image of `base` and nothing else.
pub(super) fn plan(base: Base) -> Plan {
    Plan {
        platforms: BTreeSet::from([platform()]),
        base,
        steps: Vec::new(),
        config: ImageConfig { workdir: FILES_ROOT.to_owned(), ..ImageConfig::default() },
        lock: BTreeMap::new(),
    }
}

/// Asks for `feature` in `plan`, if that takes neither a network nor programs in the base. Returns whether it does.
pub(super) fn ask(plan: &mut Plan, feature: Feature) -> bool {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let config = &mut plan.config;
    match feature {
        Feature::MultiplePlatforms => drop(plan.platforms.insert(other_platform())),
        Feature::BaseNested => plan.base = Base::Plan(Box::new(plan.clone())),
        Feature::Copy => plan.steps.push(copy()),
        Feature::Env => config.env.extend(pairs(&ENV)),
        Feature::Labels => config.labels.extend(pairs(&LABELS)),
        Feature::User => config.user = Some(USER.to_owned()),
        Feature::Workdir => config.workdir = WORKDIR.to_owned(),
        Feature::Entrypoint => config.entrypoint = Some(texts(&ENTRYPOINT)),
        Feature::Cmd => config.cmd = Some(texts(&CMD)),
        _ => return false,
    }
    true
}

fn copy() -> Step {
    let file = |content: &str, executable| CopiedFile::File {
        digest: Digest::of(content.as_bytes()),
        size_bytes: content.len() as u64,
        executable,
    };
    let mut files: BTreeMap<String, CopiedFile> =
        FILES.iter().map(|(path, content)| ((*path).to_owned(), file(content, path.ends_with(".sh")))).collect();
    files.insert(LINK.0.to_owned(), CopiedFile::Link { target: LINK.1.to_owned() });
    files.insert(DIRECTORY.to_owned(), CopiedFile::Directory);
    Step::Copy(CopyStep { files })
}
