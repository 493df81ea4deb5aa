//! What a program or library says about itself in its bytes. Pure; nothing is executed.
//!
//! CPython has its version as a C string (`PY_VERSION` in patchlevel.h), in the program or in libpython. glibc has its
//! banner, which `/lib/…/libc.so.6` prints when it is run; musl has its bare version.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A version's last bytes lie in so many: `3.11.12rc12`.
const VERSION_SIZE_BYTES_MAX: usize = 16;
/// A Python has its own version and a few that look like one.
const PYTHONS_MAX: usize = 64;
const GLIBC_BANNER: &[u8] = b"GNU C Library";
const GLIBC_VERSION: &str = "release version 2.";

/// What was found in a program's or library's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Minor and patch of every string that could be a version of Python 3.
    pub(super) pythons: BTreeSet<(u16, u16)>,
    /// The number after `2.` of the glibc that this is.
    pub(super) glibc: Option<u16>,
    /// The numbers after `1.` of every string that could be a version of musl.
    pub(super) musl: BTreeSet<u16>,
    /// Whether the program is started by musl's loader.
    pub(super) is_for_musl: bool,
}

impl Facts {
    /// Looks through `content`; what is no ELF file says nothing.
    pub(super) fn of(content: &[u8]) -> Self {
        let mut facts = Self::default();
        if !content.starts_with(b"\x7fELF") {
            return facts;
        }
        for text in content.split(|byte| *byte == 0) {
            if text.starts_with(b"/lib/ld-musl-") {
                facts.is_for_musl = true;
            } else if text.starts_with(GLIBC_BANNER) {
                facts.glibc = glibc(text).or(facts.glibc);
            } else {
                facts.take_version(&text[text.len().saturating_sub(VERSION_SIZE_BYTES_MAX)..]);
            }
        }
        facts
    }

    /// Linkers store a string that ends another one only once, so a version may stand at the end of other text.
    fn take_version(&mut self, end: &[u8]) {
        let is_of_version = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+');
        let version = end.rsplit(|byte| !is_of_version(byte)).next().and_then(|text| std::str::from_utf8(text).ok());
        let Some((major, rest)) = version.and_then(|version| version.split_once('.')) else { return };
        let Some((minor, patch)) = rest.split_once('.') else { return };
        let Ok(minor) = minor.parse() else { return };
        match major {
            "3" if self.pythons.len() < PYTHONS_MAX => {
                self.pythons.extend(python_patch(patch).map(|patch| (minor, patch)))
            }
            // 1.1 and 1.2 are the only ones that programs link to.
            "1" if matches!(minor, 1 | 2) && patch.parse::<u16>().is_ok() => {
                self.musl.insert(minor);
            }
            _ => {}
        }
    }
}

/// The number in `2`, `2+`, `0rc1`, `0a7`, `0b3+`; nothing for other text.
fn python_patch(text: &str) -> Option<u16> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (patch, suffix) = text.split_at(digits);
    let suffix = suffix.strip_suffix('+').unwrap_or(suffix);
    let number = suffix.strip_prefix("rc").or_else(|| suffix.strip_prefix('a')).or_else(|| suffix.strip_prefix('b'));
    let is_known = number.map_or(suffix.is_empty(), |number| number.parse::<u16>().is_ok());
    if is_known { patch.parse().ok() } else { None }
}

/// `GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.`
fn glibc(banner: &[u8]) -> Option<u16> {
    let banner = String::from_utf8_lossy(banner);
    let (_, version) = banner.split_once(GLIBC_VERSION)?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &[u8]) -> Facts {
        Facts::of(&[b"\x7fELF\x02\0", text, b"\0"].concat())
    }

    #[test]
    fn versions_of_python_are_found_at_the_end_of_strings_only() {
        let pythons = |text: &[u8]| facts(text).pythons.into_iter().collect::<Vec<_>>();
        assert_eq!(pythons(b"x\x003.11.2"), [(11, 2)]);
        assert_eq!(pythons(b"3.14.0rc2\x003.13.0+\0Python 3.9.18\0"), [(9, 18), (13, 0), (14, 0)]);
        assert_eq!(pythons(b"3.11.2 is it\x0013.11.2\x003.11.2.1\x003.11.2x\x003.11\x003.99999999.1"), []);
    }

    #[test]
    fn a_program_that_is_nothing_but_versions_does_not_fill_the_memory() {
        let versions: String = (0..1000).map(|minor| format!("3.{minor}.0\0")).collect();
        assert_eq!(facts(versions.as_bytes()).pythons.len(), 64);
    }

    #[test]
    fn c_libraries_tell_their_versions() {
        let banner = b"GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright";
        assert_eq!(facts(banner).glibc, Some(36));
        assert_eq!(facts(b"musl libc\x001.2.4\x001.9.1").musl, BTreeSet::from([2]));
        assert!(facts(b"/lib/ld-musl-aarch64.so.1").is_for_musl);
        assert_eq!(Facts::of(b"#!/bin/sh\n# GNU C Library release version 2.36.\0"), Facts::default());
    }
}
