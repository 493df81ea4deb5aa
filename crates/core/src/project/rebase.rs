//! Relative paths of a layer, said from the folder of the spec. Pure.
//!
//! What `copy` names keeps its path in the image, so only the folder that it starts from is said anew.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::load::Layer;
use crate::place::{Located, Place};
use crate::spec::{BaseImage, Spec};

/// Rewrites every relative path that stands in a layer of another folder than `directory`.
pub(super) fn rebase(spec: &mut Spec, layers: &[Layer], directory: &Path) {
    let folder_of = |place: &Place| {
        let layer = layers.iter().find(|layer| Arc::ptr_eq(&layer.source, &place.source))?;
        (layer.directory != directory).then_some(layer.directory.as_path())
    };
    let move_path = |path: &mut PathBuf, place: &Place| {
        if let Some(folder) = folder_of(place).filter(|_| path.is_relative()) {
            *path = relative(directory, &folder.join(&*path));
        }
    };
    let fields = [&mut spec.source_root, &mut spec.requirements, &mut spec.registry_config, &mut spec.builder_config];
    for Located { value, place } in fields.into_iter().flatten() {
        move_path(value, place);
    }
    for Located { value, place } in &mut spec.conda_channels {
        let is_path = value.starts_with("./") || value.starts_with("../");
        if let Some(folder) = folder_of(place).filter(|_| is_path) {
            let path = relative(directory, &folder.join(&*value)).display().to_string();
            *value = if path.starts_with("../") { path } else { format!("./{path}") };
        }
    }
    for Located { value, place } in &mut spec.copy {
        if let Some(folder) = folder_of(place) {
            value.folder = relative(directory, folder);
        }
    }
    if let Some(Located { value, place }) = &mut spec.base_image {
        match value {
            BaseImage::OciLayout(path) | BaseImage::DockerArchive(path) | BaseImage::SpecFile(path) => {
                move_path(path, place);
            }
            BaseImage::Spec(nested) => rebase(nested, layers, directory),
            BaseImage::Scratch | BaseImage::Registry(_) | BaseImage::Bootstrap { .. } => {}
        }
    }
}

/// The way from the folder `from` to `to`, both absolute. No link is looked at.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let to = normal(to);
    let shared = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let ups = from.components().skip(shared).map(|_| Component::ParentDir);
    let path: PathBuf = ups.chain(to.components().skip(shared)).collect();
    match path.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => path,
    }
}

/// Without `.`, and without `..` behind a folder.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_between_two_folders_goes_up_and_down() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/p/images", "/p/requirements.txt"), "../requirements.txt");
        assert_eq!(way("/p", "/p/a/./b/../c"), "a/c");
        assert_eq!(way("/p", "/p"), ".");
    }
}
