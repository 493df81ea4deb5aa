//! What is laid on what, where a project is found, and who chooses the builder.

use std::fs;
use std::path::PathBuf;

use super::{Folder, text, values};
use crate::document::Format;
use crate::hash::SpecId;
use crate::place::Located;
use crate::project::{BuilderCandidates, ChosenBuilder, PROJECT_FILE, choose_builder, find_project, read_spec};
use crate::spec::{BaseImage, Spec};

#[test]
fn layers_lie_on_each_other_in_order() {
    let folder = Folder::new(&[
        (
            "home/config.toml",
            "[project]\nregistry = 'user.example'\n[defaults]\npython_version = 3.9\ncmd = ['user']\nenv = { A = 'user', U = 'user' }\n",
        ),
        (
            PROJECT_FILE,
            "[project]\nregistry = 'project.example'\n[defaults]\npython_version = 3.10\npackages = ['default']\nenv = { A = 'project', P = 'project' }\n",
        ),
        ("train.yaml", "packages: [own]\nenv: {A: spec, S: spec}\n"),
    ]);
    let loaded = folder.load("train.yaml", &["env.A=set", "user=app"]);
    let spec = &loaded.spec;
    assert_eq!(text(&spec.python_version), Some("3.10"));
    assert_eq!(values(&spec.packages), ["own"]);
    assert_eq!(spec.cmd.as_ref().map(|cmd| cmd.value.clone()), Some(vec!["user".to_owned()]));
    let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}={}", value.value)).collect();
    assert_eq!(env, ["A=set", "P=project", "S=spec", "U=user"]);
    assert_eq!(text(&spec.user), Some("app"));
    assert_eq!(text(&spec.registry), Some("project.example"));
    assert_eq!(
        spec.registry.as_ref().map(|registry| registry.place.to_string()),
        Some("imagespec.toml:2:12".to_owned())
    );
    assert_eq!((loaded.path, loaded.directory), (Some(folder.path().join("train.yaml")), folder.path()));
    assert_eq!(text(&folder.load("train.yaml", &["registry=set.example"]).spec.registry), Some("set.example"));
}

#[test]
fn nothing_takes_back_what_lies_beneath() {
    let folder = Folder::new(&[
        (PROJECT_FILE, "[defaults]\ncmd = ['x']\nenv = { A = '1' }\npackages = ['a']\n"),
        ("train.yaml", "cmd: ~\nenv: ~\n"),
    ]);
    assert_eq!(folder.load("train.yaml", &["packages="]).spec, Spec::default());
}

#[test]
fn images_have_a_spec_file_or_inline_fields_or_both() {
    let folder = Folder::new(&[
        (
            PROJECT_FILE,
            "[images.train]\nspec = 'images/train.yaml'\nbuilder = 'docker'\npython_version = 3.12\n[images.serve]\npackages = ['flask']\nname = 'web'\n",
        ),
        ("images/train.yaml", "python_version: 3.11\npackages: [pandas]\n"),
    ]);
    assert_eq!(folder.project().image_names().collect::<Vec<_>>(), ["train", "serve"]);
    let train = folder.load("train", &[]);
    assert_eq!(text(&train.spec.python_version), Some("3.12"));
    assert_eq!(values(&train.spec.packages), ["pandas"]);
    assert_eq!(text(&train.spec.name), Some("train"));
    assert_eq!((text(&train.image_builder), text(&train.spec.builder)), (Some("docker"), None));
    assert_eq!(train.directory, folder.path().join("images"));
    let serve = folder.load("serve", &[]);
    assert_eq!((text(&serve.spec.name), serve.image_name.as_deref()), (Some("web"), Some("serve")));
    assert_eq!((serve.path, serve.directory), (None, folder.path()));
}

