//! What a run of the program says, and the one way to compare it.

use crate::TestEnv;

/// Compares with an inline snapshot, in which digests, hashes, ports, sizes and times have no value: they are the
/// business of tests that are about them.
#[macro_export]
macro_rules! snapshot {
    ($text:expr, @$expected:literal) => {
        $crate::insta::with_settings!({filters => vec![
            (r"sha256:[0-9a-f]{64}", "sha256:…"),
            (r"\b[a-z2-7]{32}\b", "HASH"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r#""size_bytes": \d+"#, "\"size_bytes\": N"),
            (r"\d+ bytes", "N bytes"),
            (r" *\d+\.\d\d s", "T s"),
        ]}, {
            $crate::insta::assert_snapshot!($text, @$expected);
        });
    };
}

impl TestEnv {
    /// What a run that succeeds prints.
    pub fn stdout(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout
    }

    /// Exit code and stderr of a run that prints no data.
    pub fn said(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.stdout, "");
        format!("exit code {}\n{}", finished.code, finished.stderr)
    }
}
