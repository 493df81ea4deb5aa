//! What a build came to: digests and layers, as a registry or a layout has them.

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use imagespec_distribution::{Blob, Error};
use imagespec_layout::Image;
use serde_json::Value;

use crate::recipe::Recipe;
use crate::registry::Registry;
use crate::solve::Solved;

/// A layer of our own: what it is, and whether it was made now.
pub type Titled = (String, Outcome);

/// The report of what `reference` names in its registry.
///
/// # Errors
/// When the registry does not say.
pub fn of_registry<'p>(
    registry: &Registry<'p>,
    reference: &Reference,
    platforms: impl IntoIterator<Item = &'p Platform>,
    titles: &[Titled],
) -> Result<Report, Error> {
    let (digest, found) = registry.images(reference, platforms)?;
    let images = found.into_iter().map(|image| PlatformImage {
        platform: image.platform,
        digest: image.digest,
        config_digest: image.config_digest,
        base_digest: None,
        layers: layers(&image.layers, titles),
    });
    Ok(Report { digest, images: images.collect(), name: None, duration_ms: 0 })
}

/// The report of an image that is at hand.
pub fn of_images(images: &[Image], index: Option<&[u8]>, titles: &[Titled]) -> Report {
    let reported = images.iter().map(|image| PlatformImage {
        platform: platform_of(image).unwrap_or_else(Platform::linux_amd64),
        digest: Digest::of(&image.manifest),
        config_digest: Digest::of(&image.config),
        base_digest: None,
        layers: layers(&image.layers, titles),
    });
    let digest = Digest::of(index.or(images.first().map(|image| image.manifest.as_slice())).unwrap_or_default());
    Report { digest, images: reported.collect(), name: None, duration_ms: 0 }
}

/// The platform that the config of an image says.
pub fn platform_of(image: &Image) -> Option<Platform> {
    let config: Value = serde_json::from_slice(&image.config).ok()?;
    let mut text = format!("{}/{}", config["os"].as_str()?, config["architecture"].as_str()?);
    if let Some(variant) = config["variant"].as_str().filter(|variant| !variant.is_empty()) {
        text.push_str(&format!("/{variant}"));
    }
    text.parse().ok()
}

/// The layers that the recipe adds, lowest first. FROM brings those of the base.
pub fn titles(recipe: &Recipe, solved: &Solved) -> Vec<Titled> {
    let own = recipe.steps.iter().filter(|step| !step.is_base);
    own.map(|step| {
        let is_cached = solved.cached.contains(&(step.stage.clone(), step.index));
        (step.title.clone(), if is_cached { Outcome::Cached } else { Outcome::Done })
    })
    .collect()
}

/// What each of `blobs` is, whose last ones are those of `titles`.
pub fn layers(blobs: &[Blob], titles: &[Titled]) -> Vec<ReportedLayer> {
    let base_count = blobs.len().saturating_sub(titles.len());
    let titled = blobs.iter().enumerate().map(|(position, blob)| {
        let own = position.checked_sub(base_count).and_then(|position| titles.get(position));
        let (title, outcome) = own.cloned().unwrap_or_else(|| ("base".to_owned(), Outcome::Cached));
        ReportedLayer { digest: blob.digest, size_bytes: blob.size_bytes, title, outcome }
    });
    titled.collect()
}
