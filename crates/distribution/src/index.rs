//! Chooses an image from an index by its platform (OCI image-spec, "Image Index"). Pure.

use imagespec_core::platform::Platform;
use oci_spec::image::{Descriptor, ImageIndex};

use crate::error::sanitized;

/// Platforms that an error names.
const LISTED_MAX: usize = 20;

/// An index without an image for a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no image for `{wanted}`, only for {}", listed(.available))]
pub struct NoPlatform {
    /// What was asked for.
    pub wanted: Platform,
    /// What the index has, as it writes it.
    pub available: Vec<String>,
}

impl NoPlatform {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        let platform = self.available.iter().find(|platform| platform.parse::<Platform>().is_ok())?;
        Some(format!("set `platform: {platform}`, or choose another base image"))
    }
}

fn listed(available: &[String]) -> String {
    let mut names: Vec<String> = available.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    if available.len() > LISTED_MAX {
        names.push(format!("{} more", available.len() - LISTED_MAX));
    }
    if names.is_empty() { "no platform at all".to_owned() } else { names.join(", ") }
}

/// The descriptor of the image in `index` that runs best on `platform`.
///
/// A processor runs the code of its family's older variants, so these are taken if there is nothing closer.
///
/// # Errors
/// When there is none. Entries that are no images for a machine, as attestations are, do not count.
pub fn choose<'i>(index: &'i ImageIndex, platform: &Platform) -> Result<&'i Descriptor, NoPlatform> {
    let written: Vec<(String, &Descriptor)> = index
        .manifests()
        .iter()
        .filter_map(|descriptor| Some((written(descriptor.platform().as_ref()?), descriptor)))
        .filter(|(name, _)| !name.starts_with("unknown/"))
        .collect();
    for variant in variants(platform) {
        let found = written.iter().find(|(name, _)| {
            let (base, their_variant) = split_variant(name);
            base == format!("linux/{}", platform.architecture()) && their_variant == *variant
        });
        if let Some((_, descriptor)) = found {
            return Ok(descriptor);
        }
    }
    let mut available: Vec<String> = written.into_iter().filter_map(|(name, _)| sanitized(&name)).collect();
    available.dedup();
    Err(NoPlatform { wanted: platform.clone(), available })
}

/// Variants whose code runs on `platform`, the best first. Nothing is what the architecture has at least.
fn variants(platform: &Platform) -> &'static [Option<&'static str>] {
    match (platform.architecture(), platform.variant()) {
        ("amd64", Some("v4")) => &[Some("v4"), Some("v3"), Some("v2"), None],
        ("amd64", Some("v3")) => &[Some("v3"), Some("v2"), None],
        ("amd64", Some("v2")) => &[Some("v2"), None],
        ("arm", Some("v6")) => &[Some("v6"), Some("v5")],
        // An entry for `arm` alone means v7, as containerd reads it.
        ("arm", _) => &[Some("v7"), None, Some("v6"), Some("v5")],
        _ => &[None],
    }
}

fn written(platform: &oci_spec::image::Platform) -> String {
    let name = format!("{}/{}", platform.os(), platform.architecture());
    match platform.variant() {
        Some(variant) if !variant.is_empty() => format!("{name}/{variant}"),
        _ => name,
    }
}

/// Platform and variant; a variant that is what its architecture has at least is left out.
fn split_variant(name: &str) -> (&str, Option<&str>) {
    let Some((base, variant)) = name.rsplit_once('/').filter(|(base, _)| base.contains('/')) else {
        return (name, None);
    };
    match (base, variant) {
        ("linux/amd64", "v1") | ("linux/arm64", "v8") => (base, None),
        _ => (base, Some(variant)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifests: Vec<serde_json::Value> = platforms
            .iter()
            .enumerate()
            .map(|(size, platform)| {
                let mut parts = platform.split('/');
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{}", "0".repeat(64)),
                    "size": size,
                    "platform": {"os": parts.next(), "architecture": parts.next(), "variant": parts.next().unwrap_or("")},
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).expect("an index")
    }

    fn position(platforms: &[&str], wanted: &str) -> Option<u64> {
        choose(&index(platforms), &wanted.parse().expect("a platform")).ok().map(Descriptor::size)
    }

    #[test]
    fn the_closest_variant_is_chosen() {
        assert_eq!(position(&["linux/arm64/v8", "linux/amd64"], "linux/amd64"), Some(1));
        assert_eq!(position(&["linux/arm64/v8", "linux/amd64"], "linux/arm64"), Some(0));
        assert_eq!(position(&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm"), Some(2));
        assert_eq!(position(&["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6"), Some(0));
        assert_eq!(position(&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3"), Some(1));
        assert_eq!(position(&["linux/amd64/v3"], "linux/amd64"), None);
        assert_eq!(position(&["windows/amd64"], "linux/amd64"), None);
    }

    #[test]
    fn the_error_says_what_there_is() {
        let index = index(&["linux/amd64", "linux/arm/v7", "unknown/unknown"]);
        let error = choose(&index, &"linux/s390x".parse().expect("a platform")).expect_err("none");
        insta::assert_snapshot!(error, @"there is no image for `linux/s390x`, only for `linux/amd64`, `linux/arm/v7`");
        insta::assert_snapshot!(error.hint().expect("a hint"), @"set `platform: linux/amd64`, or choose another base image");
    }
}
