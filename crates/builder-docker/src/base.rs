//! What an image stands on: looked up, or loaded into the engine first where the engine cannot pull it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc;

use bollard::models::ImageInspect;
use imagespec_buildkit::base::{GivenBaseError, OtherBase, images, index_of, innermost, path};
use imagespec_buildkit::{BASE_ARCHIVE, KnownBase, Progress, loaded_base, stream};
use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::plan::Base;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::Error;
use imagespec_layout::{Archive, Image, open_blob};
use serde_json::Value;

use crate::builder::{Building, Failure};
use crate::renamed;

/// Why a base is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// It cannot be read.
    #[error(transparent)]
    Given(#[from] GivenBaseError),
    /// It cannot be read, or not be copied.
    #[error("base `{path}` cannot be read and copied")]
    Archive {
        /// The file or folder.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// What it holds is not what it should be, or cannot be read.
    #[error("base `{path}` cannot be loaded into the engine")]
    Broken {
        /// The folder or file.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Nobody knows who the user is to its registry.
    #[error(transparent)]
    Login(Error),
    /// It is of another processor.
    #[error(transparent)]
    Other(#[from] OtherBase),
    /// The engine took it, and does not have it.
    #[error("the engine does not have the base that it loaded")]
    Lost,
    /// An image of several platforms on a base of one.
    #[error("an archive of `docker save` is of one platform, and this image has {count}")]
    ManyPlatforms {
        /// How many.
        count: usize,
    },
}

/// Has the bases of the plan be there, and returns what is known of them, by their name behind FROM.
pub(crate) fn prepare(building: &Building<'_>) -> Result<BTreeMap<String, KnownBase>, Failure> {
    match innermost(&building.request.plan) {
        Base::Scratch | Base::Bootstrap(_) | Base::Plan(_) => Ok(BTreeMap::new()),
        Base::Registry(reference) => {
            let known = look_up(building, reference)?;
            Ok(known.map(|known| (reference.familiar(), known)).into_iter().collect())
        }
        Base::OciLayout { digest } | Base::DockerArchive { digest } => {
            let name = loaded_base(*digest);
            let known = load(building, innermost(&building.request.plan), *digest, &name)?;
            Ok(BTreeMap::from([(name, known)]))
        }
    }
}

/// What is known of the bases of `request` without an engine and a network, by their name behind FROM.
pub(crate) fn described(request: &BuildRequest) -> Result<BTreeMap<String, KnownBase>, Failure> {
    let (digest, known) = match innermost(&request.plan) {
        Base::OciLayout { digest } => {
            let path = path(request, *digest).map_err(BaseError::from)?;
            let images = images(request, path, *digest).map_err(BaseError::from)?;
            (digest, KnownBase::of_images(Some(*digest), &images))
        }
        Base::DockerArchive { digest } => {
            let path = path(request, *digest).map_err(BaseError::from)?;
            one_platform(request)?;
            let archive = |source| BaseError::Archive { path: path.display().to_string(), source };
            let config = renamed::config(&|| File::open(path)).map_err(archive)?;
            check_archive(path, &config, request.plan.platforms.first().expect("a plan has a platform"))?;
            (digest, KnownBase::of_config(Some(*digest), &config))
        }
        Base::Scratch | Base::Registry(_) | Base::Bootstrap(_) | Base::Plan(_) => return Ok(BTreeMap::new()),
    };
    Ok(BTreeMap::from([(loaded_base(*digest), known)]))
}

/// Writes a base that an engine cannot pull to `folder`, as an archive that `docker load` takes.
pub(crate) fn write(request: &BuildRequest, folder: &Path, progress: &Progress<'_>) -> Result<(), Failure> {
    let base = innermost(&request.plan);
    let (Base::OciLayout { digest } | Base::DockerArchive { digest }) = base else { return Ok(()) };
    let step = progress.begin(&format!("write {BASE_ARCHIVE}"));
    let target = folder.join(BASE_ARCHIVE);
    let name = loaded_base(*digest);
    let path = path(request, *digest).map_err(BaseError::from)?;
    let failed = |source| BaseError::Archive { path: path.display().to_string(), source };
    let mut file = BufWriter::new(File::create_new(&target).map_err(failed)?);
    let written = if let Base::OciLayout { .. } = base {
        let images = images(request, path, *digest).map_err(BaseError::from)?;
        let source = archive(path, &images, index_of(&images, &request.plan.platforms).as_deref(), &name)?;
        io::copy(&mut Watched { source, progress }, &mut file).map(drop)
    } else {
        let source = Watched { source: File::open(path).map_err(failed)?, progress };
        renamed::rename(source, *digest, &name, &mut file)
    };
    if progress.is_cancelled() {
        return Err(Failure::Cancelled);
    }
    written.and_then(|()| file.flush()).map_err(failed)?;
    step.finish(Outcome::Done, String::new());
    Ok(())
}

/// Reads until the user asks to stop.
struct Watched<'a, R> {
    source: R,
    progress: &'a Progress<'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.source.read(buffer)
    }
}

/// What is known of a base in a registry: by the engine, if it has it, else by the registry. Nothing is no error, for an
/// engine may reach what this machine does not.
fn look_up(building: &Building<'_>, reference: &Reference) -> Result<Option<KnownBase>, Failure> {
    let name = reference.familiar();
    let kept = building.wait(building.engine.image(&name))?;
    let mut base = None;
    for platform in &building.plan().platforms {
        // What an engine has under a name may be of several platforms, of which it describes one.
        if let Some(image) =
            kept.as_ref().filter(|image| image.architecture.as_deref() == Some(platform.architecture()))
        {
            base.get_or_insert_with(|| known(image, reference));
            continue;
        }
        match building.registry.config(reference, platform) {
            Ok((digest, config)) => {
                OtherBase::check(&name, &config, platform).map_err(BaseError::from)?;
                // What stands in one Dockerfile is of the first one.
                base.get_or_insert_with(|| KnownBase::of_config(Some(digest), &config));
            }
            Err(_) if building.progress.is_cancelled() => return Err(Failure::Cancelled),
            // The engine would be told nothing else.
            Err(error @ Error::Credentials { .. }) => return Err(BaseError::Login(error).into()),
            Err(error) => tracing::debug!(%error, base = %reference, "the base is not looked up"),
        }
    }
    Ok(base)
}

/// Loads a base into the engine under `name`, unless it is there.
fn load(building: &Building<'_>, base: &Base, digest: Digest, name: &str) -> Result<KnownBase, Failure> {
    let path = path(building.request, digest).map_err(BaseError::from)?;
    match base {
        Base::OciLayout { .. } => load_layout(building, path, digest, name),
        _ => load_archive(building, path, digest, name),
    }
}

/// Loads the images of the layout at `path` that are asked for.
fn load_layout(building: &Building<'_>, path: &Path, digest: Digest, name: &str) -> Result<KnownBase, Failure> {
    let step = building.progress.begin(&format!("load base oci:{}", path.display()));
    let images = images(building.request, path, digest).map_err(BaseError::from)?;
    let first = images.first().expect("a plan has a platform");
    let index = index_of(&images, &building.request.plan.platforms);
    // An engine calls an image by its config, or where it keeps images in containerd by the document on top of it. One
    // that has another platform has another image by that name.
    let on_top = index.as_ref().map_or_else(|| first.digest(), |index| Digest::of(index));
    let expected = [on_top, first.config_digest()].map(|digest| Some(digest.to_string()));
    let is_there = |image: Option<ImageInspect>| image.is_some_and(|image| expected.contains(&image.id));
    let known = KnownBase::of_images(Some(digest), &images);
    if is_there(building.wait(building.engine.image(name))?) {
        step.finish(Outcome::Cached, String::new());
        return Ok(known);
    }
    let mut archive = archive(path, &images, index.as_deref(), name)?;
    upload(building, path, move |sink| io::copy(&mut archive, sink).map(drop))?;
    if !is_there(building.wait(building.engine.image(name))?) {
        return Err(BaseError::Lost.into());
    }
    step.finish(Outcome::Done, String::new());
    Ok(known)
}

/// Loads the archive of `docker save` at `path`.
fn load_archive(building: &Building<'_>, path: &Path, digest: Digest, name: &str) -> Result<KnownBase, Failure> {
    one_platform(building.request)?;
    let step = building.progress.begin(&format!("load base docker-archive:{}", path.display()));
    let kept = building.wait(building.engine.image(name))?;
    let outcome = if kept.is_some() { Outcome::Cached } else { Outcome::Done };
    let image = match kept {
        Some(image) => image,
        None => {
            let (file, owned) = (path.to_owned(), name.to_owned());
            upload(building, path, move |sink| renamed::rename(File::open(&file)?, digest, &owned, sink))?;
            building.wait(building.engine.image(name))?.ok_or(BaseError::Lost)?
        }
    };
    check_archive(path, &config(&image), building.platform())?;
    step.finish(outcome, String::new());
    Ok(KnownBase::of_config(Some(digest), &config(&image)))
}

/// Has the engine load what `write` writes of the base at `path`. What is wrong with the base is told, and not that the engine
/// did not get it.
fn upload(
    building: &Building<'_>,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let (sender, problem) = mpsc::channel();
    let stream = stream::written(move |sink| {
        let mut sink = Watching { sink, is_broken: false };
        write(&mut sink).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            // An engine that takes no more is no fault of the base.
            if !sink.is_broken {
                // Nobody waits for it after Ctrl-C.
                let _ = sender.send(error);
            }
            told
        })
    });
    building.wait(building.engine.load(stream)).map(drop).map_err(|failure| match problem.try_recv() {
        Ok(source) => BaseError::Broken { path: path.display().to_string(), source }.into(),
        Err(_) => failure,
    })
}

