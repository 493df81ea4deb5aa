//! The files of a new plugin. They lie in `template/` as they are, with words such as `@name@` in them.

/// The files by their path in the workspace.
const FILES: [(&str, &str); 9] = [
    ("Cargo.toml", include_str!("template/workspace.toml")),
    (".gitignore", include_str!("template/gitignore")),
    (".github/workflows/ci.yml", include_str!("template/ci.yml")),
    ("README.md", include_str!("template/README.md")),
    ("builder/Cargo.toml", include_str!("template/builder.toml")),
    ("builder/src/lib.rs", include_str!("template/builder.rs")),
    ("builder/tests/conformance.rs", include_str!("template/conformance.rs")),
    ("plugin/Cargo.toml", include_str!("template/plugin.toml")),
    ("plugin/src/lib.rs", include_str!("template/plugin.rs")),
];

/// What stands in place of the words.
pub(super) struct Words(Vec<(Word, String)>);

/// A word that stands for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The name of the builder and of its crate.
    Name,
    /// The crate as Rust names it.
    Crate,
    /// The type that is the builder.
    Type,
    /// Where the SDK comes from, as a value in Cargo.toml.
    Sdk,
    /// The same as a sentence.
    SdkNote,
    /// The oldest compiler that the SDK takes.
    RustVersion,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Name => "@name@",
            Self::Crate => "@crate@",
            Self::Type => "@type@",
            Self::Sdk => "@sdk@",
            Self::SdkNote => "@sdk_note@",
            Self::RustVersion => "@rust_version@",
        }
    }
}

impl Words {
    /// The words for the builder `name`, whose SDK is the crate in the folder `sdk`, or that of this version.
    pub(super) fn new(name: &str, sdk: Option<&str>) -> Self {
        let (sdk, sdk_note) = match sdk {
            // What JSON escapes in a text without control characters, TOML escapes the same way.
            Some(folder) => (
                format!("{{ path = {} }}", serde_json::Value::from(folder)),
                "`imagespec-plugin-sdk` is a path on one machine: make it a version or a git address before others \
                 build this.",
            ),
            None => (
                format!("\"{}\"", env!("CARGO_PKG_VERSION")),
                "A plugin that was built with an older `imagespec-plugin-sdk` goes on loading.",
            ),
        };
        Self(vec![
            (Word::Name, name.to_owned()),
            (Word::Crate, name.replace('-', "_")),
            (Word::Type, type_name(name)),
            (Word::Sdk, sdk),
            (Word::SdkNote, sdk_note.to_owned()),
            (Word::RustVersion, env!("CARGO_PKG_RUST_VERSION").to_owned()),
        ])
    }

    /// The crate as Rust names it.
    pub(super) fn crate_name(&self) -> &str {
        let (_, name) = self.0.iter().find(|(word, _)| *word == Word::Crate).expect("every word is listed");
        name
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word.text(), meaning))
    }
}

/// The files of the workspace: their paths and texts.
pub(super) fn files(words: &Words) -> Vec<(&'static str, String)> {
    FILES.iter().map(|(path, text)| (*path, words.fill(text))).collect()
}

/// `MyBuilder` for `my`, `MyOwnBuilder` for `my-own`.
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).flat_map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        [first.to_uppercase(), rest.to_owned()]
    });
    words.chain(["Builder".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_used_and_none_is_left() {
        let words = Words::new("my-own", Some("/src/\"sdk\""));
        for (word, _) in &words.0 {
            assert!(FILES.iter().any(|(_, text)| text.contains(word.text())), "{word:?} stands nowhere");
        }
        for (path, text) in files(&words) {
            assert!(!text.contains(" @") && !text.contains("@\""), "{path} has a word that means nothing:\n{text}");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{path} ends in one line feed");
        }
    }

    #[test]
    fn a_name_becomes_a_crate_a_type_and_a_path() {
        let words = Words::new("my-own_2", Some("/src/\"sdk\""));
        assert_eq!(words.crate_name(), "my_own_2");
        assert_eq!(words.fill("@type@ @sdk@"), r#"MyOwn2Builder { path = "/src/\"sdk\"" }"#);
        assert_eq!(type_name("a--b-"), "ABBuilder");
        let released = Words::new("a", None);
        assert_eq!(released.fill("@sdk@"), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    }
}
