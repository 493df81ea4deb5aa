//! The path of an entry in a layer, checked once.

use std::fmt;

/// A path in a layer: relative, `/` between components, no `.`, no `..`, nothing that an engine takes for a whiteout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(String);

/// A path that must not stand in a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no path for a layer: {problem}", .path.escape_debug())]
pub struct InvalidLayerPath {
    path: String,
    problem: &'static str,
}

impl LayerPath {
    /// Checks `path`. A single leading `/` is taken off, since paths in an image are absolute.
    ///
    /// # Errors
    /// When it is empty, leads out, or holds NUL, control characters or a component that begins with `.wh.`.
    pub fn new(path: &str) -> Result<Self, InvalidLayerPath> {
        let relative = path.strip_prefix('/').unwrap_or(path);
        let problem = if relative.is_empty() {
            "it is empty"
        } else if relative.len() > 4096 {
            "it has more than 4096 bytes"
        } else if relative.chars().any(char::is_control) {
            "it holds control characters"
        } else if relative.split('/').any(|component| component.is_empty() || component == ".") {
            "it has an empty component"
        } else if relative.split('/').any(|component| component == "..") {
            "it leads out with `..`"
        } else if relative.split('/').any(|component| component.starts_with(".wh.")) {
            "engines take `.wh.` for a deletion"
        } else if relative.split('/').any(|component| component.len() > 255) {
            "a component has more than 255 bytes"
        } else {
            return Ok(Self(relative.to_owned()));
        };
        Err(InvalidLayerPath { path: path.to_owned(), problem })
    }

    /// The path without a leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above, outermost first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(index, _)| &self.0[..index])
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_or_deletes_is_refused() {
        for path in ["", "/", "//a", "a//b", "a/", "../a", "a/../b", "./a", "a/.wh.b", ".wh..wh..opq", "a\0", "a\nb"] {
            assert!(LayerPath::new(path).is_err(), "{path:?}");
        }
        insta::assert_snapshot!(LayerPath::new("a/../../etc/passwd").unwrap_err(), @"`a/../../etc/passwd` is no path for a layer: it leads out with `..`");
    }

    #[test]
    fn parents_come_outermost_first() {
        let path = LayerPath::new("/opt/venv/bin").unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["opt", "opt/venv"]);
    }
}
