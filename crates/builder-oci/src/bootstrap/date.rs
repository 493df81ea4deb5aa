//! Dates of releases (Debian repository format, "Date, Valid-Until": as RFC 5322 has them, in UTC). Pure: no clock.

use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_OF_DAY: u64 = 86_400;

/// A moment in seconds since 1970, shown as `Sat, 11 Jul 2026 10:16:37 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date(pub(super) u64);

/// Text that is no date of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidDate;

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ([_, day, month, year, time, "UTC" | "GMT" | "+0000"] | [day, month, year, time, "UTC" | "GMT" | "+0000"]) =
            words.as_slice()
        else {
            return Err(InvalidDate);
        };
        let month = MONTHS.iter().position(|name| name == month).ok_or(InvalidDate)? as u64;
        let clock: Vec<&str> = time.split(':').collect();
        let [hour, minute, second] = clock.as_slice() else { return Err(InvalidDate) };
        let (day, year) = (number(day, 1..=31)?, number(year, 1970..=9999)?);
        let (hour, minute, second) = (number(hour, 0..=23)?, number(minute, 0..=59)?, number(second, 0..=60)?);
        Ok(Self(days_before(year, month, day) * SECONDS_OF_DAY + hour * 3600 + minute * 60 + second))
    }
}

impl Date {
    /// As snapshot.debian.org names its snapshots: `20260711T101637Z`.
    pub(super) fn compact(self) -> String {
        let (year, month, day) = self.day();
        let seconds = self.0 % SECONDS_OF_DAY;
        format!("{year:04}{:02}{day:02}T{:02}{:02}{:02}Z", month + 1, seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// Year, month from 0, and day from 1.
    fn day(self) -> (u64, u64, u64) {
        let days = self.0 / SECONDS_OF_DAY;
        let mut year = 1970 + days / 366;
        while days_before(year + 1, 0, 1) <= days {
            year += 1;
        }
        let month =
            (0..12).rfind(|month| days_before(year, *month, 1) <= days).expect("January is not before its year");
        (year, month, days - days_before(year, month, 1) + 1)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / SECONDS_OF_DAY, self.0 % SECONDS_OF_DAY);
        let weekday = DAYS[usize::try_from(days % 7).expect("less than seven")];
        let (year, month, day) = self.day();
        let name = MONTHS[usize::try_from(month).expect("less than twelve")];
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(formatter, "{weekday}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, InvalidDate> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or(InvalidDate)
}

/// Days from 1970 to a day of a month, which counts from 0.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let in_years = 365 * year + year / 4 - year / 100 + year / 400;
    let in_months = (153 * month + 2) / 5;
    in_years + in_months + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_reads_as_it_is_shown() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Tue, 29 Feb 2000 23:59:59 UTC", 951_868_799),
            ("Sat, 28 Feb 2026 12:00:00 UTC", 1_772_280_000),
            ("Sat, 11 Jul 2026 10:16:37 UTC", 1_783_764_997),
            ("Fri, 31 Dec 2100 00:00:00 UTC", 4_133_894_400),
        ] {
            assert_eq!(text.parse(), Ok(Date(seconds)), "{text}");
            assert_eq!(Date(seconds).to_string(), text);
        }
        assert_eq!(Date(1_783_764_997).compact(), "20260711T101637Z");
        assert_eq!("1 Jan 1970 1:00:00 +0000".parse(), Ok(Date(3600)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "never",
            "Sat, 11 Jul 2026 10:16:37",
            "Sat, 11 Jul 2026 10:16:37 CET",
            "Sat, 32 Jul 2026 10:16:37 UTC",
            "Sat, 11 Ju\u{301}l 2026 10:16:37 UTC",
            "Sat, 11 Jul 0 10:16:37 UTC",
            "Sat, 11 Jul 99999999999999999999 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16 UTC",
            "Sat, 11 Jul 2026 25:16:37 UTC",
        ] {
            assert_eq!(text.parse::<Date>(), Err(InvalidDate), "{text}");
        }
    }
}
