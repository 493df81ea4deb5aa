//! What an engine is, from what it says of itself. Pure.

use bollard::models::{SystemInfo, SystemVersion};
use imagespec_buildkit::one_line;

/// The driver of an engine that keeps images in containerd.
const SNAPSHOTTER: &str = "io.containerd.snapshotter";

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `Docker Engine`, `Podman Engine`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The newest API that it speaks.
    pub api: (u32, u32),
    /// Whether BuildKit is inside.
    pub has_buildkit: bool,
    /// Whether it keeps images in containerd, and so of several platforms under one name.
    pub has_containerd_store: bool,
    /// What it runs on, `linux/amd64`.
    pub platform: String,
}

impl About {
    pub(super) fn of(version: &SystemVersion, info: &SystemInfo) -> Self {
        let component = version.components.iter().flatten().next().map(|component| component.name.clone());
        let name = match component.as_deref() {
            None | Some("Engine") => "Docker Engine".to_owned(),
            Some(name) => one_line(name),
        };
        let driver = info.driver_status.iter().flatten().flatten();
        let os = version.os.clone().unwrap_or_else(|| "linux".to_owned());
        Self {
            // Podman serves Docker's API and has no BuildKit.
            has_buildkit: !name.starts_with("Podman"),
            name,
            version: one_line(version.version.as_deref().unwrap_or_default()),
            api: number(version.api_version.as_deref().unwrap_or_default()).unwrap_or((0, 0)),
            has_containerd_store: driver.into_iter().any(|word| word.starts_with(SNAPSHOTTER)),
            platform: one_line(&format!("{os}/{}", version.arch.clone().unwrap_or_default())),
        }
    }
}

/// The last `MAJOR.MINOR` in `text`.
pub(super) fn number(text: &str) -> Option<(u32, u32)> {
    let words = text.split(|character: char| !(character.is_ascii_digit() || character == '.'));
    let mut parsed = words.filter_map(|word| word.trim_matches('.').split_once('.')).rev();
    parsed.find_map(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_an_api_is_found_in_what_an_engine_says() {
        assert_eq!(number("1.41"), Some((1, 41)));
        let refused = "client version 1.41 is too new. Maximum supported API version is 1.38";
        assert_eq!(number(refused), Some((1, 38)));
        assert_eq!(number("no version at all."), None);
    }
}
