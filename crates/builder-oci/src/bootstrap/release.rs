//! `InRelease`: the signed list of what a suite holds (Debian repository format, "Release files"). Pure: the caller
//! fetches the text and knows the time.

use std::collections::BTreeMap;

use imagespec_core::digest::Digest;
use pgp::composed::CleartextSignedMessage;

use super::date::Date;
use super::signature::verify_signatures;

/// How far a clock may be behind the archive's; apt's own bound.
const CLOCK_SKEW_SECONDS_MAX: u64 = 10;

/// A verified release of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// When it was made.
    pub(super) date: Date,
    /// Until when it may be used; main archives of stable suites do not say.
    valid_until: Option<Date>,
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
    /// Its only good signatures are by keys that may no longer sign.
    #[error("the release of `{suite}` is signed by {key}, which expired on {expired}, and now it is {now}")]
    ExpiredKey {
        /// The suite that was asked for.
        suite: String,
        /// The key that the signature names.
        key: String,
        /// When the key or its signature expired.
        expired: String,
        /// The time now.
        now: String,
    },
    /// It is too old: whoever sends it may hide newer packages.
    #[error("the release of `{suite}` was valid until {valid_until}, and now it is {now}")]
    Expired {
        /// The suite that was asked for.
        suite: String,
        /// Until when it was valid.
        valid_until: String,
        /// The time now.
        now: String,
    },
    /// It is of a time to come.
    #[error("the release of `{suite}` was made on {date}, and now it is {now}")]
    NotYetMade {
        /// The suite that was asked for.
        suite: String,
        /// When it was made, as it says.
        date: String,
        /// The time now.
        now: String,
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
    /// When it is not signed by one of Debian's keys that is valid `now`, is of another suite, or lacks a field.
    pub(super) fn verify(in_release: &[u8], suite: &str, now: Date) -> Result<Self, ReleaseError> {
        let unsigned = || ReleaseError::Unsigned { suite: suite.to_owned() };
        let text = std::str::from_utf8(in_release).map_err(|_| unsigned())?;
        let (message, _) = CleartextSignedMessage::from_string(text).map_err(|_| unsigned())?;
        // What is read is what was signed, and not what stands around it.
        let signed = message.signed_text();
        verify_signatures(&message, signed.as_bytes(), suite, now)?;
        Self::parse(&signed, suite)
    }

    /// Checks that it is in force, as apt does.
    ///
    /// # Errors
    /// When it is no longer valid, or not made yet.
    pub(super) fn check_dates(&self, suite: &str, now: Date) -> Result<(), ReleaseError> {
        let (suite, shown) = (suite.to_owned(), now.to_string());
        if self.date > Date(now.0 + CLOCK_SKEW_SECONDS_MAX) {
            return Err(ReleaseError::NotYetMade { suite, date: self.date.to_string(), now: shown });
        }
        match self.valid_until.filter(|valid_until| *valid_until < now) {
            Some(valid_until) => Err(ReleaseError::Expired { suite, valid_until: valid_until.to_string(), now: shown }),
            None => Ok(()),
        }
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
        let date = |name| {
            let text = fields.get(name).copied();
            text.map(|text| text.parse::<Date>().map_err(|_| malformed(name))).transpose()
        };
        Ok(Self {
            date: date("Date")?.ok_or_else(|| malformed("Date"))?,
            valid_until: date("Valid-Until")?,
            by_hash: match fields.get("Acquire-By-Hash") {
                Some(&"yes") => ByHash::Offered,
                _ => ByHash::Absent,
            },
            files,
        })
    }
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

    /// 2026-07-12
    const NOW: Date = Date(1_783_814_400);

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
            let release = Release::verify(&in_release(path), suite, NOW).unwrap();
            assert!(release.file("main/binary-amd64/Packages.xz").is_some(), "{suite}");
        }
    }

    #[test]
    fn a_changed_letter_another_suite_and_a_missing_signature_are_refused() {
        let genuine = in_release("debian/dists/bookworm");
        let text = String::from_utf8(genuine.clone()).unwrap();

        let changed = text.replacen("Origin: Debian", "Origin: Debiam", 1);
        let error = Release::verify(changed.as_bytes(), "bookworm", NOW).unwrap_err();
        assert!(matches!(error, ReleaseError::BadSignature { .. }), "{error}");

        let error = Release::verify(&genuine, "trixie", NOW).unwrap_err();
        assert!(matches!(error, ReleaseError::WrongSuite { .. }), "{error}");

        let (_, unsigned) = text.split_once("\n\n").unwrap();
        let unsigned = unsigned.split("-----BEGIN PGP SIGNATURE").next().unwrap();
        let error = Release::verify(unsigned.as_bytes(), "bookworm", NOW).unwrap_err();
        insta::assert_snapshot!(error, @"the release of `bookworm` is not signed");
    }

    #[test]
    fn a_release_with_anything_around_the_signed_text_is_refused() {
        let genuine = String::from_utf8(in_release("debian/dists/bookworm")).unwrap();
        for text in [format!("{genuine}\nDate: never\n"), format!("Date: never\n{genuine}")] {
            assert!(matches!(Release::verify(text.as_bytes(), "bookworm", NOW), Err(ReleaseError::Unsigned { .. })));
        }
    }

    #[test]
    fn a_release_is_believed_only_from_its_date_to_the_end_of_its_validity() {
        let digest = Digest::of(b"");
        let text = format!(
            "Suite: stable-security\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n\
             Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nSHA256:\n {} 0 main/a\n",
            digest.to_hex()
        );
        let check = |text: &str, now: &str| {
            let release = Release::parse(text, "stable-security").unwrap();
            release.check_dates("stable-security", now.parse().unwrap())
        };
        assert!(check(&text, "Sat, 11 Jul 2026 10:16:27 UTC").is_ok());
        assert!(check(&text, "Sat, 18 Jul 2026 10:16:37 UTC").is_ok());
        let error = check(&text, "Sat, 18 Jul 2026 10:16:38 UTC").unwrap_err();
        insta::assert_snapshot!(error, @"the release of `stable-security` was valid until Sat, 18 Jul 2026 10:16:37 UTC, and now it is Sat, 18 Jul 2026 10:16:38 UTC");
        let error = check(&text, "Sat, 11 Jul 2026 10:16:26 UTC").unwrap_err();
        insta::assert_snapshot!(error, @"the release of `stable-security` was made on Sat, 11 Jul 2026 10:16:37 UTC, and now it is Sat, 11 Jul 2026 10:16:26 UTC");
        let endless = text.replace("Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\n", "");
        assert!(check(&endless, "Sat, 11 Jul 2099 10:16:37 UTC").is_ok());
        let error = Release::parse(&text.replace("18 Jul 2026", "soon"), "stable-security").unwrap_err();
        insta::assert_snapshot!(error, @"field `Valid-Until` of the release of `stable-security` is missing or malformed");
    }

    #[test]
    fn a_key_that_expired_does_not_vouch() {
        let genuine = in_release("debian/dists/bookworm");
        let later = "Sat, 01 Jan 2050 00:00:00 UTC".parse().unwrap();
        let error = Release::verify(&genuine, "bookworm", later).unwrap_err();
        assert!(matches!(&error, ReleaseError::ExpiredKey { .. }), "{error}");
        assert!(error.to_string().ends_with("and now it is Sat, 01 Jan 2050 00:00:00 UTC"), "{error}");
    }
}
