//! Decompresses layers.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use imagespec_layout::Compression;

/// The archive in `blob`.
pub(crate) fn open<'a>(compression: Compression, blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        // A window of more than 128 MiB, which no encoder makes unless it is told to, is refused.
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(blob)?),
    })
}
