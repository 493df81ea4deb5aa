//! Whole Dockerfiles of whole specs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagespec_core::builder::{BuildRequest, CachePolicy, NetworkPolicy, SecretSource};
use imagespec_core::digest::Digest;
use imagespec_core::document::Format;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::lower::lower as plan;
use imagespec_core::platform::Platform;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;

use super::*;

/// A folder with a spec, and what it reads.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    fn request(&self, spec: &str) -> BuildRequest {
        let read = |text: &str| Spec::parse("app.yaml", text.as_bytes(), Format::Yaml);
        let spec = read(spec).unwrap_or_else(|errors| panic!("{errors:?}"));
        let context = ResolveContext {
            root: self.folder.path(),
            spec_path: None,
            default_name: "app",
            host_platform: &Platform::linux_amd64(),
            load_spec: &|path| {
                let text = std::fs::read_to_string(path)?;
                read(&text).map_err(|errors| format!("{errors:?}").into())
            },
        };
        let resolved = resolve(&spec, self.folder.path(), &context).unwrap();
        let plan = plan(&resolved);
        BuildRequest {
            id: SpecId::of(&spec),
            spec_hash: SpecHash::of(&plan),
            name: "app".parse().unwrap(),
            plan,
            outputs: Vec::new(),
            files: resolved.files,
            base_paths: resolved.base_paths,
            options: BTreeMap::new(),
            secrets: BTreeMap::from([("token".to_owned(), SecretSource::Value("s3cret".to_owned()))]),
            cache: CachePolicy::Use,
            network: NetworkPolicy::Online,
            cache_dir: PathBuf::from("/nonexistent"),
            timestamp: 0,
            registries: BTreeMap::new(),
            credential_files: Vec::new(),
        }
    }

    fn lower(&self, spec: &str) -> Result<Recipe, LowerError> {
        lower(&self.request(spec), &machine(), &uv(), &BTreeMap::new())
    }

    /// The Dockerfile of a spec, without the hashes at its end.
    fn dockerfile(&self, spec: &str) -> String {
        shown(&self.lower(spec).unwrap())
    }
}

fn machine() -> Machine {
    Machine::of([("HTTPS_PROXY".into(), "http://proxy.example:3128".into())])
}

fn uv() -> BTreeMap<String, UvProgram> {
    let program = |machine: &str| UvProgram {
        path: PathBuf::from(format!("/cache/uv-{machine}")),
        digest: Digest::of(machine.as_bytes()),
        size_bytes: 1,
    };
    ["x86_64", "aarch64"].into_iter().map(|machine| (machine.to_owned(), program(machine))).collect()
}

