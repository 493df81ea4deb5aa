//! What the builder envd offers, and what it refuses before any work, and what it renders: no engine is needed.

use std::fs;

use imagespec_tests::{TestEnv, envd, insta};

fn told(env: &TestEnv, spec: &str) -> String {
    env.write("app.yaml", spec);
    let finished = env.run(&["build", "app.yaml", "--builder", "envd", "--no-push"]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    finished.stderr.replace(&env.path().display().to_string(), "FOLDER")
}

#[test]
fn what_envd_cannot_do_is_refused_by_its_field_with_the_builders_that_can() {
    let env = TestEnv::new();
    env.write("uv.lock", "version = 1\nrequires-python = \">=3.11\"\n");
    env.write("pyproject.toml", "[project]\nname = \"a\"\nversion = \"1\"\nrequires-python = \">=3.11\"\n");
    let base = "name: app\nbase_image: registry.example/team/base:1\n";
    let mut all = String::new();
    for more in [
        "user: app\n",
        "python_exec: /usr/bin/python3.11\n",
        "requirements: uv.lock\n",
        "runtime_packages: [six]\n",
        "commands: ['true']\nsecrets: [{id: token, target: /run/token}]\n",
        "packages: [six]\npip_secret_mounts: [{id: token, target: /root/.netrc}]\n",
        "platform: [linux/amd64, linux/arm64]\n",
    ] {
        all.push_str(&told(&env, &format!("{base}{more}")));
    }
    all.push_str(&told(&env, "name: app\nbase_image: {base_image: scratch}\n"));
    insta::assert_snapshot!(all, @"
    error: builder `envd` cannot do `user`
      --> app.yaml:3:7
       |
     3 | user: app
       |       ^^^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `python_exec`
      --> app.yaml:3:14
       |
     3 | python_exec: /usr/bin/python3.11
       |              ^^^^^^^^^^^^^^^^^^^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `requirements`
      --> app.yaml:3:15
       |
     3 | requirements: uv.lock
       |               ^^^^^^^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `runtime_packages`
      --> app.yaml:3:20
       |
     3 | runtime_packages: [six]
       |                    ^^^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `secrets`
      --> app.yaml:4:11
       |
     4 | secrets: [{id: token, target: /run/token}]
       |           ^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `pip_secret_mounts`
      --> app.yaml:4:21
       |
     4 | pip_secret_mounts: [{id: token, target: /root/.netrc}]
       |                     ^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `platform`
      --> app.yaml:3:12
       |
     3 | platform: [linux/amd64, linux/arm64]
       |            ^^^^^^^^^^^
    hint: choose one that can: `--builder docker`, `--builder oci`
    error: builder `envd` cannot do `base_image`
      --> app.yaml:2:13
       |
     2 | base_image: {base_image: scratch}
       |             ^
    hint: choose one that can: `--builder docker`, `--builder oci`
    ");
    assert!(!env.path().join("cache/envd").exists(), "nothing was begun");
}

#[test]
fn where_there_is_no_envd_it_is_said_how_to_install_it() {
    let env = TestEnv::new();
    insta::assert_snapshot!(told(&env, "name: app\nbase_image: registry.example/team/base:1\n"), @r#"
    error: there is no program `envd`
    hint: install it by `pip install envd`, or say where it is: `[builders.envd] program = "/PATH/envd"`
    hint: `--builder oci` needs no other program
    "#);
    // Nobody who does not speak of envd is told that there is none.
    assert!(!env.run(&["doctor"]).stdout.contains("\nenvd\n"));
    env.write("imagespec.toml", "[project]\nbuilder = \"envd\"\n");
    let doctor = env.run(&["doctor"]);
    let (_, section) = doctor.stdout.split_once("\nenvd\n").expect("it has a section");
    insta::assert_snapshot!(section.split("\nlogins\n").next().unwrap_or_default(), @r#"
    fail  there is no program `envd`
          hint: install it by `pip install envd`, or say where it is: `[builders.envd] program = "/PATH/envd"`
          hint: `--builder oci` needs no other program
    "#);
}

#[test]
fn doctor_says_which_envd_there_is_and_where_it_builds() {
    let env = TestEnv::new();
    let program = envd();
    let config = env.path().join("home/.config/imagespec/config.toml");
    fs::create_dir_all(config.parent().expect("a folder")).expect("a folder can be made");
    let text = format!("[builders.envd]\nprogram = \"{}\"\naddress = \"tcp://127.0.0.1:1234\"\n", program.display());
    fs::write(config, text).expect("a file can be written");
    let doctor = env.run(&["doctor"]);
    let (_, section) = doctor.stdout.split_once("\nenvd\n").expect("it has a section");
    let section = section.replace(&program.display().to_string(), "PROGRAM");
    insta::assert_snapshot!(section.split("\nlogins\n").next().unwrap_or_default(), @"
    ok    PROGRAM, 1.3.6
    ok    context `imagespec`, which builds at tcp://127.0.0.1:1234
    ");
    // A spec of somebody else does not choose the program.
    env.write(
        "app.yaml",
        "name: app\nbuilder: envd\nbase_image: a.example/b\nbuilder_options: {program: /bin/false}\n",
    );
    let refused = env.run(&["build", "app.yaml"]);
    assert!(refused.stderr.contains("program"), "{}", refused.stderr);
    assert_eq!(refused.code, 1);
}
