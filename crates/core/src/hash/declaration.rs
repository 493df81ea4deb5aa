//! What of a spec counts for its id. Pure: no file is read, so only paths stand here, and only relative ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Serialize;

use crate::conda::local_channel;
use crate::place::Located;
use crate::requirements::normal_text;
use crate::spec::{BaseImage, SourceCopyMode, Spec};

/// The hashed fields of a spec, in their normal form. A field that was left out is left out here.
#[derive(Serialize, Default)]
pub(super) struct Declaration {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    apt_packages: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_image: Option<DeclaredBase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commands: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conda_channels: Vec<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    conda_packages: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    copy: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cudnn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    packages: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pip_extra_args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pip_extra_index_url: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pip_index: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    platform: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_exec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requirements: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    runtime_packages: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_copy_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum DeclaredBase {
    Scratch,
    Registry { reference: String },
    OciLayout { path: String },
    DockerArchive { path: String },
    Bootstrap { suite: String },
    SpecFile { path: String },
    Spec { spec: Box<Declaration> },
}

impl From<&Spec> for Declaration {
    fn from(spec: &Spec) -> Self {
        Self {
            apt_packages: set(&spec.apt_packages),
            base_image: spec.base_image.as_ref().map(|base| DeclaredBase::from(&base.value)),
            cmd: value(spec.cmd.as_ref()),
            commands: list(&spec.commands),
            conda_channels: spec.conda_channels.iter().map(|channel| channel_text(&channel.value)).collect(),
            conda_packages: set(&spec.conda_packages),
            copy: spec.copy.iter().map(|entry| portable(&entry.value.folder.join(&entry.value.path))).collect(),
            cuda: value(spec.cuda.as_ref()),
            cudnn: value(spec.cudnn.as_ref()),
            entrypoint: value(spec.entrypoint.as_ref()),
            env: map(&spec.env),
            labels: map(&spec.labels),
            packages: spec.packages.iter().map(|package| normal_text(&package.value)).collect(),
            pip_extra_args: list(&spec.pip_extra_args),
            pip_extra_index_url: list(&spec.pip_extra_index_url),
            pip_index: value(spec.pip_index.as_ref()),
            platform: spec.platform.iter().map(|platform| platform.value.to_string()).collect(),
            python_exec: value(spec.python_exec.as_ref()),
            python_version: value(spec.python_version.as_ref()),
            requirements: spec.requirements.as_ref().map(|path| portable(&path.value)),
            runtime_packages: spec.runtime_packages.iter().map(|package| normal_text(&package.value)).collect(),
            source_copy_mode: spec.source_copy_mode.as_ref().map(|mode| match mode.value {
                SourceCopyMode::None => "none",
                SourceCopyMode::Auto => "auto",
                SourceCopyMode::All => "all",
            }),
            source_root: spec.source_root.as_ref().map(|path| portable(&path.value)),
            user: value(spec.user.as_ref()),
            workdir: value(spec.workdir.as_ref()),
        }
    }
}

impl From<&BaseImage> for DeclaredBase {
    fn from(base: &BaseImage) -> Self {
        match base {
            BaseImage::Scratch => Self::Scratch,
            BaseImage::Registry(reference) => Self::Registry { reference: reference.to_string() },
            BaseImage::OciLayout(path) => Self::OciLayout { path: portable(path) },
            BaseImage::DockerArchive(path) => Self::DockerArchive { path: portable(path) },
            BaseImage::Bootstrap { suite } => Self::Bootstrap { suite: suite.clone() },
            BaseImage::SpecFile(path) => Self::SpecFile { path: portable(path) },
            BaseImage::Spec(spec) => Self::Spec { spec: Box::new(Declaration::from(spec.as_ref())) },
        }
    }
}

/// A channel, without the folders of this machine that it lies in.
fn channel_text(channel: &str) -> String {
    local_channel(channel).map_or_else(|| channel.to_owned(), |path| format!("file:{}", portable(&path)))
}

/// A path without `.` and doubled separators. Of an absolute one only the last component counts, because the rest says
/// where things lie on one machine.
fn portable(path: &Path) -> String {
    if path.is_absolute() {
        return path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    let components: Vec<_> = path
        .components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .collect();
    components.join("/")
}

fn value<T: Clone>(field: Option<&Located<T>>) -> Option<T> {
    field.map(|located| located.value.clone())
}

fn list(field: &[Located<String>]) -> Vec<String> {
    field.iter().map(|located| located.value.clone()).collect()
}

fn set(field: &[Located<String>]) -> BTreeSet<String> {
    field.iter().map(|located| located.value.clone()).collect()
}

fn map(field: &BTreeMap<String, Located<String>>) -> BTreeMap<String, String> {
    field.iter().map(|(key, located)| (key.clone(), located.value.clone())).collect()
}
