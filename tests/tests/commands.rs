//! The small commands: `init`, `schema`, `cache`; and what `build` says of options, secrets and its report.

use std::fs;

use imagespec_tests::{DockerRegistry, Setup, TestEnv, outsider};
use serde_json::Value;

const SPEC: &str = "base_image: scratch\nname: app\ncopy: [data.txt]\n";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", SPEC);
    env.write("data.txt", "data\n");
    env
}

fn read(env: &TestEnv, path: &str) -> String {
    fs::read_to_string(env.path().join(path)).expect("the file is there")
}

#[test]
fn init_writes_a_spec_that_can_be_built_and_never_overwrites_one() {
    let env = TestEnv::new();
    insta::assert_snapshot!(env.said(&["init"]), @"
    exit code 0
    wrote imagespec.yaml
    next: imagespec build imagespec.yaml
    then: imagespec run imagespec.yaml -- python --version
    ");
    insta::assert_snapshot!(read(&env, "imagespec.yaml"), @"
    # What goes into the image. Uncomment what you need; `imagespec schema` prints every field.

    # The image's name; the folder's if left out.
    # name: train

    python_version: 3.11

    # Python packages, as pip names them: [pandas>=2, numpy]
    packages: []

    # Files and folders that are copied to /root, where programs start.
    # copy: [train.py]

    # env:
    #   LOG_LEVEL: info

    # The program of the image.
    # entrypoint: [python, /root/train.py]
    ");
    assert_eq!(env.run(&["build", "--dry-run", "imagespec.yaml"]).code, 0);
    insta::assert_snapshot!(env.said(&["init"]), @"
    exit code 1
    error: `imagespec.yaml` exists, and is not overwritten
    hint: `imagespec build imagespec.yaml` builds it
    hint: `imagespec init OTHER.yaml` writes another one
    ");
    insta::assert_snapshot!(env.said(&["init", "train.yaml"]), @"
    exit code 0
    wrote train.yaml
    next: imagespec build train.yaml
    then: imagespec run train.yaml -- python --version
    ");
    insta::assert_snapshot!(env.said(&["init", "train.toml"]), @"
    exit code 2
    error: `init` writes YAML, and `train.toml` does not end in `.yaml`
    hint: name a file that ends in `.yaml`
    ");
}

#[test]
fn init_takes_the_packages_that_the_folder_lists() {
    let env = TestEnv::new();
    env.write("a/requirements.txt", "six==1.16.0\n");
    insta::assert_snapshot!(env.said(&["init", "a"]), @"
    exit code 0
    wrote a/imagespec.yaml, with the packages of requirements.txt
    next: imagespec build a/imagespec.yaml
    then: imagespec run a/imagespec.yaml -- python --version
    ");
    assert!(read(&env, "a/imagespec.yaml").contains("\nrequirements: requirements.txt\n"));

    env.write("b/pyproject.toml", "[project]\nname = \"b\"\nversion = \"1\"\nrequires-python = \">=3.12\"\n");
    env.write(
        "b/uv.lock",
        "version = 1\nrevision = 3\nrequires-python = \">=3.12\"\n\n[[package]]\nname = \"b\"\nversion = \"1\"\n\
         source = { virtual = \".\" }\n",
    );
    insta::assert_snapshot!(env.said(&["init", "b"]), @"
    exit code 0
    wrote b/imagespec.yaml, with the packages of uv.lock
    next: imagespec build b/imagespec.yaml
    then: imagespec run b/imagespec.yaml -- python --version
    ");
    let text = read(&env, "b/imagespec.yaml");
    assert!(text.contains("\npython_version: 3.13\n") && text.contains("\nrequirements: uv.lock\n"), "{text}");

    env.write("c/requirements.txt", "-e .\n");
    insta::assert_snapshot!(env.said(&["init", "c"]), @"
    exit code 0
    warning: requirements.txt is not used: `-e` installs a folder of this machine in place, which an image cannot have
    wrote c/imagespec.yaml
    next: imagespec build c/imagespec.yaml
    then: imagespec run c/imagespec.yaml -- python --version
    ");
    assert!(!read(&env, "c/imagespec.yaml").contains("\nrequirements:"));
}

#[test]
fn the_schema_is_json_and_its_help_says_how_editors_read_it() {
    let env = TestEnv::new();
    let schema: Value = serde_json::from_str(&env.stdout(&["schema"])).expect("JSON");
    assert_eq!(schema["properties"]["packages"]["examples"][0][0], "pandas");
    assert!(env.stdout(&["schema", "--help"]).contains("# yaml-language-server: $schema=imagespec.schema.json"));
}

#[test]
fn doctor_says_what_fails_and_what_to_do_about_it() {
    let env = TestEnv::new();
    let doctor = |arguments: &[&str]| {
        let finished = env.run(arguments);
        (finished.code, finished.stdout.replace(&env.path().display().to_string(), "FOLDER"))
    };
    let (_, text) = doctor(&["doctor"]);
    assert!(text.starts_with("cache\n  ok    FOLDER/cache\nsandbox\n"), "{text}");
    let (_, text) = doctor(&["doctor", "--format", "json"]);
    let sections: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(sections[0]["section"], "cache");
    assert_eq!(sections[0]["findings"][0]["mark"], "ok");
    env.write("no-folder", "");
    let mut command = env.command(&["doctor"]);
    let output = command.env("IMAGESPEC_CACHE_DIR", env.path().join("no-folder/cache")).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).replace(&env.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(text.split("sandbox").next().unwrap_or_default(), @"
    cache
      fail  cannot make `FOLDER/no-folder/cache/blobs/sha256` in the cache
            Not a directory (os error 20)
    ");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn prune_keeps_what_an_image_needs_and_removes_what_a_killed_build_left() {
    let env = project();
    env.stdout(&["build", "app.yaml"]);
    env.write("cache/tmp/bootstrap-x/root/etc/passwd", "");
    env.write("cache/blobs/sha256/0000", "nobody needs it");
    env.write("cache/builders/tiny/thing", "of another builder");
    let parts = env.stdout(&["cache", "du"]);
    assert!(parts.contains("  builders/tiny\n"), "{parts}");
    let clean = |arguments: &[&str]| {
        let finished = env.run(arguments);
        let text = format!("{}{}", finished.stdout, finished.stderr);
        text.replace(&env.path().display().to_string(), "FOLDER")
    };
    // How much of the disk a folder takes is the file system's affair.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r" *\b\d+(\.\d)? (bytes|kB)\b", " SIZE");
    let _guard = settings.bind_to_scope();
    insta::assert_snapshot!(clean(&["cache", "prune", "--dry-run"]), @"
     SIZE  blobs (0)
     SIZE  records (0)
     SIZE  snapshots (0)
     SIZE  files of other builders (0)
     SIZE  leftovers of builds that were killed (1)
    would remove SIZE from FOLDER/cache; 1 image of the store kept
    ");
    assert!(env.path().join("cache/tmp/bootstrap-x").exists());
    insta::assert_snapshot!(clean(&["cache", "prune", "--older-than", "0s"]), @"
     SIZE  blobs (1)
     SIZE  records (1)
     SIZE  snapshots (0)
     SIZE  files of other builders (1)
     SIZE  leftovers of builds that were killed (1)
    removed SIZE from FOLDER/cache; 1 image of the store kept
    ");
    assert!(!env.path().join("cache/tmp/bootstrap-x").exists());
    assert!(!env.path().join("cache/blobs/sha256/0000").exists());
    assert_eq!(env.run(&["exists", "app.yaml"]).code, 0);
    assert_eq!(env.run(&["build", "app.yaml", "--force", "--output", "type=oci,dest=out"]).code, 0);
    insta::assert_snapshot!(clean(&["cache", "prune", "--older-than", "1y"]), @"
    error: invalid value '1y' for '--older-than <DURATION>': write a number and `m`, `h`, `d` or `w`, as in `30d` or `12h`

    For more information, try '--help'.
    ");
    env.write("cache/builders/tiny/thing", "of another builder");
    assert_eq!(env.run(&["cache", "clear"]).code, 0);
    assert!(!env.path().join("cache/builders/tiny").exists());
    assert_eq!(env.run(&["exists", "app.yaml"]).code, 1);
}

#[test]
fn verify_removes_what_is_not_what_its_name_says_and_the_next_build_makes_it_again() {
    let env = project();
    env.stdout(&["build", "app.yaml"]);
    assert_eq!(env.run(&["cache", "verify"]).code, 0);
    let blobs = fs::read_dir(env.path().join("cache/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let largest = blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::write(&largest, "something else").unwrap();
    let verified = env.run(&["cache", "verify"]);
    let removed = format!("removed  {}\n", largest.file_name().unwrap().display());
    assert_eq!((verified.code, verified.stdout), (1, removed));
    assert!(verified.stderr.ends_with("/cache are whole; 1 was not what its name says\n"), "{}", verified.stderr);
    env.stdout(&["build", "app.yaml", "--force"]);
    let verified = env.run(&["cache", "verify"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, ""), "{}", verified.stderr);
}

#[test]
fn prune_makes_no_cache_where_there_is_none() {
    let env = TestEnv::new();
    assert_eq!(env.run(&["cache", "prune"]).code, 0);
    assert!(!env.path().join("cache").exists());
}

#[test]
fn an_option_that_the_builder_does_not_take_is_refused_before_any_work() {
    let env = project();
    env.write("option.yaml", &format!("{SPEC}builder_options:\n  debian_miror: http://deb.example\n"));
    insta::assert_snapshot!(env.said(&["build", "option.yaml"]), @"
    exit code 1
    error: builder `oci` has no option `debian_miror`
      --> option.yaml:5:3
       |
     5 |   debian_miror: http://deb.example
       |   ^^^^^^^^^^^^
    hint: did you mean `debian_mirror`?
    ");
    insta::assert_snapshot!(env.said(&["build", "app.yaml", "--builder-opt", "jobs=hunter2"]), @"
    exit code 1
    error: builder `oci` has no option `jobs`
      --> --builder-opt:1:1
       |
     1 | jobs
       | ^^^^
    hint: `oci` takes `debian_mirror`, `debian_check_valid_until`, `conda_mirrors`, `compile_bytecode`
    ");
    insta::assert_snapshot!(env.said(&["build", "app.yaml", "--builder-opt", "jobs"]), @"
    exit code 2
    error: `--builder-opt jobs` has no `=`
    hint: write `--builder-opt KEY=VALUE`
    ");
    env.write("imagespec.toml", "[builders.oci]\ndebian_mirror = [1]\n\n[builders.other]\nanything = 1\n");
    insta::assert_snapshot!(env.said(&["build", "app.yaml", "--dry-run"]), @"
    exit code 1
    error: option `debian_mirror` of builder `oci` must be a text, but a list was found
      --> imagespec.toml:2:17
       |
     2 | debian_mirror = [1]
       |                 ^^^
    ");
    assert!(!env.path().join("cache").exists());
}

#[test]
fn a_secret_that_is_malformed_or_unused_says_so_and_never_shows_its_value() {
    let env = project();
    env.write("token", "hunter2");
    let secret = |secret: &str| env.said(&["build", "app.yaml", "--dry-run", "--secret", secret]);
    insta::assert_snapshot!(secret("hunter2"), @"
    exit code 2
    error: `--secret` takes `id`, and `src` or `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(secret("id=token"), @"
    exit code 2
    error: `--secret` needs an `id`, and `src` or `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(secret("id=token,src=token,env=TOKEN"), @"
    exit code 2
    error: secret `token` has both `src` and `env`
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    insta::assert_snapshot!(secret("id=token,env=TOKEN"), @"
    exit code 2
    error: the variable `TOKEN` of secret `token` is not set
    hint: set it, or use `src=FILE`
    ");
    insta::assert_snapshot!(secret("id=token,src=missing"), @"
    exit code 2
    error: cannot read `missing`, the file of secret `token`
    note: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(secret("id=,src=token"), @"
    exit code 2
    error: each part of `--secret` has a value and stands once
    hint: write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`
    ");
    let twice = ["build", "app.yaml", "--secret", "id=token,src=token", "--secret", "id=token,src=data.txt"];
    insta::assert_snapshot!(env.said(&twice), @"
    exit code 2
    error: secret `token` is given twice
    hint: leave one of them out
    ");
    let unused = env.run(&["build", "app.yaml", "--progress", "quiet", "--secret", "id=token,src=token"]);
    assert_eq!(unused.code, 0);
    insta::assert_snapshot!(unused.stderr, @"
    warning: secret `token` is given, and nothing asks for it
    hint: `secrets` of a spec hands secrets to its commands
    ");
    let variable = ["build", "app.yaml", "--secret", "id=token,env=TOKEN"];
    let shown = env.run_with(&variable, &[("TOKEN", "hunter2"), ("IMAGESPEC_LOG", "trace")]);
    assert!(!format!("{shown:?}").contains("hunter2"));
}

/// A report with the fields that only a build can know put aside.
#[test]
fn a_secret_that_flows_is_read_once_and_whole() {
    let env = project();
    let pipe = env.path().join("pipe");
    outsider("mkfifo", &[&pipe.display().to_string()]);
    let build = |size: usize| {
        let pipe = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(pipe, vec![b'x'; size]));
        (
            env.run(&["build", "app.yaml", "--progress", "quiet", "--secret", "id=token,src=pipe"]),
            writer.join().unwrap(),
        )
    };
    // More than a pipe holds: whoever read less would break it.
    let (built, written) = build(200 << 10);
    assert!(built.code == 0 && written.is_ok(), "{} {written:?}", built.stderr);
    let (refused, _) = build(600 << 10);
    insta::assert_snapshot!(format!("exit code {}\n{}", refused.code, refused.stderr), @"
    exit code 2
    error: `pipe`, the file of secret `token`, has more than 500 KiB
    hint: a secret is shorter; larger files are not for steps to read in secret
    ");
}

fn report(env: &TestEnv, file: &str) -> Value {
    let mut report: Value = serde_json::from_str(&read(env, file)).expect("JSON");
    report["duration_ms"] = Value::Null;
    for layer in report["images"][0]["layers"].as_array_mut().expect("layers") {
        layer["outcome"] = Value::Null;
    }
    report
}

#[test]
fn the_report_of_an_image_that_exists_is_that_of_its_build() {
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    for registry in [&[][..], &["--registry", &target]] {
        let env = project();
        let build = |file: &str| {
            env.stdout(&[&["build", "app.yaml", "--metadata-file", file], registry].concat());
            report(&env, file)
        };
        let built = build("built.json");
        assert_eq!(built["images"][0]["layers"][0]["title"], "files");
        assert_eq!(build("found.json"), built);
        assert!(read(&env, "found.json").contains("\"outcome\": \"cached\""));
    }
}

#[test]
fn a_report_of_an_image_that_nobody_saw_is_not_written_and_that_is_said() {
    let env = project();
    let arguments =
        ["build", "app.yaml", "--registry", "127.0.0.1:9", "--if-unknown", "assume", "--metadata-file", "report.json"];
    let finished = env.run(&arguments);
    assert_eq!(finished.code, 0);
    insta::with_settings!({filters => vec![(r"\b[a-z2-7]{32}\b", "HASH")]}, {
        insta::assert_snapshot!(finished.stderr, @"
        127.0.0.1:9/app:HASH is taken for existing, nothing to build
        warning: `report.json` is not written: the registry did not say what the image is
        ");
    });
    assert!(!env.path().join("report.json").exists());
}

#[test]
fn a_dry_run_says_where_the_image_would_go_and_whether_it_is_there() {
    let env = project();
    let last = |flags: &[&str]| {
        let finished = env.run(&[&["build", "app.yaml", "--dry-run"], flags].concat());
        assert_eq!((finished.code, finished.stdout.as_str()), (0, ""));
        let shown =
            finished.stderr.replace(&env.path().canonicalize().expect("a folder").display().to_string(), "FOLDER");
        shown.lines().filter(|line| line.starts_with("output")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(last(&[]), @"output     the store on this machine; it does not exist");
    assert!(!env.path().join("cache").exists());
    env.stdout(&["build", "app.yaml"]);
    insta::assert_snapshot!(last(&[]), @"output     the store on this machine; it exists");
    insta::assert_snapshot!(last(&["--force"]), @"output     the store on this machine; it exists, and would be overwritten");
    insta::assert_snapshot!(last(&["--output", "type=oci,dest=out"]), @"output     oci:FOLDER/out");
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    let pushed = last(&["--registry", &target, "--push", "--output", "type=docker-archive,dest=app.tar"]);
    insta::assert_snapshot!(pushed.replace(&registry.host(), "HOST"), @"
    output     docker-archive:FOLDER/app.tar
    output     HOST; it does not exist
    ");
    let unknown = last(&["--registry", "127.0.0.1:9/team"]).replace(env.stdout(&["hash", "app.yaml"]).trim(), "HASH");
    insta::assert_snapshot!(unknown, @"output     127.0.0.1:9; whether it exists is unknown: cannot talk to `http://127.0.0.1:9/v2/team/app/manifests/HASH`: connection refused");
}

#[test]
fn an_image_with_a_registry_that_is_not_pushed_is_found_in_the_store() {
    let env = project();
    let build = ["build", "app.yaml", "--registry", "127.0.0.1:9/team", "--no-push"];
    let built = env.stdout(&build);
    let again = env.run(&build);
    assert_eq!(again.stdout, built);
    assert!(again.stderr.ends_with(" exists, nothing to build\n"), "{}", again.stderr);
}

#[test]
fn a_tag_that_exists_is_not_pushed_over_beside_another_output() {
    let registry = DockerRegistry::start(Setup::Open);
    let target = format!("{}/team", registry.host());
    let env = project();
    let build = |flags: &[&str]| {
        let finished = env.run(&[&["build", "app.yaml", "--progress", "plain", "--registry", &target], flags].concat());
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stderr
    };
    let both = ["--push", "--output", "type=oci,dest=out"];
    let is_pushed = |said: &str| said.contains("  push ");
    let first = build(&both);
    assert!(is_pushed(&first) && first.contains("write oci:"), "{first}");
    let second = build(&both);
    assert!(!is_pushed(&second) && second.contains("write oci:"), "{second}");
    assert!(second.contains(" exists, nothing to push\n"), "{second}");
    assert!(is_pushed(&build(&[&both[..], &["--force"]].concat())));
    assert!(build(&["--output", "type=registry"]).ends_with(" exists, nothing to build\n"));
}

#[test]
fn the_report_of_several_images_is_a_list_that_names_each() {
    let env = project();
    env.write("serve.yaml", "base_image: scratch\nname: serve\n");
    let names = |specs: &[&str]| {
        let said = env.stdout(&[&["build", "--metadata-file", "report.json"], specs].concat());
        let report: Value = serde_json::from_str(&read(&env, "report.json")).expect("JSON");
        let images = report.as_array().cloned().unwrap_or_else(|| vec![report]);
        let text = |image: &Value, field: &str| image[field].as_str().expect("a text").to_owned();
        let named = images
            .iter()
            .map(|image| format!("{}:{}@{}\n", text(image, "name"), text(image, "tag"), text(image, "digest")));
        (said, named.collect::<String>())
    };
    for specs in [&["app.yaml", "serve.yaml"][..], &["app.yaml"], &["serve.yaml", "app.yaml"]] {
        let (said, named) = names(specs);
        assert_eq!(said, named);
    }
}

#[test]
fn a_full_disk_behind_stdout_is_said() {
    let env = project();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device is there");
    let output = env.command(&["hash", "app.yaml"]).stdout(full).output().expect("the program starts");
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: cannot write to stdout
    note: No space left on device (os error 28)
    ");
    assert_eq!(output.status.code(), Some(1));
}
