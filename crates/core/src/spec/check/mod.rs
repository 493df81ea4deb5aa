//! The grammars of single values: each function takes a text and says why it cannot be used. Pure.

mod debian;
mod image;
mod python;
mod url;

pub(crate) use debian::{apt_package, conda_channel, conda_package, suite};
pub(crate) use image::{
    builder_name, cuda_version, environment_name, image_name, label_name, platform, registry, secret_id, tag_format,
    user,
};
pub(crate) use python::{likely_package, python_package, python_version};
pub(crate) use url::{index_url, mirror_url};

use super::error::Refusal;

/// Refuses a text that is empty or stands on more than one line.
pub(crate) fn one_line(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new("it is empty"));
    }
    match text.find(['\n', '\t']) {
        Some(_) => Err(Refusal::new("it must stand on one line, without tabs")),
        None => Ok(()),
    }
}

/// Refuses a path in the image that is not absolute or goes upwards.
pub(crate) fn absolute_path(text: &str) -> Result<(), Refusal> {
    if !text.starts_with('/') {
        return Err(Refusal::new("a path in the image is absolute").hint("write all of it, from `/` on"));
    }
    if text.split('/').any(|component| component == "..") {
        return Err(Refusal::new("a path in the image cannot go upwards by `..`"));
    }
    Ok(())
}

/// Refuses a path that does not lie in the folder of the spec.
pub(crate) fn copied_path(text: &str) -> Result<(), Refusal> {
    let only_inside = "only what lies in the folder of the spec can be copied";
    if text.starts_with(['/', '~']) {
        return Err(Refusal::new("it is not relative to the folder of the spec")
            .hint(format!("{only_inside}: move it there, or the spec up")));
    }
    if text.split('/').any(|component| component == "..") {
        return Err(Refusal::new("it goes out of the folder of the spec by `..`")
            .hint(format!("{only_inside}: move it there, or the spec up")));
    }
    if text.contains('\\') {
        return Err(Refusal::new("folders are separated by `/`").hint(format!("write `{}`", text.replace('\\', "/"))));
    }
    Ok(())
}

/// Splits a command line as a shell does: at blanks, but not within quotes or behind a backslash.
///
/// # Errors
/// When a quote is not closed. Nothing is expanded.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, Refusal> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => match characters.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err(Refusal::new("it ends in a backslash")),
            },
            '\'' | '"' => quoted(character, &mut characters, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(quote: char, characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), Refusal> {
    while let Some(character) = characters.next() {
        match character {
            _ if character == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            other => word.push(other),
        }
    }
    Err(Refusal::new(format!("a quote {quote} is not closed")))
}

/// Whether `text` begins with a character that `is_first` takes and goes on with ones that `is_next` takes.
fn is_made_of(text: &str, is_first: impl Fn(char) -> bool, is_next: impl Fn(char) -> bool) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(is_first) && characters.all(is_next)
}

/// Whether `text` is numbers between dots, as many as `counts` allows, none with a needless zero in front.
fn is_version(text: &str, counts: std::ops::RangeInclusive<usize>) -> bool {
    let is_number = |part: &str| {
        !part.is_empty()
            && part.len() <= 4
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    counts.contains(&text.split('.').count()) && text.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let words = |text| shell_words(text).map_err(|_| "refused");
        assert_eq!(
            words(r#"python -c 'print("a b")' "x \"y\"" a\ b"#).unwrap(),
            ["python", "-c", r#"print("a b")"#, r#"x "y""#, "a b"]
        );
        assert_eq!(words("  ").unwrap(), Vec::<String>::new());
        assert_eq!(words("a '' b").unwrap(), ["a", "", "b"]);
        assert!(words("a 'b").is_err());
        assert!(words("a \\").is_err());
    }
}
