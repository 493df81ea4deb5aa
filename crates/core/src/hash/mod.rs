//! The id of a spec and the hash of a plan. Pure. `docs/hash.md` describes both and has test vectors.
//!
//! | hash | taken over | without |
//! | --- | --- | --- |
//! | [`SpecHash`] | the whole [`Plan`], contents of files by digest | secrets |
//! | [`SpecId`] | the [`Spec`] as declared | contents of files, and what does not change the image |
//!
//! Both are `base32(sha256(canonical JSON)[..20])` of `{"kind": …, "scheme": 1, …}`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::plan::{Plan, wire};
use crate::spec::Spec;

mod declaration;

/// Raised whenever the same spec must get another hash.
pub(crate) const SCHEME: u32 = 1;

/// Hash of a plan, contents of files included: 32 characters of lower-case base32 (RFC 4648), 160 bits of a sha256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecHash(String);

/// Hash of a declaration alone, without the contents of files: written like [`SpecHash`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecId(String);

impl SpecHash {
    /// The hash of `plan`. Secrets do not count.
    pub fn of(plan: &Plan) -> Self {
        #[derive(Serialize)]
        struct Hashed<T> {
            scheme: u32,
            kind: &'static str,
            plan: T,
        }
        Self(short(&Hashed { scheme: SCHEME, kind: "plan", plan: wire::hashed(plan) }))
    }

    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpecId {
    /// The id of what `spec` declares.
    ///
    /// Give it the spec as it was written, before any default: a program in the image computes the same id from the
    /// same declaration, and knows neither the machine nor the project that the image was built in.
    pub fn of(spec: &Spec) -> Self {
        #[derive(Serialize)]
        struct Hashed<T> {
            scheme: u32,
            kind: &'static str,
            spec: T,
        }
        let spec = declaration::Declaration::from(spec);
        Self(short(&Hashed { scheme: SCHEME, kind: "declaration", spec }))
    }

    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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

/// The hash of a plan that is a document of JSON already: `{"kind": "plan", "plan": …, "scheme": 1}`.
pub(crate) fn of_document(document: &serde_json::Value) -> SpecHash {
    SpecHash(short(document))
}

fn short(value: &impl Serialize) -> String {
    let digest = Digest::of(wire::canonical(value).as_bytes());
    base32(&digest.as_bytes()[..20])
}

/// RFC 4648 base32 in lower case. Without padding, for whole groups of five bytes need none.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len() * 8 / 5);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|place| char::from(ALPHABET[(bits >> (place * 5) & 31) as usize])));
    }
    text
}

#[cfg(test)]
mod tests;
