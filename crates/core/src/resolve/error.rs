//! Why a spec cannot be resolved, where, and what to do.

use std::fmt;

use super::base::{default_suite, ships, suite_pythons};
use crate::files::FilesError;
use crate::place::Place;
use crate::requirements::{PathProblem, RequirementProblem, RequirementsError, redacted};

/// A spec that cannot be resolved.
#[derive(Debug)]
pub struct ResolveError {
    // Boxed, for it travels through every result here.
    problem: Box<ResolveProblem>,
    place: Place,
}

/// Why a spec cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveProblem {
    /// `requirements` or `packages`.
    #[error("{0}")]
    Requirements(RequirementsError),
    /// `copy` or `source_root`.
    #[error("{0}")]
    Files(FilesError),
    /// An index's URL.
    #[error("{0}")]
    Url(RequirementProblem),
    /// A path that leads to no file of the project.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// A spec that a base names.
    #[error("the base `{path}` is not a usable spec")]
    NestedSpec {
        /// The spec's file.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A spec that stands on itself.
    #[error("`{path}` stands on itself")]
    Cycle {
        /// The spec's file.
        path: String,
    },
    /// Specs that stand on specs that stand on specs.
    #[error("specs stand on each other more than {limit} deep")]
    TooDeep {
        /// How deep they may.
        limit: usize,
    },
    /// No OCI image layout.
    #[error("`{path}` is not an OCI image layout: {message}")]
    Layout {
        /// The folder.
        path: String,
        /// Why not.
        message: &'static str,
    },
    /// A layout with several images.
    #[error("`{path}` holds {count} images, and no tag says which")]
    ManyImages {
        /// The folder.
        path: String,
        /// How many.
        count: usize,
        /// Those that have a name.
        tags: Vec<String>,
    },
    /// A layout without the image that was asked for.
    #[error("`{path}` holds no image with the tag `{tag}`")]
    NoSuchImage {
        /// The folder.
        path: String,
        /// What was asked for.
        tag: String,
        /// What there is.
        tags: Vec<String>,
    },
    /// An archive that is a folder or a device.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// `cuda` or `cudnn` and nothing that brings it.
    #[error("`{field}` alone installs nothing: CUDA comes with the base image or with Python packages")]
    Cuda {
        /// `cuda` or `cudnn`.
        field: &'static str,
    },
    /// A field that needs programs in the base, on `scratch`.
    #[error("`{field}` needs a system to work in, and `base_image: scratch` has none")]
    Scratch {
        /// The field.
        field: &'static str,
    },
    /// A Python that the Debian release does not have.
    #[error("Debian {suite} has Python {actual}, and `python_version` asks for {wanted}")]
    PythonOfSuite {
        /// The release.
        suite: String,
        /// The version that it ships.
        actual: &'static str,
        /// The version that the spec asks for.
        wanted: String,
    },
    /// A folder that is no conda channel.
    #[error("`{path}` is no conda channel")]
    Channel {
        /// What was written.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Fields that contradict each other.
    #[error("`{field}` cannot stand beside `{other}`")]
    Beside {
        /// The field.
        field: &'static str,
        /// The other one.
        other: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A field that means nothing without another.
    #[error("`{field}` means nothing without `{needed}`")]
    Without {
        /// The field.
        field: &'static str,
        /// The one that it needs.
        needed: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// An argument of the resolver that a spec may not set.
    #[error("`{argument}` cannot stand in `pip_extra_args`")]
    Argument {
        /// The argument without its value.
        argument: String,
        /// What to do.
        hint: String,
    },
    /// A variable that imagespec sets itself.
    #[error("`{name}` is set by imagespec itself")]
    ReservedVariable {
        /// Name of the variable.
        name: String,
    },
}

impl ResolveError {
    pub(super) fn new(problem: ResolveProblem, place: &Place) -> Self {
        Self { problem: Box::new(problem), place: redacted(place.clone()) }
    }

    /// What is wrong.
    pub fn problem(&self) -> &ResolveProblem {
        &self.problem
    }

    /// The value in the spec, or the line of the file that the spec names.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl ResolveProblem {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Requirements(error) => return error.hint(),
            Self::Files(error) => return error.hint(),
            Self::Url(problem) => return Some(problem.hint()),
            Self::Path(problem) => return problem.hint().map(str::to_owned),
            Self::Cycle { .. } => "let one of the specs stand on another base",
            Self::ManyImages { tags, .. } if tags.is_empty() => "copy the image to a layout of its own",
            Self::ManyImages { path, tags, .. } | Self::NoSuchImage { path, tags, .. } => {
                let choices: Vec<_> = tags.iter().map(|tag| format!("`oci:{path}:{tag}`")).collect();
                return (!choices.is_empty()).then(|| format!("choose one of {}", choices.join(", ")));
            }
            Self::Cuda { .. } => {
                "set `base_image: nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04` or another image with CUDA, \
                 or install CUDA's wheels, for example PyTorch's: \
                 `pip_extra_index_url: [https://download.pytorch.org/whl/cu126]`"
            }
            Self::Scratch { .. } => "remove `base_image`, or choose one with a system in it",
            Self::PythonOfSuite { wanted, .. } if ships(default_suite(Some(wanted)), wanted) => {
                "leave `base_image` out: the release that has this Python is then taken"
            }
            Self::PythonOfSuite { wanted, .. } => {
                return Some(format!(
                    "Debian's releases have {}; take one of them, or a `base_image` that has it, as `python:{wanted}-slim`",
                    suite_pythons()
                ));
            }
            Self::Without { hint, .. } | Self::Beside { hint, .. } => hint,
            Self::Channel { .. } => "name a folder with a `repodata.json` in `noarch`, as `conda index` makes it",
            Self::Argument { hint, .. } => return Some(hint.clone()),
            Self::ReservedVariable { .. } => "choose another name",
            Self::Layout { .. } => {
                "a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build \
                 --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them"
            }
            Self::NotAFile { .. } => "name the file that `docker save` wrote",
            Self::TooDeep { .. } => "put what they share into one of them",
            Self::NestedSpec { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(formatter)
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.problem.as_ref() {
            ResolveProblem::Requirements(error) => error.source(),
            ResolveProblem::Files(error) => error.source(),
            problem => std::error::Error::source(problem),
        }
    }
}

impl From<RequirementsError> for ResolveError {
    fn from(error: RequirementsError) -> Self {
        let place = error.place().clone();
        Self { problem: Box::new(ResolveProblem::Requirements(error)), place }
    }
}

impl From<FilesError> for ResolveError {
    fn from(error: FilesError) -> Self {
        let place = error.place().clone();
        Self { problem: Box::new(ResolveProblem::Files(error)), place }
    }
}
