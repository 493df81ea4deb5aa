//! What an image stands on: looked up in its registry, or else pushed to the image's first. envd reads the config of a base
//! from a registry, wherever it builds; where the image goes to none, the base is served to it.

use std::path::Path;

use imagespec_buildkit::Progress;
use imagespec_core::builder::{BuildRequest, Output};
use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome};
use imagespec_core::plan::Base;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::Error as RegistryError;
use imagespec_layout::{Image, ReadError, read_image};

use crate::config::KnownBase;
use crate::registry::Registry;
use crate::serve::Served;

/// How many hexadecimal digits of a base's digest its tag has.
const DIGITS: usize = 32;

/// Why a base is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// The request does not say where it is.
    #[error("the path of base {digest} was not handed over")]
    NotHandedOver { digest: Digest },
    /// A layout cannot be read.
    #[error("base `oci:{path}` cannot be read")]
    Layout { path: String, source: ReadError },
    /// Its registry.
    #[error("envd reads what base `{base}` says from its registry, and cannot")]
    LookUp { base: String, source: RegistryError },
    /// A registry does not take it.
    #[error("the base cannot be pushed to `{name}`, where envd would find it")]
    Push { name: String, source: RegistryError },
    /// No registry of our own.
    #[error("the base cannot be served to envd")]
    Serve(#[source] std::io::Error),
}

/// A base that envd can build on.
#[derive(Debug)]
pub(crate) struct ReadyBase {
    /// Its name in a `build.envd`.
    pub(crate) name: String,
    /// Who has it, and as what: for the login.
    pub(crate) reference: Reference,
    pub(crate) known: KnownBase,
    /// The registry that it is in for as long as the build takes, if it is in no other.
    _served: Option<Served>,
}

/// The name of the request's base in a `build.envd`: that of a layout is the one that it would be pushed under.
///
/// # Errors
/// When the layout cannot be read.
pub(crate) fn name(request: &BuildRequest) -> Result<(String, Reference), BaseError> {
    let reference = match &request.plan.base {
        Base::OciLayout { digest } => pushed_name(&request.name, given(request, *digest)?.1.digest()),
        Base::Registry(reference) => reference.clone(),
        _ => unreachable!("other bases were refused"),
    };
    // A name with both is none to the library that envd reads it with.
    let name =
        reference.digest().map_or_else(|| reference.familiar(), |digest| reference.with_digest(digest).familiar());
    Ok((name, reference))
}

/// Has the base of the request be in a registry.
///
/// # Errors
/// When it is in none, or cannot be read or pushed.
pub(crate) fn prepare(
    request: &BuildRequest,
    registry: &Registry<'_>,
    progress: &Progress<'_>,
) -> Result<ReadyBase, BaseError> {
    let platform = platform(request);
    let (name, reference) = name(request)?;
    if let Base::OciLayout { digest } = &request.plan.base {
        let (folder, image) = given(request, *digest)?;
        let known = KnownBase::of(&image, *digest);
        if !request.outputs.contains(&Output::Registry) {
            let served = Served::start(image, folder).map_err(BaseError::Serve)?;
            let reference = served.reference();
            return Ok(ReadyBase { name: reference.to_string(), reference, known, _served: Some(served) });
        }
        push(&image, folder, &reference, registry, progress)?;
        return Ok(ReadyBase { name, reference, known, _served: None });
    }
    let found = registry.image(&reference, platform);
    let image = found.map_err(|source| BaseError::LookUp { base: name.clone(), source })?;
    let known = KnownBase::of(&image, image.digest());
    Ok(ReadyBase { name, reference, known, _served: None })
}

/// The layout of this digest: its folder, and the image in it for the platform of the request.
pub(crate) fn given(request: &BuildRequest, digest: Digest) -> Result<(&Path, Image), BaseError> {
    let folder = request.base_paths.get(&digest).ok_or(BaseError::NotHandedOver { digest })?;
    let image = read_image(folder, digest, platform(request))
        .map_err(|source| BaseError::Layout { path: folder.display().to_string(), source })?;
    Ok((folder, image))
}

fn platform(request: &BuildRequest) -> &Platform {
    request.plan.platforms.first().expect("a plan has a platform")
}

/// Beside the image, under a tag that says what it is.
fn pushed_name(image: &Reference, digest: Digest) -> Reference {
    let tag = format!("imagespec-base-{}", &digest.to_hex()[..DIGITS]);
    image.with_tag(&tag).expect("digits and dashes are a tag")
}

fn push(
    image: &Image,
    folder: &Path,
    target: &Reference,
    registry: &Registry<'_>,
    progress: &Progress<'_>,
) -> Result<(), BaseError> {
    let failed = |source| BaseError::Push { name: target.familiar(), source };
    let step = progress.begin(&format!("push base {}", target.familiar()));
    if registry.has(target, image.digest()).map_err(failed)? {
        step.finish(Outcome::Cached, String::new());
        return Ok(());
    }
    registry.push(image, Some(folder), target, &|done, total| step.reach(done, Some(total))).map_err(failed)?;
    let size_bytes = image.layers.iter().map(|layer| layer.size_bytes).sum();
    step.finish(Outcome::Done, event::size(size_bytes));
    Ok(())
}
