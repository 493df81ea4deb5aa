//! Whole Dockerfiles of whole specs.

use std::collections::BTreeMap;

use imagespec_core::builder::SecretSource;

use super::*;

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
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What programs find
    ENV PATH=/opt/venv/bin:$PATH \
        PYTHONPATH=/root
    WORKDIR /root

    # Files
    COPY files/ /

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
            "files/root/report.py"
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
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/conda.sh"]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        --mount=type=secret,id=key,target=/dev/imagespec/secrets/key,required=true \
        --mount=type=secret,id=netrc,target=/dev/imagespec/secrets/netrc,required=true \
        --mount=type=ssh,target=/dev/imagespec/ssh \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--file", "key", "/root/.ssh/id_ed25519", "--netrc", "netrc", "/root/.netrc", "--", "requirements", "--default-index", "https://pypi.example/simple", "--index", "https://extra.example/simple", "--pre"]

    # What installs packages when a container starts
    COPY .imagespec/image/start/ /opt/imagespec/

    # Files
    COPY files/ /

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
        (
            "base.yaml",
            "base_image: python:3.11-slim\napt_packages: [jq]\npackages: [six]\nuser: app\nentrypoint: [a]\ncmd: [b]\nlabels: {team: search}\n",
        ),
        ("app.py", ""),
    ]);
    let recipe =
        project.lower("base_image: base.yaml\npackages: [idna]\ncopy: [app.py]\ncommands: ['true']\n").unwrap();
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
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/base1-requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
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
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-7b88c7e10751,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]

    # What programs find
    ENV PYTHONPATH=/root
    WORKDIR /root

    # Files
    COPY files/ /

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
    COPY files/ /

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
fn a_base_that_no_registry_has_is_loaded_first_and_the_head_says_so() {
    let mut request = Project::new(&[]).request("base_image: debian\nsecrets: [token]\ncommands: ['true']\n");
    request.plan.base = Base::OciLayout { digest: Digest::of(b"base") };
    let recipe = lower(&request, &machine(), &uv(), &BTreeMap::new()).unwrap();
    let head: Vec<_> = recipe.dockerfile.lines().take(5).collect();
    insta::assert_snapshot!(head.join("\n"), @"
    # Made by imagespec, for any Docker with BuildKit since 20.10. In the folder of this file:
    #   docker load --input base.tar && docker build --secret id=token,src=FILE .
    # base.tar, which `imagespec render SPEC --output dir=DIR` writes there, is the base that no registry has. FROM
    # names it by its digest.
    FROM imagespec-base:sha256-cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2 AS image
    ");
    // Nothing else in the text depends on it.
    request.plan.base = Base::DockerArchive { digest: Digest::of(b"base") };
    assert_eq!(lower(&request, &machine(), &uv(), &BTreeMap::new()).unwrap().dockerfile, recipe.dockerfile);
}
