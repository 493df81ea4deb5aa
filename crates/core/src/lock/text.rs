//! Lock files: TOML that is pleasant to compare, version 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Lock, LockError, LockedBase, LockedCondaPackage, LockedDeb, LockedImage, LockedPackage, python_version};
use crate::digest::Digest;
use crate::place::{Positions, Source};
use crate::platform::Platform;

/// The version that this program writes, and the only one that it reads.
const VERSION: u32 = 1;
/// How many specs may stand on one another.
const LEVELS_MAX: usize = 32;

const HEADER: &str =
    "# What the image is made of. `imagespec lock` writes this file and `imagespec build --locked` builds of it.\n";

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct LockV1 {
    version: u32,
    /// The part of the spec that was locked.
    spec: BTreeMap<String, Vec<String>>,
    #[serde(default, rename = "image")]
    images: Vec<ImageV1>,
}

/// One image. Its fields are those of [`LockedImage`], not flattened, so that errors know their place.
#[derive(Serialize, Deserialize)]
struct ImageV1 {
    platform: Platform,
    /// 0 for the spec itself, 1 for the spec that it stands on, and so on.
    #[serde(default, skip_serializing_if = "is_zero")]
    level: usize,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "python_version")]
    python: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python_archive: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<LockedBase>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    apt: Vec<LockedDeb>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    python_apt: Vec<LockedDeb>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conda: Vec<LockedCondaPackage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    packages: Vec<LockedPackage>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

pub(super) fn parse(name: &str, text: &[u8]) -> Result<Lock, LockError> {
    let text = std::str::from_utf8(text).map_err(|_| LockError::NotText { name: name.to_owned() })?;
    let syntax = |error: toml::de::Error| {
        let positions = Positions::new(Source { name: name.to_owned(), text: text.to_owned() });
        let place = positions.place(error.span().unwrap_or(0..0));
        LockError::Syntax { name: name.to_owned(), problem: error.message().to_owned(), place }
    };
    let Versioned { version } = toml::from_str(text).map_err(syntax)?;
    if version != VERSION {
        return Err(LockError::Version { name: name.to_owned(), version });
    }
    let LockV1 { spec, images, .. } = toml::from_str(text).map_err(syntax)?;
    let mut levels: Vec<BTreeMap<Platform, LockedImage>> = Vec::new();
    for image in images.into_iter().filter(|image| image.level < LEVELS_MAX) {
        let (platform, level, image) = image.into_parts();
        levels.resize(levels.len().max(level + 1), BTreeMap::new());
        if levels[level].insert(platform.clone(), image).is_some() {
            return Err(LockError::Twice { name: name.to_owned(), platform });
        }
    }
    Ok(Lock { inputs: spec, levels })
}

pub(super) fn to_toml(lock: &Lock) -> String {
    let levels = lock.levels.iter().enumerate();
    let images = levels.flat_map(|(level, images)| {
        images.iter().map(move |(platform, image)| ImageV1::new(platform.clone(), level, image.clone()))
    });
    let document = LockV1 { version: VERSION, spec: lock.inputs.clone(), images: images.collect() };
    let text = toml::to_string_pretty(&document).expect("wire types have string keys and no empty values");
    format!("{HEADER}{text}")
}

impl ImageV1 {
    fn new(platform: Platform, level: usize, image: LockedImage) -> Self {
        let LockedImage { python, python_archive, base, apt, python_apt, conda, packages } = image;
        Self { platform, level, python, python_archive, base, apt, python_apt, conda, packages }
    }

    fn into_parts(self) -> (Platform, usize, LockedImage) {
        let Self { platform, level, python, python_archive, base, apt, python_apt, conda, packages } = self;
        (platform, level, LockedImage { python, python_archive, base, apt, python_apt, conda, packages })
    }
}
