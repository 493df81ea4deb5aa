//! `InRelease`: the signed list of what a suite holds (Debian repository format, "Release files"). Verified against
//! the archive keys of the package debian-archive-keyring. Pure: the caller fetches the text.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use imagespec_core::digest::Digest;
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails;

/// The archive keys of Debian 11, 12 and 13: the archive's own, the security archive's, and the release managers'.
const KEYS: [&[u8]; 9] = [
    include_bytes!("keys/debian-archive-bullseye-automatic.gpg"),
    include_bytes!("keys/debian-archive-bullseye-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-bullseye-stable.gpg"),
    include_bytes!("keys/debian-archive-bookworm-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-stable.gpg"),
    include_bytes!("keys/debian-archive-trixie-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-stable.gpg"),
];

static ARCHIVE_KEYS: LazyLock<Vec<SignedPublicKey>> = LazyLock::new(|| {
    let keys: Vec<_> = KEYS.iter().map(|bytes| SignedPublicKey::from_bytes(*bytes)).collect();
    keys.into_iter()
        .map(|key| key.expect("the embedded keys are keys"))
        .inspect(|key| {
            // Not those of the user ids: other keys have signed them, and nobody looks at them here.
            for subkey in &key.public_subkeys {
                subkey.verify_bindings(&key.primary_key).expect("the embedded keys vouch for their subkeys");
            }
        })
        .collect()
});

/// A verified release of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// When it was made, as it says: `Sat, 11 Jul 2026 10:16:37 UTC`.
    pub(super) date: String,
    /// Until when it may be used, in the same form; main archives of stable suites do not say.
    pub(super) valid_until: Option<String>,
    /// Whether files can be fetched by their digest, which no update of the mirror disturbs.
    pub(super) by_hash: ByHash,
    files: BTreeMap<String, ReleaseFile>,
}

/// Whether files can be fetched by their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByHash {
    /// They can.
    Offered,
    /// They have their names alone.
    Absent,
}

/// A file that a release lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReleaseFile {
    /// Its digest.
    pub(super) digest: Digest,
    /// Its length in bytes.
    pub(super) size_bytes: u64,
}

/// Why a release is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is no text with a signature around it (RFC 9580, "Cleartext Signature Framework").
    #[error("the release of `{suite}` is not signed")]
    Unsigned {
        /// The suite that was asked for.
        suite: String,
    },
    /// None of its signatures is by a key that we have.
    #[error("the release of `{suite}` is signed by none of Debian's archive keys but by {}", .keys.join(", "))]
    UnknownKey {
        /// The suite that was asked for.
        suite: String,
        /// Who signed, as the signatures say.
        keys: Vec<String>,
    },
    /// The text is not the one that was signed.
    #[error("the release of `{suite}` has a bad signature by {key}")]
    BadSignature {
        /// The suite that was asked for.
        suite: String,
        /// The key that the signature names.
        key: String,
    },
    /// It is the release of something else.
    #[error("the release of `{suite}` says that it is of `{found}`")]
    WrongSuite {
        /// The suite that was asked for.
        suite: String,
        /// Its suite and its code name.
        found: String,
    },
    /// A field is missing or is not what it must be.
    #[error("field `{field}` of the release of `{suite}` is missing or malformed")]
    Field {
        /// The suite that was asked for.
        suite: String,
        /// The field.
        field: &'static str,
    },
}

impl Release {
    /// Verifies and reads the `InRelease` of `suite`, which may be its name or its code name.
    ///
    /// # Errors
    /// When it is not signed by one of Debian's keys, is of another suite, or lacks a field.
    pub(super) fn verify(in_release: &[u8], suite: &str) -> Result<Self, ReleaseError> {
        let unsigned = || ReleaseError::Unsigned { suite: suite.to_owned() };
        let text = std::str::from_utf8(in_release).map_err(|_| unsigned())?;
        let (message, _) = CleartextSignedMessage::from_string(text).map_err(|_| unsigned())?;
        // What is read is what was signed, and not what stands around it.
        let signed = message.signed_text();
        verify_signatures(&message, signed.as_bytes(), suite)?;
        Self::parse(&signed, suite)
    }

    /// What the release says of the file `path`, such as `main/binary-amd64/Packages.xz`.
    pub(super) fn file(&self, path: &str) -> Option<ReleaseFile> {
        self.files.get(path).copied()
    }

    fn parse(text: &str, suite: &str) -> Result<Self, ReleaseError> {
        let malformed = |field| ReleaseError::Field { suite: suite.to_owned(), field };
        let mut fields = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(listed) = line.strip_prefix(' ') {
                if current == "SHA256" {
                    let (path, file) = listed_file(listed).ok_or_else(|| malformed("SHA256"))?;
                    files.insert(path.to_owned(), file);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                current = name;
                fields.insert(name, value.trim());
            }
        }
        let names: Vec<&str> = ["Suite", "Codename"].iter().filter_map(|name| fields.get(name).copied()).collect();
        if !names.contains(&suite) {
            return Err(ReleaseError::WrongSuite { suite: suite.to_owned(), found: names.join(" ") });
        }
        if files.is_empty() {
            return Err(malformed("SHA256"));
        }
        Ok(Self {
            date: fields.get("Date").map(|date| (*date).to_owned()).ok_or_else(|| malformed("Date"))?,
            valid_until: fields.get("Valid-Until").map(|date| (*date).to_owned()),
            by_hash: match fields.get("Acquire-By-Hash") {
                Some(&"yes") => ByHash::Offered,
                _ => ByHash::Absent,
            },
            files,
        })
    }
}

