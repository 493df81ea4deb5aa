//! Where the image goes: named in its registry, or written here from what the daemons handed over.

use imagespec_buildkit::Recipe;
use imagespec_buildkit::base::index_of;
use imagespec_buildkit::registry::Part;
use imagespec_buildkit::report::{of_images, of_registry, titles};
use imagespec_core::builder::{BuildRequest, Output};
use imagespec_core::event::Outcome;
use imagespec_core::report::Report;
use imagespec_layout::{self as layout, Image, Observer, Saved};

use crate::builder::{Building, Failure};
use crate::job::{Made, MadeImage};

/// Finds out before any work whether the outputs can take the image.
pub(crate) fn check(request: &BuildRequest) -> Result<(), Failure> {
    let count = request.plan.platforms.len();
    for output in &request.outputs {
        match output {
            Output::DockerArchive { .. } if count > 1 => return Err(Failure::ManyInArchive { count }),
            Output::Oci { dest } => layout::check_layout(dest)?,
            Output::DockerArchive { dest } => layout::check_archive(dest)?,
            Output::Store | Output::Docker { .. } | Output::Registry => {}
        }
    }
    Ok(())
}

/// Brings what was made to the outputs.
pub(crate) fn deliver(building: &Building<'_>, recipe: &Recipe, made: &[Made]) -> Result<Report, Failure> {
    let first = made.first().expect("a plan has a platform");
    let titles = titles(recipe, &first.solved);
    let parts: Option<Vec<Part>> = made.iter().map(part).collect();
    if let Some(parts) = parts {
        let digest = name(building, &parts)?;
        let platforms = &building.request.plan.platforms;
        let reference = building.request.name.with_digest(digest);
        return Ok(of_registry(building.registry, &reference, platforms, &titles)?);
    }
    let saved: Vec<&Saved> = made.iter().filter_map(saved).collect();
    let images: Vec<Image> = saved.iter().flat_map(|saved| saved.images.iter().cloned()).collect();
    let index = index_of(&images, &building.request.plan.platforms);
    for output in &building.request.outputs {
        write(building, output, &saved, &images, index.as_deref())?;
    }
    Ok(of_images(&images, index.as_deref(), &titles))
}

fn part(made: &Made) -> Option<Part> {
    match made.image {
        MadeImage::Pushed(digest) => Some(Part { digest, platforms: vec![made.platform.clone()] }),
        MadeImage::Saved(_) => None,
    }
}

fn saved(made: &Made) -> Option<&Saved> {
    match &made.image {
        MadeImage::Saved(saved) => Some(saved),
        MadeImage::Pushed(_) => None,
    }
}

/// Gives the image its name.
fn name(building: &Building<'_>, parts: &[Part]) -> Result<imagespec_core::digest::Digest, Failure> {
    let name = &building.request.name;
    let step = building.progress.begin(&format!("name {}", name.familiar()));
    let digest = building.registry.name(parts, name)?;
    step.finish(Outcome::Done, String::new());
    Ok(digest)
}

fn write(
    building: &Building<'_>,
    output: &Output,
    saved: &[&Saved],
    images: &[Image],
    index: Option<&[u8]>,
) -> Result<(), Failure> {
    let cancelled = || building.progress.is_cancelled();
    let observer = Observer { cancelled: &cancelled, written: &|| {} };
    let open = |digest| {
        let has =
            |saved: &&&Saved| saved.images.iter().flat_map(|image| &image.layers).any(|layer| layer.digest == digest);
        let owner = saved.iter().find(has).expect("each layer is of an image that was handed over");
        owner.open(digest).map_err(Failure::from)
    };
    let name = &building.request.name;
    match output {
        Output::Oci { dest } => {
            let step = building.progress.begin(&format!("write oci:{}", dest.display()));
            layout::write_layout(dest, name.tag().unwrap_or("latest"), images, index, &open, &observer)?;
            step.finish(Outcome::Done, String::new());
        }
        Output::DockerArchive { dest } => {
            let [image] = images else { return Err(Failure::ManyInArchive { count: images.len() }) };
            let step = building.progress.begin(&format!("write {}", dest.display()));
            layout::write_archive(dest, name, image, &open, &observer)?;
            step.finish(Outcome::Done, String::new());
        }
        Output::Registry => {
            let step = building.progress.begin(&format!("push {}", name.familiar()));
            let reach = |done, total| step.reach(done, Some(total));
            let folders: Vec<_> = saved.iter().map(|saved| saved.folder()).collect();
            building.registry.push(images, index, &folders, name, &reach)?;
            step.finish(Outcome::Done, String::new());
        }
        Output::Store | Output::Docker { .. } => {}
    }
    Ok(())
}
