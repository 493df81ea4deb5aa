//! Media types of images (OCI image-spec, "Media Types"), and Docker's older names of the same. The only place that reads
//! the media type of a layer. Pure.

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

// Docker's image manifest, schema 2, differs from OCI's in names alone.
pub(crate) const MANIFESTS: [&str; 2] = [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];
pub(crate) const INDEXES: [&str; 2] = [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];
pub(crate) const CONFIGS: [&str; 2] = [CONFIG, "application/vnd.docker.container.image.v1+json"];

/// How a layer's archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

impl Compression {
    /// What the media type of a layer says, OCI's or Docker's; `None` for one that is no layer, or that holds another
    /// system's files.
    pub fn of(media_type: &str) -> Option<Self> {
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
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
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
