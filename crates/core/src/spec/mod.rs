//! What the user wrote, every value with its line and column. No file is read here.

pub(crate) mod base;
pub(crate) mod check;
pub(crate) mod decode;
pub(crate) mod error;
pub(crate) mod field;
pub(crate) mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::place::Located;
use crate::plan::SecretMount;
use crate::platform::Platform;
use crate::reference::Reference;

pub use error::{SpecError, SpecErrorKind};

/// An image spec as it was written. A field that was left out is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// Name of the image; the default is the name of the file.
    pub name: Option<Located<String>>,
    /// For readers. Never hashed.
    pub description: Option<Located<String>>,
    /// `3.11` or `3.11.2`, with the text as it was written.
    pub python_version: Option<Located<String>>,
    /// Name of the builder.
    pub builder: Option<Located<String>>,
    /// Folder whose files are copied to the image, relative to the spec.
    pub source_root: Option<Located<PathBuf>>,
    /// Which files of `source_root` are copied.
    pub source_copy_mode: Option<Located<SourceCopyMode>>,
    /// Environment variables of the image.
    pub env: BTreeMap<String, Located<String>>,
    /// Registry and path beneath which the image is pushed: `ghcr.io/team`.
    pub registry: Option<Located<String>>,
    /// Python packages, PEP 508.
    pub packages: Vec<Located<String>>,
    /// Conda match specs.
    pub conda_packages: Vec<Located<String>>,
    /// Conda channels in the order of their priority.
    pub conda_channels: Vec<Located<String>>,
    /// A requirements or lock file, relative to the spec.
    pub requirements: Option<Located<PathBuf>>,
    /// Debian packages.
    pub apt_packages: Vec<Located<String>>,
    /// CUDA version.
    pub cuda: Option<Located<String>>,
    /// cuDNN version.
    pub cudnn: Option<Located<String>>,
    /// What the image stands on.
    pub base_image: Option<Located<BaseImage>>,
    /// Platforms to build for; empty means that of this machine.
    pub platform: Vec<Located<Platform>>,
    /// The package index instead of PyPI.
    pub pip_index: Option<Located<String>>,
    /// Further package indexes, looked in first.
    pub pip_extra_index_url: Vec<Located<String>>,
    /// Secrets for the Python resolver.
    pub pip_secret_mounts: Vec<Located<SecretMount>>,
    /// Further arguments for the Python resolver, already split into words.
    pub pip_extra_args: Vec<Located<String>>,
    /// A Docker config.json to take registry credentials from, relative to the spec.
    pub registry_config: Option<Located<PathBuf>>,
    /// Entry point of the image; an empty list removes the base's.
    pub entrypoint: Option<Located<Vec<String>>>,
    /// Default arguments of the image.
    pub cmd: Option<Located<Vec<String>>>,
    /// Shell commands that change the image.
    pub commands: Vec<Located<String>>,
    /// Secrets for `commands`.
    pub secrets: Vec<Located<SecretMount>>,
    /// How the tag is made, `{spec_hash}-dev`.
    pub tag_format: Option<Located<String>>,
    /// Files and folders to copy.
    pub copy: Vec<Located<CopyPath>>,
    /// The interpreter to use, an absolute path inside the base.
    pub python_exec: Option<Located<String>>,
    /// Python packages that are installed when a container starts.
    pub runtime_packages: Vec<Located<String>>,
    /// User of the image.
    pub user: Option<Located<String>>,
    /// Working directory of the image.
    pub workdir: Option<Located<String>>,
    /// Labels of the image.
    pub labels: BTreeMap<String, Located<String>>,
    /// Options of the builder.
    pub builder_options: BTreeMap<String, Located<serde_json::Value>>,
    /// A file with the builder's configuration, relative to the spec.
    pub builder_config: Option<Located<PathBuf>>,
}

/// A file or folder to copy. Its path in the image, beneath `/root`, is the one that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPath {
    /// Where `path` starts, seen from the folder of the spec: empty, but for what another file says, such as
    /// `[defaults]` of a project file in a folder above.
    pub folder: PathBuf,
    /// As it was written, relative and without `..`.
    pub path: String,
}

impl CopyPath {
    /// A path that starts at the folder of the spec.
    pub fn new(path: impl Into<String>) -> Self {
        Self { folder: PathBuf::new(), path: path.into() }
    }
}

/// Which source files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCopyMode {
    /// No file.
    None,
    /// Python: the files `*.py`, `*.pyi` and `py.typed` that no ignore file excludes.
    Auto,
    /// Every file that no ignore file excludes.
    All,
}

/// What `base_image` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseImage {
    /// `scratch`
    Scratch,
    /// A registry reference.
    Registry(Reference),
    /// `oci:DIR`, relative to the spec.
    OciLayout(PathBuf),
    /// `docker-archive:FILE`, relative to the spec.
    DockerArchive(PathBuf),
    /// `bootstrap:debian/SUITE`
    Bootstrap {
        /// Code name of the Debian release.
        suite: String,
    },
    /// The path of another spec, relative to this one.
    SpecFile(PathBuf),
    /// A spec written in place.
    Spec(Box<Spec>),
}
