//! Scalars keep their source text, whichever format they stand in.

use std::fmt::Write as _;

use super::parse;
use crate::document::{Node, Value};

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
