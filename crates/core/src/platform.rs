//! The platform of an image, in the words of the OCI image-spec. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system and processor of an image, `linux/amd64` or `linux/arm/v7` (OCI image-spec, "Image Index",
/// property `platform`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    architecture: String,
    variant: Option<String>,
}

/// Text that names no platform that images can be built for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// The operating system is not Linux.
    #[error("platform `{text}` is not a Linux platform")]
    NotLinux {
        /// What was written.
        text: String,
    },
    /// Not of the form `linux/ARCHITECTURE[/VARIANT]`, or an architecture that nobody publishes images for.
    #[error("unknown platform `{text}`")]
    Unknown {
        /// What was written.
        text: String,
    },
}

/// The architectures that an image can have, in Go's names, as OCI wants them.
const ARCHITECTURES: [&str; 8] = ["amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64"];

impl Platform {
    /// The platform of an operating system and an architecture in the names of an image's config.
    ///
    /// # Errors
    /// As [`Platform::from_str`].
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, InvalidPlatform> {
        match variant.filter(|variant| !variant.is_empty()) {
            Some(variant) => format!("{os}/{architecture}/{variant}").parse(),
            None => format!("{os}/{architecture}").parse(),
        }
    }

    /// `linux/amd64`.
    pub fn linux_amd64() -> Self {
        Self { architecture: "amd64".to_owned(), variant: None }
    }

    /// The platform of a machine whose processor Rust calls `name` (`std::env::consts::ARCH`): `x86_64`, `aarch64`.
    ///
    /// # Errors
    /// When the processor has no name as a platform.
    pub fn of_machine(name: &str) -> Result<Self, InvalidPlatform> {
        let architecture = match name {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// The operating system: always `linux`.
    pub fn os(&self) -> &str {
        "linux"
    }

    /// The architecture in Go's name: `amd64`, `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the architecture: `v7` of `arm`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// The architecture as the kernel, wheels and uv call it: `x86_64`, `aarch64`.
    pub fn machine(&self) -> &str {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("amd64", _) => "x86_64",
            ("arm64", _) => "aarch64",
            ("arm", Some("v6")) => "armv6l",
            ("arm", _) => "armv7l",
            ("386", _) => "i686",
            ("loong64", _) => "loongarch64",
            (other, _) => other,
        }
    }

    /// The architecture in Debian's name: `amd64`, `arm64`, `armhf`.
    pub fn debian_architecture(&self) -> &str {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm", Some("v6")) => "armel",
            ("arm", _) => "armhf",
            ("386", _) => "i386",
            ("ppc64le", _) => "ppc64el",
            (other, _) => other,
        }
    }

    /// Whether programs of this platform run on a machine whose kernel calls itself `machine`.
    pub fn runs_on(&self, machine: &str) -> bool {
        self.machine() == machine || (machine == "x86_64" && self.architecture == "386")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "linux/{}", self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let unknown = || InvalidPlatform::Unknown { text: text.to_owned() };
        let mut parts = text.split('/');
        let os = parts.next().unwrap_or_default();
        let architecture = parts.next().ok_or_else(unknown)?;
        let variant = parts.next();
        if parts.next().is_some() {
            return Err(unknown());
        }
        if os != "linux" {
            return Err(match os {
                "darwin" | "windows" | "freebsd" => InvalidPlatform::NotLinux { text: text.to_owned() },
                _ => unknown(),
            });
        }
        if !ARCHITECTURES.contains(&architecture) {
            return Err(unknown());
        }
        // `v8` is arm64's only variant that is in use, and containerd's normal form leaves it out.
        let variant = match (architecture, variant) {
            ("arm64", Some("v8")) | (_, None) => None,
            ("arm", Some(variant @ ("v6" | "v7"))) => Some(variant.to_owned()),
            ("amd64", Some(variant @ ("v2" | "v3" | "v4"))) => Some(variant.to_owned()),
            _ => return Err(unknown()),
        };
        Ok(Self { architecture: architecture.to_owned(), variant })
    }
}

impl TryFrom<String> for Platform {
    type Error = InvalidPlatform;

    fn try_from(text: String) -> Result<Self, InvalidPlatform> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_survives_its_text_and_loses_a_redundant_variant() {
        for (text, normal) in
            [("linux/amd64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64"), ("linux/arm/v7", "linux/arm/v7")]
        {
            assert_eq!(text.parse::<Platform>().map(|platform| platform.to_string()), Ok(normal.to_owned()));
        }
    }

    #[test]
    fn unknown_platforms_are_refused() {
        for text in ["", "linux", "amd64", "linux/x86_64", "linux/arm64/v9", "linux/amd64/v2/x", "windows/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn machines_and_debian_have_names_of_their_own() {
        let arm: Platform = "linux/arm64".parse().expect("a platform");
        assert_eq!((arm.machine(), arm.debian_architecture()), ("aarch64", "arm64"));
        assert!(!arm.runs_on("x86_64"));
    }
}
