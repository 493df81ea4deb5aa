//! `.dockerignore`: Docker's patterns (Docker's documentation, ".dockerignore files"). Pure.
//!
//! Other than in a `.gitignore`, every pattern starts at the top (`*.log` does not match `a/b.log`, `**/*.log` does), a
//! leading or trailing slash means nothing, and `!` takes back files of a folder that is left out.

use std::collections::BTreeSet;

/// Longest pattern; matching takes time in proportion to it.
const PATTERN_LENGTH_MAX: usize = 4096;

/// The patterns of one file, in order.
#[derive(Default)]
pub(super) struct Dockerignore {
    patterns: Vec<Pattern>,
}

/// A pattern that cannot be understood.
#[derive(Debug)]
pub(super) struct BadPattern {
    pub(super) line: usize,
    pub(super) pattern: String,
    pub(super) message: &'static str,
}

struct Pattern {
    tokens: Vec<Token>,
    is_exception: bool,
}

enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `**` at the end.
    AnyDeep,
    /// `**/`: no folder, or any number of them.
    Folders,
    /// `[a-z]`, `[^a-z]`
    Class { ranges: Vec<(char, char)>, is_negated: bool },
}

impl Dockerignore {
    /// Reads the patterns of a file.
    pub(super) fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            // Only a `#` at the very start makes a comment.
            if line.starts_with('#') || trimmed.is_empty() {
                continue;
            }
            let bad = |message| BadPattern { line: number + 1, pattern: trimmed.to_owned(), message };
            let (is_exception, pattern) = match trimmed.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, trimmed),
            };
            if pattern.is_empty() {
                return Err(bad("`!` stands alone"));
            }
            if pattern.len() > PATTERN_LENGTH_MAX {
                return Err(bad("it is too long"));
            }
            if let Some(cleaned) = clean(pattern) {
                patterns.push(Pattern { tokens: tokens(&cleaned).map_err(bad)?, is_exception });
            }
        }
        Ok(Self { patterns })
    }

    /// Whether a file of a folder that is left out may be taken back.
    pub(super) fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exception)
    }

    /// Whether the file or folder at `path`, relative to the top, is left out. A pattern that matches a folder matches what
    /// is in it, and the last pattern that matches decides.
    pub(super) fn is_ignored(&self, path: &str) -> bool {
        let ends: Vec<usize> = path.match_indices('/').map(|(end, _)| end).chain([path.len()]).collect();
        let mut is_ignored = false;
        for pattern in &self.patterns {
            if pattern.is_exception == is_ignored && ends.iter().any(|end| pattern.matches(&path[..*end])) {
                is_ignored = !pattern.is_exception;
            }
        }
        is_ignored
    }
}

/// The pattern without `.`, `..`, doubled, leading and trailing slashes; none if nothing is left.
fn clean(pattern: &str) -> Option<String> {
    let mut components: Vec<&str> = Vec::new();
    for component in pattern.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            component => components.push(component),
        }
    }
    (!components.is_empty()).then(|| components.join("/"))
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let token = match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                // `**/` and `**` before anything else both stand for folders.
                characters.next_if_eq(&'/');
                if characters.peek().is_none() { Token::AnyDeep } else { Token::Folders }
            }
            '*' => Token::Any,
            '?' => Token::One,
            '[' => class(&mut characters)?,
            '\\' => Token::Literal(characters.next().ok_or("nothing follows the last `\\`")?),
            character => Token::Literal(character),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "`[` is not closed";
    let is_negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let start = match characters.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { ranges, is_negated }),
            '\\' => characters.next().ok_or(OPEN)?,
            start => start,
        };
        let mut end = start;
        if characters.next_if_eq(&'-').is_some() {
            end = match characters.next().ok_or(OPEN)? {
                '\\' => characters.next().ok_or(OPEN)?,
                // A dash before the bracket is itself.
                ']' => {
                    ranges.extend([(start, start), ('-', '-')]);
                    return Ok(Token::Class { ranges, is_negated });
                }
                end => end,
            };
        }
        if start > end {
            return Err("the range is reversed");
        }
        ranges.push((start, end));
    }
}

