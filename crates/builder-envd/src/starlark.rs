//! Values and calls of Starlark, as text that is read as them, whatever they hold. Pure.
//!
//! Format: Starlark language specification, "Lexical elements"; as Go's implementation reads it, which takes `\x` for ASCII
//! alone. Python's strings agree as far as they are used here.

use std::fmt::Write as _;

/// A line that is longer is broken, where it can be.
const LINE_CHARACTERS_MAX: usize = 100;
const INDENT: &str = "    ";

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A dict of strings, in this order.
    Dict(Vec<(String, Self)>),
    /// A number.
    Number(u32),
    /// `True` or `False`.
    Flag(bool),
}

impl Value {
    /// A string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of strings.
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// The value on one line.
    fn line(&self) -> String {
        match self {
            Self::Text(text) => string(text),
            Self::List(values) => format!("[{}]", values.iter().map(Self::line).collect::<Vec<_>>().join(", ")),
            Self::Dict(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", string(key), value.line()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
            Self::Number(number) => number.to_string(),
            Self::Flag(true) => "True".to_owned(),
            Self::Flag(false) => "False".to_owned(),
        }
    }

    /// The value behind `taken` characters of a line that is indented by `depth` steps.
    fn broken(&self, taken: usize, depth: usize) -> String {
        let line = self.line();
        if taken + line.chars().count() <= LINE_CHARACTERS_MAX {
            return line;
        }
        let indent = INDENT.repeat(depth + 1);
        let mut text = String::new();
        let (open, close) = match self {
            Self::List(values) if !values.is_empty() => {
                for value in values {
                    writeln!(text, "{indent}{},", value.broken(indent.len(), depth + 1)).expect("text takes text");
                }
                ('[', ']')
            }
            Self::Dict(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    let key = string(key);
                    let value = value.broken(indent.len() + key.chars().count() + 2, depth + 1);
                    writeln!(text, "{indent}{key}: {value},").expect("text takes text");
                }
                ('{', '}')
            }
            _ => return line,
        };
        format!("{open}\n{text}{}{close}", INDENT.repeat(depth))
    }
}

/// `name = VALUE`, outside of functions.
pub(crate) fn assignment(name: &str, value: &Value) -> String {
    format!("{name} = {}", value.broken(name.len() + 3, 0))
}

/// A call of `function` inside of a function, with arguments by name.
pub(crate) fn call(function: &str, arguments: &[(&str, Value)]) -> String {
    let short: Vec<_> = arguments.iter().map(|(name, value)| format!("{name} = {}", value.line())).collect();
    let short = format!("{INDENT}{function}({})", short.join(", "));
    if short.chars().count() <= LINE_CHARACTERS_MAX {
        return short;
    }
    let mut text = format!("{INDENT}{function}(\n");
    for (name, value) in arguments {
        let value = value.broken(2 * INDENT.len() + name.len() + 4, 2);
        writeln!(text, "{INDENT}{INDENT}{name} = {value},").expect("text takes text");
    }
    text + INDENT + ")"
}

/// `text` on a line that nobody reads but people.
pub(crate) fn comment(text: &str) -> String {
    let shown: String = text.chars().map(|character| if is_hidden(character) { ' ' } else { character }).collect();
    format!("# {shown}")
}

/// `text` between quotes, on one line.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if !is_hidden(character) => quoted.push(character),
            _ => {
                let number = u32::from(character);
                let escape = match number {
                    ..0x80 => format!("\\x{number:02x}"),
                    0x80..0x1_0000 => format!("\\u{number:04x}"),
                    _ => format!("\\U{number:08x}"),
                };
                quoted.push_str(&escape);
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a reader would not see `character`, or see others in another order: controls, and what steers the direction of
/// text or breaks lines.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn strings_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("", r#""""#),
            (r#"say "hi" it's \ $HOME {x} %s"#, r#""say \"hi\" it's \\ $HOME {x} %s""#),
            ("a\nb\r\tc\0d\u{1b}[0m", r#""a\nb\r\tc\x00d\x1b[0m""#),
            ("étoile ☃ 𝄞", "\"étoile ☃ 𝄞\""),
            ("a\u{202e}b\u{2028}c\u{85}d\u{feff}e\u{e0041}", r#""a\u202eb\u2028c\u0085d\ufeffe\U000e0041""#),
            (r#""""\"#, r#""\"\"\"\\""#),
        ] {
            assert_eq!(string(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_lists_are_one_value_on_each_line() {
        let short = Value::texts(["a", "b"]);
        assert_eq!(call("run", &[("commands", short)]), r#"    run(commands = ["a", "b"])"#);
        let long = Value::texts(["a".repeat(60), "b".repeat(60)]);
        let env = Value::Dict(vec![("A".to_owned(), Value::text("x")), ("LONG".to_owned(), long)]);
        let text = call("runtime.environ", &[("env", env), ("dev", Value::Flag(false)), ("uid", Value::Number(0))]);
        insta::assert_snapshot!(text, @r#"
            runtime.environ(
                env = {
                    "A": "x",
                    "LONG": [
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                    ],
                },
                dev = False,
                uid = 0,
            )
        "#);
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        assert_eq!(comment("a\nrun() \u{2028}b"), "# a run()  b");
    }

    /// Every character that Starlark, Python or a reader could take for something else, and many that they could not.
    fn hostile() -> Vec<String> {
        let mut texts: Vec<String> =
            (0..0x300).filter_map(char::from_u32).map(|character| format!("a{character}b")).collect();
        texts.extend((0x2000..0x2070).filter_map(char::from_u32).map(String::from));
        texts.extend(
            [
                "\u{10ffff}",
                "\u{d7ff}\u{e000}",
                "\u{fffe}",
                "\\u0041",
                "\\\\\"",
                "\"\"\"",
                "'''",
                "\\\n",
                "#",
                "\")\nrun(\"",
            ]
            .map(str::to_owned),
        );
        // Pairs of what has a meaning.
        let special = ['"', '\'', '\\', '\n', '\r', '\0', '{', '%', '$', '`', 'x', 'u', 'U', 'N', '0', '\u{202e}'];
        for first in special {
            texts.extend(special.map(|second| format!("{first}{second}{first}")));
        }
        texts.sort();
        texts.dedup();
        texts
    }

    #[test]
    fn hostile_strings_are_read_back_as_they_were() {
        let texts = hostile();
        let value = Value::Dict(texts.iter().map(|text| (text.clone(), Value::texts([text.clone()]))).collect());
        let program = "import ast, json, sys\n\
            value = ast.literal_eval(sys.stdin.buffer.read().decode())\n\
            assert all([key] == texts for key, texts in value.items())\n\
            print(json.dumps(list(value)))";
        for text in [value.line(), value.broken(0, 0)] {
            let mut python = Command::new("python3")
                .args(["-I", "-c", program])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3 is installed");
            python.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
            let output = python.wait_with_output().expect("it ends");
            let read: Vec<String> = serde_json::from_slice(&output.stdout).expect("it prints JSON");
            assert!(read == texts, "{:?}", read.iter().zip(&texts).find(|(read, text)| read != text));
        }
    }
}
