use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::spec::Spec;
use crate::testing::{Project, some, text, texts};

/// What a requirements file in a project comes to, as text.
fn read_in(project: &Project, name: &str) -> String {
    let spec = Spec { requirements: some(PathBuf::from(name)), ..Spec::default() };
    let resolved = project.resolve(&spec).unwrap();
    shown(&resolved.requirements.unwrap())
}

fn read_text(contents: &str) -> String {
    read_in(&Project::new(&[("requirements.txt", contents)]), "requirements.txt")
}

fn shown(requirements: &Requirements) -> String {
    let mut text = String::new();
    let mut list = |kind: &str, set: &BTreeSet<Requirement>| {
        for Requirement { text: requirement, hashes } in set {
            writeln!(text, "{kind} {requirement}").unwrap();
            for hash in hashes {
                writeln!(text, "  {}", &hash[..12]).unwrap();
            }
        }
    };
    match &requirements.input {
        PipInput::Requirements { requirements, constraints } => {
            list("install", requirements);
            list("constrain", constraints);
        }
        PipInput::Locked { requirements, .. } => list("locked", requirements),
        PipInput::UvLock { lock, pyproject } => writeln!(text, "uv.lock {lock} {pyproject}").unwrap(),
        PipInput::Pylock { lock } => writeln!(text, "pylock.toml {lock}").unwrap(),
    }
    if let Some(index) = &requirements.index {
        writeln!(text, "index {}", index.value).unwrap();
    }
    for (kind, values) in [
        ("extra index", &requirements.extra_indexes),
        ("find links", &requirements.find_links),
        ("argument", &requirements.extra_args),
    ] {
        for value in values {
            writeln!(text, "{kind} {value}").unwrap();
        }
    }
    text
}

#[test]
fn comments_blank_lines_and_continued_lines_are_read_as_pip_reads_them() {
    insta::assert_snapshot!(read_text("\u{feff}# all of it\r\n\r\nnumpy>=1.26, \\\r\n  <3   # not 3\r\n  requests[socks] ; \\\n  python_version < '3.13'\npkg#no-comment @ https://example.org/p-1-py3-none-any.whl#sha256=00\n".replace("pkg#no-comment", "pkg").as_str()), @"");
}

#[test]
fn options_of_the_resolver_are_carried_in_order() {
    insta::assert_snapshot!(read_text("-i https://one.example/simple\n--index-url=https://two.example/simple\n--extra-index-url 'https://three.example/simple'\n-fhttps://links.example/x.html\n--pre\n--no-binary numpy,scipy\n--only-binary=:all:\n--no-index --pre\nnumpy\n"), @"");
}

#[test]
fn vcs_and_url_requirements_are_kept() {
    insta::assert_snapshot!(read_text("git+https://github.com/a/b@90a4455#subdirectory=x/y\ntorch @ https://download.pytorch.org/whl/torch-2.0-cp311-cp311-linux_x86_64.whl ; sys_platform == 'linux'\nhttps://example.org/p-1-py3-none-any.whl\n"), @"");
}

#[test]
fn included_files_are_relative_to_the_file_that_includes_them() {
    let project = Project::new(&[
        ("deploy/requirements.txt", "-r ../base.txt\n-c limits/all.txt\n--requirement=../base.txt\npandas"),
        ("base.txt", "numpy\n"),
        ("deploy/limits/all.txt", "-r more.txt\nnumpy<3"),
        ("deploy/limits/more.txt", "six"),
    ]);
    insta::assert_snapshot!(read_in(&project, "deploy/requirements.txt"), @"");
}

#[test]
fn hashes_are_kept_and_one_hash_asks_for_all() {
    let (a, b) = ("a".repeat(64), "B".repeat(64));
    insta::assert_snapshot!(read_text(&format!("numpy==2.1.0 \\\n    --hash=sha256:{b} \\\n    --hash sha256:{a}\n")), @"");
    let project = Project::new(&[]);
    insta::assert_snapshot!(project.requirements_error("r.txt", &format!("numpy==2.1.0 --hash=sha256:{a}\n\nsix==1.0\n")), @"");
    insta::assert_snapshot!(project.requirements_error("r.txt", "--require-hashes\nsix==1.0\n"), @"");
    insta::assert_snapshot!(project.requirements_error("r.txt", &format!("six>=1.0 --hash=sha256:{a}")), @"");
    insta::assert_snapshot!(project.requirements_error("r.txt", "six==1.0 --hash=md5:00"), @"");
}

#[test]
fn order_space_and_case_do_not_matter() {
    assert_eq!(read_text("Numpy >= 1.0\nscipy"), read_text("scipy\n# c\n\n  numpy>=1.0"));
}

