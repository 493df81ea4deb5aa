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
    insta::assert_snapshot!(shown(&recipe), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build .
    FROM python:3.11-slim AS image

    # Python, and its environment at /opt/venv
    RUN --mount=type=bind,source=.imagespec/python.sh,target=/dev/imagespec/python.sh \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What programs find
    ENV PATH=/opt/venv/bin:$PATH \
        PYTHONPATH=/root
    WORKDIR /root

    # Files
    COPY root/ /root/

    # What a container runs
    ENTRYPOINT ["python", "report.py"]

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0 \
        org.opencontainers.image.base.name=docker.io/library/python:3.11-slim
    "#);
    insta::assert_snapshot!(steps(&recipe), @"
    [image 1] base python:3.11-slim (base_image)
    [image 2] python environment (-)
    [image 3] install 2 Python packages (packages)
    [image 4] working directory (-)
    [image 5] copy 1 file (copy)
    ");
    let context: Vec<_> = recipe.context.keys().map(String::as_str).collect();
    assert_eq!(
        context,
        [
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
    insta::assert_snapshot!(shown(&recipe), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build --secret id=key,src=FILE --secret id=netrc,src=FILE --secret id=other,src=FILE --secret id=token,src=FILE --ssh default .
    FROM base AS image

    # Debian packages
    RUN --mount=type=bind,source=.imagespec/apt.sh,target=/dev/imagespec/apt.sh \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/apt.sh", "git", "libgomp1"]

    # What programs find
    ENV PATH=/opt/venv/bin:$PATH \
        CONDA_PREFIX=/opt/venv \
        LD_LIBRARY_PATH=/opt/venv/lib \
        PYTHONPATH=/root \
        IMAGESPEC_RUNTIME_PACKAGES="${IMAGESPEC_RUNTIME_PACKAGES:+$IMAGESPEC_RUNTIME_PACKAGES }ipdb"
    WORKDIR /srv

    # Conda packages, and Python among them
    RUN --mount=type=bind,source=.imagespec/conda.sh,target=/dev/imagespec/conda.sh \
        --mount=type=bind,source=.imagespec/conda.py,target=/dev/imagespec/conda.py \
        --mount=type=bind,source=.imagespec/rattler.txt,target=/dev/imagespec/rattler.txt \
        --mount=type=bind,source=.imagespec/conda.json,target=/dev/imagespec/conda.json \
        --mount=type=bind,source=.imagespec/channels,target=/dev/imagespec/channels \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/conda.sh"]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        --mount=type=secret,id=key,target=/dev/imagespec/secrets/key,required=true \
        --mount=type=secret,id=netrc,target=/dev/imagespec/secrets/netrc,required=true \
        --mount=type=ssh,target=/dev/imagespec/ssh \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--file", "key", "/root/.ssh/id_ed25519", "--netrc", "netrc", "/root/.netrc", "--", "requirements", "--default-index", "https://pypi.example/simple", "--index", "https://extra.example/simple", "--pre"]

    # What installs packages when a container starts
    COPY .imagespec/image/start/ /opt/imagespec/

    # Files
    COPY root/ /root/

    # Commands
    RUN --mount=type=bind,source=.imagespec/command.sh,target=/dev/imagespec/command.sh \
        --mount=type=secret,id=other,target=/dev/imagespec/secrets/other,required=true \
        --mount=type=secret,id=token,target=/dev/imagespec/secrets/token,required=true \
        ["/bin/sh", "/dev/imagespec/command.sh", "--variable", "other", "OTHER", "--file", "token", "/run/secret", "--", "sha256sum < /run/secret > /srv/secret"]
    RUN --mount=type=bind,source=.imagespec/command.sh,target=/dev/imagespec/command.sh \
        --mount=type=secret,id=other,target=/dev/imagespec/secrets/other,required=true \
        --mount=type=secret,id=token,target=/dev/imagespec/secrets/token,required=true \
        ["/bin/sh", "/dev/imagespec/command.sh", "--variable", "other", "OTHER", "--file", "token", "/run/secret", "--", "make install"]

    # What a container runs
    USER 1000:1000
    ENTRYPOINT ["/opt/imagespec/start", "python", "/root/app.py"]
    CMD ["--help"]
    LABEL team=search

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0 \
        org.opencontainers.image.base.name=docker.io/library/base
    "#);
    insta::assert_snapshot!(steps(&recipe), @"
    [image 1] base base (base_image)
    [image 2] install 2 Debian packages (apt_packages)
    [image 3] working directory (workdir)
    [image 4] install 2 conda packages (conda_packages)
    [image 5] install 3 Python packages (packages)
    [image 6] prepare 1 runtime package (runtime_packages)
    [image 7] copy 1 file (copy)
    [image 8] run sha256sum < /run/secret > /srv/secret (commands[0])
    [image 9] run make install (commands[1])
    ");
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
    insta::assert_snapshot!(shown(&recipe), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build .
    FROM python:3.11-slim AS base1

    # Debian packages
    RUN --mount=type=bind,source=.imagespec/apt.sh,target=/dev/imagespec/apt.sh \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/apt.sh", "jq"]

    # Python, and its environment at /opt/venv
    RUN --mount=type=bind,source=.imagespec/python.sh,target=/dev/imagespec/python.sh \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/base1-requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What programs find
    ENV PATH=/opt/venv/bin:$PATH \
        PYTHONPATH=/root
    WORKDIR /root

    FROM base1 AS image

    # Python, and its environment at /opt/venv
    RUN --mount=type=bind,source=.imagespec/python.sh,target=/dev/imagespec/python.sh \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-7b88c7e10751-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What programs find
    ENV PYTHONPATH=/root
    WORKDIR /root

    # Files
    COPY root/ /root/

    # Commands
    RUN ["/bin/sh", "-c", "true"]

    # What a container runs
    USER app
    ENTRYPOINT ["a"]
    CMD ["b"]
    LABEL team=search

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0
    "#);
    insta::assert_snapshot!(steps(&recipe), @"
    [base1 1] base python:3.11-slim (base_image)
    [base1 2] install 1 Debian package (base_image)
    [base1 3] python environment (-)
    [base1 4] install 1 Python package (base_image)
    [base1 5] working directory (-)
    [image 1] python environment (-)
    [image 2] install 1 Python package (packages)
    [image 3] working directory (-)
    [image 4] copy 1 file (copy)
    [image 5] run true (commands[0])
    ");
}

#[test]
fn files_on_nothing_are_copied_and_nothing_runs() {
    let project = Project::new(&[("hello", "")]);
    let recipe = project.lower("base_image: scratch\ncopy: [hello]\nentrypoint: [/root/hello]\n").unwrap();
    insta::assert_snapshot!(shown(&recipe), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build .
    FROM scratch AS image

    # What programs find
    WORKDIR /root

    # Files
    COPY root/ /root/

    # What a container runs
    ENTRYPOINT ["/root/hello"]

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0
    "#);
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
    insta::assert_snapshot!(project.dockerfile(spec), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build --build-arg IMAGESPEC_TEXT_1="$(cat .imagespec/IMAGESPEC_TEXT_1)" .
    FROM base AS image

    # What programs find
    ARG IMAGESPEC_TEXT_1
    ENV A="\$HOME \${PATH} `id` \$(id)" \
        B="back\\slash\\ " \
        C=" # no comment " \
        D="$IMAGESPEC_TEXT_1" \
        E="" \
        F=--flag \
        G="\\\""
    WORKDIR "/srv/a b/\$c"

    # Commands
    RUN ["/bin/sh", "-c", "cat \u003c\u003cEND\n# not a comment\nEND"]
    RUN ["/bin/sh", "-c", "echo \\"]
    RUN ["/bin/sh", "-c", "--mount=type=secret"]

    # What a container runs
    ENTRYPOINT ["a\nb", "$X", "--flag", "\\", "\u003c\u003cEND"]
    CMD ["]", "☃"]
    ARG IMAGESPEC_TEXT_1
    LABEL a="$IMAGESPEC_TEXT_1" \
        b="\${A}"

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0 \
        org.opencontainers.image.base.name=docker.io/library/base
    "#);
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
    insta::assert_snapshot!(pip("requirements.txt"), @r#"
    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/constraints.txt,target=/dev/imagespec/constraints.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]
    "#);
    insta::assert_snapshot!(pip("uv/uv.lock"), @r#"
    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/project,target=/dev/imagespec/project \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "uv-lock"]
    "#);
    insta::assert_snapshot!(pip("pylock.toml"), @r#"
    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/pylock.toml,target=/dev/imagespec/pylock.toml \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "pylock"]
    "#);
    let recipe = project.lower("base_image: base\nrequirements: requirements.txt\n").unwrap();
    let Entry::Bytes { content, .. } = &recipe.context[".imagespec/requirements.txt"] else { panic!("it is text") };
    assert_eq!(*content, format!("idna==3.10 --hash=sha256:{}\n", "0".repeat(64)).into_bytes());
}

#[test]
fn several_platforms_bring_a_uv_each() {
    let project = Project::new(&[]);
    let spec = "base_image: base\nplatform: [linux/amd64, linux/arm64]\npackages: [six]\nruntime_packages: [ipdb]\nentrypoint: [a]\n";
    insta::assert_snapshot!(project.dockerfile(spec), @r#"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker build .
    FROM base AS image

    # Python, and its environment at /opt/venv
    RUN --mount=type=bind,source=.imagespec/python.sh,target=/dev/imagespec/python.sh \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-lists,target=/dev/imagespec/apt/lists,sharing=locked \
        --mount=type=cache,id=imagespec-apt-cae662172fd4-archives,target=/dev/imagespec/apt/archives,sharing=locked \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv-x86_64 \
        --mount=type=bind,source=.imagespec/uv-aarch64,target=/dev/imagespec/uv-aarch64 \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv-x86_64 \
        --mount=type=bind,source=.imagespec/uv-aarch64,target=/dev/imagespec/uv-aarch64 \
        --mount=type=cache,id=imagespec-uv,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What installs packages when a container starts
    COPY .imagespec/image/start/ /opt/imagespec/
    RUN --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv-x86_64 \
        --mount=type=bind,source=.imagespec/uv-aarch64,target=/dev/imagespec/uv-aarch64 \
        ["/bin/sh", "-c", "cp /dev/imagespec/uv-$(uname -m) /opt/imagespec/uv"]

    # What programs find
    ENV PATH=/opt/venv/bin:$PATH \
        PYTHONPATH=/root \
        IMAGESPEC_RUNTIME_PACKAGES="${IMAGESPEC_RUNTIME_PACKAGES:+$IMAGESPEC_RUNTIME_PACKAGES }ipdb"
    WORKDIR /root

    # What a container runs
    ENTRYPOINT ["/opt/imagespec/start", "a"]

    # Whose image it is
    ENV IMAGESPEC_ID=…
    LABEL imagespec.id=… \
        imagespec.spec-hash=… \
        imagespec.version=0.1.0 \
        org.opencontainers.image.base.name=docker.io/library/base
    "#);
    assert_eq!(wanted_uv(&project.request(spec).plan), ["x86_64", "aarch64"]);
    let other = "base_image: base\nplatform: linux/s390x\npackages: [six]\n";
    insta::assert_snapshot!(project.lower(other).unwrap_err(), @"Python packages are installed by uv, which has no build for linux/s390x");
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
    insta::assert_snapshot!(kept.join("\n"), @r#"
    USER root
    ENV PYTHONPATH=/root \
    USER app
    ENTRYPOINT ["/opt/imagespec/start", "/entry"]
    CMD ["serve"]
    ENV 
        org.opencontainers.image.base.digest=sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2 \
        org.opencontainers.image.base.name=docker.io/library/base
    "#);
    assert!(!recipe.dockerfile.contains("authorities"), "{}", recipe.dockerfile);
    let unknown = lower(&request, &machine(), &uv(), &BTreeMap::new());
    insta::assert_snapshot!(unknown.unwrap_err(), @"the entry point of base `base` is not known, and `runtime_packages` are installed before it");
}

#[test]
fn what_a_dockerfile_cannot_do_is_told_by_its_field() {
    let project = Project::new(&[]);
    let told = |spec: &str| {
        let error = project.lower(spec).unwrap_err();
        format!("{}: {error}", error.field())
    };
    let spec = "packages: [six]\npip_extra_args: [--no-emit-package, idna]\nbase_image: base\n";
    insta::assert_snapshot!(told(spec), @"pip_extra_args: `--no-emit-package` is for lock files, and this builder installs without one");
    let spec = "packages: [six]\npip_secret_mounts: [{id: x, target: /etc/x}]\nbase_image: base\n";
    insta::assert_snapshot!(told(spec), @"pip_secret_mounts: secret `x` is to lie at `/etc/x`, where the resolver reads no file");
    insta::assert_snapshot!(told("base_image: bootstrap:debian/bookworm\n"), @"base_image: base `bootstrap:debian/bookworm` was not made before");
    let variables: String = (0..=1000).map(|number| format!("  V{number}: x\n")).collect();
    let spec = format!("base_image: base\nenv:\n{variables}");
    insta::assert_snapshot!(told(&spec), @"env: the image has 1001 variables, and BuildKit takes minutes for more than 1000");
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