/// One good signature is enough: a release carries one of each generation of keys.
fn verify_signatures(message: &CleartextSignedMessage, signed: &[u8], suite: &str) -> Result<(), ReleaseError> {
    let mut bad = None;
    for signature in message.signatures() {
        match verify_signature(signature, signed) {
            Verdict::Good => return Ok(()),
            Verdict::Bad => bad = bad.or_else(|| Some(issuer(signature))),
            Verdict::UnknownKey => {}
        }
    }
    match bad {
        Some(key) => Err(ReleaseError::BadSignature { suite: suite.to_owned(), key }),
        None if message.signatures().is_empty() => Err(ReleaseError::Unsigned { suite: suite.to_owned() }),
        None => Err(ReleaseError::UnknownKey {
            suite: suite.to_owned(),
            keys: message.signatures().iter().map(issuer).collect(),
        }),
    }
}

enum Verdict {
    Good,
    Bad,
    UnknownKey,
}

fn verify_signature(signature: &Signature, signed: &[u8]) -> Verdict {
    let issuers = signature.issuer_key_id();
    let is_strong = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary))
        && matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512));
    let mut verdict = Verdict::UnknownKey;
    for key in ARCHIVE_KEYS.iter() {
        let by_primary = issuers.iter().any(|issuer| **issuer == key.legacy_key_id());
        if by_primary && is_strong && signature.verify(key, signed).is_ok() {
            return Verdict::Good;
        }
        let subkeys =
            key.public_subkeys.iter().filter(|subkey| issuers.iter().any(|id| **id == subkey.legacy_key_id()));
        for subkey in subkeys {
            if is_strong && signature.verify(subkey, signed).is_ok() {
                return Verdict::Good;
            }
            verdict = Verdict::Bad;
        }
        if by_primary {
            verdict = Verdict::Bad;
        }
    }
    verdict
}

fn issuer(signature: &Signature) -> String {
    signature.issuer_key_id().first().map_or_else(|| "a key without a name".to_owned(), |id| id.to_string())
}

/// A line of the list: digest, length and path.
fn listed_file(line: &str) -> Option<(&str, ReleaseFile)> {
    let mut words = line.split_ascii_whitespace();
    let digest = Digest::from_hex(words.next()?).ok()?;
    let size_bytes = words.next()?.parse().ok()?;
    Some((words.next()?, ReleaseFile { digest, size_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_release(path: &str) -> Vec<u8> {
        let url = format!("http://deb.debian.org/{path}/InRelease");
        reqwest::blocking::get(url).unwrap().error_for_status().unwrap().bytes().unwrap().to_vec()
    }

    #[test]
    fn debians_own_releases_are_believed_and_list_their_packages() {
        for (path, suite) in [
            ("debian/dists/bookworm", "bookworm"),
            ("debian/dists/bookworm-updates", "bookworm-updates"),
            ("debian-security/dists/bookworm-security", "bookworm-security"),
            ("debian/dists/trixie", "trixie"),
        ] {
            let release = Release::verify(&in_release(path), suite).unwrap();
            assert!(release.file("main/binary-amd64/Packages.xz").is_some(), "{suite}");
        }
    }

    #[test]
    fn a_changed_letter_another_suite_and_a_missing_signature_are_refused() {
        let genuine = in_release("debian/dists/bookworm");
        let text = String::from_utf8(genuine.clone()).unwrap();

        let changed = text.replacen("Origin: Debian", "Origin: Debiam", 1);
        let error = Release::verify(changed.as_bytes(), "bookworm").unwrap_err();
        assert!(matches!(error, ReleaseError::BadSignature { .. }), "{error}");

        let error = Release::verify(&genuine, "trixie").unwrap_err();
        assert!(matches!(error, ReleaseError::WrongSuite { .. }), "{error}");

        let (_, unsigned) = text.split_once("\n\n").unwrap();
        let unsigned = unsigned.split("-----BEGIN PGP SIGNATURE").next().unwrap();
        let error = Release::verify(unsigned.as_bytes(), "bookworm").unwrap_err();
        insta::assert_snapshot!(error, @"the release of `bookworm` is not signed");
    }

    #[test]
    fn a_release_with_anything_around_the_signed_text_is_refused() {
        let genuine = String::from_utf8(in_release("debian/dists/bookworm")).unwrap();
        for text in [format!("{genuine}\nDate: never\n"), format!("Date: never\n{genuine}")] {
            assert!(matches!(Release::verify(text.as_bytes(), "bookworm"), Err(ReleaseError::Unsigned { .. })));
        }
    }
}
