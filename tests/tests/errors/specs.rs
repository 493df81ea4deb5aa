//! Spec and project files.

use imagespec_tests::TestEnv;

use super::{failure, refused};

#[test]
fn mistakes_are_shown_where_they_stand_and_all_at_once() {
    insta::assert_snapshot!(refused("python_version: 3.10\npakages: [six]\npip_index: pypi.org\n"), @"
    exit 1
    error: unknown key `pakages`
      --> train.yaml:2:1
       |
     2 | pakages: [six]
       | ^^^^^^^
    hint: did you mean `packages`?
    error: `pip_index` cannot be `pypi.org`: it is no URL
      --> train.yaml:3:12
       |
     3 | pip_index: pypi.org
       |            ^^^^^^^^
    hint: write a whole URL, as in `https://pypi.org/simple`
    ");
    let env = TestEnv::new();
    env.write("train.toml", "packages = ['six']\nenv = 'A=1'\n");
    env.write("train.json", "{\"packages\": [\"six\"],\n \"packages\": []}");
    insta::assert_snapshot!(failure(&env, &["plan", "train.toml"]), @"
    exit 1
    error: `env` must be a mapping, but a text was found
      --> train.toml:2:7
       |
     2 | env = 'A=1'
       |       ^^^^^
    hint: write `env: {LOG_LEVEL: info}`
    ");
    insta::assert_snapshot!(failure(&env, &["hash", "train.json"]), @r#"
    exit 1
    error: key `packages` is written twice
      --> train.json:2:2
       |
     2 |  "packages": []}
       |  ^^^^^^^^^^
    note: it stands first at train.json:1:2
    hint: keep one of them, and put the values of both there
    "#);
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    let shown = refused("pip_index: https://joe:hunter2@pypi.example/simple\n");
    insta::assert_snapshot!(shown, @"
    exit 1
    error: `pip_index` has a URL with credentials in it, where others will read them
      --> train.yaml:1:12
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    ");
}

#[test]
fn a_mistake_in_the_project_file_stops_every_image() {
    let env = TestEnv::new();
    env.write("imagespec.toml", "[project]\nregistry = 'https://ghcr.io/team'\n[images.train]\npython = '3.11'\n");
    insta::assert_snapshot!(failure(&env, &["build"]), @"
    exit 1
    error: `project.registry` cannot be `https://ghcr.io/team`: a registry is written without a scheme
      --> imagespec.toml:2:12
       |
     2 | registry = 'https://ghcr.io/team'
       |            ^^^^^^^^^^^^^^^^^^^^^^
    hint: write `ghcr.io/team`
    error: unknown key `python`
      --> imagespec.toml:4:1
       |
     4 | python = '3.11'
       | ^^^^^^
    hint: did you mean `python_version`?
    ");
    env.write("imagespec.toml", "[project\n");
    insta::assert_snapshot!(failure(&env, &["build"]), @"
    exit 1
    error: this is not TOML: unclosed table, expected `]`
      --> imagespec.toml:1:9
       |
     1 | [project
       |         ^
    ");
}

#[test]
fn what_is_to_be_built_must_exist() {
    let env = TestEnv::new();
    insta::assert_snapshot!(failure(&env, &["build"]), @"
    exit 2
    error: there is nothing to build
    hint: name a spec file, or put `[images.NAME]` into an `imagespec.toml`
    ");
    insta::assert_snapshot!(failure(&env, &["build", "train"]), @"
    exit 1
    error: no image is called `train`
    hint: there is no `imagespec.toml` here or above; name a spec file instead
    ");
    insta::assert_snapshot!(failure(&env, &["build", "train.yaml"]), @"
    exit 1
    error: cannot read `train.yaml`
    note: No such file or directory (os error 2)
    hint: name a spec file by its path, or an image of `imagespec.toml` by its name
    ");
    env.write("imagespec.toml", "[images.train]\nspec = 'specs/train.yaml'\n");
    insta::assert_snapshot!(failure(&env, &["build", "tran"]), @"
    exit 1
    error: no image is called `tran`
    hint: did you mean `train`?
    ");
    insta::assert_snapshot!(failure(&env, &["build"]), @"
    exit 1
    error: cannot read `FOLDER/specs/train.yaml`
      --> imagespec.toml:2:8
       |
     2 | spec = 'specs/train.yaml'
       |        ^^^^^^^^^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    env.write("train.txt", "packages: []\n");
    insta::assert_snapshot!(failure(&env, &["build", "./train.txt"]), @"
    exit 1
    error: cannot tell the format of `./train.txt`
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    ");
}

#[test]
fn mistakes_on_the_command_line_are_shown_like_those_in_a_file() {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: scratch\n");
    let set = |setting: &str| failure(&env, &["plan", "train.yaml", "--set", setting]);
    insta::assert_snapshot!(set("pakages=six"), @"
    exit 1
    error: unknown key `pakages`
      --> --set:1:1
       |
     1 | pakages=six
       | ^^^^^^^
    hint: did you mean `packages`?
    ");
    insta::assert_snapshot!(set("python_version"), @"
    exit 1
    error: `python_version` is not of the form KEY=VALUE
    hint: write it as in `--set python_version=3.11` or `--set env.DEBUG=1`
    ");
    insta::assert_snapshot!(failure(&env, &["plan", "train.yaml", "--platform", "linux/amd64,linux/amd46"]), @"
    exit 1
    error: `platform` cannot be `linux/amd46`: it is no platform that images are built for
      --> --platform:1:22
       |
     1 | platform=linux/amd64,linux/amd46
       |                      ^^^^^^^^^^^
    hint: did you mean `linux/amd64`?
    ");
}

#[test]
fn a_spec_that_another_one_stands_on_is_shown_with_its_own_mistakes() {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: bases/base.yaml\n");
    env.write("bases/base.yaml", "name: base\npakages: [six]\nuser: ''\n");
    insta::assert_snapshot!(failure(&env, &["build", "train.yaml"]), @"
    exit 1
    error: the base `bases/base.yaml` is not a usable spec
      --> train.yaml:1:13
       |
     1 | base_image: bases/base.yaml
       |             ^^^^^^^^^^^^^^^
    error: unknown key `pakages`
      --> bases/base.yaml:2:1
       |
     2 | pakages: [six]
       | ^^^^^^^
    hint: did you mean `packages`?
    error: `user` cannot be ``: it is empty
      --> bases/base.yaml:3:7
       |
     3 | user: ''
       |       ^^
    ");
    env.write("bases/base.yaml", "base_image: ../train.yaml\n");
    insta::assert_snapshot!(failure(&env, &["build", "train.yaml"]), @"
    exit 1
    error: `../train.yaml` stands on itself
      --> bases/base.yaml:1:13
       |
     1 | base_image: ../train.yaml
       |             ^^^^^^^^^^^^^
    hint: let one of the specs stand on another base
    ");
}

#[test]
fn an_image_that_cannot_have_its_name_is_refused() {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: scratch\ntag_format: '{spec_hash}/x'\n");
    insta::assert_snapshot!(failure(&env, &["name", "train.yaml"]), @"
    exit 1
    error: `tag_format` cannot be `{spec_hash}/x`: the tag would not be valid
      --> train.yaml:2:13
       |
     2 | tag_format: '{spec_hash}/x'
       |             ^^^^^^^^^^^^^^^
    hint: a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two
    ");
}

#[test]
fn labels_of_imagespec_are_its_own() {
    insta::assert_snapshot!(refused("base_image: scratch\nlabels:\n  imagespec.id: mine\n"), @"
    exit 1
    error: `labels` cannot have the key `imagespec.id`: imagespec sets it itself
      --> train.yaml:3:3
       |
     3 |   imagespec.id: mine
       |   ^^^^^^^^^^^^
    ");
}

#[test]
fn a_password_of_a_registry_is_not_shown() {
    insta::assert_snapshot!(refused("registry: https://joe:hunter2@ghcr.io/team\n"), @"
    exit 1
    error: `registry` has a URL with credentials in it, where others will read them
      --> train.yaml:1:11
    hint: leave them out: credentials of registries come from `docker login`
    ");
    insta::assert_snapshot!(refused("base_image: joe:hunter2@ghcr.io/team/base\n"), @"
    exit 1
    error: `base_image` has a URL with credentials in it, where others will read them
      --> train.yaml:1:13
    hint: leave them out: credentials of registries come from `docker login`
    ");
    insta::assert_snapshot!(failure(&TestEnv::new(), &["exists", "joe:hunter2@ghcr.io/team/base"]), @"
    exit 1
    error: `…@ghcr.io/team/base` is not an image reference: a digest is `sha256:` and 64 lower-case hexadecimal digits
    hint: name a spec file, an image of the project, `oci:DIR` or an image as `registry/name:tag`
    ");
}

#[test]
fn a_folder_means_the_spec_in_it() {
    let env = TestEnv::new();
    env.write("imagespec.yaml", "base_image: scratch\nname: here\n");
    env.write("train/imagespec.yaml", "base_image: scratch\nname: there\n");
    env.write("broken/imagespec.yaml", "pakages: []\n");
    env.write("project/imagespec.toml", "[images.app]\n");
    env.write("empty/file", "");
    for (folder, name) in
        [(".", "here:"), ("./", "here:"), ("train", "there:"), ("train/", "there:"), ("./train", "there:")]
    {
        let said = env.run(&["name", folder]);
        assert!(said.stdout.starts_with(name), "{folder}: {said:?}");
    }
    assert_eq!(env.run(&["build", "."]).code, 0);
    assert_eq!(env.run(&["exists", "."]).code, 0);
    insta::assert_snapshot!(failure(&env, &["build", "broken"]), @"
    exit 1
    error: unknown key `pakages`
      --> broken/imagespec.yaml:1:1
       |
     1 | pakages: []
       | ^^^^^^^
    hint: did you mean `packages`?
    ");
    insta::assert_snapshot!(failure(&env, &["build", "empty"]), @"
    exit 1
    error: `empty` is a folder without `imagespec.yaml`
    hint: name the spec in it, or write one by `imagespec init empty`
    ");
    insta::assert_snapshot!(failure(&env, &["plan", "./project"]), @"
    exit 1
    error: `./project` is a folder without `imagespec.yaml`
    hint: `imagespec build` in it builds the images of its `imagespec.toml`
    ");
}

#[test]
fn cuda_alone_is_refused_with_both_ways_to_get_it() {
    insta::assert_snapshot!(refused("packages: [torch]\ncuda: 12.4\n"), @"
    exit 1
    error: `cuda` alone installs nothing: CUDA comes with the base image or with Python packages
      --> train.yaml:2:7
       |
     2 | cuda: 12.4
       |       ^^^^
    hint: set `base_image: nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04` or another image with CUDA, or install packages that bring it, for example PyTorch's: `packages: [torch]` with `pip_extra_index_url: [https://download.pytorch.org/whl/cu126]`
    ");
    insta::assert_snapshot!(refused("base_image: nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04\ncuda: 11.8\ncudnn: 9\n"), @"
    exit 1
    error: `cudnn` asks for 9, and `nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04` brings 8
      --> train.yaml:3:8
       |
     3 | cudnn: 9
       |        ^
    hint: change one of them, or leave `cudnn` out
    ");
    // Either way is taken.
    let env = TestEnv::new();
    env.write("base.yaml", "base_image: nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04\ncuda: 12.6\ncudnn: 9\n");
    env.write(
        "wheels.yaml",
        "packages: [torch]\npip_extra_index_url: [https://download.pytorch.org/whl/cu124]\ncuda: 12.4\n",
    );
    for spec in ["base.yaml", "wheels.yaml"] {
        env.stdout(&["plan", spec]);
    }
}
