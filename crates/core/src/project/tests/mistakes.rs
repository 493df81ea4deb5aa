//! The exact text of what is refused.

use std::path::Path;

use super::Folder;
use crate::project::{PROJECT_FILE, Project, ProjectRole, Setting, read_spec};

/// The errors of a project file.
fn project_errors(text: &str) -> String {
    let folder = Folder::new(&[(PROJECT_FILE, text)]);
    let errors = Project::read(&folder.path().join(PROJECT_FILE), PROJECT_FILE, ProjectRole::Project);
    folder.render(&errors.expect_err("an error"))
}

#[test]
fn mistakes_in_a_project_file_are_shown_with_their_places() {
    insta::assert_snapshot!(project_errors("[projekt]\nbuilder = 'x'\n"), @"
    error: unknown key `projekt`
      --> imagespec.toml:1:2
       |
     1 | [projekt]
       |  ^^^^^^^
    hint: did you mean `project`?
    ");
    insta::assert_snapshot!(project_errors("packages = ['a']\n"), @"
    error: unknown key `packages`
      --> imagespec.toml:1:1
       |
     1 | packages = ['a']
       | ^^^^^^^^
    hint: fields of a spec stand under `[defaults]` or `[images.NAME]`
    ");
    insta::assert_snapshot!(project_errors("[zzz]\n"), @"
    error: unknown key `zzz`
      --> imagespec.toml:1:2
       |
     1 | [zzz]
       |  ^^^
    hint: the tables are `project`, `defaults`, `images`, `builders`, `registries` and `plugins`
    ");
    insta::assert_snapshot!(project_errors("project = 1\n[defaults]\nname = 'x'\nbuilder = 'oci'\nregistry = 'a'\npakages = ['x']\npackages = ['!']\n"), @"
    error: `project` must be a mapping of fields, but a number was found
      --> imagespec.toml:1:11
       |
     1 | project = 1
       |           ^
    error: `defaults` cannot have the key `name`: two images cannot have the same name
      --> imagespec.toml:3:1
       |
     3 | name = 'x'
       | ^^^^
    hint: write it in the spec, or name the image by `[images.NAME]`
    error: `defaults` cannot have the key `builder`: it is weaker than what a spec says
      --> imagespec.toml:4:1
       |
     4 | builder = 'oci'
       | ^^^^^^^
    hint: move it to `[project]`, as `builder = …`
    error: `defaults` cannot have the key `registry`: it is weaker than what a spec says
      --> imagespec.toml:5:1
       |
     5 | registry = 'a'
       | ^^^^^^^^
    hint: move it to `[project]`, as `registry = …`
    error: unknown key `pakages`
      --> imagespec.toml:6:1
       |
     6 | pakages = ['x']
       | ^^^^^^^
    hint: did you mean `packages`?
    error: `packages` cannot be `!`: expected package name starting with an alphanumeric character, found `!`
      --> imagespec.toml:7:13
       |
     7 | packages = ['!']
       |             ^^^
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
    insta::assert_snapshot!(project_errors("[project]\nbuilder = 'A B'\nregistry = 'https://a'\nmirror = 'x'\ndebian_mirror = 'x'\n"), @"
    error: `project.builder` cannot be `A B`: a builder has lower-case letters, digits, `_`, `.` and `-`
      --> imagespec.toml:2:11
       |
     2 | builder = 'A B'
       |           ^^^^^
    hint: `imagespec builders` lists the ones that there are
    error: `project.registry` cannot be `https://a`: a registry is written without a scheme
      --> imagespec.toml:3:12
       |
     3 | registry = 'https://a'
       |            ^^^^^^^^^^^
    hint: write `a`
    error: unknown key `mirror` in `project`
      --> imagespec.toml:4:1
       |
     4 | mirror = 'x'
       | ^^^^^^
    hint: the keys are `builder`, `registry` and `debian_mirror`
    error: `project.debian_mirror` cannot be `x`: it is no URL: relative URL without a base
      --> imagespec.toml:5:17
       |
     5 | debian_mirror = 'x'
       |                 ^^^
    hint: write a whole URL, as in `http://deb.debian.org/debian`
    ");
    insta::assert_snapshot!(project_errors("[project]\nbuilder = ['x']\ndebian_mirror = 'https://u:hunter2@x.example'\n"), @r#"
    error: `project.builder` must be a text, but a list was found
      --> imagespec.toml:2:11
       |
     2 | builder = ['x']
       |           ^^^^^
    hint: write `builder = "…"`
    error: `project.debian_mirror` has a URL with credentials in it, where others will read them
      --> imagespec.toml:3:17
    hint: use a mirror that needs no credentials
    "#);
    insta::assert_snapshot!(project_errors("[registries.'a/b']\n[registries.team]\n[registries.'x.example']\ninsecure = 'yes'\nca_bundel = 'x'\n"), @r#"
    error: `registries` cannot have the key `a/b`: it is not `HOST` or `HOST:PORT`
      --> imagespec.toml:1:13
       |
     1 | [registries.'a/b']
       |             ^^^^^
    hint: write the registry alone, as in `[registries."localhost:5000"]`
    error: `registries` cannot have the key `team`: it is not `HOST` or `HOST:PORT`
      --> imagespec.toml:2:13
       |
     2 | [registries.team]
       |             ^^^^
    hint: write the registry alone, as in `[registries."localhost:5000"]`
    error: `registries.x.example.insecure` must be a boolean, but a text was found
      --> imagespec.toml:4:12
       |
     4 | insecure = 'yes'
       |            ^^^^^
    hint: write `insecure = true` or `false`
    error: unknown key `ca_bundel` in `registries.x.example`
      --> imagespec.toml:5:1
       |
     5 | ca_bundel = 'x'
       | ^^^^^^^^^
    hint: did you mean `ca_bundle`?
    "#);
    insta::assert_snapshot!(project_errors("[images]\nBad = {}\nx = 1\n[images.y]\nspec = 'y.txt'\npython = 3\n[images.z]\nspec = []\n"), @r#"
    error: `images` cannot have the key `Bad`: a name has lower-case letters, digits and single `.`, `_` or `-` between them
      --> imagespec.toml:2:1
       |
     2 | Bad = {}
       | ^^^
    hint: did you mean `bad`?
    error: `images.x` must be a mapping of fields, but a number was found
      --> imagespec.toml:3:5
       |
     3 | x = 1
       |     ^
    error: `images.y.spec` cannot be `y.txt`: its format cannot be told
      --> imagespec.toml:5:8
       |
     5 | spec = 'y.txt'
       |        ^^^^^^^
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    error: unknown key `python`
      --> imagespec.toml:6:1
       |
     6 | python = 3
       | ^^^^^^
    hint: did you mean `python_version`?
    error: `images.z.spec` must be a text, but a list was found
      --> imagespec.toml:8:8
       |
     8 | spec = []
       |        ^^
    hint: write `spec = "…"`
    "#);
    insta::assert_snapshot!(project_errors("images = 1\nbuilders = 2\nregistries = 3\ndefaults = 4\n"), @"
    error: `images` must be a mapping of fields, but a number was found
      --> imagespec.toml:1:10
       |
     1 | images = 1
       |          ^
    error: `builders` must be a mapping of fields, but a number was found
      --> imagespec.toml:2:12
       |
     2 | builders = 2
       |            ^
    error: `registries` must be a mapping of fields, but a number was found
      --> imagespec.toml:3:14
       |
     3 | registries = 3
       |              ^
    error: `defaults` must be a mapping of fields, but a number was found
      --> imagespec.toml:4:12
       |
     4 | defaults = 4
       |            ^
    ");
    insta::assert_snapshot!(project_errors("[builders]\n'A B' = {}\nx = 1\n"), @"
    error: `builders` cannot have the key `A B`: a builder has lower-case letters, digits, `_`, `.` and `-`
      --> imagespec.toml:2:1
       |
     2 | 'A B' = {}
       | ^^^^^
    hint: `imagespec builders` lists the ones that there are
    error: `builders.x` must be a mapping of fields, but a number was found
      --> imagespec.toml:3:5
       |
     3 | x = 1
       |     ^
    ");
}

#[test]
fn a_users_config_has_no_images() {
    let folder = Folder::new(&[("config.toml", "[images.a]\n")]);
    let errors = Project::read(&folder.path().join("config.toml"), "config.toml", ProjectRole::User);
    insta::assert_snapshot!(folder.render(&errors.expect_err("an error")), @"
    error: `config.toml` cannot have the key `images`: images belong to a project
      --> config.toml:1:2
       |
     1 | [images.a]
       |  ^^^^^^
    hint: move them to `imagespec.toml` of the project
    ");
}

#[test]
fn an_image_or_file_that_does_not_exist_is_an_error() {
    let folder = Folder::new(&[(PROJECT_FILE, "[images.train]\n[images.serve]\n[images.lost]\nspec = 'lost.yaml'\n")]);
    insta::assert_snapshot!(folder.try_load("trian", &[]).expect_err("an error"), @"
    error: no image is called `trian`
    hint: did you mean `train`?
    ");
    insta::assert_snapshot!(folder.try_load("xyzzy", &[]).expect_err("an error"), @"
    error: no image is called `xyzzy`
    hint: the project file has `train`, `serve`, `lost`
    ");
    insta::assert_snapshot!(folder.try_load("lost", &[]).expect_err("an error"), @"
    error: cannot read `FOLDER/lost.yaml`
      --> imagespec.toml:4:8
       |
     4 | spec = 'lost.yaml'
       |        ^^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(folder.try_load("spec.txt", &[]).expect_err("an error"), @"
    error: cannot tell the format of `FOLDER/spec.txt`
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    ");
    insta::assert_snapshot!(folder.try_load("no/spec.yaml", &[]).expect_err("an error"), @"
    error: cannot read `FOLDER/no/spec.yaml`
    note: No such file or directory (os error 2)
    hint: name a spec file by its path, or an image of `imagespec.toml` by its name
    ");
    insta::assert_snapshot!(Folder::new(&[("d.yaml/x", "")]).try_load("d.yaml", &[]).expect_err("an error"), @"
    error: `FOLDER/d.yaml` is no file
    hint: name the spec file itself
    ");
    insta::assert_snapshot!(Folder::new(&[]).try_load("train", &[]).expect_err("an error"), @"
    error: no image is called `train`
    hint: there is no `imagespec.toml` here or above; name a spec file instead
    ");
    insta::assert_snapshot!(Folder::new(&[(PROJECT_FILE, "")]).try_load("train", &[]).expect_err("an error"), @"
    error: no image is called `train`
    hint: the project file has no `[images.NAME]`; name a spec file instead
    ");
}

#[test]
fn an_endless_file_and_a_pipe_are_not_read() {
    assert!(matches!(read_spec(Path::new("/dev/zero"), "x"), Err(errors) if errors.len() == 1));
    let folder = Folder::new(&[]);
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.yaml")).expect("a link");
    insta::assert_snapshot!(folder.try_load("zero.yaml", &[]).expect_err("an error"), @"
    error: `FOLDER/zero.yaml` is no file
    hint: name the spec file itself
    ");
    let folder = Folder::new(&[("big.yaml", &"#".repeat(3 << 20))]);
    insta::assert_snapshot!(folder.try_load("big.yaml", &[]).expect_err("an error"), @"
    error: the file is larger than 1048576 bytes, which no spec needs
      --> FOLDER/big.yaml:1:1
    hint: is this the file that you meant?
    ");
}

#[test]
fn mistakes_in_a_setting_are_shown() {
    let setting = |text: &str| Setting::parse(text, Path::new("/")).expect_err("an error").diagnostic().render();
    insta::assert_snapshot!(setting("python_version"), @"
    error: `python_version` is not of the form KEY=VALUE
    hint: write it as in `--set python_version=3.11` or `--set env.DEBUG=1`
    ");
    insta::assert_snapshot!(setting("pakages=a"), @"
    error: unknown key `pakages`
      --> --set:1:1
       |
     1 | pakages=a
       | ^^^^^^^
    hint: did you mean `packages`?
    ");
    insta::assert_snapshot!(setting("=a"), @"
    error: unknown key ``
      --> --set:1:1
       |
     1 | =a
       | ^
    hint: `imagespec schema` lists every field
    ");
    insta::assert_snapshot!(setting("env=A"), @"
    error: `env` is a mapping, so `--set` needs a name behind a dot
      --> --set:1:1
       |
     1 | env=A
       | ^^^
    hint: write `--set env.NAME=VALUE`
    ");
    insta::assert_snapshot!(setting("env.=A"), @"
    error: `env` is a mapping, so `--set` needs a name behind a dot
      --> --set:1:1
       |
     1 | env.=A
       | ^^^
    hint: write `--set env.NAME=VALUE`
    ");
    insta::assert_snapshot!(setting("user.name=A"), @"
    error: `user` is no mapping, so `--set` takes no name behind a dot
      --> --set:1:1
       |
     1 | user.name=A
       | ^^^^
    hint: write `--set user=VALUE`
    ");
    insta::assert_snapshot!(setting("user=\0"), @"
    error: character U+0000 is not allowed
    hint: remove it: it cannot be seen, and it changes how the value is read
    ");
    let folder = Folder::new(&[("a.yaml", "name: a\n")]);
    insta::assert_snapshot!(folder.try_load("a.yaml", &["env.1=x", "packages=a,!b"]).expect_err("an error"), @"
    error: `env` cannot have the key `1`: a variable has letters, digits and `_`, and begins with no digit
      --> --set:1:5
       |
     1 | env.1=x
       |     ^
    error: `packages` cannot be `a,!b`: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `,`
      --> --set:1:10
       |
     1 | packages=a,!b
       |          ^^^^
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
}

#[test]
fn mistakes_in_plugins_are_shown() {
    insta::assert_snapshot!(project_errors("[plugins.a]\npath = 'x.so'\n[plugins.b]\npath = 'y'\nsha256 = '12'\nin_process = true\nsah = 1\n"), @"
    error: `plugins` cannot have the key `a`: a plugin has a `path` and the `sha256` that it must have
      --> imagespec.toml:1:10
       |
     1 | [plugins.a]
       |          ^
    hint: `imagespec plugin add PATH` writes both
    error: `plugins.b.sha256` cannot be `12`: it is no sha256
      --> imagespec.toml:5:10
       |
     5 | sha256 = '12'
       |          ^^^^
    hint: write the 64 digits that `sha256sum` prints
    error: `plugins.b` cannot have the key `in_process`: only its user may decide that
      --> imagespec.toml:6:1
       |
     6 | in_process = true
       | ^^^^^^^^^^
    hint: leave it out; `imagespec plugin add --in-process` writes it to your own config
    error: unknown key `sah` in `plugins.b`
      --> imagespec.toml:7:1
       |
     7 | sah = 1
       | ^^^
    hint: the keys are `path`, `sha256`, `in_process` and `override`
    ");
    insta::assert_snapshot!(project_errors("[approved.\"/p\"]\na = 'x'\n"), @r#"
    error: `imagespec.toml` cannot have the key `approved`: a project cannot approve its own plugins
      --> imagespec.toml:1:2
       |
     1 | [approved."/p"]
       |  ^^^^^^^^
    hint: `imagespec plugin add NAME` in the project writes it to your own config
    "#);
}
