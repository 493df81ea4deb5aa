//! What a build stands on that no daemon can pull: the layout that was handed over, and what is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::plan::{Base, Plan};
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_layout::{INDEX, Image, MANIFEST, ReadError, blob_path, read_image};
use serde_json::{Value, json};

use crate::dockerfile::{KnownBase, loaded_base};
use crate::progress::Progress;
use crate::registry::{Registry, machine, media_type};
use crate::session::Blobs;

/// Digits of the digest in the tag of a base.
const TAG_DIGITS: usize = 32;

/// Why a base that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GivenBaseError {
    /// The request does not say where it is.
    #[error("the path of base {digest} was not handed over")]
    NotHandedOver {
        /// The digest in the plan.
        digest: Digest,
    },
    /// A layout cannot be read.
    #[error("base `oci:{path}` cannot be read")]
    Layout {
        /// The folder.
        path: String,
        /// What is wrong.
        source: ReadError,
    },
    /// The registry does not take it.
    #[error("the base cannot be pushed to `{target}`")]
    Push {
        /// Where it should go.
        target: String,
        /// What went wrong.
        source: imagespec_distribution::Error,
    },
}

/// A base of another processor than the image. What runs in it would fail, or the image hold programs that never start.
#[derive(Debug, thiserror::Error)]
#[error("base `{base}` has no image for {wanted}; it has linux/{found}")]
pub struct OtherBase {
    /// The base, as the user calls it.
    pub base: String,
    /// The platform that the image should be of.
    pub wanted: Platform,
    /// The architecture that the base is of, in Go's name.
    pub found: String,
}