/// Notices whether it was the sink that failed.
struct Watching<'a> {
    sink: &'a mut dyn Write,
    is_broken: bool,
}

impl Write for Watching<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes).inspect_err(|_| self.is_broken = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().inspect_err(|_| self.is_broken = true)
    }
}

/// An archive has one image.
fn one_platform(request: &BuildRequest) -> Result<(), BaseError> {
    match request.plan.platforms.len() {
        1 => Ok(()),
        count => Err(BaseError::ManyPlatforms { count }),
    }
}

/// They as an archive that an engine loads.
fn archive(path: &Path, images: &[Image], index: Option<&[u8]>, name: &str) -> Result<Archive, BaseError> {
    let name: Reference = name.parse().expect("the name of a loaded base is one");
    let open = |digest| {
        let blob = images.iter().flat_map(|image| &image.layers).find(|layer| layer.digest == digest);
        open_blob(path, *blob.expect("an archive opens layers of its images"))
    };
    let archive = match (index, images) {
        (Some(index), images) => Archive::of_index(&name, index, images, &open),
        (None, images) => Archive::of(&name, images.first().expect("a plan has a platform"), &open),
    };
    archive.map_err(|source| GivenBaseError::layout(path, source).into())
}

/// An archive of `docker save` has one image, and nobody chose it by platform.
fn check_archive(path: &Path, config: &Value, platform: &Platform) -> Result<(), BaseError> {
    Ok(OtherBase::check(&format!("docker-archive:{}", path.display()), config, platform)?)
}

/// An image that the engine has, as the base called `reference`.
fn known(image: &ImageInspect, reference: &Reference) -> KnownBase {
    let repository = format!("{}/{}@", reference.registry(), reference.repository());
    let digests = image.repo_digests.iter().flatten();
    let digest = digests.filter_map(|name| name.parse::<Reference>().ok()).find_map(|name| {
        let is_same = format!("{}/{}@", name.registry(), name.repository()) == repository;
        name.digest().filter(|_| is_same)
    });
    KnownBase::of_config(reference.digest().or(digest), &config(image))
}

/// What is asked of an image's config, as JSON.
fn config(image: &ImageInspect) -> Value {
    serde_json::json!({ "architecture": image.architecture, "config": image.config })
}
