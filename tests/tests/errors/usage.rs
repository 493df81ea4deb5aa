//! Flags and variables that make no sense: exit code 2.

use imagespec_tests::TestEnv;

use super::{failure, shown};

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("train.yaml", "base_image: scratch\n");
    env
}

fn refused(flags: &[&str]) -> String {
    failure(&env(), &[&["build", "train.yaml"], flags].concat())
}

#[test]
fn an_output_has_a_type_and_perhaps_a_destination() {
    insta::assert_snapshot!(refused(&["--output", "type=zip"]), @"
    exit 2
    error: `--output type=zip` has no type that is known
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
    insta::assert_snapshot!(refused(&["--output", "type=oci"]), @"
    exit 2
    error: `--output type=oci` has no `dest`
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
    insta::assert_snapshot!(refused(&["--output", "out.tar"]), @"
    exit 2
    error: `--output out.tar` has `out.tar`, which is neither `type=` nor `dest=`
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
    insta::assert_snapshot!(refused(&["--output", "type=docker-archive,dest=-"]), @"
    exit 2
    error: `--output type=docker-archive,dest=-` names stdout, to which no image is written
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
    insta::assert_snapshot!(refused(&["--output", "type=docker,dest=x"]), @"
    exit 2
    error: `--output type=docker,dest=x` has a `dest`, which its type does not take
    hint: write `type=oci,dest=DIR`, `type=docker-archive,dest=FILE` or `type=docker`
    ");
}

#[test]
fn a_secret_has_an_id_and_a_place() {
    insta::assert_snapshot!(refused(&["--secret", "token"]), @"
    exit 2
    error: `--secret` takes `id`, and `src` or `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(refused(&["--secret", "src=token"]), @"
    exit 2
    error: `--secret` needs an `id`, and `src` or `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(refused(&["--secret", "id=token,env=NO_SUCH_VARIABLE"]), @"
    exit 2
    error: the variable `NO_SUCH_VARIABLE` of secret `token` is not set
    hint: set it, or use `src=FILE`
    ");
}

#[test]
fn the_value_of_a_secret_is_looked_for_before_any_work() {
    let env = env();
    env.write("token", "hunter2");
    let secrets = |flags: &[&str]| {
        let flags: Vec<_> = flags.iter().flat_map(|flag| ["--secret", flag]).collect();
        failure(&env, &[&["build", "train.yaml"], flags.as_slice()].concat())
    };
    insta::assert_snapshot!(secrets(&["id=,src=token"]), @"
    exit 2
    error: each part of `--secret` has a value and stands once
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(secrets(&["id=a,src=token,env=HOME"]), @"
    exit 2
    error: secret `a` has both `src` and `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(secrets(&["id=a,src=token", "id=a,src=token"]), @"
    exit 2
    error: secret `a` is given twice
    hint: leave one of them out
    ");
    insta::assert_snapshot!(secrets(&["id=a,src=nowhere"]), @"
    exit 2
    error: cannot read `nowhere`, the file of secret `a`
    note: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(secrets(&["id=a,src=."]), @"
    exit 2
    error: `.`, the file of secret `a`, is a folder
    hint: name a file
    ");
}

#[test]
fn an_image_without_a_registry_is_not_pushed() {
    insta::assert_snapshot!(refused(&["--push"]), @"
    exit 2
    error: there is no registry to push to
    hint: pass `--registry HOST/PATH`
    ");
    insta::assert_snapshot!(refused(&["--output", "type=registry"]), @"
    exit 2
    error: there is no registry to push to
    hint: pass `--registry HOST/PATH`
    ");
}

#[test]
fn flags_that_there_are_not_are_refused() {
    insta::assert_snapshot!(refused(&["--if-unknown", "ignore"]), @"
    exit 2
    error: invalid value 'ignore' for '--if-unknown <IF_UNKNOWN>'
      [possible values: fail, build, assume]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["--squash"]), @"
    exit 2
    error: unexpected argument '--squash' found

      tip: to pass '--squash' as a value, use '-- --squash'

    Usage: imagespec build <SPECS>...

    For more information, try '--help'.
    ");
}

#[test]
fn variables_must_make_sense_too() {
    let env = env();
    let arguments = ["build", "train.yaml"];
    insta::assert_snapshot!(shown(&env, env.run_with(&arguments, &[("SOURCE_DATE_EPOCH", "yesterday")])), @"
    exit 2
    error: SOURCE_DATE_EPOCH is `yesterday`, which is no number of seconds
    hint: set it to seconds since 1970, or unset it
    ");
    insta::assert_snapshot!(shown(&env, env.run_with(&arguments, &[("IMAGESPEC_CACHE_DIR", "/proc/cache")])), @"
    exit 1
    error: cannot make `/proc/cache/blobs/sha256` in the cache
    note: No such file or directory (os error 2)
    hint: set IMAGESPEC_CACHE_DIR to a folder with free space that you may write to
    ");
}

#[test]
fn an_image_that_is_not_built_cannot_run() {
    let env = env();
    let hash = env.run(&["hash", "train.yaml"]).stdout;
    insta::assert_snapshot!(failure(&env, &["run", "train.yaml"]).replace(hash.trim(), "HASH"), @"
    exit 1
    error: `train:HASH` is not built on this machine
    hint: `imagespec build train.yaml` builds it
    ");
    assert_eq!(env.run(&["build", "train.yaml"]).code, 0);
    insta::assert_snapshot!(failure(&env, &["run", "train.yaml"]), @"
    exit 1
    error: the image names no program to run
    hint: name one: `imagespec run train.yaml -- CMD`
    ");
    insta::assert_snapshot!(failure(&env, &["run", "train.yaml", "--", "/bin/train"]), @"
    exit 127
    error: cannot start `/bin/train`
    note: No such file or directory (os error 2)
    hint: the image lacks the program, or the interpreter or loader that it is started by
    ");
}

#[test]
fn what_is_no_spec_takes_no_flags_for_specs() {
    let env = env();
    insta::assert_snapshot!(failure(&env, &["exists", "ghcr.io/team/app:1", "--set", "user=app"]), @"
    exit 2
    error: `--set` changes a spec, and `ghcr.io/team/app:1` is none
    hint: leave it out
    ");
    insta::assert_snapshot!(failure(&env, &["exists", "oci:out"]), @"
    exit 2
    error: `oci:out` is a layout, and `exists` asks stores and registries
    hint: `imagespec inspect oci:out` says what is in it
    ");
    insta::assert_snapshot!(failure(&env, &["init", "train.yaml"]), @"
    exit 1
    error: `train.yaml` exists, and is not overwritten
    hint: `imagespec build train.yaml` builds it
    hint: `imagespec init OTHER.yaml` writes another one
    ");
    insta::assert_snapshot!(failure(&env, &["inspect", "oci:nowhere"]), @"
    exit 1
    error: cannot read `nowhere`
    note: No such file or directory (os error 2)
    hint: `imagespec build --output type=oci,dest=DIR` and `skopeo copy` make layouts
    ");
}

#[test]
fn an_archive_is_no_image_that_can_be_looked_at_or_run() {
    for command in ["inspect", "run", "exists"] {
        let said = failure(&env(), &[command, "docker-archive:app.tar"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @"
            exit 2
            error: `docker-archive:app.tar` is an archive, and only layouts, stores and registries are looked in
            hint: `skopeo copy docker-archive:app.tar oci:DIR` makes a layout of it; name that as `oci:DIR`
            ");
        }
    }
}

#[test]
fn a_registry_is_wrong_where_it_was_written() {
    let name = |registry: &str| failure(&env(), &["name", "train.yaml", "--registry", registry]);
    insta::assert_snapshot!(name(""), @"
    exit 2
    error: `--registry` is empty
    hint: name one, as in `--registry ghcr.io/team`, or leave it out
    ");
    insta::assert_snapshot!(name("/"), @"
    exit 2
    error: `--registry` is empty
    hint: name one, as in `--registry ghcr.io/team`, or leave it out
    ");
    insta::assert_snapshot!(name("https://ghcr.io/team"), @"
    exit 1
    error: `registry` cannot be `https://ghcr.io/team`: a registry is written without a scheme
      --> --registry:1:10
       |
     1 | registry=https://ghcr.io/team
       |          ^^^^^^^^^^^^^^^^^^^^
    hint: write `ghcr.io/team`
    ");
    insta::assert_snapshot!(name("ghcr.io/Team"), @"
    exit 1
    error: `registry` cannot be `ghcr.io/Team`: it is not `HOST`, `HOST:PORT` or one of them with a path
      --> --registry:1:10
       |
     1 | registry=ghcr.io/Team
       |          ^^^^^^^^^^^^
    hint: write where images are pushed, as in `ghcr.io/team` or `localhost:5000`
    ");
    insta::assert_snapshot!(name("joe:hunter2@ghcr.io/team"), @"
    exit 1
    error: `registry` has a URL with credentials in it, where others will read them
      --> --registry:1:10
    hint: leave them out: credentials of registries come from `docker login`
    ");
    assert_eq!(env().run(&["name", "train.yaml", "--registry", "ghcr.io/team/"]).code, 0);
}

#[test]
fn what_holds_one_image_is_refused_for_several() {
    let env = env();
    env.write("serve.yaml", "base_image: scratch\n");
    let build = |flags: &[&str]| failure(&env, &[&["build", "train.yaml", "serve.yaml"], flags].concat());
    insta::assert_snapshot!(build(&["--iidfile", "id"]), @"
    exit 2
    error: `--iidfile` holds the digest of one image, and 2 are built
    hint: use `--metadata-file`, which lists them all
    ");
    insta::assert_snapshot!(build(&["--output", "type=docker-archive,dest=app.tar"]), @"
    exit 2
    error: `--output type=docker-archive,dest=app.tar` holds one image, and 2 are built
    hint: build them one by one, or write all of them to `type=oci,dest=DIR`
    ");
    assert!(!env.path().join("cache").exists());
}
