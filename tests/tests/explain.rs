//! `imagespec explain`: which field or file gave a spec another hash, against images wherever they lie.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;
use std::process::Command;

use imagespec_tests::{
    DockerRegistry, FolderServer, PASSWORD, Setup, TestEnv, USER, WrittenWheel, output, outsider, snapshot,
};
use serde_json::{Value, json};

const BEFORE: &str = "\
name: train
description: the first
base_image: scratch
copy: [data]
env: {LOG_LEVEL: info, OLD: 1}
entrypoint: [/root/data/run]
labels: {team: search}
";
const AFTER: &str = "\
name: train
description: the second
base_image: scratch
copy: [data]
env: {LOG_LEVEL: debug}
entrypoint: [/root/data/run, --all]
user: \"1000\"
labels: {team: search}
";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("train.yaml", BEFORE);
    env.write("data/labels.csv", "a,b\n");
    env.write("data/run", "#!/bin/sh\n");
    env
}

fn change(env: &TestEnv) {
    env.write("train.yaml", AFTER);
    env.write("data/labels.csv", "a,b,c\n");
    env.write("data/new.csv", "");
}

#[test]
fn a_spec_is_compared_with_the_last_image_of_its_name_in_the_store() {
    let env = project();
    env.stdout(&["build", "train.yaml"]);
    snapshot!(env.stdout(&["explain", "train.yaml"]), @"
    before     train:HASH
    after      train:HASH

    the same: nothing that counts differs
    ");
    change(&env);
    let changed = "\
copy        ~ data/labels.csv (content, 4 bytes → 6 bytes)
            + data/new.csv  sha256:e3b0c44298fc  0 bytes
env         ~ LOG_LEVEL: info → debug
            - OLD = 1
user        + 1000
entrypoint  ~ [\"/root/data/run\"] → [\"/root/data/run\", \"--all\"]
";
    let told = env.stdout(&["explain", "train.yaml"]);
    assert!(told.ends_with(changed), "{told}");
    let before = env.stdout(&["name", "train.yaml"]);
    env.stdout(&["build", "train.yaml"]);
    let finished = env.run(&["explain", "train.yaml"]);
    assert!(finished.stdout.ends_with("the same: nothing that counts differs\n"), "{}", finished.stdout);
    // The images of a name are told apart by when they were built, and the hint says the one before.
    let (built, hint) = finished.stderr.trim().split_once(" is built; ").unwrap();
    assert_eq!(built, before.trim());
    let against = hint.split('`').nth(1).unwrap();
    let told = env.stdout(&[&["explain", "train.yaml"], against.split(' ').collect::<Vec<_>>().as_slice()].concat());
    assert!(told.ends_with(changed), "{told}");
}

#[test]
fn without_an_image_it_says_what_the_hash_is_made_of() {
    let env = project();
    env.write("train.yaml", &format!("{BEFORE}commands: [make, make install]\n").replace("scratch", "debian:12"));
    let finished = env.run(&["explain", "train.yaml"]);
    assert_eq!(finished.stderr, "no image called train is in the store of this machine, so this is all that counts\n");
    insta::with_settings!({filters => vec![(r"\b[a-z2-7]{32}\b", "HASH"), ("linux/[a-z0-9]+", "PLATFORM")]}, {
        insta::assert_snapshot!(finished.stdout, @r#"
        name        train:HASH
        spec hash   HASH

        platform    PLATFORM
        base_image  debian:12
        copy        data/labels.csv  sha256:5be08c9684a1  4 bytes
                    data/run  sha256:a8076d3d28d2  10 bytes
        commands    make
                    make install
        env         LOG_LEVEL = info
                    OLD = 1
        workdir     /root
        entrypoint  ["/root/data/run"]
        labels      team = search
        "#);
    });
    let composition = env.run(&["explain", "train.yaml", "--format", "json"]).stdout;
    let composition: Value = serde_json::from_str(&composition).unwrap();
    assert_eq!(composition["spec_hash"], env.stdout(&["hash", "train.yaml"]).trim());
    assert_eq!(composition["parts"][0]["field"], "platform");
}

#[test]
fn it_is_compared_with_layouts_archives_specs_and_printed_plans() {
    let env = project();
    env.write("old.yaml", BEFORE);
    env.write("plan.json", &env.stdout(&["plan", "train.yaml", "--format", "json"]));
    env.stdout(&["build", "train.yaml", "--output", "type=docker-archive,dest=train.tar"]);
    let both = ["--platform", "linux/amd64,linux/arm64", "--output", "type=oci,dest=both"];
    env.stdout(&[["build", "train.yaml"].as_slice(), &both].concat());
    env.stdout(&["build", "train.yaml", "--output", "type=oci,dest=out"]);
    output(Command::new("gzip").arg("-k").arg(env.path().join("train.tar")));
    change(&env);
    for against in ["oci:out", "docker-archive:train.tar", "docker-archive:train.tar.gz", "plan.json", "oci:both"] {
        let arguments = ["explain", "train.yaml", "--against", against];
        let told = env.stdout(&[arguments.as_slice(), if against == "oci:both" { &both[..2] } else { &[] }].concat());
        assert!(told.contains("~ data/labels.csv (content, 4 bytes → 6 bytes)"), "{against}: {told}");
        assert!(told.contains("~ LOG_LEVEL: info → debug"), "{against}: {told}");
    }
    // The files that the old spec copies are those of today.
    snapshot!(env.stdout(&["explain", "train.yaml", "--against", "old.yaml"]), @r#"
    before      old.yaml  HASH
    after       train:HASH

    env         ~ LOG_LEVEL: info → debug
                - OLD = 1
    user        + 1000
    entrypoint  ~ ["/root/data/run"] → ["/root/data/run", "--all"]
    differs and does not count: description
    "#);
    env.write("old.yaml", &AFTER.replace("second", "third").replace("name: train", "name: other"));
    snapshot!(env.stdout(&["explain", "train.yaml", "--against", "old.yaml"]), @"
    before     old.yaml  HASH
    after      train:HASH

    the same: nothing that counts differs
    differs and does not count: description, name
    ");
    let told = env.stdout(&["explain", "train.yaml", "--against", "oci:out", "--format", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["same"], &told["before"]["scheme"]), (&json!(false), &json!(1)));
    assert_eq!(told["after"]["spec_hash"], env.stdout(&["hash", "train.yaml"]).trim());
    let changes = told["differences"].as_array().unwrap().iter();
    let changes: Vec<_> = changes.map(|change| (change["field"].as_str(), change["change"].as_str())).collect();
    assert_eq!(changes[0], (Some("copy"), Some("content")));
}

#[test]
fn it_is_compared_with_an_image_of_a_registry_by_the_logins_of_the_spec() {
    let registry = DockerRegistry::start(Setup::Password);
    let env = project();
    fs::copy(registry.config(), env.path().join("login.json")).unwrap();
    let access = format!("registry: {}/team\nregistry_config: login.json\n", registry.host());
    env.write("train.yaml", &format!("{BEFORE}{access}"));
    let built = env.stdout(&["build", "train.yaml"]);
    let (name, _) = built.trim().split_once('@').unwrap();
    change(&env);
    env.write("train.yaml", &format!("{AFTER}{access}"));
    let told = env.stdout(&["explain", "train.yaml", "--against", name]);
    assert!(told.contains("env         ~ LOG_LEVEL: info → debug\n"), "{told}");
    // Other tools push, pull and convert the image, and its plan comes along.
    let (other, copy) = (format!("docker://{}/other:1", registry.host()), format!("docker://{name}"));
    let credentials = format!("{USER}:{PASSWORD}");
    let login = ["--src-creds", &credentials, "--dest-creds", &credentials];
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let arguments = [["copy", "-q", "--format", "v2s2", &copy, &other].as_slice(), &login, &insecure].concat();
    outsider("skopeo", &arguments);
    let told = env.stdout(&["explain", "train.yaml", "--against", &format!("{}/other:1", registry.host())]);
    assert!(told.contains("env         ~ LOG_LEVEL: info → debug\n"), "{told}");
    snapshot!(env.said(&["explain", "train.yaml", "--against", &format!("{}/team/train:no", registry.host())]), @"
    exit code 1
    error: `127.0.0.1:PORT/team/train:no` is neither in the store of this machine nor in `127.0.0.1:PORT`
    ");
}

#[test]
fn an_image_without_a_plan_and_one_with_rubbish_for_a_plan_are_refused() {
    let env = project();
    env.stdout(&["build", "train.yaml", "--output", "type=oci,dest=out"]);
    let layout = env.path().join("other").display().to_string();
    for arguments in [["init", "--layout", &layout], ["new", "--image", &format!("{layout}:latest")]] {
        outsider("umoci", &arguments);
    }
    snapshot!(env.said(&["explain", "train.yaml", "--against", "oci:other"]), @"
    exit code 1
    error: `oci:other` carries no plan
    hint: only images that imagespec made carry one; compare with a spec, or with what `imagespec plan --format json` printed when the image was built
    ");
    let template = config(&env);
    let with_plan = |plan: &str| store_config(&env, &template.to_string().replace("\"PLAN\"", plan));
    let refused = |plan: &str| {
        with_plan(plan);
        env.said(&["explain", "train.yaml", "--against", "oci:out"])
    };
    snapshot!(refused(r#""x""#), @"
    exit code 1
    error: `sha256:…` is not a proper image: it has no plan in it
    ");
    snapshot!(refused(r#"{"scheme":1,"plan":{"steps":[7]}}"#), @"
    exit code 1
    error: `sha256:…` is not a proper image: its plan is damaged
    ");
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert!(refused(&deep).contains("its config: recursion limit exceeded"));
    snapshot!(refused(&format!("\"{}\"", "x".repeat(5 << 20))), @"
    exit code 1
    error: `sha256:…` is not a proper image: it is larger than the N bytes that a document may have
    ");
    // What it says is shown, and does not reach the terminal as it is.
    let plan = r#"{"scheme":7,"plan":{"version":1,"steps":[],"base":{"kind":"scratch"},"platforms":["\u001b[2J"],"config":{}}}"#;
    with_plan(plan);
    let told = env.stdout(&["explain", "train.yaml", "--against", "oci:out"]);
    assert!(told.contains("\nhash scheme  ~ 7 → 1\n"), "{told}");
    assert!(told.contains("hashes of two schemes differ even where the specs are the same\n"), "{told}");
    assert!(told.contains(r"- \u{1b}[2J") && !told.contains('\u{1b}'), "{told}");
    for (file, text) in [("damaged.json", r#"{"scheme":1,"plan":{"steps":[7]}}"#), ("none.json", r#"{"names": 1}"#)] {
        env.write(file, text);
    }
    snapshot!(env.said(&["explain", "train.yaml", "--against", "damaged.json"]), @"
    exit code 1
    error: `damaged.json` is no plan that can be compared with
    note: its plan is damaged
    hint: make it again: `imagespec plan SPEC --format json`
    ");
    let said = env.said(&["explain", "train.yaml", "--against", "none.json"]);
    assert!(said.starts_with("exit code 1\nerror: unknown key `names`\n"), "{said}");
    snapshot!(env.said(&["explain", "train.yaml", "--against", "docker-archive:missing.tar"]), @"
    exit code 1
    error: cannot read `docker-archive:missing.tar`
    note: No such file or directory (os error 2)
    ");
}

/// The config of the image in `out`, with `PLAN` for its plan.
fn config(env: &TestEnv) -> Value {
    let layout = format!("oci:{}", env.path().join("out").display());
    let mut config: Value =
        serde_json::from_str(&outsider("skopeo", &["inspect", "--config", "--raw", &layout])).unwrap();
    config["imagespec.plan"] = json!("PLAN");
    config
}

/// Gives the image in `out` another config, with digests and lengths that fit.
fn store_config(env: &TestEnv, config: &str) {
    let path = env.path().join("out/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let manifest = fs::read(blob(env, &index["manifests"][0]["digest"])).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["config"] = stored(env, &manifest["config"], config);
    index["manifests"][0] = stored(env, &index["manifests"][0], &manifest.to_string());
    fs::write(path, index.to_string()).unwrap();
}

fn stored(env: &TestEnv, descriptor: &Value, text: &str) -> Value {
    let file = env.path().join("blob");
    fs::write(&file, text).unwrap();
    let sum = outsider("sha256sum", &[&file.display().to_string()]);
    let digest = json!(format!("sha256:{}", sum.split(' ').next().unwrap()));
    fs::rename(&file, blob(env, &digest)).unwrap();
    let mut descriptor = descriptor.clone();
    descriptor["digest"] = digest;
    descriptor["size"] = json!(text.len());
    descriptor
}

fn blob(env: &TestEnv, digest: &Value) -> std::path::PathBuf {
    env.path().join("out/blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
}

#[test]
fn an_image_with_thousands_of_files_still_has_a_config_that_registries_take() {
    let registry = DockerRegistry::start(Setup::Open);
    let env = project();
    for number in 0..20_000 {
        let folder = env.path().join(format!("data/{}", number % 100));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}-{}", "x".repeat(40))), "").unwrap();
    }
    env.stdout(&["build", "train.yaml"]);
    let target = format!("{}/team", registry.host());
    let built = env.stdout(&["build", "train.yaml", "--registry", &target]);
    let config = outsider(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--config",
            "--raw",
            &format!("docker://{}", built.trim().split('@').next().unwrap()),
        ],
    );
    assert!(config.len() < 20_000, "{}", config.len());
    let same = env.stdout(&["explain", "train.yaml"]);
    assert!(same.ends_with("the same: nothing that counts differs\n"), "{same}");
    change(&env);
    let told = env.stdout(&["explain", "train.yaml"]);
    assert!(told.contains("copy        ~ (20002 → 20003, too many for the image to list)\n"), "{told}");
    assert!(told.contains("env         ~ LOG_LEVEL: info → debug\n"), "{told}");
}

#[test]
fn the_plan_in_an_image_is_the_one_that_is_hashed() {
    let env = project();
    env.stdout(&["build", "train.yaml", "--output", "type=oci,dest=out"]);
    let layout = format!("oci:{}", env.path().join("out").display());
    let config: Value = serde_json::from_str(&outsider("skopeo", &["inspect", "--config", "--raw", &layout])).unwrap();
    // The document that docs/hash.md describes.
    assert_eq!((&config["imagespec.plan"]["kind"], &config["imagespec.plan"]["scheme"]), (&json!("plan"), &json!(1)));
    let plan: Value = serde_json::from_str(&env.stdout(&["plan", "train.yaml", "--format", "json"])).unwrap();
    assert_eq!(config["imagespec.plan"]["plan"], plan);
    let manifest = outsider("skopeo", &["inspect", "--raw", &layout]);
    assert!(!manifest.contains("imagespec.plan") && !config["config"].to_string().contains("imagespec.plan"));
}

#[test]
fn a_locked_package_of_another_version_is_told_from_which_to_which() {
    let env = TestEnv::new();
    let served = tempfile::tempdir().unwrap();
    let folder = served.path().join("simple/demo");
    fs::create_dir_all(&folder).unwrap();
    let publish = |versions: &[&str]| {
        let page: String = versions
            .iter()
            .map(|version| {
                let wheel = WrittenWheel::write(&folder, "demo", version, &[], &[("demo.py", "")]);
                let file = wheel.path.file_name().unwrap().to_str().unwrap();
                format!("<a href=\"{file}#sha256={}\">{file}</a>\n", wheel.sha256)
            })
            .collect();
        fs::write(folder.join("index.html"), page).unwrap();
    };
    let server = FolderServer::start(served.path(), None);
    env.write(
        "app.yaml",
        &format!(
            "name: app\nbase_image: bootstrap:debian/bookworm\npython_version: 3.11\nplatform: linux/amd64\npip_index: http://{}/simple\npackages: [demo]\n",
            server.host()
        ),
    );
    let online = |arguments: &[&str]| {
        let finished = env.run_online(arguments, &[]);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout
    };
    publish(&["2.1.0"]);
    online(&["lock", "app.yaml"]);
    let locked = online(&["build", "app.yaml", "--locked"]);
    fs::copy(env.path().join("app.yaml.lock"), env.path().join("old.lock")).unwrap();
    let same = env.stdout(&["explain", "app.yaml", "--locked"]);
    assert!(same.ends_with("\nthe same: nothing that counts differs\n"), "{same}");

    publish(&["2.1.0", "2.2.0"]);
    online(&["lock", "app.yaml"]);
    snapshot!(env.stdout(&["explain", "app.yaml", "--locked"]), @"
    before                     app:HASH
    after                      app:HASH

    lock linux/amd64 packages  ~ demo 2.1.0 → 2.2.0
    ");
    let layout = online(&["build", "app.yaml", "--locked", "--output", "type=oci,dest=new"]);
    assert_ne!(layout, locked);
    // Back at the old lock, against the image of the new one.
    fs::rename(env.path().join("old.lock"), env.path().join("app.yaml.lock")).unwrap();
    let told = env.stdout(&["explain", "app.yaml", "--locked", "--against", "oci:new"]);
    assert!(told.ends_with("\nlock linux/amd64 packages  ~ demo 2.2.0 → 2.1.0\n"), "{told}");
    // A spec without its lock is one difference and not hundreds.
    let told = env.stdout(&["explain", "app.yaml", "--against", "oci:new"]);
    assert!(told.ends_with("\nlock       - locked\n"), "{told}");
    let told = env.stdout(&["explain", "app.yaml", "--locked", "--against", "app.yaml"]);
    assert!(told.ends_with("\nlock       + locked\n"), "{told}");
}
