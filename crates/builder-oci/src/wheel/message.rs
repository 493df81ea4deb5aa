//! What uv says when it fails, without the passwords that it was given. Pure.

use std::fmt;
use std::ops::Range;
use std::process::Output;

/// How many of uv's last lines an error shows.
const LINES_MAX: usize = 20;
/// How many characters of a line.
const COLUMNS_MAX: usize = 1000;
/// What stands in place of a password.
const MASK: &str = "****";

/// uv's last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UvMessage {
    lines: Vec<String>,
}

impl UvMessage {
    /// What is to be shown of the output of a uv that failed, in which none of `secrets` may stand.
    pub(super) fn new(output: &Output, secrets: &[String]) -> Self {
        let text = String::from_utf8_lossy(&output.stderr);
        Self::of_lines(&text, secrets, || format!("uv said nothing and ended with {}", output.status))
    }

    /// What is to be shown of `text`, in which none of `secrets` may stand; of no text, what `silence` says.
    pub(crate) fn of_lines(text: &str, secrets: &[String], silence: impl FnOnce() -> String) -> Self {
        let text = masked(text, secrets);
        let lines = text.lines().map(|line| printable(line.trim_end())).filter(|line| !line.is_empty());
        let mut lines: Vec<_> = lines.collect();
        // What it did until then is no part of why it failed.
        let error = lines.iter().position(|line| line.starts_with("error: "));
        lines.drain(..error.unwrap_or_default());
        lines.drain(..lines.len().saturating_sub(LINES_MAX));
        match lines.first_mut() {
            Some(first) => *first = first.strip_prefix("error: ").unwrap_or(first).to_owned(),
            None => lines.push(silence()),
        }
        Self { lines }
    }

    /// The lines.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The package that uv could not fetch or build, if it names one: ``Failed to build `six @ …` ``.
    pub(crate) fn package(&self) -> Option<&str> {
        let (_, quoted) = self.lines.first()?.strip_prefix("Failed to ")?.split_once('`')?;
        quoted.split(['`', ' ', '=', '[']).next().filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// Whether the network or a server failed, so that the same may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        let text = self.lines.join(" ");
        let failed = ["error sending request", "client error (", "operation timed out", "HTTP status server error"];
        failed.iter().any(|words| text.contains(words)) && !text.contains("certificate")
    }

    /// Whether uv lacks what it may not fetch.
    pub(crate) fn is_offline(&self) -> bool {
        let text = self.lines.join(" ");
        ["network was disabled", "`--offline`"].iter().any(|words| text.contains(words))
    }

    /// Whether an index did not believe who we are, or was not told.
    pub(crate) fn is_denied(&self) -> bool {
        let text = self.lines.join(" ");
        ["401 Unauthorized", "403 Forbidden"].iter().any(|words| text.contains(words))
    }

    /// Whether a file was not the one that uv knows.
    pub(crate) fn is_other_content(&self) -> bool {
        self.lines.join(" ").to_lowercase().contains("hash mismatch")
    }

    /// Whether uv refused a package that would have to be built.
    pub(crate) fn wants_wheels(&self) -> bool {
        let text = self.lines.join(" ");
        ["no usable wheels", "no wheels", "building from source is disabled", "--no-build"]
            .iter()
            .any(|words| text.contains(words))
    }
}

impl fmt::Display for UvMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for UvMessage {}

/// The passwords of the URLs in `text`, as they are written and as they are meant; where there is none, the user
/// names, which are tokens then.
pub(super) fn secrets_in(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for range in user_infos(text) {
        let is_ssh = text[..range.start].ends_with("ssh://");
        let written = match text[range.clone()].split_once(':') {
            Some((_, password)) => password,
            // The user name of an ssh URL is no secret: it is `git` everywhere.
            None if is_ssh => continue,
            None => &text[range],
        };
        secrets.extend([written.to_owned(), decoded(written)]);
    }
    secrets.retain(|secret| !secret.is_empty());
    // A longer one may hold a shorter one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// `text` without the user's part of any URL, so that the URLs stay of use.
pub(super) fn without_logins(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for range in user_infos(text) {
        kept.push_str(&text[end..range.start]);
        end = range.end + 1;
    }
    kept.push_str(&text[end..]);
    kept
}

/// `text` without `secrets`, and without the user's part of any URL.
fn masked(text: &str, secrets: &[String]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for range in user_infos(text) {
        shown.extend([&text[end..range.start], MASK]);
        end = range.end;
    }
    shown.push_str(&text[end..]);
    secrets.iter().fold(shown, |text, secret| text.replace(secret.as_str(), MASK))
}

/// Where in `text` user names and passwords of URLs stand (RFC 3986, section 3.2.1).
fn user_infos(text: &str) -> Vec<Range<usize>> {
    let ends = |character: char| character.is_whitespace() || "/?#`\"'<>".contains(character);
    let of_url = |(position, separator): (usize, &str)| {
        let start = position + separator.len();
        let authority = &text[start..];
        let authority = &authority[..authority.find(ends).unwrap_or(authority.len())];
        Some(start..start + authority.rfind('@')?)
    };
    text.match_indices("://").filter_map(of_url).collect()
}

/// The bytes behind `%40` and the like.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line that cannot play tricks with a terminal.
fn printable(line: &str) -> String {
    line.chars()
        .take(COLUMNS_MAX)
        .map(|character| if character.is_control() && character != '\t' { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_as_they_are_written_and_as_they_are_meant() {
        let text = "a==1 --hash=x\nb @ https://joe:p%40ss@x.example/b.whl\nc @ git+ssh://git@github.com/c/d";
        assert_eq!(secrets_in(text), ["p%40ss", "p@ss"]);
        assert_eq!(secrets_in("--index-url=https://t0ken@x.example/simple"), ["t0ken", "t0ken"]);
        assert_eq!(secrets_in("https://x.example/simple"), Vec::<String>::new());
    }

    #[test]
    fn nothing_of_a_password_is_left_wherever_it_stands() {
        let shown = |text: &str| masked(text, &["hunter2".to_owned()]);
        assert_eq!(shown("https://joe:other@x.example:8080/a: 401"), "https://****@x.example:8080/a: 401");
        assert_eq!(
            shown("git+https://t0ken@x.example and `http://a@b`"),
            "git+https://****@x.example and `http://****@b`"
        );
        assert_eq!(shown("Authorization: hunter2 (joe@x.example)"), "Authorization: **** (joe@x.example)");
        assert_eq!(shown("https://x.example/a@b"), "https://x.example/a@b");
        assert_eq!(shown("https://joe:p@ss@x.example/"), "https://****@x.example/");
    }
}
