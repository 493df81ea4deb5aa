//! Where the cache of a build is taken from or brought to, as `docker buildx build --cache-from` and `--cache-to` write it.
//! Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reference::{InvalidReference, Reference};

/// A cache that lies outside of a builder: `type=registry,ref=ghcr.io/team/cache,mode=max`, or the reference alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheLocation {
    /// What keeps it, in BuildKit's words: `registry`, `local`, `inline`, `gha`, `s3`, `azblob`.
    pub kind: String,
    /// What else is said, by lower-case name: `ref`, `mode`, `src`, `dest`. A value may be a password.
    pub attributes: BTreeMap<String, String>,
}

/// Text that names no such cache. What it holds is not repeated, for it may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCacheLocation {
    /// Nothing.
    #[error("it is empty")]
    Empty,
    /// A part that is neither a name with a value nor all there is.
    #[error("part {number} of it has no `=`")]
    Part {
        /// Which one, from 1.
        number: usize,
    },
    /// A name that stands twice.
    #[error("it has `{name}` twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A part that begins with `"` and does not end with it.
    #[error("a quote in it does not end")]
    Quote,
    /// No `type`.
    #[error("it has no `type`")]
    NoKind,
    /// A registry, and no name in it.
    #[error("it is in a registry, and has no `ref`")]
    NoReference,
    /// A name in a registry that is none.
    #[error("its `ref` is no name in a registry")]
    Reference(#[from] InvalidReference),
}

impl FromStr for CacheLocation {
    type Err = InvalidCacheLocation;

    fn from_str(text: &str) -> Result<Self, InvalidCacheLocation> {
        let parts = parts(text)?;
        let mut attributes = BTreeMap::new();
        match parts.as_slice() {
            [only] if only.is_empty() => return Err(InvalidCacheLocation::Empty),
            [only] if !only.contains('=') => {
                attributes.extend([("type", "registry"), ("ref", only)].map(|(a, b)| (a.to_owned(), b.to_owned())));
            }
            parts => {
                for (index, part) in parts.iter().enumerate() {
                    let (name, value) = part.split_once('=').ok_or(InvalidCacheLocation::Part { number: index + 1 })?;
                    let name = name.trim().to_ascii_lowercase();
                    if attributes.insert(name.clone(), value.to_owned()).is_some() {
                        return Err(InvalidCacheLocation::Twice { name });
                    }
                }
            }
        }
        let kind = attributes.remove("type").filter(|kind| !kind.is_empty()).ok_or(InvalidCacheLocation::NoKind)?;
        if kind == "registry" {
            let reference = attributes.get("ref").ok_or(InvalidCacheLocation::NoReference)?;
            reference.parse::<Reference>()?;
        }
        Ok(Self { kind, attributes })
    }
}

/// The parts between commas. One in quotes may have a comma, and a quote as two of them (RFC 4180), as Go reads them.
fn parts(text: &str) -> Result<Vec<String>, InvalidCacheLocation> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                rest = after;
                part.to_owned()
            }
            Some(quoted) => {
                let (part, after) = unquoted(quoted).ok_or(InvalidCacheLocation::Quote)?;
                rest = after;
                part
            }
        };
        parts.push(part);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(InvalidCacheLocation::Quote),
        }
    }
}

/// What stands before the quote that ends `text`, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, after)),
        }
    }
}

impl fmt::Debug for CacheLocation {
    /// Without values, but for those that are no passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| matches!(name, "ref" | "mode" | "src" | "dest");
        write!(formatter, "type={}", self.kind)?;
        self.attributes.iter().try_for_each(|(name, value)| match shown(name) {
            true => write!(formatter, ",{name}={value}"),
            false => write!(formatter, ",{name}=…"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<CacheLocation>() {
            Ok(location) => format!("{location:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_cache_is_written_as_buildx_writes_it() {
        insta::assert_snapshot!(read("type=registry,ref=ghcr.io/team/cache:main,mode=max"), @"type=registry,mode=max,ref=ghcr.io/team/cache:main");
        insta::assert_snapshot!(read("localhost:5000/cache"), @"type=registry,ref=localhost:5000/cache");
        insta::assert_snapshot!(read("type=inline"), @"type=inline");
        insta::assert_snapshot!(read("TYPE=local,src=a=b"), @"type=local,src=a=b");
        insta::assert_snapshot!(read(r#"type=local,"dest=a,""b""""#), @r#"type=local,dest=a,"b""#);
    }

    #[test]
    fn what_is_no_cache_is_refused() {
        insta::assert_snapshot!(read(""), @"it is empty");
        insta::assert_snapshot!(read("mode=max"), @"it has no `type`");
        insta::assert_snapshot!(read("type="), @"it has no `type`");
        insta::assert_snapshot!(read("type=registry,hunter2"), @"part 2 of it has no `=`");
        insta::assert_snapshot!(read("type=registry,mode=max"), @"it is in a registry, and has no `ref`");
        insta::assert_snapshot!(read("type=registry,ref=team/X"), @"its `ref` is no name in a registry");
        insta::assert_snapshot!(read("type=local,src=a,src=b"), @"it has `src` twice");
        insta::assert_snapshot!(read(r#"type=local,"dest=a"#), @"a quote in it does not end");
        insta::assert_snapshot!(read(r#"type=local,"dest=a"b"#), @"a quote in it does not end");
    }

    #[test]
    fn a_password_is_not_shown() {
        insta::assert_snapshot!(read("type=s3,bucket=b,secret_access_key=hunter2"), @"type=s3,bucket=…,secret_access_key=…");
    }
}
