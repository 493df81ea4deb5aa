//! What a build came to: digests and layers, as the registry, the layout or the engine has them.

use bollard::models::ImageInspect;
use imagespec_buildkit::{Recipe, Solved};
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use imagespec_distribution::Blob;
use imagespec_layout::Image;
use serde_json::Value;

use crate::builder::{Building, Failure};
use crate::output::{self, Delivered};
use crate::saved::Saved;

/// A layer of our own: what it is, and whether it was made now.
pub(crate) type Titled = (String, Outcome);

/// The report of an image that was built by `recipe`.
pub(crate) fn report(
    building: &Building<'_>,
    recipe: &Recipe,
    solved: &Solved,
    delivered: &Delivered,
) -> Result<Report, Failure> {
    let titles = titles(recipe, solved);
    if let Some(saved) = &delivered.saved {
        return Ok(of_saved(saved, &titles));
    }
    let name = &building.request.name;
    if let Some(digest) = delivered.pushed {
        match building.registry.images(&name.with_digest(digest), &building.plan().platforms) {
            Ok((digest, found)) => {
                let images = found.into_iter().map(|image| PlatformImage {
                    platform: image.platform,
                    digest: image.digest,
                    config_digest: image.config_digest,
                    base_digest: None,
                    layers: layers(&image.layers, &titles),
                });
                return Ok(Report { digest, images: images.collect(), name: None, duration_ms: 0 });
            }
            Err(_) if building.progress.is_cancelled() => return Err(Failure::Cancelled),
            // The engine may reach what this machine does not, and its word must do.
            Err(error) => tracing::debug!(%error, "what was pushed is not looked at"),
        }
    }
    let image = building.wait(building.engine.image(&name.familiar()))?.ok_or(Failure::Lost)?;
    let mut report = titled(building, &image, &titles)?;
    let said = |name: &str| solved.exporter.get(name).and_then(|digest| digest.parse().ok());
    if let (Some(digest), [image]) = (said("containerimage.config.digest"), report.images.as_mut_slice()) {
        image.config_digest = digest;
    }
    report.digest = delivered.pushed.unwrap_or(report.digest);
    Ok(report)
}

/// The report of an image that the engine has from an earlier build.
pub(crate) fn kept(building: &Building<'_>, image: &ImageInspect) -> Result<Report, Failure> {
    let report = titled(building, image, &[])?;
    // With containerd's store, nothing says what the config's digest is.
    match building.engine.about.has_containerd_store && report.images.len() == 1 {
        true => Ok(Report { images: Vec::new(), name: Some(building.request.name.clone()), ..report }),
        false => Ok(report),
    }
}

/// The report of an image that the engine has. It says little of one that is several.
fn titled(building: &Building<'_>, image: &ImageInspect, titles: &[Titled]) -> Result<Report, Failure> {
    match building.plan().platforms.len() {
        1 => of_engine(building, image, titles),
        _ => Ok(of_saved(&output::save(building)?, titles)),
    }
}

/// The report of an image of one platform. Where the engine keeps no manifest, the image's id stands for its digest.
fn of_engine(building: &Building<'_>, image: &ImageInspect, titles: &[Titled]) -> Result<Report, Failure> {
    let id: Digest = image.id.as_deref().and_then(|id| id.parse().ok()).ok_or(Failure::Lost)?;
    let diff_ids = image.root_fs.iter().flat_map(|root| root.layers.iter().flatten());
    let diff_ids: Vec<Digest> = diff_ids.filter_map(|digest| digest.parse().ok()).collect();
    let name = building.request.name.familiar();
    let sizes = building.wait(building.engine.layer_sizes(&name))?;
    // Which entry of the history is which layer is known where there are as many.
    let blobs: Vec<_> = match sizes.len() == diff_ids.len() {
        true => diff_ids.iter().zip(sizes).map(|(digest, size_bytes)| Blob { digest: *digest, size_bytes }).collect(),
        false => Vec::new(),
    };
    let image = PlatformImage {
        platform: building.platform().clone(),
        digest: id,
        config_digest: id,
        base_digest: None,
        layers: layers(&blobs, titles),
    };
    Ok(Report { digest: id, images: vec![image], name: None, duration_ms: 0 })
}

fn of_saved(saved: &Saved, titles: &[Titled]) -> Report {
    let images = saved.images.iter().map(|image| PlatformImage {
        platform: platform(image).unwrap_or_else(Platform::linux_amd64),
        digest: Digest::of(&image.manifest),
        config_digest: Digest::of(&image.config),
        base_digest: None,
        layers: layers(&image.layers, titles),
    });
    Report { digest: saved.digest(), images: images.collect(), name: None, duration_ms: 0 }
}

/// The platform that the config of an image says.
fn platform(image: &Image) -> Option<Platform> {
    let config: Value = serde_json::from_slice(&image.config).ok()?;
    let mut text = format!("{}/{}", config["os"].as_str()?, config["architecture"].as_str()?);
    if let Some(variant) = config["variant"].as_str().filter(|variant| !variant.is_empty()) {
        text.push_str(&format!("/{variant}"));
    }
    text.parse().ok()
}

/// The layers that the recipe adds, lowest first. FROM brings those of the base.
fn titles(recipe: &Recipe, solved: &Solved) -> Vec<Titled> {
    let own = recipe.steps.iter().filter(|step| !step.is_base);
    own.map(|step| {
        let is_cached = solved.cached.contains(&(step.stage.clone(), step.index));
        (step.title.clone(), if is_cached { Outcome::Cached } else { Outcome::Done })
    })
    .collect()
}

fn layers(blobs: &[Blob], titles: &[Titled]) -> Vec<ReportedLayer> {
    let base_count = blobs.len().saturating_sub(titles.len());
    let titled = blobs.iter().enumerate().map(|(position, blob)| {
        let own = position.checked_sub(base_count).and_then(|position| titles.get(position));
        let (title, outcome) = own.cloned().unwrap_or_else(|| ("base".to_owned(), Outcome::Cached));
        ReportedLayer { digest: blob.digest, size_bytes: blob.size_bytes, title, outcome }
    });
    titled.collect()
}