fn shown(recipe: &Recipe) -> String {
    let mut lines = Vec::new();
    for line in recipe.dockerfile.lines() {
        let cut = ["IMAGESPEC_ID=", "imagespec.id=", "imagespec.spec-hash="].iter().find_map(|name| {
            let (before, after) = line.split_once(name)?;
            Some(format!("{before}{name}…{}", if after.ends_with('\\') { " \\" } else { "" }))
        });
        lines.push(cut.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n")
}

fn steps(recipe: &Recipe) -> String {
    let steps = recipe.steps.iter().map(|step| {
        format!("[{} {}] {} ({})", step.stage, step.index, step.title, step.field.as_deref().unwrap_or("-"))
    });
    steps.collect::<Vec<_>>().join("\n")
}

const QUICKSTART: &str = "
name: report
base_image: python:3.11-slim
packages: [pandas, tabulate>=0.9]
copy: [report.py]
entrypoint: [python, report.py]
";

#[test]
fn the_quickstart_is_a_dockerfile_that_a_person_reads() {
    let project = Project::new(&[("report.py", "print(1)\n")]);
    let recipe = project.lower(QUICKSTART).unwrap();
    insta::assert_snapshot!(shown(&recipe), @"");
    insta::assert_snapshot!(steps(&recipe), @"");
    let context: Vec<_> = recipe.context.keys().map(String::as_str).collect();
    assert_eq!(
        context,
        [
            ".imagespec/constraints.txt",
            ".imagespec/pip.sh",
            ".imagespec/python.sh",
            ".imagespec/requirements.txt",
            ".imagespec/uv-x86_64",
            "root/report.py"
        ]
    );
    assert_eq!(recipe.build_arguments, BTreeMap::from([("HTTPS_PROXY".into(), "http://proxy.example:3128".into())]));
    let ids: Vec<_> = recipe.secrets.keys().map(String::as_str).collect();
    assert_eq!(ids, [AUTHORITIES_ID]);
}

#[test]
fn a_spec_with_everything_has_a_step_for_each() {
    let project = Project::new(&[("data/labels.csv", "a,b\n"), ("channel/noarch/repodata.json", "{}")]);
    let spec = "
base_image: base
python_version: 3.11
apt_packages: [git, libgomp1]
conda_packages: [greet]
conda_channels: [./channel, conda-forge]
packages: [idna, docopt==0.6.2, 'demo @ git+ssh://git@git.example/demo.git']
pip_index: https://pypi.example/simple
pip_extra_index_url: [https://extra.example/simple]
pip_extra_args: [--pre]
pip_secret_mounts: [{id: netrc, target: /root/.netrc}, {id: key, target: /root/.ssh/id_ed25519}]
copy: [data]
commands: ['sha256sum < /run/secret > /srv/secret', make install]
secrets: [{id: token, target: /run/secret}, {id: other, env: OTHER}]
env: {LD_LIBRARY_PATH: /opt/venv/lib}
user: 1000:1000
entrypoint: [python, /root/app.py]
cmd: [--help]
labels: {team: search}
workdir: /srv
runtime_packages: [ipdb]
";
    let recipe = project.lower(spec).unwrap();
    insta::assert_snapshot!(shown(&recipe), @"");
    insta::assert_snapshot!(steps(&recipe), @"");
    assert!(recipe.wants_ssh);
    assert_eq!(recipe.secrets["other"], RecipeSecret::Absent);
    assert_eq!(recipe.secrets["token"], RecipeSecret::Given(SecretSource::Value("s3cret".to_owned())));
}

#[test]
fn a_nested_spec_is_a_stage_of_its_own() {
    let project = Project::new(&[
        ("base.yaml", "base_image: python:3.11-slim\napt_packages: [jq]\npackages: [six]\nuser: app\nentrypoint: [a]\ncmd: [b]\nlabels: {team: search}\n"),
        ("app.py", ""),
    ]);
    let recipe = project.lower("base_image: base.yaml\npackages: [idna]\ncopy: [app.py]\ncommands: ['true']\n").unwrap();
    insta::assert_snapshot!(shown(&recipe), @"");
    insta::assert_snapshot!(steps(&recipe), @"");
}

#[test]
fn files_on_nothing_are_copied_and_nothing_runs() {
    let project = Project::new(&[("hello", "")]);
    let recipe = project.lower("base_image: scratch\ncopy: [hello]\nentrypoint: [/root/hello]\n").unwrap();
    insta::assert_snapshot!(shown(&recipe), @"");
    assert_eq!(recipe.steps.iter().map(|step| step.index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn hostile_values_are_data() {
    let project = Project::new(&[]);
    let spec = r##"
base_image: base
env:
  A: "$HOME ${PATH} `id` $(id)"
  B: 'back\slash\ '
  C: " # no comment "
  D: "two\nlines \"and\" $quotes"
  E: ""
  F: "--flag"
  G: '\"'
labels: {a: "two\nlines \"and\" $quotes", b: "${A}"}
workdir: "/srv/a b/$c"
entrypoint: ["a\nb", '$X', '--flag', '\', "<<END"]
cmd: ["]", "☃"]
commands: ["cat <<END\n# not a comment\nEND", 'echo \', '--mount=type=secret']
"##;
    insta::assert_snapshot!(project.dockerfile(spec), @"");
}

#[test]
fn lock_files_are_installed_as_they_are() {
    let requirements = format!("idna==3.10 --hash=sha256:{}\n-c limits.txt\n", "0".repeat(64));
    let project = Project::new(&[
        ("requirements.txt", requirements.as_str()),
        ("limits.txt", "six<2\n"),
        ("uv/uv.lock", "version = 1\n"),
        ("uv/pyproject.toml", "[project]\nname = 'a'\nversion = '1'\n"),
        ("pylock.toml", "lock-version = '1.0'\ncreated-by = 'x'\npackages = []\n"),
    ]);
    let pip = |file: &str| {
        let recipe = project.lower(&format!("base_image: base\nrequirements: {file}\n")).unwrap();
        let text = shown(&recipe);
        let start = text.find("# Python packages").unwrap();
        text[start..].lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(pip("requirements.txt"), @"");
    insta::assert_snapshot!(pip("uv/uv.lock"), @"");
    insta::assert_snapshot!(pip("pylock.toml"), @"");
    let recipe = project.lower("base_image: base\nrequirements: requirements.txt\n").unwrap();
    let Entry::Bytes { content, .. } = &recipe.context[".imagespec/requirements.txt"] else { panic!("it is text") };
    assert_eq!(*content, format!("idna==3.10 --hash=sha256:{}\n", "0".repeat(64)).into_bytes());
}

#[test]
fn several_platforms_bring_a_uv_each() {
    let project = Project::new(&[]);
    let spec = "base_image: base\nplatform: [linux/amd64, linux/arm64]\npackages: [six]\nruntime_packages: [ipdb]\nentrypoint: [a]\n";
    insta::assert_snapshot!(project.dockerfile(spec), @"");
    assert_eq!(wanted_uv(&project.request(spec).plan), ["x86_64", "aarch64"]);
    let other = "base_image: base\nplatform: linux/s390x\npackages: [six]\n";
    insta::assert_snapshot!(project.lower(other).unwrap_err(), @"");
}

#[test]
fn what_a_base_says_is_kept() {
    let project = Project::new(&[]);
    let request = project.request("base_image: base\napt_packages: [jq]\npackages: [six]\nruntime_packages: [ipdb]\n");
    let known = KnownBase {
        digest: Some(Digest::of(b"base")),
        user: Some("app".to_owned()),
        path: Some("/opt/venv/bin:/bin".to_owned()),
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
    };
    let recipe = lower(&request, &Machine::default(), &uv(), &BTreeMap::from([("base".to_owned(), known)])).unwrap();
    let kept: Vec<_> = recipe
        .dockerfile
        .lines()
        .filter(|line| ["USER", "ENTRYPOINT", "CMD", "ENV", "    org."].iter().any(|word| line.starts_with(word)))
        .map(|line| line.split("IMAGESPEC_ID=").next().unwrap())
        .collect();
    insta::assert_snapshot!(kept.join("\n"), @"");
    assert!(!recipe.dockerfile.contains("authorities"), "{}", recipe.dockerfile);
    let unknown = lower(&request, &machine(), &uv(), &BTreeMap::new());
    insta::assert_snapshot!(unknown.unwrap_err(), @"");
}

#[test]
fn what_a_dockerfile_cannot_do_is_told_by_its_field() {
    let project = Project::new(&[]);
    let told = |spec: &str| {
        let error = project.lower(spec).unwrap_err();
        format!("{}: {error}", error.field())
    };
    let spec = "packages: [six]\npip_extra_args: [--no-emit-package, idna]\nbase_image: base\n";
    insta::assert_snapshot!(told(spec), @"");
    let spec = "packages: [six]\npip_secret_mounts: [{id: x, target: /etc/x}]\nbase_image: base\n";
    insta::assert_snapshot!(told(spec), @"");
    insta::assert_snapshot!(told("base_image: bootstrap:debian/bookworm\n"), @"");
}

#[test]
fn a_recipe_is_written_with_all_that_it_names_and_never_over_something() {
    let project = Project::new(&[("app/run.sh", "#!/bin/sh\n"), ("app/data/a", "a")]);
    std::os::unix::fs::symlink("data/a", project.folder.path().join("app/link")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.folder.path().join("app/run.sh"), mode).unwrap();
    let recipe = project.lower("base_image: scratch\ncopy: [app]\nenv: {A: \"x\\ny\"}\n").unwrap();
    let folder = project.folder.path().join("out");
    recipe.write(&folder).unwrap();
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    assert_eq!(read("Dockerfile"), recipe.dockerfile);
    assert_eq!(read("root/app/data/a"), "a");
    assert_eq!(std::fs::read_link(folder.join("root/app/link")).unwrap(), Path::new("data/a"));
    assert_eq!(read(".imagespec/IMAGESPEC_TEXT_1"), "x\ny");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.join("root/app/run.sh")).unwrap());
    assert_eq!(mode & 0o777, 0o755);
    assert!(recipe.write(&folder).unwrap_err().to_string().ends_with("is not empty"));
    std::fs::write(project.folder.path().join("app/data/a"), "b").unwrap();
    let error = recipe.write(&project.folder.path().join("again")).unwrap_err();
    assert!(error.to_string().contains("changed while"), "{error}");
}