impl Pattern {
    /// Follows all ways through the pattern at once, so that no pattern takes more than length times length.
    fn matches(&self, path: &str) -> bool {
        let mut states = BTreeSet::new();
        self.reach(0, &mut states);
        for character in path.chars() {
            let mut next = BTreeSet::new();
            for &state in &states {
                let (stays, moves) = match self.tokens.get(state) {
                    None => (false, false),
                    Some(Token::Literal(literal)) => (false, *literal == character),
                    Some(Token::One) => (false, character != '/'),
                    Some(Token::Any) => (character != '/', false),
                    Some(Token::AnyDeep) => (true, false),
                    // What follows folders may begin after any slash.
                    Some(Token::Folders) => (true, character == '/'),
                    Some(Token::Class { ranges, is_negated }) => {
                        let is_inside = ranges.iter().any(|(start, end)| (*start..=*end).contains(&character));
                        (false, character != '/' && is_inside != *is_negated)
                    }
                };
                if stays {
                    // Staying in `*` and `**` may also mean to be done with them.
                    match self.tokens[state] {
                        Token::Folders => drop(next.insert(state)),
                        _ => self.reach(state, &mut next),
                    }
                }
                if moves {
                    self.reach(state + 1, &mut next);
                }
            }
            states = next;
        }
        states.contains(&self.tokens.len())
    }

    /// Adds `state` and what it reaches without a character.
    fn reach(&self, state: usize, states: &mut BTreeSet<usize>) {
        let mut state = state;
        while states.insert(state) && matches!(self.tokens.get(state), Some(Token::Any | Token::AnyDeep | Token::Folders)) {
            state += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        Dockerignore::parse(text).expect("patterns").is_ignored(path)
    }

    #[test]
    fn patterns_start_at_the_top() {
        for (pattern, path, expected) in [
            ("*.log", "a.log", true),
            ("*.log", "sub/a.log", false),
            ("**/*.log", "sub/deep/a.log", true),
            ("**/*.log", "a.log", true),
            ("/data", "data", true),
            ("data/", "data/x/y", true),
            ("./data", "data", true),
            ("data", "sub/data", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b/c", true),
            ("a/**", "a/x", true),
            ("a/**", "ab", false),
            ("**", "anything/at/all", true),
            ("*/temp*", "somedir/temporary.txt", true),
            ("*/*/temp*", "a/b/temp", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a.b", "axb", false),
            ("a*", "a/b", true),
            ("*b", "a/b", false),
        ] {
            assert_eq!(ignored(pattern, path), expected, "{pattern} and {path}");
        }
    }

    #[test]
    fn the_last_match_decides_and_files_of_a_left_out_folder_come_back() {
        let text = "# comment\n*.md\n!README.md\nbuild\n!build/keep\nREADME-secret.md\n";
        for (path, expected) in [
            ("a.md", true),
            ("README.md", false),
            ("README-secret.md", true),
            ("build/x", true),
            ("build/keep", false),
            ("build/keep/all", false),
            ("# comment", false),
        ] {
            assert_eq!(ignored(text, path), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_that_nobody_can_mean_is_refused() {
        for (text, line, message) in [
            ("ok\n[a", 2, "`[` is not closed"),
            ("!", 1, "`!` stands alone"),
            ("a\\", 1, "nothing follows the last `\\`"),
            ("[z-a]", 1, "the range is reversed"),
        ] {
            let bad = Dockerignore::parse(text).err().expect("a bad pattern");
            assert_eq!((bad.line, bad.message), (line, message));
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_matched_at_once() {
        assert!(!ignored(&"*a".repeat(500), &"a".repeat(499)));
        assert!(!ignored(&"**/a".repeat(500), &"a/".repeat(1000)));
    }
}
