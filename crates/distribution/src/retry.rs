//! When to try again, and after how long. Pure but for the pause itself.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// How long a pause lasts before cancellation is looked at again.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// How often a request is tried, and how long the pauses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts_max: u32,
    /// The pause before the second attempt. Each further one is twice as long, and half of each is random.
    pub delay_base: Duration,
    /// The longest pause of our own choosing; a registry may ask for a longer one.
    pub delay_max: Duration,
    /// All pauses together. A registry that asks for more is not waited for.
    pub wait_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            delay_base: Duration::from_millis(500),
            delay_max: Duration::from_secs(15),
            wait_max: Duration::from_secs(60),
        }
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    made: u32,
    waited: Duration,
}

impl RetryPolicy {
    pub(crate) fn attempts(self) -> Attempts {
        Attempts { policy: self, made: 0, waited: Duration::ZERO }
    }
}

impl Attempts {
    /// Forgets earlier failures, because there was progress since. The time that was waited still counts.
    pub(crate) fn forget_failures(&mut self) {
        self.made = 0;
    }

    /// Pauses after `failure`, until another attempt may be made.
    ///
    /// # Errors
    /// `failure` itself if there is to be no other attempt, [`Error::Cancelled`] if the user asked to stop.
    pub(crate) fn pause(&mut self, failure: Error, cancelled: &dyn Fn() -> bool) -> Result<(), Error> {
        self.made += 1;
        if cancelled() {
            return Err(Error::Cancelled);
        }
        if !failure.deserves_retry() {
            return Err(failure);
        }
        let Some(delay) = self.delay(failure.retry_after(), random_fraction()) else { return Err(failure) };
        tracing::debug!(attempt = self.made, ?delay, error = %failure, "trying again");
        self.waited += delay;
        sleep(delay, cancelled)
    }

    /// The pause before the next attempt, or nothing if there is none. `random` is from 0 to 1.
    fn delay(&self, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        if self.made >= self.policy.attempts_max {
            return None;
        }
        let doubled = self.policy.delay_base.saturating_mul(2_u32.saturating_pow(self.made.saturating_sub(1)));
        let own = doubled.min(self.policy.delay_max).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        let delay = own.max(retry_after.unwrap_or_default());
        (self.waited.saturating_add(delay) <= self.policy.wait_max).then_some(delay)
    }
}

fn sleep(delay: Duration, cancelled: &dyn Fn() -> bool) -> Result<(), Error> {
    let end = Instant::now() + delay;
    loop {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PAUSE_STEP));
    }
}

/// A number from 0 to 1. The seed of the standard library's hash maps is random enough to spread clients.
fn random_fraction() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): seconds, or the date after which to come back.
pub(crate) fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = UNIX_EPOCH + Duration::from_secs(parse_http_date(text)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
///
/// The two obsolete forms are not read: no registry sends them.
fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.split_once(", ")?;
    let parts: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let number = |text: &str, max: u64| text.parse::<u64>().ok().filter(|number| *number <= max);
    let (day, year) = (number(day, 31)?, number(year, 9999).filter(|year| *year >= 1970)?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let clock: Vec<&str> = time.split(':').collect();
    let [hours, minutes, seconds] = clock[..] else { return None };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60 + number(seconds, 60)?;
    Some(days_since_1970(year, month, day) * 86400 + seconds)
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March so that leap days come last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days_before_month = (153 * month + 2) / 5;
    365 * year + year / 4 - year / 100 + year / 400 + days_before_month + day.saturating_sub(1) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(made: u32, waited_seconds: u64) -> Attempts {
        Attempts { policy: RetryPolicy::default(), made, waited: Duration::from_secs(waited_seconds) }
    }

    #[test]
    fn pauses_double_and_half_of_each_is_random() {
        let pauses: Vec<_> = (1..=5).map(|made| attempts(made, 0).delay(None, 1.0)).collect();
        let milliseconds = |number| Some(Duration::from_millis(number));
        assert_eq!(pauses, [milliseconds(500), milliseconds(1000), milliseconds(2000), milliseconds(4000), None]);
        assert_eq!(attempts(1, 0).delay(None, 0.0), milliseconds(250));
    }

    #[test]
    fn a_registry_may_ask_for_a_longer_pause_but_not_for_more_than_a_minute_in_all() {
        let seconds = Duration::from_secs;
        assert_eq!(attempts(1, 0).delay(Some(seconds(30)), 0.0), Some(seconds(30)));
        assert_eq!(attempts(1, 0).delay(Some(seconds(61)), 0.0), None);
        assert_eq!(attempts(2, 40).delay(Some(seconds(30)), 0.0), None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(parse_retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:20 GMT", now), Some(Duration::ZERO));
        for text in [
            "",
            "soon",
            "-1",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
        ] {
            assert_eq!(parse_retry_after(text, now), None, "{text}");
        }
    }

    #[test]
    fn the_29th_of_february_2024_is_day_19782() {
        assert_eq!(days_since_1970(2024, 2, 29), 19782);
        assert_eq!(days_since_1970(1970, 1, 1), 0);
    }

    #[test]
    fn cancellation_ends_a_pause() {
        assert!(sleep(Duration::from_secs(3600), &|| true).is_err_and(|error| error.is_cancelled()));
    }
}
