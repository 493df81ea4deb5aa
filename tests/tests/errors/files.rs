//! Files that a spec names: copied ones, requirements and locks.

use std::os::unix::fs::symlink;

use imagespec_tests::TestEnv;

use super::failure;

#[test]
fn a_mistake_in_a_requirements_file_is_shown_in_that_file() {
    let env = TestEnv::new();
    env.write("train.yaml", "requirements: deploy/requirements.txt\n");
    let refused = |text: &str| {
        env.write("deploy/requirements.txt", text);
        failure(&env, &["build", "train.yaml"])
    };
    insta::assert_snapshot!(refused("six==1.17.0\n-e ./lib\n"), @"
    exit 1
    error: `-e` installs a folder of this machine in place, which an image cannot have
      --> deploy/requirements.txt:2:1
       |
     2 | -e ./lib
       | ^^^^^^^^
    hint: copy the code with `source_root` or `copy`; it is importable without being installed
    ");
    insta::assert_snapshot!(refused("-r common.txt\n"), @"
    exit 1
    error: cannot read `common.txt`
      --> deploy/requirements.txt:1:4
       |
     1 | -r common.txt
       |    ^^^^^^^^^^
    note: No such file or directory (os error 2)
    hint: paths are relative to the folder of the file that names them
    ");
    env.write("deploy/common.txt", "six\nnumpy=2.1\n");
    insta::assert_snapshot!(refused("-r common.txt\n"), @r#"
    exit 1
    error: not a requirement: no such comparison operator "=", must be one of ~= == != <= >= < > ===
      --> deploy/common.txt:2:6
       |
     2 | numpy=2.1
       |      ^^^^
    hint: did you mean `numpy==2.1`?
    "#);
    insta::assert_snapshot!(refused("six; python_version > 'x'\n"), @r#"
    exit 1
    error: the marker means nothing: expected PEP 440 version to compare with python_version, found x: expected version to start with a number, but no leading ASCII digits were found
      --> deploy/requirements.txt:1:1
       |
     1 | six; python_version > 'x'
       | ^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: compare a variable with a quoted value: `python_version < "3.12"`
    "#);
    insta::assert_snapshot!(refused("six==1.17.0 --hash=sha256:00\n"), @"
    exit 1
    error: `sha256:00` is not a digest: expected `sha256:`, `sha384:` or `sha512:` and its hexadecimal digits
      --> deploy/requirements.txt:1:20
       |
     1 | six==1.17.0 --hash=sha256:00
       |                    ^^^^^^^^^
    hint: copy all of the digest, or make the file again with the tool that wrote it
    ");
    insta::assert_snapshot!(refused("six\n--frobnicate\n"), @"
    exit 1
    error: unknown option `--frobnicate`
      --> deploy/requirements.txt:2:1
       |
     2 | --frobnicate
       | ^^^^^^^^^^^^
    hint: options of the resolver that pip does not know go to `pip_extra_args`
    ");
    insta::assert_snapshot!(refused("six\n--index-url https://joe:hunter2@pypi.example/simple\n"), @"
    exit 1
    error: the URL of `pypi.example` contains credentials, which would end up in the image's plan
      --> deploy/requirements.txt:2:13
       |
     2 | --index-url https://***********@pypi.example/simple
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: give the credentials to the build: in a netrc file named under `pip_secret_mounts`
    ");
}

#[test]
fn a_lock_file_needs_what_it_was_made_from() {
    let env = TestEnv::new();
    let refused = |name: &str, text: &str| {
        env.write("train.yaml", &format!("requirements: {name}\n"));
        env.write(name, text);
        failure(&env, &["build", "train.yaml"])
    };
    insta::assert_snapshot!(refused("uv.lock", "version = 1\nrequires-python = '>=3.9'\n"), @"
    exit 1
    error: there is no `pyproject.toml` beside `uv.lock`
      --> uv.lock:1:1
       |
     1 | version = 1
       | ^
    hint: keep the lock file beside the `pyproject.toml` that it was made from
    ");
    insta::assert_snapshot!(refused("poetry.lock", "[metadata]\nlock-version = '2.1'\npython-versions = '*'\ncontent-hash = 'x'\n"), @"
    exit 1
    error: there is no `pyproject.toml` beside `poetry.lock`
      --> poetry.lock:1:1
       |
     1 | [metadata]
       | ^
    hint: keep the lock file beside the `pyproject.toml` that it was made from
    ");
    insta::assert_snapshot!(refused("pylock.toml", "lock-version = 1.0\n"), @"
    exit 1
    error: not readable: invalid type: floating point `1.0`, expected a string
      --> pylock.toml:1:16
       |
     1 | lock-version = 1.0
       |                ^^^
    hint: make the file again with the tool that wrote it
    ");
    insta::assert_snapshot!(refused("Pipfile.lock", "{}"), @"
    exit 1
    error: `Pipfile.lock` is a file of Pipenv, which is not supported
      --> train.yaml:1:15
       |
     1 | requirements: Pipfile.lock
       |               ^^^^^^^^^^^^
    hint: run `pipenv requirements --hash > requirements.txt` and use that
    ");
}

#[test]
fn what_is_copied_must_be_there_and_stay_inside() {
    let env = TestEnv::new();
    env.write("data/a.txt", "");
    symlink("/etc/passwd", env.path().join("data/users")).unwrap();
    let refused = |spec: &str| {
        env.write("train.yaml", spec);
        failure(&env, &["build", "train.yaml"])
    };
    insta::assert_snapshot!(refused("copy:\n  - data/a.txt\n  - data/b.txt\n"), @"
    exit 1
    error: `data/b.txt` does not exist
      --> train.yaml:3:5
       |
     3 |   - data/b.txt
       |     ^^^^^^^^^^
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(refused("copy: [data]\n"), @"
    exit 1
    error: `data/users` is a symbolic link to `/etc/passwd`, which leads out of the folder of the spec
      --> train.yaml:1:8
       |
     1 | copy: [data]
       |        ^^^^
    hint: replace the link by the file itself
    ");
    insta::assert_snapshot!(refused("copy: [/etc/passwd]\n"), @"
    exit 1
    error: `copy` cannot be `/etc/passwd`: it is not relative to the folder of the spec
      --> train.yaml:1:8
       |
     1 | copy: [/etc/passwd]
       |        ^^^^^^^^^^^
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    ");
    insta::assert_snapshot!(refused("copy: [../data]\n"), @"
    exit 1
    error: `copy` cannot be `../data`: it goes out of the folder of the spec by `..`
      --> train.yaml:1:8
       |
     1 | copy: [../data]
       |        ^^^^^^^
    hint: only what lies in the folder of the spec can be copied: move it there, or the spec up
    ");
    insta::assert_snapshot!(refused("source_root: data/a.txt\n"), @"
    exit 1
    error: `data/a.txt` is not a folder
      --> train.yaml:1:14
       |
     1 | source_root: data/a.txt
       |              ^^^^^^^^^^
    hint: name the folder that the source files lie in
    ");
    insta::assert_snapshot!(refused("source_root: ../..\n"), @"
    exit 1
    error: `../..` leads out of the project's folder
      --> train.yaml:1:14
       |
     1 | source_root: ../..
       |              ^^^^^
    hint: move the files into that folder, or the spec further up
    ");
}

#[test]
fn a_shared_file_is_copied_from_the_folder_of_the_project_file() {
    let env = TestEnv::new();
    env.write("imagespec.toml", "[defaults]\ncopy = ['shared/ca.pem']\n");
    env.write("specs/train.yaml", "base_image: scratch\n");
    insta::assert_snapshot!(failure(&env, &["plan", "specs/train.yaml"]), @"
    exit 1
    error: `shared/ca.pem` does not exist
      --> imagespec.toml:2:9
       |
     2 | copy = ['shared/ca.pem']
       |         ^^^^^^^^^^^^^^^
    hint: paths are relative to the folder of the file that names them
    ");
    env.write("shared/ca.pem", "shared");
    let plan = env.run(&["plan", "specs/train.yaml", "--format", "json"]).stdout;
    assert!(plan.contains("\"shared/ca.pem\""), "{plan}");
}
