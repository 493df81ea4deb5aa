//! Pushes images: blobs, then manifests by digest, then the tag, so that a tag never names what is not there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Blob, BlobSource, Pushed};
use imagespec_layout::{INDEX, MANIFEST};

use crate::base::{ImageLayer, Origin};
use crate::builder::{Building, Failure};
use crate::image::Image;
use crate::point::{self, Point};
use crate::progress::Step;

/// Pushes and returns how many bytes of layers were sent.
pub(super) fn push(
    building: &Building<'_>,
    images: &[Image],
    index: Option<&[u8]>,
    step: &Step<'_>,
) -> Result<u64, Failure> {
    let target = &building.request.name;
    let (mut sent_bytes, mut done_bytes) = (0, 0);
    for image in images {
        for layer in &image.layers {
            building.check_cancelled()?;
            sent_bytes += push_layer(building, target, layer, &mut |sent| step.reach(done_bytes + sent))?;
            point::reached(Point::LayerPushed);
            done_bytes += layer.layer.size_bytes;
            step.reach(done_bytes);
        }
        let config = image.config.clone();
        building.client.push_blob(target, Blob::of(&image.config), None, &config, &mut |_| {})?;
    }
    match index {
        None => {
            building.client.push_manifest(target, MANIFEST, &images[0].manifest)?;
        }
        Some(index) => {
            for image in images {
                building.client.push_manifest(&target.with_digest(image.digest), MANIFEST, &image.manifest)?;
            }
            building.client.push_manifest(target, INDEX, index)?;
        }
    }
    Ok(sent_bytes)
}

/// Pushes one layer, or mounts it from the base's repository, and returns how many bytes were sent.
fn push_layer(
    building: &Building<'_>,
    target: &Reference,
    layer: &ImageLayer,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Failure> {
    let blob = Blob { digest: layer.layer.digest, size_bytes: layer.layer.size_bytes };
    let base = match &layer.origin {
        Origin::Registry(base) => Some(base),
        Origin::Cache => None,
    };
    let mount_from = base.filter(|base| base.registry() == target.registry());
    let source = CachedBlob { building, layer, digest: blob.digest };
    match building.client.push_blob(target, blob, mount_from, &source, progress)? {
        Pushed::Uploaded => Ok(blob.size_bytes),
        Pushed::Existed | Pushed::Mounted => Ok(0),
    }
}

/// A layer that is pulled into the cache only when the registry asks for its content.
struct CachedBlob<'a> {
    building: &'a Building<'a>,
    layer: &'a ImageLayer,
    digest: Digest,
}

impl BlobSource for CachedBlob<'_> {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        super::fetch_layer(self.building, self.layer).map_err(io::Error::other)?;
        let path = self.building.cache.verified_blob_path(self.digest).map_err(io::Error::other)?;
        let mut file = File::open(path.ok_or(io::ErrorKind::NotFound)?)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }
}
