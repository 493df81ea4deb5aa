//! The name and tag that an image gets. Pure.

use crate::hash::SpecHash;
use crate::reference::{InvalidReference, Reference};

/// What stands for the hash in a tag format.
const PLACEHOLDER: &str = "{spec_hash}";

/// A name or tag that no image can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// `tag_format` without `{spec_hash}`.
    #[error("the tag format `{format}` does not contain `{{spec_hash}}`")]
    NoHash {
        /// The format.
        format: String,
    },
    /// `tag_format` that makes no tag.
    #[error("the tag format `{format}` does not make a tag")]
    Tag {
        /// The format.
        format: String,
        /// Why.
        source: InvalidReference,
    },
    /// A registry with `https://` before it.
    #[error("the registry `{registry}` is a URL")]
    RegistryUrl {
        /// The registry.
        registry: String,
    },
    /// A registry or name that makes no reference.
    #[error("the image cannot be called `{name}`")]
    Name {
        /// Registry and name.
        name: String,
        /// Why.
        source: InvalidReference,
    },
}

impl NameError {
    /// The field of the spec that is to blame.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoHash { .. } | Self::Tag { .. } => "tag_format",
            Self::RegistryUrl { .. } => "registry",
            Self::Name { .. } => "name",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHash { .. } => {
                "without the hash, another image would be taken for this one: write `{spec_hash}-dev`".to_owned()
            }
            Self::Tag { .. } => "a tag is made like `{spec_hash}-dev`".to_owned(),
            Self::RegistryUrl { registry } => {
                let host = registry.split_once("://").map_or(registry.as_str(), |(_, host)| host);
                format!("write `{}`", host.trim_end_matches('/'))
            }
            Self::Name { .. } => "set `name` to lower-case letters, digits and `-`".to_owned(),
        }
    }
}

/// The tag of an image: the hash, or `tag_format` with the hash in place of `{spec_hash}`.
///
/// # Errors
/// When the format lacks the hash or does not make a tag.
pub fn tag(spec_hash: &SpecHash, tag_format: Option<&str>) -> Result<String, NameError> {
    let Some(format) = tag_format else { return Ok(spec_hash.to_string()) };
    if !format.contains(PLACEHOLDER) {
        return Err(NameError::NoHash { format: format.to_owned() });
    }
    let tag = format.replace(PLACEHOLDER, spec_hash.as_str());
    let any: Reference = "scratch".parse().expect("a word is a reference");
    match any.with_tag(&tag) {
        Ok(_) => Ok(tag),
        Err(source) => Err(NameError::Tag { format: format.to_owned(), source }),
    }
}

/// The reference of an image: `registry`, which may hold a path, then `name` and `tag`.
///
/// Without a registry the image is local, and its reference is what Docker makes of a bare name: show it with
/// [`Reference::familiar`] (`name:tag`), as engines do, and never push it.
///
/// # Errors
/// When registry and name do not make a reference.
pub fn image_name(registry: Option<&str>, name: &str, tag: &str) -> Result<Reference, NameError> {
    let registry = registry.map(|registry| registry.trim_end_matches('/')).filter(|registry| !registry.is_empty());
    if let Some(registry) = registry.filter(|registry| registry.contains("://")) {
        return Err(NameError::RegistryUrl { registry: registry.to_owned() });
    }
    // `docker.io` keeps a dot in a local name from being taken for a host.
    let text = format!("{}/{name}", registry.unwrap_or("docker.io"));
    let shown = registry.map_or_else(|| name.to_owned(), |_| text.clone());
    let refused = |source| NameError::Name { name: shown.clone(), source };
    // With a tag or digest in the name, the reference would say something else than the hash.
    if name.contains([':', '@']) {
        return Err(refused(name.replace([':', '@'], "!").parse::<Reference>().expect_err("`!` is in no reference")));
    }
    text.parse::<Reference>().and_then(|reference| reference.with_tag(tag)).map_err(refused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::{Base, ImageConfig, Plan};
    use crate::platform::Platform;

    fn hash() -> SpecHash {
        let platforms = [Platform::linux_amd64()].into();
        SpecHash::of(&Plan {
            platforms,
            base: Base::Scratch,
            steps: Vec::new(),
            config: ImageConfig::default(),
            lock: BTreeMap::new(),
        })
    }

    #[test]
    fn the_tag_is_the_hash_unless_a_format_wraps_it() {
        assert_eq!(tag(&hash(), None).as_deref(), Ok(hash().as_str()));
        assert_eq!(tag(&hash(), Some("{spec_hash}-dev")), Ok(format!("{}-dev", hash())));
    }

    #[test]
    fn a_format_that_makes_no_tag_of_its_own_is_refused() {
        let no_hash = tag(&hash(), Some("latest")).expect_err("no hash");
        insta::assert_snapshot!(no_hash, @"the tag format `latest` does not contain `{spec_hash}`");
        insta::assert_snapshot!(no_hash.hint(), @"without the hash, another image would be taken for this one: write `{spec_hash}-dev`");
        let no_tag = tag(&hash(), Some("{spec_hash}/x")).expect_err("no tag");
        insta::assert_snapshot!(no_tag, @"the tag format `{spec_hash}/x` does not make a tag");
    }

    #[test]
    fn a_name_has_its_registry_before_it_or_is_local() {
        let name = |registry, name| image_name(registry, name, "t").map(|reference| reference.familiar());
        assert_eq!(name(Some("ghcr.io/team/"), "app").as_deref(), Ok("ghcr.io/team/app:t"));
        assert_eq!(name(Some("localhost:30000"), "app").as_deref(), Ok("localhost:30000/app:t"));
        assert_eq!(name(Some("team"), "app").as_deref(), Ok("team/app:t"));
        assert_eq!(name(None, "app").as_deref(), Ok("app:t"));
        assert_eq!(name(None, "my.app/x").as_deref(), Ok("my.app/x:t"));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let url = image_name(Some("https://ghcr.io/team/"), "app", "t").expect_err("a URL");
        insta::assert_snapshot!(url, @"the registry `https://ghcr.io/team` is a URL");
        insta::assert_snapshot!(url.hint(), @"write `ghcr.io/team`");
        insta::assert_snapshot!(image_name(None, "My App", "t").expect_err("spaces"), @"the image cannot be called `My App`");
        insta::assert_snapshot!(image_name(Some("ghcr.io"), "app:1", "t").expect_err("a tag"), @"the image cannot be called `ghcr.io/app:1`");
    }
}
