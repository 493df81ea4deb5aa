//! The same spec in three formats.

use std::collections::BTreeMap;

use crate::document::Format;
use crate::spec::Spec;

const YAML: &str = r#"
# A spec with most fields.
name: team/train
description: |
  trains
python_version: 3.10
packages: [pandas, "numpy>=1.26"]
apt_packages: git
base_image: python:3.10-slim
env:
  Debug: True
  LEVEL: 1e3
platform: [linux/amd64, linux/arm64]
pip_extra_args: --pre
entrypoint: [python, -m, app]
commands:
  - make install
secrets:
  - {id: token, env: TOKEN}
copy: [data]
source_root: src
source_copy_mode: all
tag_format: "{spec_hash}-dev"
labels: {a.b: c}
builder_options: {level: 3}
"#;

const TOML: &str = r#"
name = "team/train"
description = "trains\n"
python_version = 3.10
packages = ["pandas", "numpy>=1.26"]
apt_packages = "git"
base_image = "python:3.10-slim"
platform = ["linux/amd64", "linux/arm64"]
pip_extra_args = "--pre"
entrypoint = ["python", "-m", "app"]
commands = ["make install"]
secrets = [{ id = "token", env = "TOKEN" }]
copy = ["data"]
source_root = "src"
source_copy_mode = "all"
tag_format = "{spec_hash}-dev"
labels = { "a.b" = "c" }
builder_options.level = 3

[env]
Debug = "True"
LEVEL = 1e3
"#;

const JSON: &str = r#"{
  "name": "team/train",
  "description": "trains\n",
  "python_version": 3.10,
  "packages": ["pandas", "numpy>=1.26"],
  "apt_packages": "git",
  "base_image": "python:3.10-slim",
  "env": {"Debug": "True", "LEVEL": 1e3},
  "platform": ["linux/amd64", "linux/arm64"],
  "pip_extra_args": "--pre",
  "entrypoint": ["python", "-m", "app"],
  "commands": ["make install"],
  "secrets": [{"id": "token", "env": "TOKEN"}],
  "copy": ["data"],
  "source_root": "src",
  "source_copy_mode": "all",
  "tag_format": "{spec_hash}-dev",
  "labels": {"a.b": "c"},
  "builder_options": {"level": 3}
}"#;

fn read(name: &str, text: &str, format: Format) -> Spec {
    match Spec::parse(name, text.as_bytes(), format) {
        Ok(spec) => spec,
        Err(errors) => panic!("{}", errors.iter().map(|error| error.diagnostic().render()).collect::<String>()),
    }
}

/// Everything that a spec says, without the places where it says it.
fn values(spec: &Spec) -> String {
    let text = format!("{spec:#?}");
    text.lines().filter(|line| !line.trim_start().starts_with("place: ")).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn three_formats_say_the_same() {
    let yaml = read("a.yaml", YAML, Format::Yaml);
    assert_eq!(values(&yaml), values(&read("a.toml", TOML, Format::Toml)));
    assert_eq!(values(&yaml), values(&read("a.json", JSON, Format::Json)));
    assert_eq!(yaml.python_version.as_ref().map(|version| version.value.as_str()), Some("3.10"));
    let env: BTreeMap<_, _> = yaml.env.iter().map(|(name, value)| (name.as_str(), value.value.as_str())).collect();
    assert_eq!(env, BTreeMap::from([("Debug", "True"), ("LEVEL", "1e3")]));
    assert_eq!(yaml.python_version.map(|version| version.place.to_string()), Some("a.yaml:6:17".to_owned()));
}

#[test]
fn a_field_without_a_value_is_left_out() {
    let left_out = read("a.yaml", "packages:\nentrypoint: ~\nenv: null\nname:\n", Format::Yaml);
    assert_eq!(left_out, Spec::default());
    assert_eq!(read("a.yaml", "{}", Format::Yaml), Spec::default());
}

#[test]
fn the_example_of_the_users_guide_is_a_spec() {
    let text = "python_version: 3.11\npackages:\n  - sklearn\nenv:\n  Debug: \"True\"\n";
    let spec = read("imageSpec.yaml", text, Format::Yaml);
    let warnings: String = spec.warnings().iter().map(crate::diagnostic::Diagnostic::render).collect();
    insta::assert_snapshot!(warnings, @"
    warning: `sklearn` is imported from another package
      --> imageSpec.yaml:3:5
       |
     3 |   - sklearn
       |     ^^^^^^^
    hint: did you mean `scikit-learn`?
    ");
}

#[test]
fn every_name_that_is_imported_from_another_package_has_a_warning() {
    let text = "packages: [sklearn==1, skimage, cv2, PIL, bs4, yaml, dotenv, dateutil, pandas]\nbase_image: {runtime_packages: [cv2]}";
    let hints: Vec<_> = read("a.yaml", text, Format::Yaml).warnings().into_iter().flat_map(|it| it.hints).collect();
    insta::assert_debug_snapshot!(hints, @r#"
    [
        "did you mean `scikit-learn`?",
        "did you mean `scikit-image`?",
        "did you mean `opencv-python-headless`?",
        "did you mean `pillow`?",
        "did you mean `beautifulsoup4`?",
        "did you mean `pyyaml`?",
        "did you mean `python-dotenv`?",
        "did you mean `python-dateutil`?",
        "did you mean `opencv-python-headless`?",
    ]
    "#);
}
