//! Errors of whole files: their places, their order, and what is suggested.

use super::errors;
use crate::document::Format;
use crate::spec::Spec;

#[test]
fn an_unknown_key_is_shown_with_its_line_and_a_suggestion() {
    insta::assert_snapshot!(errors("name: train\n\nbase_image:\n  python_version: 3.11\n\n\n  pakages: [a]\n"), @"
    error: unknown key `pakages`
      --> train.yaml:7:3
       |
     7 |   pakages: [a]
       |   ^^^^^^^
    hint: did you mean `packages`?
    ");
}

#[test]
fn names_of_other_tools_are_understood() {
    let keys = [
        "pip_packages",
        "dependencies",
        "python",
        "apt",
        "image",
        "from",
        "platforms",
        "environment",
        "tag",
        "run",
        "Packages",
        "apt-packages",
        "working_dir",
        "files",
    ];
    let hints: Vec<_> = keys
        .iter()
        .map(|key| {
            let found = Spec::parse("a.yaml", format!("{key}: x").as_bytes(), Format::Yaml).unwrap_err();
            format!("{key}: {}", found[0].hints.join("; "))
        })
        .collect();
    insta::assert_snapshot!(hints.join("\n"), @"
    pip_packages: did you mean `packages`?
    dependencies: did you mean `packages`?
    python: did you mean `python_version`?
    apt: did you mean `apt_packages`?
    image: did you mean `base_image`?
    from: did you mean `base_image`?
    platforms: did you mean `platform`?
    environment: did you mean `env`?
    tag: did you mean `tag_format`?
    run: did you mean `commands`?
    Packages: did you mean `packages`?
    apt-packages: did you mean `apt_packages`?
    working_dir: did you mean `workdir`?
    files: did you mean `copy`?
    ");
}

#[test]
fn a_key_like_no_other_points_to_the_schema() {
    insta::assert_snapshot!(errors("frobnicate: 1\n"), @"
    error: unknown key `frobnicate`
      --> train.yaml:1:1
       |
     1 | frobnicate: 1
       | ^^^^^^^^^^
    hint: `imagespec schema` lists every field
    ");
}

#[test]
fn every_error_of_a_file_is_found_at_once_and_in_order() {
    insta::assert_snapshot!(errors("python_version: 3\npackages: [good, '!bad', 1 2]\nenv: {IMAGESPEC_ID: 1}\nregistry: https://x.example/\nplatform:\n  - linux/amd64\n  - linux/amd46\nzzz: 1\n"), @"
    error: `python_version` cannot be `3`: the minor version is missing
      --> train.yaml:1:17
       |
     1 | python_version: 3
       |                 ^
    hint: write it too, as in `3.11`
    error: `packages` cannot be `!bad`: expected package name starting with an alphanumeric character, found `!`
      --> train.yaml:2:18
       |
     2 | packages: [good, '!bad', 1 2]
       |                  ^^^^^^
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `1 2`: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `2`
      --> train.yaml:2:26
       |
     2 | packages: [good, '!bad', 1 2]
       |                          ^^^
    hint: an entry is one package: write `[1, 2]`
    error: `env` cannot have the key `IMAGESPEC_ID`: imagespec sets it itself, to the id of the spec
      --> train.yaml:3:7
       |
     3 | env: {IMAGESPEC_ID: 1}
       |       ^^^^^^^^^^^^
    error: `registry` cannot be `https://x.example/`: a registry is written without a scheme
      --> train.yaml:4:11
       |
     4 | registry: https://x.example/
       |           ^^^^^^^^^^^^^^^^^^
    hint: write `x.example`
    error: `platform` cannot be `linux/amd46`: it is no platform that images are built for
      --> train.yaml:7:5
       |
     7 |   - linux/amd46
       |     ^^^^^^^^^^^
    hint: did you mean `linux/amd64`?
    error: unknown key `zzz`
      --> train.yaml:8:1
       |
     8 | zzz: 1
       | ^^^
    hint: `imagespec schema` lists every field
    ");
}

#[test]
fn an_error_in_toml_and_json_has_its_place_too() {
    let render = |name: &str, text: &str, format| -> String {
        Spec::parse(name, text.as_bytes(), format).unwrap_err().iter().map(|it| it.diagnostic().render()).collect()
    };
    insta::assert_snapshot!(render("a.toml", "name = 'x'\n[env]\n\"A B\" = 1\n", Format::Toml), @r#"
    error: `env` cannot have the key `A B`: a variable has letters, digits and `_`, and begins with no digit
      --> a.toml:3:1
       |
     3 | "A B" = 1
       | ^^^^^
    "#);
    insta::assert_snapshot!(render("a.json", "{\n  \"packages\": [\"a\", \"b c\"]\n}", Format::Json), @r#"
    error: `packages` cannot be `b c`: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `c`
      --> a.json:2:21
       |
     2 |   "packages": ["a", "b c"]
       |                     ^^^^^
    hint: an entry is one package: write `[b, c]`
    "#);
}

#[test]
fn a_long_value_is_shortened_in_the_message() {
    let text = format!("name: {}\n", "A".repeat(500));
    insta::assert_snapshot!(errors(&text), @"
    error: `name` cannot be `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA…`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
      --> train.yaml:1:7
       |
     1 | name: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA…
       |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: the registry goes to `registry`, and the tag to `tag_format`
    ");
}

#[test]
fn of_very_many_errors_the_first_hundred_are_told() {
    let text = format!("packages: [{}]", "'!',".repeat(15_000));
    let found = Spec::parse("a.yaml", text.as_bytes(), Format::Yaml).unwrap_err();
    assert_eq!(found.len(), 100);
}

/// Whatever stands in a field is taken or refused, but never ends the program.
#[test]
fn no_value_makes_a_check_panic() {
    let seeds = [
        "x",
        "3.11",
        "cu124",
        "a=b",
        "linux/é",
        "git+https://é",
        "é::b[",
        "a/b:c@sha256:0",
        "{spec_hash}{",
        "oci:é",
        "py3é",
        "'é",
        "a; python_version >= 'é'",
        "a[é]",
        "x @ https://é/é;é",
        "a (>=1",
        "1=é",
        "\u{10ffff}",
        "a~=1",
        "a>=1,",
        "a; 'b' in 'c'",
        "bootstrap:debian/é",
        "https://é:é@é",
        "http://[::1",
        "a===é",
        "a;é",
        "a==1.*.*",
        "a; extra == 'é'",
        "e\u{301}",
    ];
    for field in &crate::spec::field::FIELDS {
        for seed in seeds {
            for (index, _) in seed.char_indices() {
                for text in [seed.to_owned(), seed[index..].to_owned(), seed[..index].to_owned()] {
                    let quoted = serde_json::Value::from(text).to_string();
                    for value in [quoted.clone(), format!("[{quoted}]"), format!("{{{quoted}: {quoted}}}")] {
                        let text = format!("{{\"{}\": {value}}}", field.name);
                        let errors = Spec::parse("a.json", text.as_bytes(), Format::Json).err().unwrap_or_default();
                        let _rendered: Vec<_> = errors.iter().map(|error| error.diagnostic().render()).collect();
                    }
                }
            }
        }
    }
}