impl OtherBase {
    /// Checks that the config of `base` (OCI image-spec, "Image Configuration") is of the architecture of `wanted`. One that
    /// does not say is let pass.
    ///
    /// # Errors
    /// When it is of another.
    pub fn check(base: &str, config: &Value, wanted: &Platform) -> Result<(), Self> {
        match config["architecture"].as_str() {
            Some(found) if found != wanted.architecture() => {
                Err(Self { base: base.to_owned(), wanted: wanted.clone(), found: found.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl GivenBaseError {
    /// Of the layout at `path`.
    pub fn layout(path: &Path, source: ReadError) -> Self {
        Self::Layout { path: path.display().to_string(), source }
    }
}

impl KnownBase {
    /// From the config of an image (OCI image-spec, "Image Configuration").
    pub fn of_config(digest: Option<Digest>, config: &Value) -> Self {
        let config = &config["config"];
        let words = |name: &str| -> Vec<String> {
            let words = config[name].as_array().map(Vec::as_slice).unwrap_or_default();
            words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            digest,
            user: config["User"].as_str().filter(|user| !user.is_empty()).map(str::to_owned),
            path: words("Env").iter().find_map(|variable| variable.strip_prefix("PATH=").map(str::to_owned)),
            entrypoint: words("Entrypoint"),
            cmd: words("Cmd"),
        }
    }

    /// From the first of `images`, which stands for all of them.
    pub fn of_images(digest: Option<Digest>, images: &[Image]) -> Self {
        let config = images.first().and_then(|image| serde_json::from_slice(&image.config).ok());
        Self::of_config(digest, &config.unwrap_or_default())
    }
}

/// The base that all else stands on.
pub fn innermost(plan: &Plan) -> &Base {
    match &plan.base {
        Base::Plan(nested) => innermost(nested),
        base => base,
    }
}

/// Where the base of this digest is.
///
/// # Errors
/// When the request does not say.
pub fn path(request: &BuildRequest, digest: Digest) -> Result<&Path, GivenBaseError> {
    request.base_paths.get(&digest).map(PathBuf::as_path).ok_or(GivenBaseError::NotHandedOver { digest })
}

/// The images of the layout at `path` that are asked for, one for each platform.
///
/// # Errors
/// When it lacks one, or is none.
pub fn images(request: &BuildRequest, path: &Path, digest: Digest) -> Result<Vec<Image>, GivenBaseError> {
    let images = request.plan.platforms.iter().map(|platform| read_image(path, digest, platform));
    images.map(|image| image.map_err(|source| GivenBaseError::layout(path, source))).collect()
}

/// An index over `images`, those of `platforms`, if there are several (OCI image-spec, "Image Index").
pub fn index_of(images: &[Image], platforms: &BTreeSet<Platform>) -> Option<Vec<u8>> {
    if platforms.len() == 1 {
        return None;
    }
    let entries = images.iter().zip(platforms).map(|(image, platform)| {
        json!({
            "mediaType": media_type(&image.manifest, MANIFEST),
            "digest": image.digest().to_string(),
            "size": image.manifest.len(),
            "platform": machine(platform),
        })
    });
    let entries: Vec<_> = entries.collect();
    Some(json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string().into_bytes())
}

/// Has the base of `request` be where a daemon can pull it, if it can not: pushes it into the repository of the image, under
/// a tag that its content makes. Returns what stands behind FROM then; none where the base stays what it is.
///
/// # Errors
/// When it cannot be read, or the registry does not take it.
pub fn push_given(
    request: &BuildRequest,
    registry: &Registry<'_>,
    progress: &Progress<'_>,
) -> Result<Option<(Reference, KnownBase)>, GivenBaseError> {
    let Base::OciLayout { digest } = innermost(&request.plan) else { return Ok(None) };
    let path = path(request, *digest)?;
    let images = images(request, path, *digest)?;
    let index = index_of(&images, &request.plan.platforms);
    let first = images.first().expect("a plan has a platform");
    let on_top = index.as_ref().map_or_else(|| first.digest(), |index| Digest::of(index));
    let tag = format!("imagespec-base-{}", &on_top.to_hex()[..TAG_DIGITS]);
    let target = request.name.with_tag(&tag).expect("digits are a tag");
    let pinned = target.with_digest(on_top);
    let failed = |source| GivenBaseError::Push { target: target.familiar(), source };
    let step = progress.begin(&format!("push base {}", target.familiar()));
    if registry.has(&pinned).map_err(failed)? {
        step.finish(Outcome::Cached, String::new());
    } else {
        let reach = |done, total| step.reach(done, Some(total));
        registry.push(&images, index.as_deref(), &[path], &target, &reach).map_err(failed)?;
        step.finish(Outcome::Done, String::new());
    }
    Ok(Some((pinned, KnownBase::of_images(Some(on_top), &images))))
}

/// The base of `request`, if no daemon can pull it, as blobs that a session has: what must be said to the frontend, what is
/// known of it by its name behind FROM, and the blobs.
///
/// # Errors
/// When it cannot be read.
pub fn lend_given(request: &BuildRequest) -> Result<Option<LentBase>, GivenBaseError> {
    let Base::OciLayout { digest } = innermost(&request.plan) else { return Ok(None) };
    let path = path(request, *digest)?;
    let images = images(request, path, *digest)?;
    let top = blob_path(path, *digest).metadata().map(|top| top.len());
    let mut sizes = BTreeMap::from([(*digest, top.unwrap_or_default())]);
    for image in &images {
        sizes.extend(image.layers.iter().map(|layer| (layer.digest, layer.size_bytes)));
        sizes.insert(image.digest(), image.manifest.len() as u64);
        sizes.insert(image.config_digest(), image.config.len() as u64);
    }
    let name = loaded_base(*digest);
    Ok(Some(LentBase {
        attribute: (format!("context:{name}"), format!("oci-layout://imagespec-base@{digest}")),
        known: KnownBase::of_images(Some(*digest), &images),
        name,
        blobs: Blobs::new(path, sizes),
    }))
}

/// A base that a session lends to a daemon.
#[derive(Debug, Clone)]
pub struct LentBase {
    /// Its name behind FROM.
    pub name: String,
    /// What is known of it.
    pub known: KnownBase,
    /// What the frontend must be told, by name: where that name leads.
    pub attribute: (String, String),
    /// What the session must have.
    pub blobs: Blobs,
}
