//! Words of a Dockerfile: values that are read as they stand here, whatever they hold. Pure.
//!
//! Format: Dockerfile reference, "Parser directives", "Environment replacement"; what quotes mean is that of BuildKit's
//! `shell` package. A word cannot hold a newline: nothing in a Dockerfile can.

/// BuildKit reads no line of more than 65,535 bytes, and beside the word stand a name and an instruction.
const WORD_BYTES_MAX: usize = 60_000;

/// `text` as a word in ENV, LABEL, WORKDIR or USER; nothing for what no word can say.
pub(super) fn word(text: &str) -> Option<String> {
    if text.contains(['\n', '\r', '\0']) {
        return None;
    }
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_./:@%+=,-".contains(character);
    if !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.chars().all(is_plain) {
        return Some(text.to_owned());
    }
    Some(format!("\"{}\"", within_quotes(text))).filter(|word| word.len() <= WORD_BYTES_MAX)
}

/// `text` as it stands between double quotes.
pub(super) fn within_quotes(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// `words` as the list that RUN, COPY, ENTRYPOINT and CMD take, which no shell reads.
pub(super) fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| json(word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

fn json(text: &str) -> String {
    let text = serde_json::to_string(text).expect("text is a JSON value");
    // Newer frontends look for heredocs before they look for a list.
    text.replace("<<", "\\u003c\\u003c")
}

/// `text` on a line that nobody reads but people.
pub(super) fn comment(text: &str) -> String {
    let shown: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    format!("# {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_it_must_be() {
        for (text, expected) in [
            ("plain-1.0_x/y:z", "plain-1.0_x/y:z"),
            ("", r#""""#),
            (" a ", r#"" a ""#),
            ("$HOME ${X}", r#""\$HOME \${X}""#),
            (r#"say "hi" it's"#, r#""say \"hi\" it's""#),
            (r"end\", r#""end\\""#),
            ("#no comment", r##""#no comment""##),
            ("tab\tétoile ☃", "\"tab\tétoile ☃\""),
        ] {
            assert_eq!(word(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(word("a\nb"), None);
    }

    #[test]
    fn a_list_is_json_in_which_no_heredoc_begins() {
        assert_eq!(list(["/bin/sh", "-c", "echo \"$A\" \\\n  b"]), r#"["/bin/sh", "-c", "echo \"$A\" \\\n  b"]"#);
        assert_eq!(list(["cat <<END\nx\nEND"]), r#"["cat \u003c\u003cEND\nx\nEND"]"#);
        assert_eq!(list::<&str>([]), "[]");
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        assert_eq!(comment("a\nRUN b"), "# a RUN b");
    }
}
