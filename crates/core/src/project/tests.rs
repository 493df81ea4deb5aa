//! Project files, layers, settings, and the choice of a builder, on real folders.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::document::Format;
use crate::place::Located;
use crate::spec::{BaseImage, Spec, SpecError};

/// A folder with files.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("a path")
    }

    fn project(&self) -> Project {
        match Project::read(&self.path().join(PROJECT_FILE), PROJECT_FILE, ProjectRole::Project) {
            Ok(project) => project,
            Err(errors) => panic!("{}", self.render(&errors)),
        }
    }

    fn load(&self, target: &str, settings: &[&str]) -> Loaded {
        self.try_load(target, settings).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Loads an image, or a file if `target` has a dot.
    fn try_load(&self, target: &str, settings: &[&str]) -> Result<Loaded, String> {
        let project = self.path().join(PROJECT_FILE).exists().then(|| self.project());
        let config = self.path().join("home/config.toml");
        let user = config.exists().then(|| Project::read(&config, "config.toml", ProjectRole::User).expect("a config"));
        let settings: Vec<_> =
            settings.iter().map(|setting| Setting::parse(setting, &self.path()).expect("a setting")).collect();
        let layers = Layers { project: project.as_ref(), user: user.as_ref(), settings: &settings };
        let path = self.path().join(target);
        let target = match target.contains('.') {
            true => Target::File(&path),
            false => Target::Image(target),
        };
        load(target, &layers).map_err(|errors| self.render(&errors))
    }

    fn render(&self, errors: &[SpecError]) -> String {
        let text: String = errors.iter().map(|error| error.diagnostic().render()).collect();
        text.replace(&self.path().display().to_string(), "FOLDER")
    }
}

fn values(texts: &[Located<String>]) -> Vec<&str> {
    texts.iter().map(|text| text.value.as_str()).collect()
}

fn text(text: &Option<Located<String>>) -> Option<&str> {
    text.as_ref().map(|text| text.value.as_str())
}

/// The errors of a project file.
fn project_errors(text: &str) -> String {
    let folder = Folder::new(&[(PROJECT_FILE, text)]);
    let errors = Project::read(&folder.path().join(PROJECT_FILE), PROJECT_FILE, ProjectRole::Project);
    folder.render(&errors.expect_err("an error"))
}

#[test]
fn layers_lie_on_each_other_in_order() {
    let folder = Folder::new(&[
        ("home/config.toml", "[project]\nregistry = 'user.example'\n[defaults]\npython_version = 3.9\ncmd = ['user']\nenv = { A = 'user', U = 'user' }\n"),
        (PROJECT_FILE, "[project]\nregistry = 'project.example'\n[defaults]\npython_version = 3.10\npackages = ['default']\nenv = { A = 'project', P = 'project' }\n"),
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
    assert_eq!(spec.registry.as_ref().map(|registry| registry.place.to_string()), Some("imagespec.toml:2:12".to_owned()));
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
        (PROJECT_FILE, "[defaults]\nrequirements = 'common/requirements.txt'\nbase_image = './base.yaml'\n[images.a]\nspec = 'images/deep/a.yaml'\nsource_root = '.'\ncopy = ['images/deep/data']\n"),
        ("images/deep/a.yaml", "builder_config: x.yaml\n"),
    ]);
    let spec = folder.load("a", &["registry_config=/abs/config.json"]).spec;
    let path = |path: Option<Located<PathBuf>>| path.map(|path| path.value.display().to_string());
    assert_eq!(path(spec.requirements).as_deref(), Some("../../common/requirements.txt"));
    assert_eq!(path(spec.source_root).as_deref(), Some("../.."));
    assert_eq!(path(spec.builder_config).as_deref(), Some("x.yaml"));
    assert_eq!(path(spec.registry_config).as_deref(), Some("/abs/config.json"));
    assert_eq!(values(&spec.copy), ["data"]);
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
    assert_eq!(project.builders["docker"]["level"], 3);
    assert_eq!((project.path, project.directory), (folder.path().join(PROJECT_FILE), folder.path()));
    let empty = Folder::new(&[(PROJECT_FILE, "# nothing\n")]).project();
    assert_eq!(empty.image_names().count(), 0);
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
    hint: the tables are `project`, `defaults`, `images`, `builders` and `registries`
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
    hint: write a name and perhaps versions, as in `pandas` or `pandas>=2,<3`
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
    hint: write a whole URL, as in `https://pypi.org/simple`
    ");
    insta::assert_snapshot!(project_errors("[project]\nbuilder = ['x']\ndebian_mirror = 'https://u:hunter2@x.example'\n"), @r#"
    error: `project.builder` must be a text, but a list was found
      --> imagespec.toml:2:11
       |
     2 | builder = ['x']
       |           ^^^^^
    hint: write `builder = "…"`
    error: `project.debian_mirror` has a URL with credentials in it, and they would be stored in the image
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
    error: `the user's config` cannot have the key `images`: images belong to a project
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
    note: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(folder.try_load("spec.txt", &[]).expect_err("an error"), @"
    error: cannot tell the format of `FOLDER/spec.txt`
    hint: a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`
    ");
    insta::assert_snapshot!(folder.try_load("no/spec.yaml", &[]).expect_err("an error"), @"
    error: cannot read `FOLDER/no/spec.yaml`
    note: No such file or directory (os error 2)
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
fn a_spec_is_read_alone_for_others_to_stand_on() {
    let folder = Folder::new(&[("base.yaml", "packages: [a]\n")]);
    let spec = read_spec(&folder.path().join("base.yaml"), "base.yaml").expect("a spec");
    assert_eq!(spec, Spec::parse("base.yaml", b"packages: [a]\n", Format::Yaml).expect("a spec"));
}

#[test]
fn settings_are_read_like_fields() {
    let folder = Folder::new(&[("a.yaml", "name: a\nuser: b\n")]);
    let settings = ["python_version=3.10", "packages=pandas>=2,<3, numpy", "env.X=a=b,c", "labels.a.b=1", "builder_options.n=3", "builder_options.s=x", "commands=echo a, b", "entrypoint=python,-m,app", "user=", "pip_extra_args=--pre --x y"];
    let spec = folder.load("a.yaml", &settings).spec;
    assert_eq!(text(&spec.python_version), Some("3.10"));
    assert_eq!(values(&spec.packages), ["pandas>=2,<3", "numpy"]);
    assert_eq!(spec.env["X"].value, "a=b,c");
    assert_eq!(spec.labels["a.b"].value, "1");
    assert_eq!((&spec.builder_options["n"].value, &spec.builder_options["s"].value), (&3.into(), &"x".into()));
    assert_eq!(values(&spec.commands), ["echo a, b"]);
    assert_eq!(spec.entrypoint.map(|words| words.value), Some(vec!["python".to_owned(), "-m".to_owned(), "app".to_owned()]));
    assert_eq!(spec.user, None);
    assert_eq!(values(&spec.pip_extra_args), ["--pre", "--x", "y"]);
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
    insta::assert_snapshot!(setting("user=\0"), @"error: character U+0000 is not allowed");
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
    hint: write a name and perhaps versions, as in `pandas` or `pandas>=2,<3`
    ");
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