#[test]
fn lines_that_no_image_can_be_built_from_are_refused_where_they_stand() {
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("numpy\n  -e ./pkg"), @"");
    insta::assert_snapshot!(error("--editable=git+https://x/y"), @"");
    insta::assert_snapshot!(error("numpy\n./wheels/a.whl"), @"");
    insta::assert_snapshot!(error("numpy \\\n  == 1 \\\n  ; bogus == '1'"), @"");
    insta::assert_snapshot!(error("numpy==1.0 --global-option=x"), @"");
    insta::assert_snapshot!(error("numpy -r other.txt"), @"");
    insta::assert_snapshot!(error("--trusted-host example.org"), @"");
    insta::assert_snapshot!(error("--frobnicate"), @"");
    insta::assert_snapshot!(error("--pre=yes"), @"");
    insta::assert_snapshot!(error("-r"), @"");
    insta::assert_snapshot!(error("-r 'a"), @"");
    insta::assert_snapshot!(error("-f ./wheels"), @"");
    insta::assert_snapshot!(error("-r https://example.org/r.txt"), @"");
    insta::assert_snapshot!(error("--hash=sha256:00"), @"");
    insta::assert_snapshot!(error("numpy\n--extra-index-url https://${TOKEN}@example.org/"), @"");
    insta::assert_snapshot!(error("numpy\u{7}"), @"");
    insta::assert_snapshot!(error("a @ ftp://example.org/a.whl"), @"");
}

#[test]
fn credentials_are_refused_and_not_shown() {
    let project = Project::new(&[("r.txt", "numpy\n--index-url https://joe:s3cret@example.org/simple\n")]);
    let spec = Spec { requirements: some(PathBuf::from("r.txt")), ..Spec::default() };
    let error = project.resolve(&spec).unwrap_err();
    insta::assert_snapshot!(crate::testing::shown(&error), @"");
    insta::assert_snapshot!(error.place().line_text(), @"");
    assert!(!format!("{error:?}{}", error.place().source.text).contains("s3cret"));
}

#[test]
fn includes_that_go_in_circles_or_out_of_the_project_are_refused() {
    let project = Project::new(&[("a.txt", "-r sub/b.txt"), ("sub/b.txt", "numpy\n-c ../a.txt")]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("-r a.txt"), @"");
    insta::assert_snapshot!(error("-r ../other.txt"), @"");
    insta::assert_snapshot!(error("-r /etc/passwd"), @"");
    insta::assert_snapshot!(error("-r missing.txt"), @"");
    project.link("out.txt", "/etc/passwd");
    insta::assert_snapshot!(error("-c out.txt"), @"");
    for depth in 0..20 {
        project.write(&format!("d{depth}.txt"), format!("-r d{}.txt", depth + 1));
    }
    insta::assert_snapshot!(error("-r d0.txt"), @"");
}

#[test]
fn files_that_are_no_text_or_no_file_are_refused() {
    let project = Project::new(&[("folder/x", "")]);
    project.write("latin.txt", b"caf\xe9");
    project.write("large.txt", " ".repeat(10 * 1024 * 1024 + 1));
    let error =
        |name: &str| project.error(&Spec { requirements: some(PathBuf::from(name)), ..Spec::default() });
    insta::assert_snapshot!(error("latin.txt"), @"");
    insta::assert_snapshot!(error("large.txt"), @"");
    insta::assert_snapshot!(error("folder"), @"");
    insta::assert_snapshot!(error("missing.txt"), @"");
    insta::assert_snapshot!(error("Pipfile.lock"), @"");
    insta::assert_snapshot!(error("environment.yml"), @"");
    insta::assert_snapshot!(error("/requirements.txt"), @"");
    insta::assert_snapshot!(error("../requirements.txt"), @"");
}

const POETRY: &str = r#"
[[package]]
name = "Numpy"
version = "2.1.0"
optional = false
python-versions = ">=3.9"
groups = ["main", "dev"]
markers = { main = "python_version < \"3.13\"", dev = "sys_platform == 'linux'" }
files = [{ file = "numpy.whl", hash = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }]

[[package]]
name = "pytest"
version = "8.0.0"
optional = false
python-versions = ">=3.9"
groups = ["dev"]
files = [{ file = "pytest.whl", hash = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }]

[[package]]
name = "redis"
version = "5.0.0"
optional = true
python-versions = ">=3.9"
groups = ["main"]
markers = "extra == \"cache\""
files = []

