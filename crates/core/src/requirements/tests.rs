//! Tests of requirements and lock files.

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
    insta::assert_snapshot!(read_text("\u{feff}# all of it\r\n\r\nnumpy>=1.26, \\\r\n  <3   # not 3\r\n  requests[socks] ; \\\n  python_version < '3.13'\npkg#no-comment @ https://example.org/p-1-py3-none-any.whl#sha256=00\n".replace("pkg#no-comment", "pkg").as_str()), @r"
    install numpy<3,>=1.26
    install pkg @ https://example.org/p-1-py3-none-any.whl#sha256=00
    install requests[socks] ; python_full_version < '3.13'
    ");
}

#[test]
fn options_of_the_resolver_are_carried_in_order() {
    insta::assert_snapshot!(read_text("-i https://one.example/simple\n--index-url=https://two.example/simple\n--extra-index-url 'https://three.example/simple'\n-fhttps://links.example/x.html\n--pre\n--only-binary=:all:\n--no-index --pre\nnumpy\n"), @r"
    install numpy
    index https://two.example/simple
    extra index https://three.example/simple
    find links https://links.example/x.html
    argument --pre
    argument --only-binary
    argument :all:
    argument --no-index
    ");
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("--no-binary numpy"), @"
    `--no-binary` is not supported in a requirements file
    --> requirements.txt:1:1
    hint: remove it: what has a wheel is installed from it, and only the rest is built
    ");
    insta::assert_snapshot!(error("--only-binary=:none:"), @"
    `--only-binary` is not supported in a requirements file
    --> requirements.txt:1:1
    hint: remove it: what has a wheel is installed from it, and only the rest is built
    ");
}

#[test]
fn url_requirements_are_kept_if_they_are_wheels_sources_or_repositories() {
    insta::assert_snapshot!(read_text("torch @ https://download.pytorch.org/whl/torch-2.0-cp311-cp311-linux_x86_64.whl ; sys_platform == 'linux'\nhttps://example.org/p-1-py3-none-any.whl\nsix\ngit+https://github.com/a/b@90a4455#subdirectory=x/y\nb @ git+ssh://git@github.com/a/b\nhttps://example.org/p-1.tar.gz#subdirectory=z\n"), @"
    install b @ git+ssh://git@github.com/a/b
    install git+https://github.com/a/b@90a4455#subdirectory=x/y
    install https://example.org/p-1-py3-none-any.whl
    install https://example.org/p-1.tar.gz#subdirectory=z
    install six
    install torch @ https://download.pytorch.org/whl/torch-2.0-cp311-cp311-linux_x86_64.whl ; sys_platform == 'linux'
    ");
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("six\nhttps://example.org/p-1.exe"), @"
    `https://example.org/p-1.exe` is neither a wheel nor an archive of sources
    --> requirements.txt:2:1
    hint: name the URL of a wheel, which ends in `.whl`, of an archive, as `.tar.gz` or `.zip`, or of a repository, as `git+https://…`
    ");
    insta::assert_snapshot!(project.error(&Spec { packages: texts(&["p @ https://example.org/p"]), ..Spec::default() }), @"
    `https://example.org/p` is neither a wheel nor an archive of sources
    --> train.yaml:1:1
    hint: name the URL of a wheel, which ends in `.whl`, of an archive, as `.tar.gz` or `.zip`, or of a repository, as `git+https://…`
    ");
    let project = "[project]\nname = \"x\"\ndependencies = [\"b @ https://github.com/a/b.git\"]\n";
    insta::assert_snapshot!(Project::new(&[]).requirements_error("pyproject.toml", project), @"
    `https://github.com/a/b.git` is a repository, and no archive
    --> pyproject.toml:3:17
    hint: write `git+https://github.com/a/b.git`
    ");
}

#[test]
fn included_files_are_relative_to_the_file_that_includes_them() {
    let project = Project::new(&[
        ("deploy/requirements.txt", "-r ../base.txt\n-c limits/all.txt\n--requirement=../base.txt\npandas"),
        ("base.txt", "numpy\n"),
        ("deploy/limits/all.txt", "-r more.txt\nnumpy<3"),
        ("deploy/limits/more.txt", "six"),
    ]);
    insta::assert_snapshot!(read_in(&project, "deploy/requirements.txt"), @r"
    install numpy
    install pandas
    install six
    constrain numpy<3
    ");
}

#[test]
fn hashes_are_kept_and_one_hash_asks_for_all() {
    let (a, b) = ("a".repeat(64), "B".repeat(64));
    insta::assert_snapshot!(read_text(&format!("numpy==2.1.0 \\\n    --hash=sha256:{b} \\\n    --hash sha256:{a}\n")), @r"
    install numpy==2.1.0
      sha256:aaaaa
      sha256:bbbbb
    ");
    let project = Project::new(&[]);
    insta::assert_snapshot!(project.requirements_error("r.txt", &format!("numpy==2.1.0 --hash=sha256:{a}\n\nsix==1.0\n")), @r"
    `six==1.0` has no `--hash`, but other requirements have one
    --> r.txt:3:1
    hint: `uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes all of them
    ");
    insta::assert_snapshot!(project.requirements_error("r.txt", "--require-hashes\nsix==1.0\n"), @r"
    `six==1.0` has no `--hash`, but `--require-hashes` is set
    --> r.txt:2:1
    hint: `uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes all of them
    ");
    insta::assert_snapshot!(project.requirements_error("r.txt", &format!("six>=1.0 --hash=sha256:{a}")), @r"
    `six>=1.0` has a `--hash` but is not pinned to one version
    --> r.txt:1:1
    hint: write `==` and the version that the digest belongs to
    ");
    insta::assert_snapshot!(project.requirements_error("r.txt", "six==1.0 --hash=md5:00"), @"
    `md5:00` is not a digest: expected `sha256:`, `sha384:` or `sha512:` and its hexadecimal digits
    --> r.txt:1:17
    hint: copy all of the digest, or make the file again with the tool that wrote it
    ");
}

#[test]
fn order_space_and_case_do_not_matter() {
    assert_eq!(read_text("Numpy >= 1.0\nscipy"), read_text("scipy\n# c\n\n  numpy>=1.0"));
}

#[test]
fn lines_that_no_image_can_be_built_from_are_refused_where_they_stand() {
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("numpy\n  -e ./pkg"), @r"
    `-e` installs a folder of this machine in place, which an image cannot have
    --> requirements.txt:2:3
    hint: copy the code with `source_root` or `copy`; it is importable without being installed
    ");
    insta::assert_snapshot!(error("--editable=git+https://x/y"), @r"
    `--editable` installs a folder of this machine in place, which an image cannot have
    --> requirements.txt:1:1
    hint: copy the code with `source_root` or `copy`; it is importable without being installed
    ");
    insta::assert_snapshot!(error("numpy\n./wheels/a.whl"), @r"
    `./wheels/a.whl` is a file or folder of this machine, and only what an index or a URL has can be installed
    --> requirements.txt:2:1
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    ");
    insta::assert_snapshot!(error("numpy \\\n  == 1 \\\n  ; bogus == '1'"), @"
    not a requirement: expected a quoted string or a valid marker name, found `bogus`
    --> requirements.txt:3:5
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
    insta::assert_snapshot!(error("numpy==1.0 --global-option=x"), @r"
    `--global-option` is not supported in a requirements file
    --> requirements.txt:1:12
    hint: build the package to a wheel beforehand
    ");
    insta::assert_snapshot!(error("numpy -r other.txt"), @r"
    `-r` is not supported in a requirements file
    --> requirements.txt:1:7
    hint: write it on a line of its own
    ");
    insta::assert_snapshot!(error("--trusted-host example.org"), @r"
    `--trusted-host` is not supported in a requirements file
    --> requirements.txt:1:1
    hint: use an index with a certificate that this machine trusts
    ");
    insta::assert_snapshot!(error("--frobnicate"), @"
    unknown option `--frobnicate`
    --> requirements.txt:1:1
    hint: options of the resolver that pip does not know go to `pip_extra_args`
    ");
    insta::assert_snapshot!(error("--pre=yes"), @r"
    `--pre` takes no value
    --> requirements.txt:1:1
    ");
    insta::assert_snapshot!(error("-r"), @r"
    `-r` takes a value
    --> requirements.txt:1:1
    ");
    insta::assert_snapshot!(error("-r 'a"), @r"
    the quote is not closed
    --> requirements.txt:1:4
    ");
    insta::assert_snapshot!(error("-f ./wheels"), @r"
    `./wheels` is a file or folder of this machine, and only what an index or a URL has can be installed
    --> requirements.txt:1:4
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    ");
    insta::assert_snapshot!(error("-r https://example.org/r.txt"), @r"
    `https://example.org/r.txt` is a URL, and only files of the project can be included
    --> requirements.txt:1:4
    hint: download the file and include it from the project
    ");
    insta::assert_snapshot!(error("--hash=sha256:00"), @r"
    `--hash` is not supported in a requirements file
    --> requirements.txt:1:1
    hint: write it behind the requirement that it belongs to
    ");
    insta::assert_snapshot!(error("numpy\n--extra-index-url https://${TOKEN}@example.org/"), @r"
    `${TOKEN}` would be taken from the environment, and an image must not depend on that
    --> requirements.txt:2:27
    hint: write the value itself, and hand secrets over with `pip_secret_mounts`
    ");
    insta::assert_snapshot!(error("numpy\u{7}"), @r"
    the line holds the control character U+0007
    --> requirements.txt:1:6
    ");
    insta::assert_snapshot!(error("a @ ftp://example.org/a.whl"), @"
    URLs of kind `ftp` cannot be installed from
    --> requirements.txt:1:1
    hint: name the URL of a wheel, `https://…/NAME-VERSION-py3-none-any.whl`
    ");
}

#[test]
fn credentials_are_refused_and_not_shown() {
    let project = Project::new(&[("r.txt", "numpy\n--index-url https://joe:s3cret@example.org/simple\n")]);
    let spec = Spec { requirements: some(PathBuf::from("r.txt")), ..Spec::default() };
    let error = project.resolve(&spec).unwrap_err();
    insta::assert_snapshot!(crate::testing::shown(&error), @"
    the URL of `example.org` contains credentials, which would end up in the image's plan
    --> r.txt:2:13
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    ");
    insta::assert_snapshot!(error.place().line_text(), @"--index-url https://**********@example.org/simple");
    assert!(!format!("{error:?}{}", error.place().source.text).contains("s3cret"));
}

#[test]
fn includes_that_go_in_circles_or_out_of_the_project_are_refused() {
    let project = Project::new(&[("a.txt", "-r sub/b.txt"), ("sub/b.txt", "numpy\n-c ../a.txt")]);
    let error = |text: &str| project.requirements_error("requirements.txt", text);
    insta::assert_snapshot!(error("-r a.txt"), @r"
    `a.txt` includes itself: `requirements.txt` → `a.txt` → `sub/b.txt` → `a.txt`
    --> sub/b.txt:2:4
    hint: remove one of the `-r` or `-c` lines
    ");
    insta::assert_snapshot!(error("-r ../other.txt"), @r"
    `../other.txt` leads out of the project's folder
    --> requirements.txt:1:4
    hint: put the file inside of the project, the folder with `imagespec.toml`
    ");
    insta::assert_snapshot!(error("-r /etc/passwd"), @r"
    `/etc/passwd` is an absolute path
    --> requirements.txt:1:4
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(error("-r missing.txt"), @r"
    cannot read `missing.txt`
    --> requirements.txt:1:4
    cause: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    project.link("out.txt", "/etc/passwd");
    insta::assert_snapshot!(error("-c out.txt"), @r"
    `out.txt` leads out of the project's folder: `out.txt` is a symbolic link to `/etc/passwd`
    --> requirements.txt:1:4
    hint: put the file inside of the project, the folder with `imagespec.toml`
    ");
    for depth in 0..20 {
        project.write(&format!("d{depth}.txt"), format!("-r d{}.txt", depth + 1));
    }
    insta::assert_snapshot!(error("-r d0.txt"), @r"
    requirements files include each other more than 16 deep
    --> d14.txt:1:4
    ");
}

#[test]
fn files_that_are_no_text_or_no_file_are_refused() {
    let project = Project::new(&[("folder/x", "")]);
    project.write("latin.txt", b"caf\xe9");
    project.write("large.txt", " ".repeat(10 * 1024 * 1024 + 1));
    let error = |name: &str| project.error(&Spec { requirements: some(PathBuf::from(name)), ..Spec::default() });
    insta::assert_snapshot!(error("latin.txt"), @r"
    `latin.txt` is not UTF-8 text
    --> train.yaml:1:1
    ");
    insta::assert_snapshot!(error("large.txt"), @r"
    `large.txt` is larger than 10 MiB
    --> train.yaml:1:1
    ");
    insta::assert_snapshot!(error("folder"), @r"
    `folder` is not a regular file
    --> train.yaml:1:1
    ");
    insta::assert_snapshot!(error("missing.txt"), @r"
    cannot read `missing.txt`
    --> train.yaml:1:1
    cause: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(error("Pipfile.lock"), @r"
    `Pipfile.lock` is a file of Pipenv, which is not supported
    --> train.yaml:1:1
    hint: run `pipenv requirements --hash > requirements.txt` and use that
    ");
    insta::assert_snapshot!(error("environment.yml"), @r"
    `environment.yml` is a file of conda, which is not supported
    --> train.yaml:1:1
    hint: list the packages in `conda_packages`, the channels in `conda_channels`
    ");
    insta::assert_snapshot!(error("/requirements.txt"), @r"
    `/requirements.txt` is an absolute path
    --> train.yaml:1:1
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(error("../requirements.txt"), @r"
    `../requirements.txt` leads out of the project's folder
    --> train.yaml:1:1
    hint: put the file inside of the project, the folder with `imagespec.toml`
    ");
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
files = [{file = "flytekit-1-py3-none-any.whl", hash = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}]
develop = false

[package.source]
type = "url"
url = "https://wheels.example/flytekit-1-py3-none-any.whl"
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
    insta::assert_snapshot!(read_in(&project, "poetry.lock"), @r"
    locked flytekit @ https://wheels.example/flytekit-1-py3-none-any.whl
      sha256:fffff
    locked numpy==2.1.0 ; python_full_version < '3.13'
      sha256:aaaaa
    locked torch==2.4.0+cu118 ; sys_platform == 'linux'
      sha256:ccccc
    extra index https://download.pytorch.org/whl/cu118
    ");
}

#[test]
fn a_poetry_lock_that_cannot_be_used_is_refused_by_entry() {
    let project = Project::new(&[]);
    let error = |text: String| project.requirements_error("poetry.lock", &text);
    insta::assert_snapshot!(error(POETRY.to_owned()), @r"
    there is no `pyproject.toml` beside `poetry.lock`
    --> poetry.lock:1:1
    hint: keep the lock file beside the `pyproject.toml` that it was made from
    ");
    insta::assert_snapshot!(error(POETRY.replace("\"2.1\"", "\"2.0\"")), @r"
    `poetry.lock` has version `2.0`, and only 2.1 and later 2.x can be read
    --> poetry.lock:59:16
    hint: run `poetry lock` with Poetry 2
    ");
    insta::assert_snapshot!(error(POETRY.replace("\"url\"", "\"directory\"")), @r"
    package `flytekit` is locked to `https://wheels.example/flytekit-1-py3-none-any.whl`, a file or folder of this machine
    --> poetry.lock:43:8
    hint: publish it to an index, or copy its code with `source_root` or `copy`
    ");
    insta::assert_snapshot!(error(POETRY.replace("\"url\"", "\"carrier-pigeon\"")), @r"
    package `flytekit` has a source of kind `carrier-pigeon`, which is not supported
    --> poetry.lock:43:8
    ");
    insta::assert_snapshot!(error(POETRY.replace("optional = true", "optional = false")), @r"
    package `redis` has no hashes in the lock file
    --> poetry.lock:20:8
    hint: run `poetry lock --regenerate`
    ");
    insta::assert_snapshot!(error(POETRY.replace("download.pytorch", "me:pw@download.pytorch")), @"
    the URL of `download.pytorch.org` contains credentials, which would end up in the image's plan
    --> poetry.lock:29:8
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    ");
    insta::assert_snapshot!(error(POETRY.replace("[metadata]", "[metadata")), @"
    not readable: unclosed table, expected `]`
    --> poetry.lock:58:10
    hint: make the file again with the tool that wrote it
    ");
    insta::assert_snapshot!(error(POETRY.replace("sha256:cccc", "sha256:cc")), @"
    `sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc` is not a digest: expected `sha256:`, `sha384:` or `sha512:` and its hexadecimal digits
    --> poetry.lock:29:8
    hint: copy all of the digest, or make the file again with the tool that wrote it
    ");
}

#[test]
fn a_uv_lock_needs_its_pyproject_and_no_folder_of_this_machine() {
    let lock = "version = 1\nrequires-python = \">=3.12\"\n\n[[package]]\nname = \"app\"\nversion = \"0.1\"\nsource = { editable = \".\" }\n";
    let project = Project::new(&[]);
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @r"
    there is no `pyproject.toml` beside `uv.lock`
    --> uv.lock:1:1
    hint: keep the lock file beside the `pyproject.toml` that it was made from
    ");
    project.write("pyproject.toml", "[project]\nname = 'app'\n");
    // The default base has Python 3.11.
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @r"
    the file requires Python `>=3.12`, and the image has Python 3.11
    --> uv.lock:2:19
    hint: set `python_version` to one that fits, or change `requires-python`
    ");
    let spec = Spec { requirements: some(PathBuf::from("uv.lock")), python_version: text("3.13"), ..Spec::default() };
    let requirements = project.resolve(&spec).unwrap().requirements.unwrap();
    assert_eq!(requirements.files.len(), 2);
    insta::assert_snapshot!(shown(&requirements), @"uv.lock sha256:8bb7232bcbd582155ef64c17fe4c7d0ce4f4eb9f4d0c30f550db50a4a6878bed sha256:f8717504351259c816b678268cca1d6de8edd9d3929628307d66d97b43a63161");
    let other = format!("{lock}[[package]]\nname = \"lib\"\nversion = \"1\"\nsource = {{ directory = \"../lib\" }}\n");
    insta::assert_snapshot!(project.requirements_error("uv.lock", &other), @r"
    package `lib` is locked to `../lib`, a file or folder of this machine
    --> uv.lock:9:8
    hint: publish it to an index, or copy its code with `source_root` or `copy`
    ");
    insta::assert_snapshot!(project.requirements_error("uv.lock", "version = 9"), @r"
    `uv.lock` has version `9`, and only version 1 can be read
    --> uv.lock:1:1
    hint: run `uv lock` with a uv that writes version 1
    ");
    let both = Spec { packages: texts(&["numpy"]), ..spec };
    insta::assert_snapshot!(project.error(&both), @r"
    `packages` cannot be combined with the lock file `uv.lock`, which says everything that is installed
    --> train.yaml:1:1
    hint: add the packages to `pyproject.toml` and run `uv lock`
    ");
}

#[test]
fn a_uv_lock_that_is_older_than_its_pyproject_is_refused() {
    let dependencies = |list: &str| format!("[project]\nname = 'app'\ndependencies = [{list}]\n");
    let lock = "version = 1\n\n[[package]]\nname = \"app\"\nsource = { virtual = \".\" }\n[package.metadata]\nrequires-dist = [\n\
        { name = \"idna\", specifier = \">=3,<4\" },\n{ name = \"six\", marker = \"extra == 'old'\" },\n]\n";
    let project = Project::new(&[("pyproject.toml", &dependencies("'idna <4, >=3'")), ("uv.lock", lock)]);
    assert!(project.resolve(&Spec { requirements: some(PathBuf::from("uv.lock")), ..Spec::default() }).is_ok());
    project.write("pyproject.toml", dependencies("'idna >=3,<4', 'httpx'"));
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @"
    `uv.lock` was made before `httpx` was changed in `pyproject.toml`
    --> pyproject.toml:3:32
    hint: run `uv lock`
    ");
    project.write("pyproject.toml", dependencies("'idna >=3.1,<4'"));
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @"
    `uv.lock` was made before `idna >=3.1,<4` was changed in `pyproject.toml`
    --> pyproject.toml:3:17
    hint: run `uv lock`
    ");
    project.write("pyproject.toml", dependencies(""));
    insta::assert_snapshot!(project.requirements_error("uv.lock", lock), @"
    `uv.lock` was made before `idna` was changed in `pyproject.toml`
    --> uv.lock:1:1
    hint: run `uv lock`
    ");
    project.write("pyproject.toml", "[project]\nname = 'app'\ndynamic = ['dependencies']\n");
    assert!(project.resolve(&Spec { requirements: some(PathBuf::from("uv.lock")), ..Spec::default() }).is_ok());
}

#[test]
fn a_pylock_is_checked_and_taken_as_it_is() {
    let project = Project::new(&[("pylock.prod.toml", "lock-version = \"1.0\"\ncreated-by = \"uv\"\npackages = []\n")]);
    insta::assert_snapshot!(read_in(&project, "pylock.prod.toml"), @"pylock.toml sha256:abf68603202773df469760be0c53144001aaef8169a821395aa2c00864c7e473");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"2.0\"\npackages = []"), @r"
    `pylock.toml` has version `2.0`, and only 1.x can be read
    --> pylock.toml:1:16
    hint: write it again with a tool that knows lock-version 1.0 (PEP 751)
    ");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"lib\"\ndirectory = { path = \"../lib\" }\n"), @r"
    package `lib` is locked to `../lib`, a file or folder of this machine
    --> pylock.toml:3:8
    hint: publish it to an index, or copy its code with `source_root` or `copy`
    ");
    insta::assert_snapshot!(project.requirements_error("pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"lib\"\nwheels = [{ path = \"lib.whl\", hashes = {} }]\n"), @r"
    package `lib` is locked to `lib.whl`, a file or folder of this machine
    --> pylock.toml:3:8
    hint: publish it to an index, or copy its code with `source_root` or `copy`
    ");
}

#[test]
fn a_pyproject_gives_its_dependencies_and_joins_packages() {
    let project = Project::new(&[(
        "pyproject.toml",
        "[project]\nname = 'app'\nrequires-python = '>=3.9'\ndependencies = ['numpy>=1.26', 'Pandas']\n",
    )]);
    let spec =
        Spec { requirements: some(PathBuf::from("pyproject.toml")), packages: texts(&["scipy"]), ..Spec::default() };
    insta::assert_snapshot!(shown(&project.resolve(&spec).unwrap().requirements.unwrap()), @r"
    install numpy>=1.26
    install pandas
    install scipy
    ");
}

#[test]
fn a_pyproject_whose_dependencies_are_not_there_is_refused() {
    let project = Project::new(&[]);
    let error = |text: &str| project.requirements_error("pyproject.toml", text);
    insta::assert_snapshot!(error("[project]\nname = 'app'\ndynamic = ['version', 'dependencies']"), @r"
    `dependencies` of the project are dynamic: only its build backend knows them
    --> pyproject.toml:3:23
    hint: run `uv lock` and set `requirements: uv.lock`
    ");
    insta::assert_snapshot!(error("[tool.poetry.dependencies]\nnumpy = '^1'"), @r"
    the project's dependencies are written in Poetry's own form
    --> pyproject.toml:1:1
    hint: run `poetry lock` and set `requirements: poetry.lock`
    ");
    insta::assert_snapshot!(error("[build-system]\nrequires = []"), @r"
    there is no `[project]` table
    --> pyproject.toml:1:1
    hint: add `[project]` with `dependencies`, or use a requirements.txt
    ");
    insta::assert_snapshot!(error("[project]\nname = 'app'\ndependencies = [\n  'numpy',\n  './x',\n]"), @r"
    `./x` is a file or folder of this machine, and only what an index or a URL has can be installed
    --> pyproject.toml:5:3
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    ");
    insta::assert_snapshot!(error("[project]\nname = 'app'\nrequires-python = 'three'\n"), @r"
    `three` is not a version specifier like `>=3.9`
    --> pyproject.toml:3:19
    ");
}

#[test]
fn two_different_indexes_are_refused() {
    let project = Project::new(&[("r.txt", "-i https://a.example/simple\nnumpy")]);
    let spec = |index| Spec { requirements: some(PathBuf::from("r.txt")), pip_index: text(index), ..Spec::default() };
    insta::assert_snapshot!(project.error(&spec("https://b.example/simple")), @r"
    the file asks for the index `https://a.example/simple` and the spec's `pip_index` for `https://b.example/simple`
    --> r.txt:1:4
    hint: keep one of them; a further index goes to `pip_extra_index_url`
    ");
    let resolved = project.resolve(&spec("https://a.example/simple")).unwrap();
    assert_eq!(resolved.pip_index.as_deref(), Some("https://a.example/simple"));
}

#[test]
fn more_requirements_than_any_project_has_are_refused() {
    let text = "a\n".repeat(100_001);
    insta::assert_snapshot!(Project::new(&[]).requirements_error("r.txt", &text), @r"
    more than 100000 requirements
    --> r.txt:100001:1
    ");
}

#[test]
fn no_requirements_file_makes_the_reader_panic() {
    let words = [
        "-r",
        "-c ",
        "--hash=",
        "--index-url",
        "=",
        "numpy",
        "==1",
        " ",
        "\\\n",
        "\n",
        "\r",
        "#",
        "'",
        "\"",
        "é",
        "://",
        ";",
        "\\",
        "-",
    ];
    let project = Project::new(&[]);
    let spec = Spec { requirements: some(PathBuf::from("r.txt")), ..Spec::default() };
    let mut state = 7_u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        project.write("r.txt", &text);
        if let Err(error) = project.resolve(&spec) {
            let place = error.place();
            assert!(place.column <= place.line_text().chars().count() + 1, "{text:?}");
        }
    }
}
