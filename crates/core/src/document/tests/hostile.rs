//! Texts that were made to do harm.

use std::fmt::Write as _;

use super::{error, parse};
use crate::spec::error::{SpecError, SpecErrorKind};

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
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    insta::assert_snapshot!(error("a.yaml", text), @"
    error: the file has more than 20000 values, what its aliases stand for included
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
    error: the file has more than 20000 values, what its aliases stand for included
      --> a.yaml:2:404
       |
     2 | …*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,…
       |                                   ^
    ");
}

#[test]
fn more_values_than_any_spec_has_are_refused() {
    insta::assert_snapshot!(error("a.yaml", format!("a: [{}]", "1,".repeat(100_000))), @"
    error: the file has more than 20000 values, what its aliases stand for included
      --> a.yaml:1:79999
       |
     1 | …,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.json", format!("{{\"a\": [1{}]}}", ",1".repeat(100_000))), @"
    error: the file has more than 20000 values, what its aliases stand for included
      --> a.json:1:40004
       |
     1 | …,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
       |                                   ^
    ");
    insta::assert_snapshot!(error("a.toml", format!("a = [{}]", "1,".repeat(100_000))), @"
    error: the file has more than 20000 values, what its aliases stand for included
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
