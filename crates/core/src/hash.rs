//! The id of a spec and the hash of a plan. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Hash of a plan, contents of files included: 32 characters of lower-case base32 (RFC 4648), 160 bits of a sha256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecHash(String);

/// Hash of a declaration alone, without the contents of files: written like [`SpecHash`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecId(String);

impl fmt::Display for SpecHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SpecId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
