//! What to do about conda packages and channels that cannot be had, and the fields that ask for them.

use super::{CACHE_FOLDER, ONLINE, OTHER_VERSION, of_cache};
use crate::cache::CacheError;
use crate::conda::CondaError;
use crate::layer::LayerError;

/// The field of the spec that asked for what failed.
pub(super) fn field(error: &CondaError) -> Option<&'static str> {
    Some(match error {
        CondaError::NoGlibc | CondaError::Occupied { .. } => "base_image",
        CondaError::Platform { .. } => "platform",
        CondaError::Python { .. } => "python_version",
        CondaError::OtherVersion { .. } => "packages",
        CondaError::Channel { .. }
        | CondaError::Changed { .. }
        | CondaError::NotAChannel { .. }
        | CondaError::Unreachable { .. }
        | CondaError::Status { .. }
        | CondaError::Malformed { .. } => "conda_channels",
        CondaError::Mirror { .. }
        | CondaError::Credentials { .. }
        | CondaError::Setup { .. }
        | CondaError::NotHandedOver { .. }
        | CondaError::Cancelled
        | CondaError::Layer(_) => return None,
        CondaError::Cache(error) if !matches!(error, CacheError::WrongDigest { .. }) => return None,
        _ => "conda_packages",
    })
}

/// What to do about it.
pub(super) fn hint(error: &CondaError) -> Option<String> {
    let hint = match error {
        CondaError::NoGlibc => "take a `base_image` with glibc, such as a Debian, or leave it out to get one",
        CondaError::Occupied { .. } => {
            "take a `base_image` without a Python environment of imagespec, or ask for the packages in its own spec"
        }
        CondaError::Platform { .. } => "set `platform` to `linux/amd64` or `linux/arm64`",
        CondaError::Spec { .. } | CondaError::SpecUrl { .. } => {
            "write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`"
        }
        CondaError::Channel { .. } | CondaError::NotAChannel { .. } => {
            "check its spelling at https://anaconda.org; a folder is a channel after `conda index` made its repodata"
        }
        CondaError::Changed { .. } => "build again when nothing writes to it",
        CondaError::Mirror { .. } => {
            "write it as in `conda_mirrors = { \"https://conda.anaconda.org\" = \"https://mirror.example/conda\" }`, \
             without credentials"
        }
        CondaError::Credentials { .. } => "log in again: `rattler auth login` writes it",
        error if error.is_denied() => {
            "say who you are to the channel: `rattler auth login HOST`, or `machine HOST login USER password PASSWORD` in \
             the file that NETRC names"
        }
        CondaError::Unreachable { .. } | CondaError::Transfer { .. } => {
            "check the network, or set `conda_mirrors` under `[builders.oci]` of `imagespec.toml` to a mirror that is reached"
        }
        CondaError::Offline { .. } => ONLINE,
        CondaError::Lost { .. } => {
            "run `imagespec lock` again for the present version; `conda_mirrors` under `[builders.oci]` of \
             `imagespec.toml` may name a mirror that still has it"
        }
        CondaError::Unknown { likely: Some(likely), .. } => return Some(format!("did you mean `{likely}`?")),
        CondaError::Unknown { .. } => {
            "look for it at https://anaconda.org, and add the channel that has it to `conda_channels`"
        }
        CondaError::Unsolvable { .. } => {
            "loosen a version, or change the order of `conda_channels`: the first that has a package is the one that it \
             comes from"
        }
        CondaError::NoDigest { .. } => "let a current `conda index` make the channel's repodata again",
        CondaError::Python { .. } => "set `python_version`, as in `python_version: 3.12`",
        CondaError::OtherVersion { .. } => "ask for one version in both, or leave the package to one of them",
        CondaError::Archive { .. }
        | CondaError::Package { .. }
        | CondaError::Member { .. }
        | CondaError::Path { .. }
        | CondaError::TooLong { .. }
        | CondaError::Format { .. } => OTHER_VERSION,
        CondaError::Conflict { .. } => {
            "they cannot be together in one environment: take another version of one of them"
        }
        CondaError::Layer(LayerError::Io { .. }) => CACHE_FOLDER,
        CondaError::Cache(error) | CondaError::Layer(LayerError::Cache(error)) => of_cache(error)?,
        CondaError::NotHandedOver { .. }
        | CondaError::Setup { .. }
        | CondaError::Status { .. }
        | CondaError::PackageStatus { .. }
        | CondaError::Malformed { .. }
        | CondaError::Solve { .. }
        | CondaError::Absent { .. }
        | CondaError::Cancelled
        | CondaError::Layer(_) => return None,
    };
    Some(hint.to_owned())
}
