//! The grammars of what becomes part of an image or of its name.

use super::{refused, taken};
use crate::document::Format;
use crate::spec::Spec;

#[test]
fn names_are_repositories() {
    taken("name", &["train", "team/train", "a-b_c.d", "3.10"]);
    insta::assert_snapshot!(refused("name", &["Train", "my image", "a//b", "x:1", "\"\"", "a--", "[a]"]), @"
    error: `name` cannot be `Train`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
    hint: did you mean `train`?
    error: `name` cannot be `my image`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
    hint: did you mean `my-image`?
    error: `name` cannot be `a//b`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
    hint: the registry goes to `registry`, and the tag to `tag_format`
    error: `name` cannot be `x:1`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
    hint: the registry goes to `registry`, and the tag to `tag_format`
    error: `name` cannot be ``: it is empty
    error: `name` cannot be `a--`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
    hint: did you mean `a`?
    error: `name` must be a text, but a list was found
    hint: write `name: train`
    ");
}

#[test]
fn environment_variables_have_names_and_keep_the_text_of_their_values() {
    let spec = Spec::parse("a.yaml", b"env: {Debug: True, N: 1e3, EMPTY: '', LINES: \"a\\nb\"}", Format::Yaml).unwrap();
    let values: Vec<_> = spec.env.iter().map(|(name, value)| (name.as_str(), value.value.as_str())).collect();
    assert_eq!(values, [("Debug", "True"), ("EMPTY", ""), ("LINES", "a\nb"), ("N", "1e3")]);
    insta::assert_snapshot!(refused("env", &["{IMAGESPEC_ID: x}", "{1A: x}", "{A-B: x}", "{'': x}", "{A: }", "{A: [x]}", "[A=1]", "A=1", "{A: \"\\0\"}"]), @r#"
    error: `env` cannot have the key `IMAGESPEC_ID`: imagespec sets it itself, to the id of the spec
    error: `env` cannot have the key `1A`: a variable has letters, digits and `_`, and begins with no digit
    error: `env` cannot have the key `A-B`: a variable has letters, digits and `_`, and begins with no digit
    error: `env` cannot have the key ``: a variable has letters, digits and `_`, and begins with no digit
    error: `env.A` must be a text, but nothing was found
    hint: write `A: ""` for an empty one
    error: `env.A` must be a text, but a list was found
    hint: write `A: ""` for an empty one
    error: `env` must be a mapping, but a list was found
    hint: write `env: {LOG_LEVEL: info}`
    error: `env` must be a mapping, but a text was found
    hint: write `env: {LOG_LEVEL: info}`
    error: character U+0000 is not allowed
    hint: remove it: it cannot be seen, and it changes how the value is read
    "#);
}

#[test]
fn labels_have_names() {
    taken("labels", &["{org.opencontainers.image.source: https://example.com/x, a: 1}"]);
    insta::assert_snapshot!(refused("labels", &["{'a b': x}", "[a]"]), @"
    error: `labels` cannot have the key `a b`: a label has letters, digits, `.`, `_`, `-` and `/`
    error: `labels` must be a mapping, but a list was found
    hint: write `labels: {org.opencontainers.image.source: https://example.com/train}`
    ");
}

#[test]
fn platforms_are_those_of_linux() {
    taken("platform", &["linux/arm64", "[linux/amd64, linux/arm/v7]"]);
    insta::assert_snapshot!(refused("platform", &["darwin/arm64", "amd64", "linux/x86_64", "linux/amd64,linux/arm64", "windows/amd64", "vax", "{a: b}"]), @"
    error: `platform` cannot be `darwin/arm64`: images are built for Linux alone
    hint: did you mean `linux/arm64`?
    error: `platform` cannot be `amd64`: it is no platform that images are built for
    hint: did you mean `linux/amd64`?
    error: `platform` cannot be `linux/x86_64`: it is no platform that images are built for
    hint: did you mean `linux/amd64`?
    error: `platform` cannot be `linux/amd64,linux/arm64`: it is more than one platform
    hint: write `[linux/amd64, linux/arm64]`
    error: `platform` cannot be `windows/amd64`: images are built for Linux alone
    hint: did you mean `linux/amd64`?
    error: `platform` cannot be `vax`: it is no platform that images are built for
    hint: the usual ones are `linux/amd64` and `linux/arm64`
    error: `platform` must be a list of texts, but a mapping was found
    hint: write `platform: [linux/amd64, linux/arm64]`
    ");
}

#[test]
fn registries_have_neither_scheme_nor_slash_at_the_end() {
    taken("registry", &["ghcr.io/team", "localhost:5000", "ghcr.io", "account", "127.0.0.1:5000/x/y"]);
    insta::assert_snapshot!(refused("registry", &["https://ghcr.io/team/", "ghcr.io/", "ghcr.io/Team", "ghcr.io/team:tag", "a b", "x@y"]), @"
    error: `registry` cannot be `https://ghcr.io/team/`: a registry is written without a scheme
    hint: write `ghcr.io/team`
    error: `registry` cannot be `ghcr.io/`: it ends in a slash
    hint: write `ghcr.io`
    error: `registry` cannot be `ghcr.io/Team`: it is not `HOST`, `HOST:PORT` or one of them with a path
    hint: write where images are pushed, as in `ghcr.io/team` or `localhost:5000`
    error: `registry` cannot be `ghcr.io/team:tag`: it is not `HOST`, `HOST:PORT` or one of them with a path
    hint: write where images are pushed, as in `ghcr.io/team` or `localhost:5000`
    error: `registry` cannot be `a b`: it is not `HOST`, `HOST:PORT` or one of them with a path
    hint: write where images are pushed, as in `ghcr.io/team` or `localhost:5000`
    error: `registry` cannot be `x@y`: it is not `HOST`, `HOST:PORT` or one of them with a path
    hint: write where images are pushed, as in `ghcr.io/team` or `localhost:5000`
    ");
}

#[test]
fn a_tag_format_has_the_hash_in_it() {
    taken("tag_format", &["'{spec_hash}'", "'{spec_hash}-dev'", "'v1.{spec_hash}'"]);
    insta::assert_snapshot!(refused("tag_format", &["dev", "'{spec_hash}-{date}'", "'-{spec_hash}'", "'{spec_hash} x'", "'{spec_hash}{spec_hash}{spec_hash}{spec_hash}x'"]), @"
    error: `tag_format` cannot be `dev`: without `{spec_hash}` the tag would stay the same when the image changes
    hint: write `{spec_hash}-dev`
    error: `tag_format` cannot be `{spec_hash}-{date}`: `{spec_hash}` is the only placeholder
    hint: write it as in `{spec_hash}-dev`
    error: `tag_format` cannot be `-{spec_hash}`: the tag would not be valid
    hint: a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two
    error: `tag_format` cannot be `{spec_hash} x`: the tag would not be valid
    hint: a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two
    error: `tag_format` cannot be `{spec_hash}{spec_hash}{spec_hash}{spec_hash}x`: the tag would not be valid
    hint: a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two
    ");
}

#[test]
fn a_base_image_is_one_of_six_things() {
    taken(
        "base_image",
        &[
            "scratch",
            "python:3.11-slim",
            "nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04",
            "oci:layouts/base",
            "docker-archive:base.tar",
            "bootstrap:debian/bookworm",
            "./base.yaml",
            "base.toml",
            "{packages: [numpy], base_image: {apt_packages: [git]}}",
        ],
    );
    insta::assert_snapshot!(refused("base_image", &[
        "docker://python:3.11",
        "ftp://x",
        "Python:3.11",
        "python:",
        "'oci:'",
        "'docker-archive:'",
        "bootstrap:debian/stable",
        "bootstrap:debian/12",
        "bootstrap:ubuntu/jammy",
        "./base",
        "\"a\\tb\"",
        "[a]",
        "{pakages: [x], python_version: 3}",
    ]), @r"
    error: `base_image` cannot be `docker://python:3.11`: an image is named without a scheme
    hint: write `python:3.11`
    error: `base_image` cannot be `ftp://x`: an image is named without a scheme
    hint: write a reference, as in `python:3.11-slim`
    error: `base_image` cannot be `Python:3.11`: a repository has lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) between `/`
    hint: write a reference, as in `python:3.11-slim` or `ghcr.io/team/base@sha256:…`
    error: this is not YAML: mapping values are not allowed in this context
    hint: put a text that holds `: ` in quotes
    error: `base_image` cannot be `oci:`: the path is missing
    hint: write `oci:DIR`, relative to the spec
    error: `base_image` cannot be `docker-archive:`: the path is missing
    hint: write `docker-archive:FILE`, relative to the spec
    error: `base_image` cannot be `bootstrap:debian/stable`: `stable` is another release every few years
    hint: write the code name of a release, as in `bootstrap:debian/bookworm`
    error: `base_image` cannot be `bootstrap:debian/12`: the release is no code name
    hint: write the code name of a release, as in `bootstrap:debian/bookworm`
    error: `base_image` cannot be `bootstrap:ubuntu/jammy`: only Debian can be made from its packages
    hint: write the code name of a release, as in `bootstrap:debian/bookworm`
    error: `base_image` cannot be `./base`: a path must be that of another spec
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    hint: an OCI layout is named `oci:./base`
    error: `base_image` cannot be `a\tb`: it must stand on one line, without tabs
    error: `base_image` must be a text or a nested spec, but a list was found
    hint: write `base_image: python:3.11-slim`
    error: unknown key `pakages`
    hint: did you mean `packages`?
    error: `python_version` cannot be `3`: the minor version is missing
    hint: write it too, as in `3.11`
    ");
}

#[test]
fn an_entry_point_is_a_list() {
    let spec = Spec::parse("a.yaml", b"entrypoint: []\ncmd: [sleep, 10, \"a\\nb\"]", Format::Yaml).unwrap();
    assert_eq!(spec.entrypoint.unwrap().value, Vec::<String>::new());
    assert_eq!(spec.cmd.unwrap().value, ["sleep", "10", "a\nb"]);
    insta::assert_snapshot!(refused("entrypoint", &["python -m 'my app'", "[a, [b]]", "{a: b}"]), @r#"
    error: `entrypoint` must be a list of texts, but a text was found
    hint: write `entrypoint: ["python", "-m", "my app"]`
    error: `entrypoint[1]` must be a text, but a list was found
    hint: write `entrypoint: [python, -m, app]`
    error: `entrypoint` must be a list of texts, but a mapping was found
    hint: write `entrypoint: [python, -m, app]`
    "#);
    insta::assert_snapshot!(refused("cmd", &["\"it's\""]), @r#"
    error: `cmd` must be a list of texts, but a text was found
    hint: write `cmd: ["it's"]`
    "#);
}

#[test]
fn users_are_names_or_numbers() {
    taken("user", &["app", "1000", "1000:1000", "app:staff", "_apt"]);
    insta::assert_snapshot!(refused("user", &["a b", "'1000:'", "'a:b:c'", "4294967296", "-x"]), @"
    error: `user` cannot be `a b`: it is no user
    hint: write a name or a number, as in `app`, `1000` or `1000:1000`
    error: `user` cannot be `1000:`: it is no user
    hint: write a name or a number, as in `app`, `1000` or `1000:1000`
    error: `user` cannot be `a:b:c`: it is no user
    hint: write a name or a number, as in `app`, `1000` or `1000:1000`
    error: `user` cannot be `4294967296`: it is no user
    hint: write a name or a number, as in `app`, `1000` or `1000:1000`
    error: `user` cannot be `-x`: it is no user
    hint: write a name or a number, as in `app`, `1000` or `1000:1000`
    ");
}

#[test]
fn paths_in_the_image_are_absolute() {
    taken("workdir", &["/", "/srv/app"]);
    insta::assert_snapshot!(refused("workdir", &["app", "/a/../b"]), @"
    error: `workdir` cannot be `app`: a path in the image is absolute
    hint: write all of it, from `/` on
    error: `workdir` cannot be `/a/../b`: a path in the image cannot go upwards by `..`
    ");
    insta::assert_snapshot!(refused("python_exec", &["python3"]), @"
    error: `python_exec` cannot be `python3`: a path in the image is absolute
    hint: write all of it, from `/` on
    ");
}

#[test]
fn copied_paths_stay_in_the_folder_of_the_spec() {
    let spec = Spec::parse("a.yaml", b"copy: [./data, files/x.txt, ., .///y]", Format::Yaml).unwrap();
    assert_eq!(
        spec.copy.iter().map(|path| path.value.path.as_str()).collect::<Vec<_>>(),
        ["data", "files/x.txt", ".", "y"]
    );
    insta::assert_snapshot!(refused("copy", &["/etc/passwd", "../x", "a/../../x", "~/x", "a\\b", "\"\""]), @r"
    error: `copy` cannot be `/etc/passwd`: it is not relative to the folder of the spec
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    error: `copy` cannot be `../x`: it goes out of the folder of the spec by `..`
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    error: `copy` cannot be `a/../../x`: it goes out of the folder of the spec by `..`
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    error: `copy` cannot be `~/x`: it is not relative to the folder of the spec
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    error: `copy` cannot be `a\b`: folders are separated by `/`
    hint: write `a/b`
    error: `copy` cannot be ``: it is empty
    ");
}

#[test]
fn source_copy_mode_is_one_of_three_words() {
    taken("source_copy_mode", &["none", "auto", "all"]);
    insta::assert_snapshot!(refused("source_copy_mode", &["al", "everything", "[all]"]), @"
    error: `source_copy_mode` cannot be `al`: it is one of `none`, `auto`, `all`
    hint: did you mean `all`?
    error: `source_copy_mode` cannot be `everything`: it is one of `none`, `auto`, `all`
    error: `source_copy_mode` must be a text, but a list was found
    hint: write `source_copy_mode: auto`
    ");
}

#[test]
fn builders_have_names() {
    taken("builder", &["oci", "docker", "my-builder_2"]);
    insta::assert_snapshot!(refused("builder", &["Docker", "../x"]), @"
    error: `builder` cannot be `Docker`: a builder has lower-case letters, digits, `_`, `.` and `-`
    hint: `imagespec builders` lists the ones that there are
    error: `builder` cannot be `../x`: a builder has lower-case letters, digits, `_`, `.` and `-`
    hint: `imagespec builders` lists the ones that there are
    ");
}

#[test]
fn secrets_have_an_id_and_one_place() {
    let spec = Spec::parse("a.yaml", b"secrets: [token, {id: a, target: /x}, {id: b, env: B}, {id: c}]", Format::Yaml);
    insta::assert_debug_snapshot!(spec.unwrap().secrets.into_iter().map(|secret| secret.value).collect::<Vec<_>>(), @r#"
    [
        SecretMount {
            id: "token",
            target: File(
                "/run/secrets/token",
            ),
        },
        SecretMount {
            id: "a",
            target: File(
                "/x",
            ),
        },
        SecretMount {
            id: "b",
            target: Environment(
                "B",
            ),
        },
        SecretMount {
            id: "c",
            target: File(
                "/run/secrets/c",
            ),
        },
    ]
    "#);
    insta::assert_snapshot!(refused("secrets", &[
        "[{target: /x}]",
        "[{id: a, target: x}]",
        "[{id: a, env: 1X}]",
        "[{id: a, env: A, target: /a}]",
        "[{id: a, traget: /a}]",
        "[{id: a, mode: 1}]",
        "[{id: [a]}]",
        "[{id: a b}]",
        "a/b",
        "[null]",
    ]), @"
    error: an entry of `secrets` needs `id`
    hint: write `secrets: [{id: token, env: API_TOKEN}]`
    error: `secrets.target` cannot be `x`: a path in the image is absolute
    hint: write all of it, from `/` on
    error: `secrets.env` cannot be `1X`: a variable has letters, digits and `_`, and begins with no digit
    error: `secrets.env` cannot be `A`: an entry has either `target` or `env`
    hint: write two entries with the same `id` for both
    error: unknown key `traget` in `secrets`
    hint: did you mean `target`?
    error: unknown key `mode` in `secrets`
    hint: an entry has `id` with `target` or `env`
    error: `secrets.id` must be a text, but a list was found
    hint: write `secrets: [{id: token, env: API_TOKEN}]`
    error: `secrets.id` cannot be `a b`: an id has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`
    error: `secrets` cannot be `a/b`: an id has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`
    error: `secrets[0]` must be a mapping or an id, but nothing was found
    hint: write `secrets: [{id: token, env: API_TOKEN}]`
    ");
    insta::assert_snapshot!(refused("pip_secret_mounts", &["[[.netrc, /root/.netrc]]", "[[a]]"]), @"
    error: `pip_secret_mounts[0]` must be a mapping or an id, but a list was found
    hint: write `{id: NAME, target: /root/.netrc}`, and give the file to the build by `--secret id=NAME,src=.netrc`
    error: `pip_secret_mounts[0]` must be a mapping or an id, but a list was found
    hint: write `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]`
    ");
}

#[test]
fn texts_and_paths_stand_on_one_line() {
    insta::assert_snapshot!(refused("requirements", &["\"a\\nb\"", "''", "[a]"]), @r"
    error: `requirements` cannot be `a\nb`: it must stand on one line, without tabs
    error: `requirements` cannot be ``: it is empty
    error: `requirements` must be a text, but a list was found
    hint: write `requirements: requirements.txt`
    ");
    taken("commands", &["\"a\\n\\tb\"", "[make, 'true']"]);
    taken("description", &["\"a\\nb\""]);
    insta::assert_snapshot!(refused("commands", &["{a: b}", "[[a]]"]), @"
    error: `commands` must be a list of texts, but a mapping was found
    hint: write `commands: [make install]`
    error: `commands[0]` must be a text, but a list was found
    hint: write `commands: [make install]`
    ");
}

#[test]
fn options_of_a_builder_are_anything_with_a_name() {
    let text = b"builder_options: {a: 1, b: [true, 'x'], c: {d: 1.50}, e: ~}";
    let spec = Spec::parse("a.yaml", text, Format::Yaml).unwrap();
    let options: Vec<_> = spec.builder_options.iter().map(|(name, value)| format!("{name}={}", value.value)).collect();
    assert_eq!(options, ["a=1", "b=[true,\"x\"]", "c={\"d\":1.5}", "e=null"]);
    insta::assert_snapshot!(refused("builder_options", &["[a]"]), @"
    error: `builder_options` must be a mapping, but a list was found
    hint: write `builder_options: {compression: zstd}`
    ");
}
