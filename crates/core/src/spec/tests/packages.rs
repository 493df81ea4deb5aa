//! The grammars of what is installed, and of where it comes from.

use super::{errors, refused, taken};
use crate::document::Format;
use crate::spec::Spec;

#[test]
fn python_versions_have_two_or_three_numbers() {
    taken("python_version", &["3.10", "'3.9'", "3.11.2", "3.13"]);
    insta::assert_snapshot!(refused("python_version", &["3", "2.7", "python3.11", "'>=3.9'", "3.x", "py311", "3.011", "3.1.2.3", "{a: 1}"]), @"
    error: `python_version` cannot be `3`: the minor version is missing
    hint: write it too, as in `3.11`
    error: `python_version` cannot be `2.7`: Python 2 is not supported
    hint: write a version of Python 3, as in `3.11`
    error: `python_version` cannot be `python3.11`: a version is numbers and dots
    hint: did you mean `3.11`?
    error: `python_version` cannot be `>=3.9`: a range is no version
    hint: choose one version, as in `3.11`
    error: `python_version` cannot be `3.x`: it is no version of Python
    hint: write `3.MINOR` or `3.MINOR.PATCH`, as in `3.11`
    error: `python_version` cannot be `py311`: a version is numbers and dots
    hint: did you mean `3.11`?
    error: `python_version` cannot be `3.011`: it is no version of Python
    hint: write `3.MINOR` or `3.MINOR.PATCH`, as in `3.11`
    error: `python_version` cannot be `3.1.2.3`: it is no version of Python
    hint: write `3.MINOR` or `3.MINOR.PATCH`, as in `3.11`
    error: `python_version` must be a text, but a mapping was found
    hint: write `python_version: 3.11`
    ");
}

#[test]
fn packages_are_requirements() {
    taken(
        "packages",
        &[
            "pandas",
            "[pandas, 'numpy>=1.26,<3', 'uvicorn[standard]==0.30.*']",
            "'tomli; python_version < \"3.11\"'",
            "pip @ https://files.example/pip-24-py3-none-any.whl",
            "x @ git+https://github.com/a/x@90a4455",
            "git+https://github.com/flyteorg/flytekit@90a4455c2cc2b3e171dfff69f605f47d48ea1ff1",
            "'git+https://github.com/flyteorg/flytekit.git@90a4455#subdirectory=plugins/flytekit-spark'",
            "git+ssh://git@github.com/a/b.git",
            "https://files.example/x-1.0-py3-none-any.whl",
            "[]",
            "",
        ],
    );
    insta::assert_snapshot!(refused("packages", &[
        "pandas numpy",
        "pandas=2.0",
        "pandas>>2",
        "'x; python_version'",
        "-r requirements.txt",
        "--pre",
        "./mypkg",
        "pandås",
        "svn+https://x.example/y",
        "ssh://git@github.com/a/b",
        "https://github.com/a/b.git",
        "git+https://github.com/a b",
        "'git+https://'",
        "git+file:///srv/x.git",
        "file:///srv/x.whl",
        "pandas-",
        "'uvicorn[standard_]'",
        "[[a]]",
        "[null]",
        "\"a\\nb\"",
        "{pandas: 2}",
    ]), @r#"
    error: `packages` cannot be `pandas numpy`: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `n`
    hint: an entry is one package: write `[pandas, numpy]`
    error: `packages` cannot be `pandas=2.0`: no such comparison operator "=", must be one of ~= == != <= >= < > ===
    hint: did you mean `pandas==2.0`?
    error: `packages` cannot be `pandas>>2`: no such comparison operator ">>", must be one of ~= == != <= >= < > ===
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `x; python_version`: expected a valid marker operator (such as `>=` or `not in`), found ``
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `-r requirements.txt`: it is an option of pip, and only packages stand here
    hint: options go to `pip_extra_args`, and a requirements file to `requirements`
    error: `packages` cannot be `--pre`: it is an option of pip, and only packages stand here
    hint: options go to `pip_extra_args`, and a requirements file to `requirements`
    error: `packages` cannot be `./mypkg`: it lies on this machine, and only what an index or a URL has can be installed
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    error: `packages` cannot be `pandås`: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `å`
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `svn+https://x.example/y`: URLs of kind `svn+https` cannot be installed from
    hint: name the URL of a wheel, `https://…/NAME-VERSION-py3-none-any.whl`
    error: `packages` cannot be `ssh://git@github.com/a/b`: URLs of kind `ssh` cannot be installed from
    hint: name the URL of a wheel, `https://…/NAME-VERSION-py3-none-any.whl`
    error: `packages` cannot be `https://github.com/a/b.git`: it is a repository, and no archive
    hint: write `git+https://github.com/a/b.git`
    error: `packages` cannot be `git+https://github.com/a b`: a URL has no blanks
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `git+https://`: its URL has no host
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `git+file:///srv/x.git`: it lies on this machine, and only what an index or a URL has can be installed
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    error: `packages` cannot be `file:///srv/x.whl`: it lies on this machine, and only what an index or a URL has can be installed
    hint: publish it to an index, or copy it with `copy` and install it with a line in `commands`
    error: `packages` cannot be `pandas-`: the name `pandas-` ends with a separator
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `uvicorn[standard_]`: the name `standard_` ends with a separator
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages[0]` must be a text, but a list was found
    hint: write `packages: [pandas, numpy>=1.26]`
    error: `packages[0]` must be a text, but nothing was found
    hint: write `packages: [pandas, numpy>=1.26]`
    error: `packages` cannot be `a\nb`: it must stand on one line, without tabs
    error: `packages` must be a list of texts, but a mapping was found
    hint: write `packages: [pandas, numpy>=1.26]`
    "#);
    let long = format!("\"{}\"", "(".repeat(900));
    insta::assert_snapshot!(refused("packages", &[&long, &"x".repeat(17_000)]), @"
    error: `packages` cannot be `((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((…`: expected package name starting with an alphanumeric character, found `(`
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    error: `packages` cannot be `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`: the requirement is too long or its marker too complex
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
    insta::assert_snapshot!(refused("packages", &[&format!("\"x; {}os_name == 'a'\"", "os_name == 'b' or ".repeat(49))]), @"
    error: `packages` cannot be `x; os_name == 'b' or os_name == 'b' or os_name == 'b' or os_…`: the requirement is too long or its marker too complex
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
    insta::assert_snapshot!(refused("runtime_packages", &["-e ."]), @"
    error: `runtime_packages` cannot be `-e .`: it is an option of pip, and only packages stand here
    hint: options go to `pip_extra_args`, and a requirements file to `requirements`
    ");
}

#[test]
fn a_requirement_that_the_parser_refuses_keeps_its_message_and_place() {
    insta::assert_snapshot!(errors("name: a\npackages:\n  - numpy\n  - pandas==\n"), @"
    error: `packages` cannot be `pandas==`: unexpected end of version specifier, expected version
      --> train.yaml:4:5
       |
     4 |   - pandas==
       |     ^^^^^^^^
    hint: write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`
    ");
}

#[test]
fn debian_packages_follow_the_policy() {
    taken(
        "apt_packages",
        &["[curl, g++, libc6:arm64, 'curl=7.88.1-10+deb12u5', curl/bookworm-backports, 'libgomp1:amd64=12.2.0-14']"],
    );
    insta::assert_snapshot!(refused("apt_packages", &["curl wget", "-y", "Curl", "c", "curl-", "curl*", "curl=", "'curl=7.*'", "curl/", "'curl:'", "{a: b}", "$(id)"]), @"
    error: `apt_packages` cannot be `curl wget`: an entry is one package
    hint: write `[curl, wget]`
    error: `apt_packages` cannot be `-y`: it is an option of apt, and only packages stand here
    error: `apt_packages` cannot be `Curl`: Debian's package names are lower case
    hint: did you mean `curl`?
    error: `apt_packages` cannot be `c`: it is no name of a Debian package
    hint: a name has at least two of `a-z`, `0-9`, `+`, `.` and `-`, as in `libgomp1` or `g++`
    error: `apt_packages` cannot be `curl-`: it is no name of a Debian package
    hint: a name has at least two of `a-z`, `0-9`, `+`, `.` and `-`, as in `libgomp1` or `g++`
    error: `apt_packages` cannot be `curl*`: it is no name of a Debian package
    hint: a name has at least two of `a-z`, `0-9`, `+`, `.` and `-`, as in `libgomp1` or `g++`
    error: `apt_packages` cannot be `curl=`: `=` is followed by one exact version, as in `curl=7.88.1-10+deb12u5`
    error: `apt_packages` cannot be `curl=7.*`: `=` is followed by one exact version, as in `curl=7.88.1-10+deb12u5`
    error: `apt_packages` cannot be `curl/`: `/` is followed by a suite, as in `curl/bookworm-backports`
    error: `apt_packages` cannot be `curl:`: `:` is followed by an architecture, as in `libc6:arm64`
    error: `apt_packages` must be a list of texts, but a mapping was found
    hint: write `apt_packages: [git, libgomp1]`
    error: `apt_packages` cannot be `$(id)`: it is no name of a Debian package
    hint: a name has at least two of `a-z`, `0-9`, `+`, `.` and `-`, as in `libgomp1` or `g++`
    ");
}

#[test]
fn conda_packages_and_channels_have_their_own_grammar() {
    taken(
        "conda_packages",
        &[
            "[numpy, 'numpy>=1.26', numpy=1.26=py311_0, 'conda-forge::numpy 1.26.*', \"numpy[version='>=1.26', build=py*]\", _libgcc_mutex]",
        ],
    );
    taken(
        "conda_channels",
        &["[conda-forge, conda-forge/label/dev, 'https://conda.example/x', 'file:///opt/channel', defaults]"],
    );
    insta::assert_snapshot!(refused("conda_packages", &["-c", "'>=1'", "'numpy;id'", "'numpy[a'", "'bad channel::numpy'"]), @"
    error: `conda_packages` cannot be `-c`: it does not begin with the name of a package
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    error: `conda_packages` cannot be `>=1`: it does not begin with the name of a package
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    error: `conda_packages` cannot be `numpy;id`: what follows the name is no version
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    error: `conda_packages` cannot be `numpy[a`: what follows the name is no version
    hint: write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`
    error: `conda_packages` cannot be `bad channel::numpy`: it is no channel
    hint: write a name, as in `conda-forge`, or a URL that begins with `https://` or `file://`
    ");
    insta::assert_snapshot!(refused("conda_channels", &["'a b'", "ftp://x.example/y", "https://user:hunter2@conda.example/x"]), @"
    error: `conda_channels` cannot be `a b`: it is no channel
    hint: write a name, as in `conda-forge`, or a URL that begins with `https://` or `file://`
    error: `conda_channels` cannot be `ftp://x.example/y`: its URL begins with none of `https://`, `http://` and `file://`
    hint: write a whole URL, as in `https://conda.anaconda.org/conda-forge`
    error: `conda_channels` has a URL with credentials in it, where others will read them
    hint: log in with `rattler auth login HOST`, or write the login into the file that NETRC names, and leave it out of the spec
    ");
}

#[test]
fn a_token_in_a_conda_channel_is_refused_and_never_shown() {
    let channels = [
        "https://conda.example/t/hunter2/team",
        "[conda-forge, 'https://conda.example/get/t/hunter2/team']",
        "https://conda.example/%74/hunter2/team",
        "https://conda.example:port/t/hunter2/team",
        "ftp://conda.example/t/hunter2/team",
        "t/hunter2/team",
        "https://conda.example/team?token=hunter2",
        "https://conda.example/team#hunter2",
        "team?token=hunter2",
    ];
    let packages = [
        "https://conda.example/t/hunter2/team::numpy",
        "t/hunter2/team::numpy",
        "\"numpy[channel='https://conda.example/t/hunter2/team']\"",
        "'numpy[channel=t/hunter2/team]'",
    ];
    for (field, value) in channels
        .map(|value| ("conda_channels", value))
        .into_iter()
        .chain(packages.map(|value| ("conda_packages", value)))
    {
        let text = format!("{field}: {value}\n");
        let errors = Spec::parse("train.yaml", text.as_bytes(), Format::Yaml).unwrap_err();
        let said = errors[0].diagnostic().render();
        assert!(said.contains("credentials in it") && said.contains("rattler auth login"), "{value}: {said}");
        assert!(!said.contains("hunter2"), "{value}: {said}");
    }
    // These only look like it; the first is a user of anaconda.org, the others lie on this machine.
    taken(
        "conda_channels",
        &["[t, 'https://conda.example/t', 'https://conda.example/at/x']", "['file:///srv/t/x/team', './t/x']"],
    );
}

#[test]
fn cuda_and_cudnn_have_versions() {
    taken("cuda", &["12", "12.4", "12.4.1"]);
    taken("cudnn", &["9", "8.9.7.29"]);
    insta::assert_snapshot!(refused("cuda", &["cu124", "cuda12.4", "latest"]), @"
    error: `cuda` cannot be `cu124`: a version is numbers and dots
    hint: did you mean `12.4`?
    error: `cuda` cannot be `cuda12.4`: a version is numbers and dots
    hint: did you mean `12.4`?
    error: `cuda` cannot be `latest`: a version is numbers and dots
    hint: write it as in `12.4`
    ");
    insta::assert_snapshot!(refused("cudnn", &["v9"]), @"
    error: `cudnn` cannot be `v9`: a version is numbers and dots
    hint: did you mean `9`?
    ");
}

#[test]
fn index_urls_are_whole_and_without_credentials() {
    taken("pip_index", &["https://pypi.org/simple", "http://127.0.0.1:3141/root"]);
    insta::assert_snapshot!(refused("pip_index", &["pypi.org/simple", "ftp://pypi.example", "file:///opt/index", "[https://a.example]"]), @"
    error: `pip_index` cannot be `pypi.org/simple`: it is no URL
    hint: write a whole URL, as in `https://pypi.org/simple`
    error: `pip_index` cannot be `ftp://pypi.example`: its URL begins with neither `https://` nor `http://`
    hint: write a whole URL, as in `https://pypi.org/simple`
    error: `pip_index` cannot be `file:///opt/index`: its URL begins with neither `https://` nor `http://`
    hint: write a whole URL, as in `https://pypi.org/simple`
    error: `pip_index` must be a text, but a list was found
    hint: write `pip_index: https://pypi.example/simple`
    ");
    insta::assert_snapshot!(errors("pip_index: https://user:hunter2@pypi.example/simple\npip_extra_index_url:\n- https://token@pypi.example\npackages:\n- git+https://hunter2@github.com/a/b\n- x @ https://a:hunter2@files.example/x.whl\n"), @"
    error: `pip_index` has a URL with credentials in it, where others will read them
      --> train.yaml:1:12
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    error: `pip_extra_index_url` has a URL with credentials in it, where others will read them
      --> train.yaml:3:3
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    error: `packages` has a URL with credentials in it, where others will read them
      --> train.yaml:5:3
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    error: `packages` has a URL with credentials in it, where others will read them
      --> train.yaml:6:3
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    ");
}

#[test]
fn extra_arguments_are_a_list_or_one_text_that_is_split() {
    let words = |text: &str| {
        let spec = Spec::parse("a.yaml", format!("pip_extra_args: {text}").as_bytes(), Format::Yaml).unwrap();
        spec.pip_extra_args.into_iter().map(|word| word.value).collect::<Vec<_>>()
    };
    assert_eq!(words("--pre --find-links 'my wheels'"), ["--pre", "--find-links", "my wheels"]);
    assert_eq!(words("[--pre, 'a b']"), ["--pre", "a b"]);
    insta::assert_snapshot!(refused("pip_extra_args", &["\"--x 'y\"", "'--x \\'", "{a: b}"]), @r"
    error: `pip_extra_args` cannot be `--x 'y`: a quote ' is not closed
    error: `pip_extra_args` cannot be `--x \`: it ends in a backslash
    error: `pip_extra_args` must be a list of texts, but a mapping was found
    hint: write `pip_extra_args: [--pre]`
    ");
}
