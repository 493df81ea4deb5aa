//! Texts that are refused before any field is looked at.

use super::{error, parse};
use crate::spec::error::{SpecError, SpecErrorKind};

#[test]
fn an_unknown_ending_is_refused() {
    insta::assert_snapshot!(error("spec.txt", "a: 1"), @"
    error: cannot tell the format of `spec.txt`
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    ");
}

#[test]
fn invalid_utf8_is_refused_where_it_begins() {
    insta::assert_snapshot!(error("a.yaml", b"name: x\nenv: \xff\xfe\n"), @"
    error: the file is not UTF-8: byte 0xff cannot stand here
      --> a.yaml:2:6
       |
     2 | env: ��
       |      ^
    hint: save the file as UTF-8
    ");
    insta::assert_snapshot!(error("a.toml", b"\xff\xfen\0a\0"), @"
    error: the file is not UTF-8: byte 0xff cannot stand here
      --> a.toml:1:1
       |
     1 | ��n␀a␀
       | ^
    hint: save the file as UTF-8
    ");
}

#[test]
fn characters_that_cannot_be_seen_are_refused() {
    insta::assert_snapshot!(error("a.yaml", "name: a\0b"), @"
    error: character U+0000 is not allowed
      --> a.yaml:1:8
       |
     1 | name: a␀b
       |        ^
    hint: remove it: it cannot be seen, and it changes how the file is read
    ");
    insta::assert_snapshot!(error("a.yaml", "name: a\nenv: \u{7f}"), @"
    error: character U+007F is not allowed
      --> a.yaml:2:6
       |
     2 | env: ␡
       |      ^
    hint: remove it: it cannot be seen, and it changes how the file is read
    ");
    insta::assert_snapshot!(error("a.toml", "name = 'a\u{202e}b'"), @"
    error: character U+202E is not allowed
      --> a.toml:1:10
       |
     1 | name = 'a<U+202E>b'
       |          ^^^^^^^^
    hint: remove it: it cannot be seen, and it changes how the file is read
    ");
    insta::assert_snapshot!(error("a.json", "{\"name\": \"a\u{feff}b\"}"), @r#"
    error: character U+FEFF is not allowed
      --> a.json:1:12
       |
     1 | {"name": "a<U+FEFF>b"}
       |            ^^^^^^^^
    hint: remove it: it cannot be seen, and it changes how the file is read
    "#);
    insta::assert_snapshot!(error("a.yaml", "a: 1\rb: 2"), @"
    error: character U+000D is not allowed
      --> a.yaml:1:5
       |
     1 | a: 1␍b: 2
       |     ^
    hint: remove it: it cannot be seen, and it changes how the file is read
    ");
}

#[test]
fn characters_that_cannot_be_seen_are_refused_behind_an_escape_too() {
    insta::assert_snapshot!(error("a.yaml", "a:\n- \"x\\0y\""), @r#"
    error: character U+0000 is not allowed
      --> a.yaml:2:3
       |
     2 | - "x\0y"
       |   ^^^^^^
    hint: remove it: it cannot be seen, and it changes how the value is read
    "#);
    insta::assert_snapshot!(error("a.json", r#"{"a": "\u0007"}"#), @r#"
    error: character U+0007 is not allowed
      --> a.json:1:7
       |
     1 | {"a": "\u0007"}
       |       ^^^^^^^^
    hint: remove it: it cannot be seen, and it changes how the value is read
    "#);
    insta::assert_snapshot!(error("a.toml", r#"a = "\u001b[31m""#), @r#"
    error: character U+001B is not allowed
      --> a.toml:1:5
       |
     1 | a = "\u001b[31m"
       |     ^^^^^^^^^^^^
    hint: remove it: it cannot be seen, and it changes how the value is read
    "#);
}

#[test]
fn an_empty_file_is_refused_in_every_format() {
    for (name, text) in [
        ("a.yaml", ""),
        ("a.yaml", "# only\n\n# comments\n"),
        ("a.yaml", "---\n"),
        ("a.toml", "# x\n"),
        ("a.json", " \n"),
    ] {
        assert!(matches!(parse(name, text), Err(SpecError { kind: SpecErrorKind::Empty, .. })), "{text:?}");
    }
    insta::assert_snapshot!(error("a.yaml", ""), @"
    error: the file is empty
      --> a.yaml:1:1
    hint: write fields with values, such as `packages: [pandas]`
    ");
}

#[test]
fn a_second_yaml_document_is_refused() {
    insta::assert_snapshot!(error("a.yaml", "a: 1\n---\nb: 2\n"), @"
    error: a second YAML document starts here, but a file holds one
      --> a.yaml:2:1
       |
     2 | ---
       | ^
    hint: write one file for each spec, or `[images.NAME]` in `imagespec.toml`
    ");
}

#[test]
fn a_file_that_is_no_mapping_is_refused() {
    insta::assert_snapshot!(error("a.yaml", "- pandas\n"), @"
    error: the file must be a mapping of fields, but a list was found
      --> a.yaml:1:1
       |
     1 | - pandas
       | ^
    hint: write fields with values, such as `packages: [pandas]`
    ");
    insta::assert_snapshot!(error("a.yaml", "pandas\n"), @"
    error: the file must be a mapping of fields, but a text was found
      --> a.yaml:1:1
       |
     1 | pandas
       | ^^^^^^
    hint: write fields with values, such as `packages: [pandas]`
    ");
    insta::assert_snapshot!(error("a.json", "[]"), @"
    error: the file must be a mapping of fields, but a list was found
      --> a.json:1:1
       |
     1 | []
       | ^^
    hint: write fields with values, such as `packages: [pandas]`
    ");
    insta::assert_snapshot!(error("a.yaml", "null\n"), @"
    error: the file must be a mapping of fields, but nothing was found
      --> a.yaml:1:1
       |
     1 | null
       | ^^^^
    hint: write fields with values, such as `packages: [pandas]`
    ");
}

#[test]
fn a_key_that_stands_twice_is_shown_with_both_places() {
    insta::assert_snapshot!(error("a.yaml", "a: 1\nb: 2\na: 3\n"), @"
    error: key `a` is written twice
      --> a.yaml:3:1
       |
     3 | a: 3
       | ^
    note: it stands first at a.yaml:1:1
    hint: keep one of them, and put the values of both there
    ");
    insta::assert_snapshot!(error("a.json", "{\"env\": {\"a\": 1,\n \"a\": 2}}"), @r#"
    error: key `a` is written twice
      --> a.json:2:2
       |
     2 |  "a": 2}}
       |  ^^^
    note: it stands first at a.json:1:10
    hint: keep one of them, and put the values of both there
    "#);
    insta::assert_snapshot!(error("a.toml", "a = 1\nb = 2\na = 3\n"), @"
    error: key `a` is written twice
      --> a.toml:3:1
       |
     3 | a = 3
       | ^
    note: it stands first at a.toml:1:1
    hint: keep one of them, and put the values of both there
    ");
    insta::assert_snapshot!(error("a.toml", "[env]\nx = 1\n[env]\n"), @"
    error: key `env` is written twice
      --> a.toml:3:2
       |
     3 | [env]
       |  ^^^
    hint: keep one of them, and put the values of both there
    ");
}

#[test]
fn merge_keys_tags_and_keys_that_are_no_text_are_refused() {
    insta::assert_snapshot!(error("a.yaml", "a: &a {x: 1}\nb:\n  <<: *a\n"), @"
    error: merge key `<<` is not supported
      --> a.yaml:3:3
       |
     3 |   <<: *a
       |   ^^
    hint: write the keys out, or put shared ones under `[defaults]` of `imagespec.toml`
    ");
    insta::assert_snapshot!(error("a.yaml", "a: !python/object:os.system x\n"), @"
    error: tag `!python/object:os.system` is not supported
      --> a.yaml:1:4
       |
     1 | a: !python/object:os.system x
       |    ^^^^^^^^^^^^^^^^^^^^^^^^
    hint: remove the tag: a spec is plain data
    ");
    insta::assert_snapshot!(error("a.yaml", "[1, 2]: x\n"), @"
    error: a key must be text
      --> a.yaml:1:1
       |
     1 | [1, 2]: x
       | ^
    ");
    insta::assert_snapshot!(error("a.yaml", "~: x\n"), @"
    error: a key must be text
      --> a.yaml:1:1
       |
     1 | ~: x
       | ^
    ");
}

#[test]
fn an_alias_without_an_anchor_or_within_its_own_is_refused() {
    insta::assert_snapshot!(error("a.yaml", "a: *nowhere\n"), @"
    error: this alias has no anchor before it
      --> a.yaml:1:4
       |
     1 | a: *nowhere
       |    ^
    ");
    insta::assert_snapshot!(error("a.yaml", "a: &a [*a]\n"), @"
    error: this alias has no anchor before it
      --> a.yaml:1:8
       |
     1 | a: &a [*a]
       |        ^
    ");
}

#[test]
fn broken_grammar_is_shown_where_it_breaks() {
    insta::assert_snapshot!(error("a.yaml", "a: [1, 2\nb: 3\n"), @"
    error: this is not YAML: illegal placement of ':' indicator
      --> a.yaml:2:2
       |
     2 | b: 3
       |  ^
    ");
    insta::assert_snapshot!(error("a.yaml", "a: 1\n\tb: 2\n"), @"
    error: this is not YAML: while scanning a plain scalar, found a tab
      --> a.yaml:1:4
       |
     1 | a: 1
       |    ^
    hint: indent with blanks: YAML allows no tabs
    ");
    insta::assert_snapshot!(error("a.yaml", "a: b: c\n"), @"
    error: this is not YAML: mapping values are not allowed in this context
      --> a.yaml:1:5
       |
     1 | a: b: c
       |     ^
    hint: put a text that holds `: ` in quotes
    ");
    insta::assert_snapshot!(error("a.yaml", "a: \"open\n"), @r#"
    error: this is not YAML: unclosed quote
      --> a.yaml:1:4
       |
     1 | a: "open
       |    ^
    "#);
    insta::assert_snapshot!(error("a.toml", "a = \n"), @"
    error: this is not TOML: string values must be quoted, expected literal string
      --> a.toml:1:5
       |
     1 | a =
       |     ^
    ");
    insta::assert_snapshot!(error("a.toml", "a: 1\n"), @"
    error: this is not TOML: key with no value, expected `=`
      --> a.toml:1:4
       |
     1 | a: 1
       |    ^
    ");
    insta::assert_snapshot!(error("a.json", "{\"a\": 1"), @r#"
    error: this is not JSON: unterminated object
      --> a.json:1:1
       |
     1 | {"a": 1
       | ^^^^^^^
    "#);
}

#[test]
fn json_has_none_of_its_extensions() {
    for text in [
        "{} // x",
        "{\"a\": 1,}",
        "{'a': 1}",
        "{a: 1}",
        "{\"a\": 0x10}",
        "{\"a\": +1}",
        "{\"a\": .5}",
        "{\"a\": NaN}",
        "{\"a\" 1}",
        "{\"a\": [1 2]}",
        "{\"a\": \"x\ny\"}",
        "{\"a\": \"\\x41\"}",
        "{\"a\": 1} {}",
        "{\"a\": 01}",
    ] {
        assert!(matches!(parse("a.json", text), Err(SpecError { kind: SpecErrorKind::Syntax { .. }, .. })), "{text}");
    }
    insta::assert_snapshot!(error("a.json", "{\"a\": 1} // x"), @r#"
    error: this is not JSON: comments are not allowed
      --> a.json:1:10
       |
     1 | {"a": 1} // x
       |          ^^^^
    "#);
    insta::assert_snapshot!(error("a.json", "{\"a\": 1,}"), @r#"
    error: this is not JSON: trailing commas are not allowed
      --> a.json:1:8
       |
     1 | {"a": 1,}
       |        ^
    "#);
    insta::assert_snapshot!(error("a.json", "{'a': 1}"), @"
    error: this is not JSON: single-quoted strings are not allowed
      --> a.json:1:2
       |
     1 | {'a': 1}
       |  ^
    ");
    insta::assert_snapshot!(error("a.json", "{\"a\": \"x\ny\"}"), @r#"
    error: this is not JSON: a line end or tab in a string must be written `\n` or `\t`
      --> a.json:1:9
       |
     1 | {"a": "x
       |         ^
    "#);
}