[[package]]
name = "torch"
version = "2.4.0+cu118"
optional = false
python-versions = ">=3.9"
groups = ["main"]
markers = "sys_platform == \"linux\""
files = [{ file = "torch.whl", hash = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" }]

[package.source]
type = "legacy"
url = "https://download.pytorch.org/whl/cu118"
reference = "pytorch"

[[package]]
name = "flytekit"
version = "1.0"
optional = false
python-versions = ">=3.9"
groups = ["main"]
files = []
develop = false

[package.source]
type = "git"
url = "https://github.com/flyteorg/flytekit.git"
reference = "main"
resolved_reference = "90a4455c2cc2b3e171dfff69f605f47d48ea1ff1"
subdirectory = "plugins/x"

[metadata]
lock-version = "2.1"
python-versions = ">=3.9,<4.0"
content-hash = "00"
"#;

#[test]
fn a_poetry_lock_becomes_its_main_packages_with_hashes() {
    let project = Project::new(&[("poetry.lock", POETRY), ("pyproject.toml", "[tool.poetry]")]);
    insta::assert_snapshot!(read_in(&project, "poetry.lock"), @"");
}

#[test]
fn a_poetry_lock_that_cannot_be_used_is_refused_by_entry() {
    let project = Project::new(&[]);
    let error = |text: String| project.requirements_error("poetry.lock", &text);
    insta::assert_snapshot!(error(POETRY.to_owned()), @"");
    insta::assert_snapshot!(error(POETRY.replace("\"2.1\"", "\"2.0\"")), @"");
    insta::assert_snapshot!(error(POETRY.replace("\"git\"", "\"directory\"")), @"");
    insta::assert_snapshot!(error(POETRY.replace("\"git\"", "\"carrier-pigeon\"")), @"");
    insta::assert_snapshot!(error(POETRY.replace("optional = true", "optional = false")), @"");
    insta::assert_snapshot!(error(POETRY.replace("download.pytorch", "me:pw@download.pytorch")), @"");
    insta::assert_snapshot!(error(POETRY.replace("[metadata]", "[metadata")), @"");
    insta::assert_snapshot!(error(POETRY.replace("sha256:cccc", "sha256:cc")), @"");
}

#[test]
fn a_uv_lock_needs_its_pyproject_and_no_folder_of_this_machine() {
    let lock = "version = 1\nrequires-python = \">=3.12\"\n\n[[package]]\nname = \"app\"\nversion = \"0.1\"\nsource = { editable = \".\" }\n";
    let project = Project::new(&[]);
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @"");
    project.write("pyproject.toml", "[project]\nname = 'app'\n");
    // The default base has Python 3.11.
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @"");
    let spec = Spec {
        requirements: some(PathBuf::from("uv.lock")),
        python_version: text("3.12"),
        ..Spec::default()
    };
    let requirements = project.resolve(&spec).unwrap().requirements.unwrap();
    assert_eq!(requirements.files.len(), 2);
    insta::assert_snapshot!(shown(&requirements), @"");
    let other = format!("{lock}[[package]]\nname = \"lib\"\nversion = \"1\"\nsource = {{ directory = \"../lib\" }}\n");
    insta::assert_snapshot!(project.requirements_error("uv.lock", &other), @"");
    insta::assert_snapshot!(project.requirements_error("uv.lock", "version = 9"), @"");
    let both = Spec { packages: texts(&["numpy"]), ..spec };
    insta::assert_snapshot!(project.error(&both), @"");
}

#[test]
fn a_pylock_is_checked_and_taken_as_it_is() {
    let project = Project::new(&[("pylock.prod.toml", "lock-version = \"1.0\"\ncreated-by = \"uv\"\npackages = []\n")]);
    insta::assert_snapshot!(read_in(&project, "pylock.prod.toml"), @"");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"2.0\"\npackages = []"), @"");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"lib\"\ndirectory = { path = \"../lib\" }\n"), @"");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"lib\"\nwheels = [{ path = \"lib.whl\", hashes = {} }]\n"), @"");
}

#[test]
fn a_pyproject_gives_its_dependencies_and_joins_packages() {
    let project = Project::new(&[(
        "pyproject.toml",
        "[project]\nname = 'app'\nrequires-python = '>=3.9'\ndependencies = ['numpy>=1.26', 'Pandas']\n",
    )]);
    let spec = Spec {
        requirements: some(PathBuf::from("pyproject.toml")),
        packages: texts(&["scipy"]),
        ..Spec::default()
    };
    insta::assert_snapshot!(shown(&project.resolve(&spec).unwrap().requirements.unwrap()), @"");
}

#[test]
fn a_pyproject_whose_dependencies_are_not_there_is_refused() {
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("pyproject.toml", text);
    insta::assert_snapshot!(error("[project]\nname = 'app'\ndynamic = ['version', 'dependencies']"), @"");
    insta::assert_snapshot!(error("[tool.poetry.dependencies]\nnumpy = '^1'"), @"");
    insta::assert_snapshot!(error("[build-system]\nrequires = []"), @"");
    insta::assert_snapshot!(error("[project]\nname = 'app'\ndependencies = [\n  'numpy',\n  './x',\n]"), @"");
    insta::assert_snapshot!(error("[project]\nname = 'app'\nrequires-python = 'three'\n"), @"");
}

#[test]
fn two_different_indexes_are_refused() {
    let project = Project::new(&[("r.txt", "-i https://a.example/simple\nnumpy")]);
    let spec = |index| Spec { requirements: some(PathBuf::from("r.txt")), pip_index: text(index), ..Spec::default() };
    insta::assert_snapshot!(project.error(&spec("https://b.example/simple")), @"");
    let resolved = project.resolve(&spec("https://a.example/simple")).unwrap();
    assert_eq!(resolved.pip_index.as_deref(), Some("https://a.example/simple"));
}
