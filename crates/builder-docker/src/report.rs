//! What a build came to: digests and layers, as the registry, the layout or the engine has them.

use bollard::models::ImageInspect;
use imagespec_buildkit::report::{Titled, layers, of_images, of_registry, titles};
use imagespec_buildkit::{Recipe, Solved};
use imagespec_core::digest::Digest;
use imagespec_core::report::{PlatformImage, Report};
use imagespec_distribution::Blob;

use crate::builder::{Building, Failure};
use crate::output::{self, Delivered};

/// The report of an image that was built by `recipe`.
pub(crate) fn report(
    building: &Building<'_>,
    recipe: &Recipe,
    solved: &Solved,
    delivered: &Delivered,
) -> Result<Report, Failure> {
    let titles = titles(recipe, solved);
    if let Some(saved) = &delivered.saved {
        return Ok(of_images(&saved.images, saved.index.as_deref(), &titles));
    }
    let name = &building.request.name;
    if let Some(digest) = delivered.pushed {
        match of_registry(&building.registry, &name.with_digest(digest), &building.plan().platforms, &titles) {
            Ok(report) => return Ok(report),
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
        _ => {
            let saved = output::save(building)?;
            Ok(of_images(&saved.images, saved.index.as_deref(), titles))
        }
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
