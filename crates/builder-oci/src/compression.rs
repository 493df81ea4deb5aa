//! How a layer's archive is compressed, and what its media type says of that. The only place that reads the media type
//! of a layer.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// How a layer's archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the media type of a layer says, OCI's or Docker's; `None` for one that is no layer, or that holds another
    /// system's files.
    ///
    /// Docker's image manifest, schema 2, differs from OCI's in names alone.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let name = media_type
            .strip_prefix("application/vnd.oci.image.layer.v1.")
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.diff."))?;
        match name {
            "tar" => Some(Self::None),
            "tar+gzip" | "tar.gzip" => Some(Self::Gzip),
            "tar+zstd" | "tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The media type that OCI has for such a layer.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// The archive in `blob`.
    pub(crate) fn open<'a>(self, blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(blob),
            Self::Gzip => Box::new(MultiGzDecoder::new(blob)),
            // A window of more than 128 MiB, which no encoder makes unless it is told to, is refused.
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(blob)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_docker_and_of_oci_are_told_by_their_media_types() {
        let oci = |name| Compression::of(&format!("application/vnd.oci.image.layer.v1.{name}"));
        let docker = |name| Compression::of(&format!("application/vnd.docker.image.rootfs.diff.{name}"));
        assert_eq!([oci("tar"), docker("tar")], [Some(Compression::None); 2]);
        assert_eq!([oci("tar+gzip"), docker("tar.gzip")], [Some(Compression::Gzip); 2]);
        assert_eq!([oci("tar+zstd"), docker("tar.zstd")], [Some(Compression::Zstd); 2]);
        assert_eq!([oci("tar+xz"), docker("foreign.tar.gzip"), Compression::of("application/zip")], [None; 3]);
    }
}
