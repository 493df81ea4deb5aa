//! What is remembered of an endpoint that failed, for the next builds of this machine. Time comes from the caller, in seconds
//! since 1970.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::choice::Standing;

/// How long an endpoint that failed is suspected. It doubles with each failure that follows without a success between.
pub const SUSPECT_SECONDS: u64 = 30;
/// The longest that an endpoint is suspected.
pub const SUSPECT_SECONDS_MAX: u64 = 300;

/// The file in an endpoint's folder: when it failed, and how often since its last success.
const FILE: &str = "failed";
/// Longer ones are not ours.
const FILE_SIZE_BYTES_MAX: usize = 64;

/// How an endpoint fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// When it failed last, if nothing went well since.
    failed_at: Option<u64>,
    /// How often it failed since something went well.
    failures: u32,
}

impl Health {
    /// What stands in the endpoint's `folder`. What cannot be read counts as nothing: the worst that follows is a connection
    /// that fails.
    pub fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        Self::parse(&text).unwrap_or_default()
    }

    /// Whether it is suspected at the time `now`.
    pub fn standing(&self, now: u64) -> Standing {
        // A failure in the future is one of a clock that was wrong.
        let since = self.failed_at.and_then(|failed_at| now.checked_sub(failed_at));
        match since {
            Some(seconds) if seconds < self.suspect_seconds() => Standing::Suspect,
            _ => Standing::Well,
        }
    }

    /// Notes in the endpoint's `folder` that it failed at the time `now`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn note_failure(folder: &Path, now: u64) -> io::Result<()> {
        let failures = Self::read(folder).failures.saturating_add(1);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{now} {failures}")?;
        file.persist(folder.join(FILE))?;
        Ok(())
    }

    /// Forgets all failures of the endpoint with this `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn note_success(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn suspect_seconds(&self) -> u64 {
        let doubled = self.failures.saturating_sub(1).min(u64::BITS - 1);
        SUSPECT_SECONDS.saturating_mul(1_u64 << doubled).min(SUSPECT_SECONDS_MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.get(..FILE_SIZE_BYTES_MAX).map_or(Some(text), |_| None)?;
        let (failed_at, failures) = text.trim_end().split_once(' ')?;
        Some(Self { failed_at: Some(failed_at.parse().ok()?), failures: failures.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn an_endpoint_that_failed_is_suspected_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = folder.path().join("endpoint");
        assert_eq!(Health::read(&endpoint).standing(NOW), Standing::Well);
        Health::note_failure(&endpoint, NOW).unwrap();
        let health = Health::read(&endpoint);
        assert_eq!(health.standing(NOW), Standing::Suspect);
        assert_eq!(health.standing(NOW + 29), Standing::Suspect);
        assert_eq!(health.standing(NOW + 30), Standing::Well);
    }

    #[test]
    fn failures_in_a_row_are_remembered_longer_and_a_success_forgets_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut periods = Vec::new();
        for _ in 0..6 {
            Health::note_failure(folder.path(), NOW).unwrap();
            let health = Health::read(folder.path());
            periods.push((0..1000).find(|later| health.standing(NOW + later) == Standing::Well).unwrap());
        }
        assert_eq!(periods, [30, 60, 120, 240, 300, 300]);
        Health::note_success(folder.path()).unwrap();
        Health::note_success(folder.path()).unwrap();
        assert_eq!(Health::read(folder.path()), Health::default());
        Health::note_failure(folder.path(), NOW).unwrap();
        assert_eq!(Health::read(folder.path()).standing(NOW + 30), Standing::Well);
    }

    #[test]
    fn nonsense_and_clocks_that_were_wrong_are_forgiven() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "soon 1", "1 -1", "1", "99999999999999999999 1", &"1 ".repeat(100)] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(Health::read(folder.path()), Health::default(), "{text}");
        }
        Health::note_failure(folder.path(), NOW + 1000).unwrap();
        assert_eq!(Health::read(folder.path()).standing(NOW), Standing::Well);
        fs::write(folder.path().join(FILE), format!("{NOW} {}", u32::MAX)).unwrap();
        Health::note_failure(folder.path(), NOW).unwrap();
        assert_eq!(Health::read(folder.path()).standing(NOW + 299), Standing::Suspect);
    }
}
