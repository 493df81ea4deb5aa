//! Signatures of releases, verified against the archive keys of the package debian-archive-keyring (RFC 9580). Pure.

use std::sync::LazyLock;

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails;

use super::date::Date;
use super::release::ReleaseError;

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

/// One good signature is enough: a release carries one of each generation of keys.
pub(super) fn verify_signatures(
    message: &CleartextSignedMessage,
    signed: &[u8],
    suite: &str,
    now: Date,
) -> Result<(), ReleaseError> {
    let (mut bad, mut expired) = (None, None);
    for signature in message.signatures() {
        match verify_signature(signature, signed) {
            Verdict::Good { until: Some(until) } if until < now => expired = Some((issuer(signature), until)),
            Verdict::Good { .. } => return Ok(()),
            Verdict::Bad => bad = bad.or_else(|| Some(issuer(signature))),
            Verdict::UnknownKey => {}
        }
    }
    let suite = suite.to_owned();
    match (bad, expired) {
        (_, Some((key, until))) => {
            Err(ReleaseError::ExpiredKey { suite, key, expired: until.to_string(), now: now.to_string() })
        }
        (Some(key), None) => Err(ReleaseError::BadSignature { suite, key }),
        (None, None) if message.signatures().is_empty() => Err(ReleaseError::Unsigned { suite }),
        (None, None) => {
            Err(ReleaseError::UnknownKey { suite, keys: message.signatures().iter().map(issuer).collect() })
        }
    }
}

enum Verdict {
    /// The text is the one that was signed.
    Good {
        /// When the key, or what it signed, expires.
        until: Option<Date>,
    },
    Bad,
    UnknownKey,
}

fn verify_signature(signature: &Signature, signed: &[u8]) -> Verdict {
    let issuers = signature.issuer_key_id();
    let is_strong = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary))
        && matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512));
    let mut verdict = Verdict::UnknownKey;
    for key in ARCHIVE_KEYS.iter() {
        let (id, created) = (key.legacy_key_id(), key.created_at().as_secs());
        let own = key.details.users.iter().flat_map(|user| &user.signatures).chain(&key.details.direct_signatures);
        let own = own.filter(|signature| signature.issuer_key_id().contains(&&id));
        let until = earlier(key_expiry(created, own), signature_expiry(signature));
        if issuers.contains(&&id) {
            if is_strong && signature.verify(key, signed).is_ok() {
                return Verdict::Good { until };
            }
            verdict = Verdict::Bad;
        }
        for subkey in key.public_subkeys.iter().filter(|subkey| issuers.contains(&&subkey.legacy_key_id())) {
            if is_strong && signature.verify(subkey, signed).is_ok() {
                let own = key_expiry(subkey.created_at().as_secs(), subkey.signatures.iter());
                return Verdict::Good { until: earlier(until, own) };
            }
            verdict = Verdict::Bad;
        }
    }
    verdict
}

/// When a key expires, as the latest of its own signatures says (RFC 9580, "Key Expiration Time").
fn key_expiry<'a>(created: u32, own: impl Iterator<Item = &'a Signature>) -> Option<Date> {
    let latest = own.max_by_key(|signature| signature.created())?;
    let seconds = latest.key_expiration_time().map(|duration| duration.as_secs())?;
    (seconds > 0).then(|| Date(u64::from(created) + u64::from(seconds)))
}

/// When a signature expires (RFC 9580, "Signature Expiration Time").
fn signature_expiry(signature: &Signature) -> Option<Date> {
    let seconds = signature.signature_expiration_time().map(|duration| duration.as_secs())?;
    let created = signature.created()?.as_secs();
    (seconds > 0).then(|| Date(u64::from(created) + u64::from(seconds)))
}

fn earlier(one: Option<Date>, other: Option<Date>) -> Option<Date> {
    one.into_iter().chain(other).min()
}

fn issuer(signature: &Signature) -> String {
    signature.issuer_key_id().first().map_or_else(|| "a key without a name".to_owned(), |id| id.to_string())
}
