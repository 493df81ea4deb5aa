//! Tests of lowering specs to plans.

use super::*;
use crate::place::Located;
use crate::plan::{SecretMount, SecretTarget};
use crate::spec::{BaseImage, Spec};
use crate::testing::{Project, at, on_scratch, some, text, texts};

/// The plan of a spec as JSON with one member a line.
fn plan(spec: &Spec) -> String {
    let json = Project::new(&[]).plan(spec).to_json();
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&json).unwrap()).unwrap()
}

fn kinds(spec: &Spec) -> Vec<&'static str> {
    Project::new(&[]).plan(spec).steps.iter().map(Step::kind).collect()
}

fn base(text: &str) -> Option<Located<BaseImage>> {
    some(BaseImage::Registry(text.parse().unwrap()))
}

#[test]
fn an_empty_spec_is_a_debian_with_its_python() {
    insta::assert_snapshot!(plan(&Spec::default()), @r#"
    {
      "base": {
        "kind": "bootstrap",
        "packages": [
          "ca-certificates",
          "python3"
        ],
        "suite": "bookworm"
      },
      "config": {
        "env": {
          "PYTHONPATH": "/root"
        },
        "workdir": "/root"
      },
      "platforms": [
        "linux/amd64"
      ],
      "steps": [
        {
          "kind": "python"
        }
      ],
      "version": 1
    }
    "#);
}

#[test]
fn every_field_has_its_step() {
    let secret = |id: &str| at(SecretMount { id: id.to_owned(), target: SecretTarget::File("/run/x".to_owned()) });
    let spec = Spec {
        python_version: text("3.12"),
        base_image: base("debian:12"),
        env: [("A".to_owned(), at("1".to_owned())), ("PYTHONPATH".to_owned(), at("/app".to_owned()))].into(),
        packages: texts(&["Numpy>=1", "scipy"]),
        conda_packages: texts(&["cudatoolkit"]),
        conda_channels: texts(&["nvidia", "conda-forge"]),
        apt_packages: texts(&["git", "curl"]),
        pip_index: text("https://a.example/simple"),
        pip_extra_index_url: texts(&["https://b.example/simple"]),
        pip_secret_mounts: vec![secret("pip")],
        pip_extra_args: texts(&["--pre"]),
        entrypoint: some(Vec::new()),
        cmd: some(vec!["python".to_owned()]),
        commands: texts(&["b", "a"]),
        secrets: vec![secret("token")],
        runtime_packages: texts(&["Ipython"]),
        user: text("1000:1000"),
        workdir: text("/work"),
        labels: [("team".to_owned(), at("x".to_owned()))].into(),
        platform: vec![at("linux/arm64".parse().unwrap()), at("linux/amd64".parse().unwrap())],
        ..Spec::default()
    };
    insta::assert_snapshot!(plan(&spec), @r#"
    {
      "base": {
        "kind": "registry",
        "reference": "docker.io/library/debian:12"
      },
      "config": {
        "cmd": [
          "python"
        ],
        "entrypoint": [],
        "env": {
          "A": "1",
          "PYTHONPATH": "/app"
        },
        "labels": {
          "team": "x"
        },
        "runtime_packages": [
          "ipython"
        ],
        "user": "1000:1000",
        "workdir": "/work"
      },
      "platforms": [
        "linux/amd64",
        "linux/arm64"
      ],
      "steps": [
        {
          "kind": "apt",
          "packages": [
            "curl",
            "git"
          ]
        },
        {
          "kind": "python",
          "version": "3.12"
        },
        {
          "channels": [
            "nvidia",
            "conda-forge"
          ],
          "kind": "conda",
          "packages": [
            "cudatoolkit"
          ]
        },
        {
          "extra_args": [
            "--pre"
          ],
          "extra_indexes": [
            "https://b.example/simple"
          ],
          "index": "https://a.example/simple",
          "input": {
            "kind": "requirements",
            "requirements": [
              {
                "text": "numpy>=1"
              },
              {
                "text": "scipy"
              }
            ]
          },
          "kind": "pip",
          "secrets": [
            {
              "id": "pip",
              "target": {
                "file": "/run/x"
              }
            }
          ]
        },
        {
          "commands": [
            "b",
            "a"
          ],
          "kind": "run",
          "secrets": [
            {
              "id": "token",
              "target": {
                "file": "/run/x"
              }
            }
          ]
        }
      ],
      "version": 1
    }
    "#);
}

#[test]
fn a_named_base_gets_python_only_when_a_field_asks_for_it() {
    let on = |spec: Spec| Spec { base_image: base("alpine"), ..spec };
    assert_eq!(kinds(&on(Spec::default())), [""; 0]);
    assert_eq!(kinds(&on(Spec { apt_packages: texts(&["curl"]), ..Spec::default() })), ["apt"]);
    for spec in [
        Spec { python_version: text("3.11"), ..Spec::default() },
        Spec { python_exec: text("/usr/bin/python3"), ..Spec::default() },
        Spec { runtime_packages: texts(&["x"]), ..Spec::default() },
    ] {
        assert_eq!(kinds(&on(spec)), ["python"]);
    }
    assert_eq!(kinds(&on(Spec { packages: texts(&["x"]), ..Spec::default() })), ["python", "pip"]);
    // What is installed later must come from where the spec says, too.
    let (runtime_packages, pip_extra_args) = (texts(&["x"]), texts(&["--no-index"]));
    assert_eq!(kinds(&on(Spec { runtime_packages, pip_extra_args, ..Spec::default() })), ["python", "pip"]);
    assert_eq!(kinds(&on_scratch()), [""; 0]);
}

#[test]
fn the_debian_release_is_the_one_that_ships_the_python_if_there_is_one() {
    let bootstrap = |version: Option<&str>| {
        let spec = Spec { python_version: version.and_then(text), ..Spec::default() };
        match Project::new(&[]).plan(&spec).base {
            Base::Bootstrap(bootstrap) => (bootstrap.suite, bootstrap.packages.contains("python3")),
            other => panic!("{other:?}"),
        }
    };
    for (version, suite, has_python) in [
        (None, "bookworm", true),
        (Some("3.9"), "bullseye", true),
        (Some("3.11"), "bookworm", true),
        (Some("3.11.2"), "bookworm", true),
        (Some("3.13"), "trixie", true),
        (Some("3.11.9"), "bookworm", false),
        (Some("3.12"), "bookworm", false),
    ] {
        assert_eq!(bootstrap(version), (suite.to_owned(), has_python), "{version:?}");
    }
}

#[test]
fn indexes_are_kept_for_packages_that_are_installed_later() {
    let spec = Spec { pip_index: text("https://pypi.example/simple"), ..Spec::default() };
    let pip = |spec: &Spec| Project::new(&[]).plan(spec).steps.into_iter().find(|step| matches!(step, Step::Pip(_)));
    assert_eq!(pip(&spec), None);
    assert_eq!(pip(&Spec { runtime_packages: texts(&["ipdb"]), ..Spec::default() }), None);
    let Some(Step::Pip(step)) = pip(&Spec { runtime_packages: texts(&["ipdb"]), ..spec }) else { panic!("no step") };
    assert_eq!(step.index.as_deref(), Some("https://pypi.example/simple"));
    assert_eq!(step.input, PipInput::Requirements { requirements: BTreeSet::new(), constraints: BTreeSet::new() });
}

#[test]
fn a_conda_environment_needs_no_python_of_the_base() {
    let spec = Spec { conda_packages: texts(&["numpy"]), ..Spec::default() };
    match Project::new(&[]).plan(&spec).base {
        Base::Bootstrap(bootstrap) => assert_eq!(bootstrap.packages, ["ca-certificates".to_owned()].into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_nested_spec_is_built_for_the_platforms_of_the_outer_one() {
    let nested = Spec { apt_packages: texts(&["curl"]), ..Spec::default() };
    let outer = Spec {
        base_image: some(BaseImage::Spec(Box::new(nested))),
        platform: vec![at("linux/arm64".parse().unwrap())],
        commands: texts(&["true"]),
        ..Spec::default()
    };
    insta::assert_snapshot!(plan(&outer), @r#"
    {
      "base": {
        "kind": "plan",
        "plan": {
          "base": {
            "kind": "bootstrap",
            "packages": [
              "ca-certificates",
              "python3"
            ],
            "suite": "bookworm"
          },
          "config": {
            "env": {
              "PYTHONPATH": "/root"
            },
            "workdir": "/root"
          },
          "platforms": [
            "linux/arm64"
          ],
          "steps": [
            {
              "kind": "apt",
              "packages": [
                "curl"
              ]
            },
            {
              "kind": "python"
            }
          ],
          "version": 1
        }
      },
      "config": {
        "workdir": "/root"
      },
      "platforms": [
        "linux/arm64"
      ],
      "steps": [
        {
          "commands": [
            "true"
          ],
          "kind": "run"
        }
      ],
      "version": 1
    }
    "#);
}
