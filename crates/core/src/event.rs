//! What a build tells its caller while it runs. Pure data: how it looks is the caller's affair.

use serde::{Deserialize, Serialize};

/// One thing that happened in a build. Written as JSON by `--progress json`, one object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step began. Steps may run side by side and inside one another.
    StepStarted {
        /// Unique in the build.
        step: u32,
        /// What is done, as shown to the user: `resolve 3 requirements`.
        title: String,
    },
    /// A step came further.
    StepProgress {
        /// Which one.
        step: u32,
        /// How much is done, in `unit`.
        done: u64,
        /// How much there is to do, if that is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// A step ended well.
    StepFinished {
        /// Which one.
        step: u32,
        /// Milliseconds since it began.
        duration_ms: u64,
        /// Whether an earlier result was used.
        outcome: Outcome,
        /// What came out, in a few words: `23 packages`.
        summary: String,
    },
    /// A line that a program inside the build printed.
    Output {
        /// The step that runs it.
        step: u32,
        /// The line without its end.
        line: String,
    },
    /// Something that the user may like to know: that an image exists and nothing is to be built.
    Notice {
        /// One line.
        message: String,
    },
    /// Something that the user should know, though the build goes on.
    Warning {
        /// One line.
        message: String,
    },
}

/// What the numbers of a progress count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things: packages, layers, files.
    Items,
}

/// How a step came to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done now.
    Done,
    /// It was done earlier and found.
    Cached,
}

/// A length as people say it: `350 bytes`, `42.1 MB`.
pub fn size(size_bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| size_bytes >= *unit) {
        // Tenths, rounded down.
        Some((unit, name)) => format!("{}.{} {name}", size_bytes / unit, size_bytes % unit * 10 / unit),
        None => format!("{size_bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_in_the_unit_that_fits() {
        let said = [0, 999, 1_000, 44_198_984, u64::MAX].map(size);
        assert_eq!(said, ["0 bytes", "999 bytes", "1.0 kB", "44.1 MB", "18446744073.7 GB"]);
    }
}
