//! Values, lock files and platforms in Dockerfiles, what is kept of a base, and what no Dockerfile can do.

use std::collections::BTreeMap;
use std::path::Path;

use imagespec_core::digest::Digest;

use super::*;

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
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "requirements"]
    "#);
    insta::assert_snapshot!(pip("uv/uv.lock"), @r#"
    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/project,target=/dev/imagespec/project \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/pip.sh", "--", "uv-lock"]
    "#);
    insta::assert_snapshot!(pip("pylock.toml"), @r#"
    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/pylock.toml,target=/dev/imagespec/pylock.toml \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv \
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
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
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
        --mount=type=secret,id=imagespec/authorities,target=/dev/imagespec/authorities.pem \
        ["/bin/sh", "/dev/imagespec/python.sh", "", ""]

    # Python packages
    RUN --mount=type=bind,source=.imagespec/pip.sh,target=/dev/imagespec/pip.sh \
        --mount=type=bind,source=.imagespec/requirements.txt,target=/dev/imagespec/requirements.txt \
        --mount=type=bind,source=.imagespec/uv-x86_64,target=/dev/imagespec/uv-x86_64 \
        --mount=type=bind,source=.imagespec/uv-aarch64,target=/dev/imagespec/uv-aarch64 \
        --mount=type=cache,id=imagespec-uv-cae662172fd4,target=/dev/imagespec/cache,sharing=locked \
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
    let long = "x".repeat(70_000);
    insta::assert_snapshot!(told(&format!("base_image: base\ncommands: ['{long}']\n")), @"commands: `commands` makes a line of 70025 bytes in a Dockerfile, and BuildKit reads 65535");
    insta::assert_snapshot!(told(&format!("base_image: base\nentrypoint: [{long}]\n")), @"entrypoint: `entrypoint` makes a line of 70015 bytes in a Dockerfile, and BuildKit reads 65535");
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
    assert_eq!(read("files/root/app/data/a"), "a");
    assert_eq!(std::fs::read_link(folder.join("files/root/app/link")).unwrap(), Path::new("data/a"));
    assert_eq!(read(".imagespec/IMAGESPEC_TEXT_1"), "x\ny");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.join("files/root/app/run.sh")).unwrap());
    assert_eq!(mode & 0o777, 0o755);
    assert!(recipe.write(&folder).unwrap_err().to_string().ends_with("is not empty"));
    std::fs::write(project.folder.path().join("app/data/a"), "b").unwrap();
    let error = recipe.write(&project.folder.path().join("again")).unwrap_err();
    assert!(error.to_string().contains("changed while"), "{error}");
}
