//! Where the image goes once it is in the engine. The engine keeps it in any case, as `docker build` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use imagespec_buildkit::stream;
use imagespec_core::builder::{Output, RegistryAccess};
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome};
use imagespec_layout::{self as layout, Observer, Saved};

use crate::builder::{Building, Failure};

/// What the image came to outside of the engine.
#[derive(Default)]
pub(crate) struct Delivered {
    /// Its digest in the registry.
    pub(crate) pushed: Option<Digest>,
    /// The image as a layout has it.
    pub(crate) saved: Option<Saved>,
}

/// Finds out before any work whether the outputs can take the image.
pub(crate) fn check(building: &Building<'_>) -> Result<(), Failure> {
    let count = building.plan().platforms.len();
    for output in &building.request.outputs {
        match output {
            Output::DockerArchive { .. } if count > 1 => return Err(Failure::ManyInArchive { count }),
            Output::Oci { dest } => layout::check_layout(dest)?,
            Output::DockerArchive { dest } => layout::check_archive(dest)?,
            Output::Store | Output::Docker { .. } | Output::Registry => {}
        }
    }
    Ok(())
}

/// Brings the image to the outputs.
pub(crate) fn deliver(building: &Building<'_>) -> Result<Delivered, Failure> {
    let mut delivered = Delivered::default();
    let outputs = &building.request.outputs;
    let is_written = outputs.iter().any(|output| matches!(output, Output::Oci { .. } | Output::DockerArchive { .. }));
    let is_pushed = outputs.contains(&Output::Registry);
    // One image with one digest, wherever it goes.
    if is_written || (is_pushed && needs_us(building)) {
        delivered.saved = Some(save(building)?);
    }
    for output in outputs {
        match (output, &delivered.saved) {
            (Output::Store | Output::Docker { .. }, _) => {}
            (Output::Registry, saved) => delivered.pushed = push(building, saved.as_ref())?,
            (Output::Oci { .. } | Output::DockerArchive { .. }, saved) => {
                write(building, output, saved.as_ref().expect("it was saved for this output"))?;
            }
        }
    }
    Ok(delivered)
}

/// Whether the registry needs something that the engine does not know.
fn needs_us(building: &Building<'_>) -> bool {
    let access = building.request.registries.get(building.request.name.registry());
    access.is_some_and(|access| *access != RegistryAccess::default())
}

/// Has the engine hand the image over.
pub(crate) fn save(building: &Building<'_>) -> Result<Saved, Failure> {
    let name = building.request.name.familiar();
    let step = building.progress.begin(&format!("save {name}"));
    let (feeder, reader) = stream::pipe();
    let parent = building.request.cache_dir.join("tmp");
    let is_given_up = Arc::<AtomicBool>::default();
    let flag = Arc::clone(&is_given_up);
    let unpacking = thread::spawn(move || Saved::unpack(reader, &parent, &flag));
    let fed = building.wait(feeder.feed(building.engine.save(&name)));
    if fed.is_err() {
        is_given_up.store(true, Ordering::Relaxed);
    }
    // It is waited for in any case, so that it leaves nothing behind.
    let saved = unpacking.join().expect("no panic leaves it");
    // What broke is told, and not that the reader noticed.
    fed?;
    let saved = saved?;
    let layers = saved.images.iter().flat_map(|image| &image.layers);
    let size_bytes = layers.map(|layer| layer.size_bytes).sum();
    step.finish(Outcome::Done, event::size(size_bytes));
    Ok(saved)
}

/// Pushes, and returns the digest.
fn push(building: &Building<'_>, saved: Option<&Saved>) -> Result<Option<Digest>, Failure> {
    let name = &building.request.name;
    let step = building.progress.begin(&format!("push {}", name.familiar()));
    let digest = match saved {
        Some(saved) => {
            let reach = |done, total| step.reach(done, Some(total));
            Some(building.registry.push(&saved.images, saved.index.as_deref(), &[saved.folder()], name, &reach)?)
        }
        None => {
            let login = building.credentials.login(name.registry(), name.repository())?;
            building.wait(building.engine.push(name, login, |done, total| step.reach(done, Some(total))))?
        }
    };
    step.finish(Outcome::Done, String::new());
    Ok(digest)
}

fn write(building: &Building<'_>, output: &Output, saved: &Saved) -> Result<(), Failure> {
    let cancelled = || building.progress.is_cancelled();
    let observer = Observer { cancelled: &cancelled, written: &|| {} };
    let open = |digest| saved.open(digest).map_err(Failure::from);
    let name = &building.request.name;
    let written = |title: String, write: &dyn Fn() -> Result<(), Failure>| {
        let step = building.progress.begin(&title);
        write()?;
        step.finish(Outcome::Done, String::new());
        Ok(())
    };
    match output {
        Output::Oci { dest } => written(format!("write oci:{}", dest.display()), &|| {
            let tag = name.tag().unwrap_or("latest");
            layout::write_layout(dest, tag, &saved.images, saved.index.as_deref(), &open, &observer)
        }),
        Output::DockerArchive { dest } => {
            let [image] = saved.images.as_slice() else {
                return Err(Failure::ManyInArchive { count: saved.images.len() });
            };
            written(format!("write {}", dest.display()), &|| layout::write_archive(dest, name, image, &open, &observer))
        }
        Output::Store | Output::Docker { .. } | Output::Registry => Ok(()),
    }
}
