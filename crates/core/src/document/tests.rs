//! Texts that are refused before any field is looked at, and how scalars keep their text.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::*;

fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Node, SpecError> {
    let format = Format::of(Path::new(name))?;
    Node::parse(name, text.as_ref(), format)
}

/// The error of a text, found quickly however hostile the text is.
fn error(name: &str, text: impl AsRef<[u8]>) -> String {
    let start = Instant::now();
    let result = parse(name, text);
    let elapsed = start.elapsed();
    // Ten times the promise, because this is a debug build on a busy machine.
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    match result {
        Ok(node) => panic!("accepted: {}", node.to_json()),
        Err(error) => error.diagnostic().render(),
    }
}

/// The kind, text and place of every scalar.
fn scalars(name: &str, text: &str) -> String {
    fn walk(node: &Node, path: &str, lines: &mut String) {
        match &node.value {
            Value::Scalar(scalar) => {
                let place = (node.place.line, node.place.column, node.place.length);
                writeln!(lines, "{path} = {:?} {:?} {place:?}", scalar.kind, scalar.text).unwrap();
            }
            Value::Sequence(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{path}.{index}"), lines));
            }
            Value::Mapping(entries) => {
                entries.iter().for_each(|entry| walk(&entry.value, &format!("{path}.{}", entry.key.value), lines));
            }
        }
    }
    let mut lines = String::new();
    match parse(name, text) {
        Ok(node) => walk(&node, "", &mut lines),
        Err(error) => panic!("{}", error.diagnostic().render()),
    }
    lines
}

