//! Tests of resolving specs.

use super::*;
use crate::plan::{SecretMount, SecretTarget};
use crate::testing::{Project, at, copies, on_scratch, shown, some, text, texts};

fn on(base: BaseImage) -> Spec {
    Spec { base_image: some(base), ..Spec::default() }
}

fn layout(project: &Project, folder: &str, images: &[(&str, Option<&str>)]) {
    let mut manifests = Vec::new();
    for (content, tag) in images {
        let digest = Digest::of(content.as_bytes());
        project.write(&format!("{folder}/blobs/sha256/{}", digest.to_hex()), content);
        let annotations = tag.map(|tag| serde_json::json!({ "org.opencontainers.image.ref.name": tag }));
        manifests.push(serde_json::json!({ "digest": digest, "size": content.len(), "annotations": annotations }));
    }
    project.write(&format!("{folder}/oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}");
    project.write(&format!("{folder}/index.json"), serde_json::json!({ "manifests": manifests }).to_string());
}

#[test]
fn what_a_spec_leaves_out_is_filled_in() {
    let resolved = Project::new(&[]).resolve(&Spec::default()).unwrap();
    assert_eq!(resolved.name, "train");
    assert_eq!(resolved.platforms, [Platform::linux_amd64()].into());
    assert_eq!(resolved.base, ResolvedBase::Bootstrap("bookworm".to_owned()));
    assert_eq!(resolved.place_of("name"), None);
    let named = Spec { name: text("app"), apt_packages: texts(&["curl"]), ..Spec::default() };
    let resolved = Project::new(&[]).resolve(&named).unwrap();
    assert_eq!(resolved.name, "app");
    assert_eq!(resolved.place_of("apt_packages").map(ToString::to_string).as_deref(), Some("train.yaml:1:1"));
}

#[test]
fn a_layout_is_taken_by_the_digest_of_its_image() {
    let project = Project::new(&[]);
    layout(&project, "one", &[("manifest", None)]);
    layout(&project, "two", &[("first", Some("a")), ("second", Some("b"))]);
    let digest = |path: &str| {
        let resolved = project.resolve(&on(BaseImage::OciLayout(path.into()))).unwrap();
        let (digest, folder) = resolved.base_paths.iter().next().unwrap();
        assert_eq!(resolved.base, ResolvedBase::OciLayout(*digest));
        assert!(folder.join("index.json").is_file());
        *digest
    };
    assert_eq!(digest("one"), Digest::of(b"manifest"));
    assert_eq!(digest("two:b"), Digest::of(b"second"));
    let absolute = project.path("one");
    assert_eq!(digest(absolute.to_str().unwrap()), Digest::of(b"manifest"));
}

#[test]
fn a_layout_that_does_not_say_which_image_is_refused() {
    let project =
        Project::new(&[("file", ""), ("empty/x", ""), ("broken/oci-layout", ""), ("broken/index.json", "[]")]);
    layout(&project, "two", &[("first", Some("a")), ("second", Some("b"))]);
    layout(&project, "none", &[]);
    layout(&project, "lost", &[("manifest", None)]);
    std::fs::remove_dir_all(project.path("lost/blobs")).unwrap();
    let error = |path: &str| project.error(&on(BaseImage::OciLayout(path.into())));
    insta::assert_snapshot!(error("two"), @r"
    `two` holds 2 images, and no tag says which
    --> train.yaml:1:1
    hint: choose one of `oci:two:a`, `oci:two:b`
    ");
    insta::assert_snapshot!(error("two:c"), @r"
    `two` holds no image with the tag `c`
    --> train.yaml:1:1
    hint: choose one of `oci:two:a`, `oci:two:b`
    ");
    insta::assert_snapshot!(error("none"), @"
    `none` is not an OCI image layout: its `index.json` names no image
    --> train.yaml:1:1
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(error("lost"), @"
    `lost` is not an OCI image layout: the manifest that its `index.json` names is missing
    --> train.yaml:1:1
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(error("file"), @"
    `file` is not an OCI image layout: it is not a folder
    --> train.yaml:1:1
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(error("empty"), @"
    `empty` is not an OCI image layout: it has no file `oci-layout`
    --> train.yaml:1:1
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(error("broken"), @"
    `broken` is not an OCI image layout: its `index.json` is not an image index
    --> train.yaml:1:1
    hint: a layout has the files `oci-layout` and `index.json` and the folder `blobs`, as `imagespec build --output type=oci,dest=DIR` and `skopeo copy … oci:DIR` write them
    ");
    insta::assert_snapshot!(error("missing"), @r"
    cannot read `missing`
    --> train.yaml:1:1
    cause: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
}

#[test]
fn an_archive_is_taken_by_its_digest() {
    let project = Project::new(&[("base.tar", "an archive"), ("folder/x", "")]);
    let resolved = project.resolve(&on(BaseImage::DockerArchive("base.tar".into()))).unwrap();
    assert_eq!(resolved.base, ResolvedBase::DockerArchive(Digest::of(b"an archive")));
    let error = |path: &str| project.error(&on(BaseImage::DockerArchive(path.into())));
    insta::assert_snapshot!(error("folder"), @"
    `folder` is not a regular file
    --> train.yaml:1:1
    hint: name the file that `docker save` wrote
    ");
    insta::assert_snapshot!(error("missing.tar"), @r"
    cannot read `missing.tar`
    --> train.yaml:1:1
    cause: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
}

/// Resolves `train.yaml`, which stands on `base_image`, with a loader for specs whose text is the path of their base.
fn nested(project: &Project, base_image: &str) -> Result<ResolvedSpec, ResolveError> {
    let load = |path: &Path| match std::fs::read_to_string(path)?.trim() {
        "" => Ok(Spec { apt_packages: texts(&["curl"]), ..Spec::default() }),
        "broken" => Err("the third line says nothing".into()),
        base => Ok(on(BaseImage::SpecFile(base.into()))),
    };
    let context = ResolveContext {
        root: project.root(),
        spec_path: Some(&project.path("train.yaml")),
        default_name: "train",
        host_platform: &Platform::linux_amd64(),
        load_spec: &load,
    };
    resolve(&on(BaseImage::SpecFile(base_image.into())), project.root(), &context)
}

#[test]
fn a_spec_may_stand_on_another_whose_paths_start_at_its_own_folder() {
    let project = Project::new(&[("train.yaml", ""), ("bases/a.yaml", "more/b.yaml"), ("bases/more/b.yaml", "")]);
    let resolved = nested(&project, "bases/a.yaml").unwrap();
    let ResolvedBase::Spec(a) = resolved.base else { panic!("no nested spec") };
    let ResolvedBase::Spec(b) = a.base else { panic!("no nested spec") };
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "b"));
    assert_eq!(b.spec.apt_packages.len(), 1);
}

#[test]
fn specs_that_stand_on_themselves_or_cannot_be_read_are_refused() {
    let project =
        Project::new(&[("train.yaml", "a.yaml"), ("a.yaml", "b.yaml"), ("b.yaml", "train.yaml"), ("c.yaml", "broken")]);
    for depth in 0..12 {
        project.write(&format!("d{depth}.yaml"), format!("d{}.yaml", depth + 1));
    }
    let error = |path: &str| shown(&nested(&project, path).unwrap_err());
    insta::assert_snapshot!(error("a.yaml"), @r"
    `train.yaml` stands on itself
    --> train.yaml:1:1
    hint: let one of the specs stand on another base
    ");
    insta::assert_snapshot!(error("c.yaml"), @r"
    the base `c.yaml` is not a usable spec
    --> train.yaml:1:1
    cause: the third line says nothing
    ");
    insta::assert_snapshot!(error("d0.yaml"), @"
    specs stand on each other more than 8 deep
    --> train.yaml:1:1
    hint: put what they share into one of them
    ");
    insta::assert_snapshot!(error("missing.yaml"), @r"
    cannot read `missing.yaml`
    --> train.yaml:1:1
    cause: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(error("../x.yaml"), @r"
    `../x.yaml` leads out of the project's folder
    --> train.yaml:1:1
    hint: put the file inside of the project, the folder with `imagespec.toml`
    ");
    insta::assert_snapshot!(error("/x.yaml"), @r"
    `/x.yaml` is an absolute path
    --> train.yaml:1:1
    hint: paths are relative to the folder of the file that names them
    ");
}

#[test]
fn a_spec_written_in_place_is_resolved_with_its_files() {
    let project = Project::new(&[("a.txt", "inner")]);
    let inner = Spec { copy: copies(&["a.txt"]), ..Spec::default() };
    let resolved = project.resolve(&on(BaseImage::Spec(Box::new(inner)))).unwrap();
    assert_eq!(resolved.files.keys().copied().collect::<Vec<_>>(), [Digest::of(b"inner")]);
}

#[test]
fn cuda_comes_with_a_base_or_with_wheels() {
    let project = Project::new(&[]);
    let cuda = || Spec { cuda: text("12.6"), ..Spec::default() };
    insta::assert_snapshot!(project.error(&cuda()), @r"
    `cuda` alone installs nothing: CUDA comes with the base image or with Python packages
    --> train.yaml:1:1
    hint: set `base_image: nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04` or another image with CUDA, or install CUDA's wheels, for example PyTorch's: `pip_extra_index_url: [https://download.pytorch.org/whl/cu126]`
    ");
    insta::assert_snapshot!(project.error(&Spec { cudnn: text("9"), ..on(BaseImage::Registry("debian".parse().unwrap())) }), @r"
    `cudnn` alone installs nothing: CUDA comes with the base image or with Python packages
    --> train.yaml:1:1
    hint: set `base_image: nvidia/cuda:12.6.1-cudnn-devel-ubuntu22.04` or another image with CUDA, or install CUDA's wheels, for example PyTorch's: `pip_extra_index_url: [https://download.pytorch.org/whl/cu126]`
    ");
    for spec in [
        Spec { base_image: on(BaseImage::Registry("nvidia/cuda:12.6.1".parse().unwrap())).base_image, ..cuda() },
        Spec { pip_extra_index_url: texts(&["https://download.pytorch.org/whl/cu126"]), ..cuda() },
    ] {
        assert!(project.resolve(&spec).is_ok());
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let project = Project::new(&[]);
    let secret = at(SecretMount { id: "x".to_owned(), target: SecretTarget::Environment("X".to_owned()) });
    for (spec, expected) in [
        (
            Spec { apt_packages: texts(&["curl"]), ..on_scratch() },
            "`apt_packages` needs a system to work in, and `base_image: scratch` has none",
        ),
        (
            Spec { packages: texts(&["numpy"]), ..on_scratch() },
            "`packages` needs a system to work in, and `base_image: scratch` has none",
        ),
        (
            Spec { source_copy_mode: some(SourceCopyMode::All), ..Spec::default() },
            "`source_copy_mode` means nothing without `source_root`",
        ),
        (
            Spec { conda_channels: texts(&["x"]), ..Spec::default() },
            "`conda_channels` means nothing without `conda_packages`",
        ),
        (
            Spec { conda_packages: texts(&["x"]), python_exec: text("/usr/bin/python3"), ..Spec::default() },
            "`python_exec` cannot stand beside `conda_packages`",
        ),
        (
            Spec { conda_packages: texts(&["x"]), conda_channels: texts(&["./nowhere"]), ..Spec::default() },
            "`./nowhere` is no conda channel",
        ),
        (Spec { secrets: vec![secret], ..Spec::default() }, "`secrets` means nothing without `commands`"),
        (
            Spec { env: [("IMAGESPEC_ID".to_owned(), at("x".to_owned()))].into(), ..Spec::default() },
            "`IMAGESPEC_ID` is set by imagespec itself",
        ),
    ] {
        assert_eq!(project.resolve(&spec).unwrap_err().to_string(), expected);
    }
}

#[test]
fn credentials_in_a_spec_are_refused_and_not_shown() {
    let project = Project::new(&[]);
    let url = "https://joe:s3cret@example.org/simple";
    for spec in [
        Spec { pip_index: text(url), ..Spec::default() },
        Spec { pip_extra_index_url: texts(&[url]), ..Spec::default() },
        Spec { pip_extra_args: texts(&[&format!("--index-url={url}")]), ..Spec::default() },
        Spec { packages: texts(&[&format!("a @ {url}/a.whl")]), ..Spec::default() },
        Spec { runtime_packages: texts(&[&format!("a @ {url}/a.whl")]), ..Spec::default() },
    ] {
        assert_eq!(
            project.error(&spec),
            "the URL of `example.org` contains credentials, which would end up in the image's plan\n\
             --> train.yaml:1:1\n\
             hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`"
        );
    }
}

#[test]
fn a_bad_package_is_refused_where_it_stands() {
    let project = Project::new(&[]);
    insta::assert_snapshot!(project.error(&Spec { packages: texts(&["numpy", "py torch"]), ..Spec::default() }), @"
    not a requirement: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `t`
    --> train.yaml:1:1
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
    insta::assert_snapshot!(project.error(&Spec { pip_index: text("/srv/wheels"), ..Spec::default() }), @r"
    `/srv/wheels` is a file or folder of this machine, and only what an index or a URL has can be installed
    --> train.yaml:1:1
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    ");
}

#[test]
fn arguments_that_execute_programs_or_touch_files_of_this_machine_are_refused() {
    let project = Project::new(&[]);
    let spec = |words: &[&str]| Spec { pip_extra_args: texts(words), packages: texts(&["six"]), ..Spec::default() };
    for words in [
        &["--pre", "--prerelease=allow", "--resolution", "lowest", "--index-strategy", "unsafe-best-match"][..],
        &["--exclude-newer", "2025-01-01", "--no-deps", "-U", "-P", "six", "--only-binary=:all:"],
        &["--find-links=https://wheels.example/page"],
    ] {
        assert!(project.resolve(&spec(words)).is_ok(), "{words:?}");
    }
    let error = |words: &[&str]| project.error(&spec(words));
    insta::assert_snapshot!(error(&["--pre", "--python", "/tmp/evil"]), @"
    `--python` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: use `python_version` or `base_image`
    ");
    insta::assert_snapshot!(error(&["--output-file=/etc/cron.d/x"]), @"
    `--output-file` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: these can: `--exclude-newer`, `--exclude-newer-package`, `--find-links`, `-f`, `--fork-strategy`, `--index-strategy`, `--native-tls`, `--no-deps`, `--no-emit-package`, `--no-index`, `--only-binary`, `--pre`, `--prerelease`, `--refresh`, `--refresh-package`, `--resolution`, `--system-certs`, `--unsafe-package`, `--upgrade`, `-U`, `--upgrade-package`, `-P`
    ");
    insta::assert_snapshot!(error(&["--constraint", "/etc/hostname"]), @"
    `--constraint` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: write `-c FILE` into the file that `requirements` names
    ");
    insta::assert_snapshot!(error(&["--only-binary=six,:none:"]), @"
    `--only-binary` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: only wheels are installed: remove it
    ");
    insta::assert_snapshot!(error(&["--find-links", "/srv/wheels"]), @"
    `/srv/wheels` is a file or folder of this machine, and only what an index or a URL has can be installed
    --> train.yaml:1:1
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    ");
    insta::assert_snapshot!(error(&["--resolution"]), @"
    `--resolution` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: it takes a value: write `--resolution`, and the value behind it
    ");
    insta::assert_snapshot!(error(&["--resolution", "--python=x"]), @"
    `--resolution` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: it takes a value: write `--resolution`, and the value behind it
    ");
    insta::assert_snapshot!(error(&["--pre=yes"]), @"
    `--pre` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: it takes no value: write `--pre`
    ");
    insta::assert_snapshot!(error(&["/etc/hostname"]), @"
    `/etc/hostname` cannot stand in `pip_extra_args`
    --> train.yaml:1:1
    hint: packages are listed in `packages`
    ");
}

#[test]
fn a_python_that_the_debian_release_does_not_have_is_refused() {
    let project = Project::new(&[]);
    let wanted = |version: &str| Spec { python_version: text(version), ..Spec::default() };
    insta::assert_snapshot!(project.error(&wanted("3.12")), @"
    Debian bookworm has Python 3.11.2, and `python_version` asks for 3.12
    --> train.yaml:1:1
    hint: Debian's releases have `3.9`, `3.11`, `3.13`; take one of them, or a `base_image` that has it, as `python:3.12-slim`
    ");
    let bootstrap = BaseImage::Bootstrap { suite: "trixie".to_owned() };
    let explicit = Spec { base_image: some(bootstrap), ..wanted("3.11") };
    insta::assert_snapshot!(project.error(&explicit), @"
    Debian trixie has Python 3.13.5, and `python_version` asks for 3.11
    --> train.yaml:1:1
    hint: leave `base_image` out: the release that has this Python is then taken
    ");
    insta::assert_snapshot!(project.error(&wanted("3.11.9")), @"
    Debian bookworm has Python 3.11.2, and `python_version` asks for 3.11.9
    --> train.yaml:1:1
    hint: Debian's releases have `3.9`, `3.11`, `3.13`; take one of them, or a `base_image` that has it, as `python:3.11.9-slim`
    ");
    for version in ["3.9", "3.11", "3.11.2", "3.13"] {
        assert!(project.resolve(&wanted(version)).is_ok(), "{version}");
    }
    // Of a release that nobody here knows, the build will tell.
    let unknown = BaseImage::Bootstrap { suite: "forky".to_owned() };
    assert!(project.resolve(&Spec { base_image: some(unknown), ..wanted("3.14") }).is_ok());
    let conda = Spec { conda_packages: texts(&["numpy"]), ..wanted("3.12") };
    assert!(project.resolve(&conda).is_ok());
}
