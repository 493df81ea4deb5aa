//! Which builder is asked to build. Pure.

use std::fmt;

use crate::place::{Located, Place};

/// The builder that is asked when nobody names one.
const DEFAULT: &str = "oci";

/// Everybody who may name a builder, the strongest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuilderCandidates<'a> {
    /// `--builder`
    pub flag: Option<&'a str>,
    /// `builder:` of the spec.
    pub spec: Option<&'a Located<String>>,
    /// `[images.NAME] builder` of the project file.
    pub image: Option<&'a Located<String>>,
    /// `[project] builder` of the project file.
    pub project: Option<&'a Located<String>>,
    /// The variable IMAGESPEC_BUILDER.
    pub environment: Option<&'a str>,
    /// `[project] builder` of the user's config.
    pub user: Option<&'a Located<String>>,
}

/// A builder's name, and who named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBuilder {
    /// The name.
    pub name: String,
    /// Who named it.
    pub origin: BuilderOrigin,
}

/// Who named a builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuilderOrigin {
    /// `--builder`
    Flag,
    /// The spec, the project file or the user's config, at this place.
    File(Place),
    /// The variable IMAGESPEC_BUILDER.
    Environment,
    /// Nobody.
    Default,
}

/// The strongest of the candidates, else the embedded builder. An empty variable counts as none.
pub fn choose_builder(candidates: &BuilderCandidates<'_>) -> ChosenBuilder {
    let from_file = |located: &Located<String>| ChosenBuilder {
        name: located.value.clone(),
        origin: BuilderOrigin::File(located.place.clone()),
    };
    let flag = candidates.flag.map(|name| ChosenBuilder { name: name.to_owned(), origin: BuilderOrigin::Flag });
    let environment = candidates
        .environment
        .filter(|name| !name.is_empty())
        .map(|name| ChosenBuilder { name: name.to_owned(), origin: BuilderOrigin::Environment });
    flag.or_else(|| candidates.spec.map(from_file))
        .or_else(|| candidates.image.map(from_file))
        .or_else(|| candidates.project.map(from_file))
        .or(environment)
        .or_else(|| candidates.user.map(from_file))
        .unwrap_or_else(|| ChosenBuilder { name: DEFAULT.to_owned(), origin: BuilderOrigin::Default })
}

impl fmt::Display for BuilderOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("--builder"),
            Self::File(place) => fmt::Display::fmt(place, formatter),
            Self::Environment => formatter.write_str("IMAGESPEC_BUILDER"),
            Self::Default => formatter.write_str("the default"),
        }
    }
}