#[test]
fn yaml_scalars_keep_their_source_text() {
    let text = "a: 3.10\nb: yes\nc: 1e3\nd: 0x10\ne: True\nf: \"3.10\"\ng: ~\nh:\ni: 'é'\nj: &x 1.0\nk: *x\nl: !!str 3.0\nm: .inf\nn: 010\no: 1_000\np: !!int \"3\"\n3.10: 2024-01-01\nq: |\n  two\n  lines\nr: [a b, -1, 123456789012345678901234567890]\n";
    insta::assert_snapshot!(scalars("a.yaml", text), @r#"
    .a = Number "3.10" (1, 4, 4)
    .b = Plain "yes" (2, 4, 3)
    .c = Number "1e3" (3, 4, 3)
    .d = Number "0x10" (4, 4, 4)
    .e = Boolean "True" (5, 4, 4)
    .f = Quoted "3.10" (6, 4, 6)
    .g = Null "~" (7, 4, 1)
    .h = Null "" (8, 2, 1)
    .i = Quoted "é" (9, 4, 3)
    .j = Number "1.0" (10, 7, 3)
    .k = Number "1.0" (10, 7, 3)
    .l = Plain "3.0" (12, 10, 3)
    .m = Number ".inf" (13, 4, 4)
    .n = Number "010" (14, 4, 3)
    .o = Number "1_000" (15, 4, 5)
    .p = Number "3" (16, 10, 3)
    .3.10 = Plain "2024-01-01" (17, 7, 10)
    .q = Plain "two\nlines\n" (19, 3, 3)
    .r.0 = Plain "a b" (21, 5, 3)
    .r.1 = Number "-1" (21, 10, 2)
    .r.2 = Number "123456789012345678901234567890" (21, 14, 30)
    "#);
}

#[test]
fn toml_scalars_keep_their_source_text() {
    let text = "a = 3.10\nb = 1_000\nc = 0x10\nd = true\ne = \"3.10\"\nf = 2024-01-01\ng = ['x', -1, inf]\nenv.z = 1\nenv.a = '2'\n[t]\nx = \"\"\"\ntwo\nlines\"\"\"\n";
    insta::assert_snapshot!(scalars("a.toml", text), @r#"
    .a = Number "3.10" (1, 5, 4)
    .b = Number "1_000" (2, 5, 5)
    .c = Number "0x10" (3, 5, 4)
    .d = Boolean "true" (4, 5, 4)
    .e = Quoted "3.10" (5, 5, 6)
    .f = Plain "2024-01-01" (6, 5, 10)
    .g.0 = Quoted "x" (7, 6, 3)
    .g.1 = Number "-1" (7, 11, 2)
    .g.2 = Number "inf" (7, 15, 3)
    .env.z = Number "1" (8, 9, 1)
    .env.a = Quoted "2" (9, 9, 3)
    .t.x = Quoted "two\nlines" (11, 5, 3)
    "#);
}

#[test]
fn json_scalars_keep_their_source_text() {
    let text = r#"{"a": 3.10, "b": true, "c": null, "d": "3.10", "e": [1e3, -0], "é": "\u00e9\n"}"#;
    insta::assert_snapshot!(scalars("a.json", text), @r#"
    .a = Number "3.10" (1, 7, 4)
    .b = Boolean "true" (1, 18, 4)
    .c = Null "null" (1, 29, 4)
    .d = Quoted "3.10" (1, 40, 6)
    .e.0 = Number "1e3" (1, 54, 3)
    .e.1 = Number "-0" (1, 59, 2)
    .é = Quoted "é\n" (1, 69, 10)
    "#);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text() {
    insta::assert_snapshot!(scalars("a.yaml", "\u{feff}a: 1\r\nb: two\r\n"), @r#"
    .a = Number "1" (1, 4, 1)
    .b = Plain "two" (2, 4, 3)
    "#);
}

#[test]
fn an_unknown_ending_is_refused() {
    insta::assert_snapshot!(error("spec.txt", "a: 1"), @"
    error: cannot tell the format of `spec.txt`
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    ");
}

#[test]
fn a_file_over_one_mebibyte_is_refused() {
    let mut text = "# ".repeat(512 * 1024);
    assert!(matches!(parse("a.yaml", &text), Err(SpecError { kind: SpecErrorKind::Empty, .. })));
    text.push('x');
    insta::assert_snapshot!(error("a.yaml", text), @"
    error: the file is larger than 1048576 bytes, which no spec needs
      --> a.yaml:1:1
    hint: is this the file that you meant?
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
    "#);
    insta::assert_snapshot!(error("a.json", r#"{"a": "\u0007"}"#), @r#"
    error: character U+0007 is not allowed
      --> a.json:1:7
       |
     1 | {"a": "\u0007"}
       |       ^^^^^^^^
    "#);
    insta::assert_snapshot!(error("a.toml", r#"a = "\u001b[31m""#), @r#"
    error: character U+001B is not allowed
      --> a.toml:1:5
       |
     1 | a = "\u001b[31m"
       |     ^^^^^^^^^^^^
    "#);
}

#[test]
fn an_empty_file_is_refused_in_every_format() {
    for (name, text) in [("a.yaml", ""), ("a.yaml", "# only\n\n# comments\n"), ("a.yaml", "---\n"), ("a.toml", "# x\n"), ("a.json", " \n")] {
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
      --> a.yaml:1:29
       |
     1 | a: !python/object:os.system x
       |                             ^
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
    for text in ["{} // x", "{\"a\": 1,}", "{'a': 1}", "{a: 1}", "{\"a\": 0x10}", "{\"a\": +1}", "{\"a\": .5}", "{\"a\": NaN}", "{\"a\" 1}", "{\"a\": [1 2]}", "{\"a\": \"x\ny\"}", "{\"a\": \"\\x41\"}", "{\"a\": 1} {}", "{\"a\": 01}"] {
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

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    insta::assert_snapshot!(error("a.yaml", text), @"
    error: the file has more than 20000 values once its aliases are expanded
      --> a.yaml:5:15
       |
     5 | a4: &a4 [*a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3]
       |               ^
    ");
}

#[test]
fn many_aliases_of_one_long_text_are_refused() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 100_000].join(","));
    insta::assert_snapshot!(error("a.yaml", text), @"
    error: the file has more than 20000 values once its aliases are expanded
      --> a.yaml:2:404
       |
     2 | …*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,…
       |                                   ^
    ");
}

#[test]
fn more_values_than_any_spec_has_are_refused() {
    insta::assert_snapshot!(error("a.yaml", format!("a: [{}]", "1,".repeat(100_000))), @"
    error: the file has more than 20000 values once its aliases are expanded
      --> a.yaml:1:79999
       |
     1 | …,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.json", format!("{{\"a\": [1{}]}}", ",1".repeat(100_000))), @"
    error: the file has more than 20000 values once its aliases are expanded
      --> a.json:1:40004
       |
     1 | …,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.toml", format!("a = [{}]", "1,".repeat(100_000))), @"
    error: the file has more than 20000 values once its aliases are expanded
      --> a.toml:1:40004
       |
     1 | …,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
       |                                   ^
    ");
}

#[test]
fn nesting_a_hundred_thousand_deep_is_refused() {
    let deep = 100_000;
    insta::assert_snapshot!(error("a.yaml", format!("a: {}", "[".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.yaml:1:37
       |
     1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.yaml", format!("a:\n{}", "- ".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.yaml:2:65
       |
     2 | … - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - …
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.yaml", format!("{}1", "{a: ".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.yaml:1:133
       |
     1 | … {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.json", format!("{{\"a\": {}{}}}", "[".repeat(deep), "]".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.json:1:517
       |
     1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
       |                                   ^^
    ");
    insta::assert_snapshot!(error("a.json", "{\"a\":".repeat(deep)), @r#"
    error: lists and mappings are nested more than 32 deep
      --> a.json:1:1282
       |
     1 | …":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"…
       |                                   ^^^^^
    "#);
    insta::assert_snapshot!(error("a.toml", format!("a = {}{}", "[".repeat(deep), "]".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.toml:1:85
       |
     1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.toml", format!("a = {}", "{b = ".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.toml:1:405
       |
     1 | … = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {b = {…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.toml", format!("[{}a]", "a.".repeat(deep))), @"
    error: lists and mappings are nested more than 32 deep
      --> a.toml:1:1
       |
     1 | [a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a…
       | ^
    ");
}

#[test]
fn nesting_is_counted_alike_in_every_format() {
    for (deep, is_accepted) in [(32, true), (33, false)] {
        let brackets = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(parse("a.yaml", format!("a: {brackets}")).is_ok(), is_accepted, "YAML, {deep}");
        assert_eq!(parse("a.json", format!("{{\"a\": {brackets}}}")).is_ok(), is_accepted, "JSON, {deep}");
        assert_eq!(parse("a.toml", format!("a = {brackets}")).is_ok(), is_accepted, "TOML, {deep}");
    }
}

/// Every text that the fuzz corpus of small mutations makes is accepted or refused, but never ends the program.
#[test]
fn no_mutation_of_a_spec_makes_the_reader_panic() {
    let seeds = [
        ("a.yaml", "a: [1, \"x\", {b: ~}]\nc: &d |\n  é\ne: *d\n"),
        ("a.toml", "a = [1, \"x\"]\nb.c = 'é'\n[d]\ne = 1.0\n"),
        ("a.json", "{\"a\": [1, \"é\\u0041\", null, {\"b\": true}]}"),
    ];
    let insertions = ["\"", "'", "[", "}", ":", "\n", "\t", "\\", "&", "*", "é", "\u{10ffff}", "- ", "---\n", "%", "|"];
    for (name, seed) in seeds {
        for (index, _) in seed.char_indices() {
            for insertion in insertions {
                let text = format!("{}{insertion}{}", &seed[..index], &seed[index..]);
                let _rendered = parse(name, &text).map_err(|error| error.diagnostic().render());
            }
            let _rendered = parse(name, &seed[..index]).map_err(|error| error.diagnostic().render());
            let without: String = seed.char_indices().filter(|(at, _)| *at != index).map(|(_, it)| it).collect();
            let _rendered = parse(name, &without).map_err(|error| error.diagnostic().render());
        }
    }
}