#[test]
fn paths_of_a_layer_are_relative_to_its_own_file() {
    let folder = Folder::new(&[
        (
            PROJECT_FILE,
            "[defaults]\nrequirements = 'common/requirements.txt'\nbase_image = './base.yaml'\n[images.a]\nspec = 'images/deep/a.yaml'\nsource_root = '.'\ncopy = ['images/deep/data']\n",
        ),
        ("images/deep/a.yaml", "builder_config: x.yaml\n"),
    ]);
    let spec = folder.load("a", &["registry_config=/abs/config.json"]).spec;
    let path = |path: Option<Located<PathBuf>>| path.map(|path| path.value.display().to_string());
    assert_eq!(path(spec.requirements).as_deref(), Some("../../common/requirements.txt"));
    assert_eq!(path(spec.source_root).as_deref(), Some("../.."));
    assert_eq!(path(spec.builder_config).as_deref(), Some("x.yaml"));
    assert_eq!(path(spec.registry_config).as_deref(), Some("/abs/config.json"));
    let copied: Vec<_> = spec.copy.iter().map(|copy| (&copy.value.folder, copy.value.path.as_str())).collect();
    assert_eq!(copied, [(&PathBuf::from("../.."), "images/deep/data")]);
    assert_eq!(spec.base_image.map(|base| base.value), Some(BaseImage::SpecFile("../../base.yaml".into())));
}

#[test]
fn everything_that_a_project_file_says_is_read() {
    let folder = Folder::new(&[(
        PROJECT_FILE,
        "[project]\nbuilder = 'docker'\nregistry = 'ghcr.io/team'\ndebian_mirror = 'http://deb.debian.org/debian'\n[registries.\"localhost:5000\"]\ninsecure = true\n[registries.'r.example']\nca_bundle = 'ca.pem'\n[builders.docker]\nlevel = 3\n",
    )]);
    let project = folder.project();
    assert_eq!(text(&project.builder), Some("docker"));
    assert_eq!(text(&project.registry), Some("ghcr.io/team"));
    assert_eq!(text(&project.debian_mirror), Some("http://deb.debian.org/debian"));
    assert!(project.registries["localhost:5000"].insecure);
    assert_eq!(project.registries["r.example"].ca_bundle, Some(folder.path().join("ca.pem")));
    assert_eq!(project.builders["docker"]["level"].value, 3);
    assert_eq!((project.path, project.directory), (folder.path().join(PROJECT_FILE), folder.path()));
    let empty = Folder::new(&[(PROJECT_FILE, "# nothing\n")]).project();
    assert_eq!(empty.image_names().count(), 0);
}

#[test]
fn a_spec_is_read_alone_for_others_to_stand_on() {
    let folder = Folder::new(&[("base.yaml", "packages: [a]\n")]);
    let spec = read_spec(&folder.path().join("base.yaml"), "base.yaml").expect("a spec");
    assert_eq!(spec, Spec::parse("base.yaml", b"packages: [a]\n", Format::Yaml).expect("a spec"));
}

#[test]
fn settings_are_read_like_fields() {
    let folder = Folder::new(&[("a.yaml", "name: a\nuser: b\n")]);
    let settings = [
        "python_version=3.10",
        "packages=pandas>=2,<3, numpy",
        "env.X=a=b,c",
        "labels.a.b=1",
        "builder_options.n=3",
        "builder_options.s=x",
        "commands=echo a, b",
        "entrypoint=python,-m,app",
        "user=",
        "pip_extra_args=--pre --x y",
    ];
    let spec = folder.load("a.yaml", &settings).spec;
    assert_eq!(text(&spec.python_version), Some("3.10"));
    assert_eq!(values(&spec.packages), ["pandas>=2,<3", "numpy"]);
    assert_eq!(spec.env["X"].value, "a=b,c");
    assert_eq!(spec.labels["a.b"].value, "1");
    assert_eq!((&spec.builder_options["n"].value, &spec.builder_options["s"].value), (&3.into(), &"x".into()));
    assert_eq!(values(&spec.commands), ["echo a, b"]);
    assert_eq!(
        spec.entrypoint.map(|words| words.value),
        Some(vec!["python".to_owned(), "-m".to_owned(), "app".to_owned()])
    );
    assert_eq!(spec.user, None);
    assert_eq!(values(&spec.pip_extra_args), ["--pre", "--x", "y"]);
}

