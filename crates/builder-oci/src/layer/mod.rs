//! Layers: deterministic tar archives, compressed, stored by digest and remembered by key.
//!
//! Format: OCI image-spec, "Image Layer Filesystem Changeset". Entries are sorted by path, owned by root unless the
//! caller says otherwise, and carry the caller's time; gzip is zlib-rs at a fixed level, in blocks of a fixed length,
//! with an empty header. So the bytes are a function of what is written and of [`FORMAT_VERSION`].

mod compressor;
mod path;
mod writer;

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, CacheError, Key};
use crate::point::{self, Point};

pub use compressor::Compressor;
pub use path::{InvalidLayerPath, LayerPath};
pub use writer::{Attributes, LayerError, LayerWriter};

/// Raised whenever the same input would give other bytes; part of every layer's key.
pub const FORMAT_VERSION: &str = "2";

/// A layer whose blob is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Length of the compressed blob in bytes.
    pub size_bytes: u64,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
}

impl Cache {
    /// The layer of `key`: found, or made by `write` and remembered. Two processes that want it at once make it once.
    ///
    /// `E` is the caller's error; nothing is remembered when `write` fails.
    ///
    /// # Errors
    /// Whatever `write` fails with, or the cache.
    pub fn layer<E>(
        &self,
        key: Key,
        timestamp: u64,
        write: impl FnOnce(&mut LayerWriter) -> Result<(), E>,
    ) -> Result<(Layer, Outcome), E>
    where
        E: From<CacheError> + From<LayerError>,
    {
        self.layer_once(key, || {
            let mut writer = LayerWriter::new(self.blob_writer()?, timestamp);
            write(&mut writer)?;
            Ok(writer.finish()?)
        })
    }

    /// As [`Cache::layer`], for a caller that writes a whole uncompressed archive itself.
    ///
    /// # Errors
    /// Whatever `write` fails with, or the cache.
    pub fn layer_of_archive<E>(
        &self,
        key: Key,
        write: impl FnOnce(&mut Compressor) -> Result<(), E>,
    ) -> Result<(Layer, Outcome), E>
    where
        E: From<CacheError> + From<LayerError>,
    {
        self.layer_once(key, || {
            let mut compressor = Compressor::new(self.blob_writer()?);
            write(&mut compressor)?;
            Ok(compressor.finish()?)
        })
    }

    fn layer_once<E>(&self, key: Key, make: impl FnOnce() -> Result<Layer, E>) -> Result<(Layer, Outcome), E>
    where
        E: From<CacheError>,
    {
        if let Some(layer) = self.remembered_layer(key)? {
            return Ok((layer, Outcome::Cached));
        }
        let _lock = self.lock(&key.to_string())?;
        // Another process may have made it while we waited.
        if let Some(layer) = self.remembered_layer(key)? {
            return Ok((layer, Outcome::Cached));
        }
        let layer = make()?;
        point::reached(Point::LayerNamed);
        self.remember(key, &layer)?;
        Ok((layer, Outcome::Done))
    }

    /// The layer of `key`, if it was made and its blob is still here.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn remembered_layer(&self, key: Key) -> Result<Option<Layer>, CacheError> {
        if !self.finds_layers() {
            return Ok(None);
        }
        Ok(self.record::<Layer>(key)?.filter(|layer| self.has_blob(layer.digest)))
    }
}