#[test]
fn the_project_is_found_upwards_but_not_beyond_the_repository() {
    let folder = Folder::new(&[
        (PROJECT_FILE, ""),
        ("a/b/train.yaml", ""),
        ("repository/.git/HEAD", ""),
        ("repository/a/train.yaml", ""),
        ("own/.git", "gitdir: x"),
        ("own/imagespec.toml", ""),
        ("own/deep/x", ""),
    ]);
    let find = |path: &str| find_project(&folder.path().join(path));
    assert_eq!(find(""), Some(folder.path().join(PROJECT_FILE)));
    assert_eq!(find("a/b"), Some(folder.path().join(PROJECT_FILE)));
    assert_eq!(find("repository/a"), None);
    assert_eq!(find("own/deep"), Some(folder.path().join("own").join(PROJECT_FILE)));
    assert_eq!(find("missing"), None);
}

#[test]
fn a_project_file_in_a_folder_of_everybody_counts_for_that_folder_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&[("shared/imagespec.toml", ""), ("shared/mine/x", "")]);
    let shared = folder.path().join("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("permissions");
    assert_eq!(find_project(&shared.join("mine")), None);
    assert_eq!(find_project(&shared), Some(shared.join(PROJECT_FILE)));
}

#[test]
fn the_strongest_candidate_chooses_the_builder() {
    let spec = Spec::parse("a.yaml", b"builder: spec", Format::Yaml).expect("a spec").builder.expect("a builder");
    let named = |name: &str| Located { value: name.to_owned(), place: spec.place.clone() };
    let (image, project, user) = (named("image"), named("project"), named("user"));
    let mut candidates = BuilderCandidates {
        flag: Some("flag"),
        spec: Some(&spec),
        image: Some(&image),
        project: Some(&project),
        environment: Some("environment"),
        user: Some(&user),
    };
    let mut chosen = Vec::new();
    let weaken: [fn(&mut BuilderCandidates<'_>); 7] = [
        |candidates| candidates.flag = None,
        |candidates| candidates.spec = None,
        |candidates| candidates.image = None,
        |candidates| candidates.project = None,
        |candidates| candidates.environment = Some(""),
        |candidates| candidates.user = None,
        |_| {},
    ];
    for weaken in weaken {
        let ChosenBuilder { name, origin } = choose_builder(&candidates);
        chosen.push(format!("{name}, by {origin}"));
        weaken(&mut candidates);
    }
    insta::assert_snapshot!(chosen.join("\n"), @"
    flag, by --builder
    spec, by a.yaml:1:10
    image, by a.yaml:1:10
    project, by a.yaml:1:10
    environment, by IMAGESPEC_BUILDER
    user, by a.yaml:1:10
    oci, by the default
    ");
}

#[test]
fn the_id_is_that_of_what_the_author_wrote_whatever_lies_beneath_or_above() {
    let project = "[defaults]\npython_version = \"3.11\"\n[images.inline]\npackages = [\"six\"]\n";
    let folder = Folder::new(&[("imagespec.toml", project), ("sub/train.yaml", "packages: [six]\n")]);
    let alone = Folder::new(&[("train.yaml", "packages: [six]\n")]);
    let id = |folder: &Folder, target, settings: &[&str]| SpecId::of(&folder.load(target, settings).declaration);
    let written = id(&alone, "train.yaml", &[]);
    assert_eq!(id(&folder, "sub/train.yaml", &[]), written);
    assert_eq!(id(&folder, "sub/train.yaml", &["env.DEBUG=1"]), written);
    assert_eq!(id(&folder, "inline", &[]), written);
    assert_ne!(SpecId::of(&folder.load("inline", &[]).spec), written);
}
