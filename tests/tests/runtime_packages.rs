//! `runtime_packages`: installed when a container starts, as whoever it starts. Needs the network, for Debian's archive
//! and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;

use imagespec_tests::{Finished, PackageIndex, TestEnv, WrittenWheel};
use serde_json::{Value, json};

/// Says where modules come from, and who asks, and ends by a signal.
const LOOK: &str = "import os, sys, inside, later
print(os.getuid(), sys.prefix, inside.__file__, inside.VALUE)
print(later.VALUE, later.__file__.replace(os.environ['PYTHONPATH'].split(':')[0], 'FOLDER'), sys.argv[1:])
sys.stdout.flush()
os.kill(os.getpid(), 15)
";

/// An index with two packages, of which one is in the image.
fn index(env: &TestEnv) -> PackageIndex {
    let inside = |version: &str| {
        let text = format!("VALUE = 'inside {version}'\n");
        WrittenWheel::write(env.path(), "inside", version, &[], &[("inside.py", &text)])
    };
    let script = [("later.py", "VALUE = 'later'\n"), ("later-2.data/scripts/greet", "#!python\nprint('hello')\n")];
    let later = WrittenWheel::write(env.path(), "later", "2", &["inside>=1"], &script);
    PackageIndex::start(&[inside("1"), inside("3"), later])
}

/// A spec whose image runs `look.py`.
fn spec(env: &TestEnv, index: &PackageIndex, fields: &str) {
    env.write("look.py", LOOK);
    let own = format!("name: app\ncopy: [look.py]\npackages: [inside==1]\npip_index: {}\n", index.url());
    env.write("app.yaml", &format!("{own}{fields}"));
}

fn built(env: &TestEnv) -> Value {
    let built = env.run_online(&["build", "app.yaml", "--force", "--output", "type=oci,dest=out"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let stored = env.run_online(&["build", "app.yaml", "--force"], &[]);
    assert_eq!(stored.code, 0, "{}", stored.stderr);
    let layout = env.path().join("out");
    let read = |digest: &Value| -> Value {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(digest)).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = read(&index["manifests"].as_array().unwrap().last().unwrap()["digest"]);
    read(&manifest["config"]["digest"])["config"].clone()
}

fn run(env: &TestEnv, command: &[&str]) -> Finished {
    let arguments =
        if command.is_empty() { vec!["run", "app.yaml"] } else { [&["run", "app.yaml", "--"], command].concat() };
    env.run_online(&arguments, &[])
}

#[test]
fn runtime_packages_are_installed_at_the_start_as_root_and_as_anybody_else() {
    let env = TestEnv::with_debian();
    let index = index(&env);
    // `inside` is there already, though not the newest, and is kept.
    let fields = "runtime_packages: ['later==2 ; python_version > \"3.8\"', inside]\n";
    spec(&env, &index, &format!("{fields}entrypoint: [python, /root/look.py]\ncmd: [a, b c]\n"));
    let config = built(&env);
    assert_eq!(config["Entrypoint"], json!(["/opt/imagespec/start", "python", "/root/look.py"]));
    assert_eq!(config["Cmd"], json!(["a", "b c"]));
    let variables: Vec<_> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let own = variables.iter().find(|variable| variable.starts_with("IMAGESPEC_RUNTIME_PACKAGES=")).unwrap();
    insta::assert_snapshot!(own, @r#"IMAGESPEC_RUNTIME_PACKAGES=inside 'later==2 ; python_full_version >= '"'"'3.9'"'"''"#);
    let ran = run(&env, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (143, ""), "{ran:?}");
    insta::assert_snapshot!(ran.stdout, @"
    0 /opt/venv /opt/venv/lib/python3.11/site-packages/inside.py inside 1
    later FOLDER/later.py ['a', 'b c']
    ");

    spec(&env, &index, &format!("{fields}user: 1000:1000\n"));
    let config = built(&env);
    assert_eq!(config["Entrypoint"], json!(["/opt/imagespec/start"]));
    let ran = run(&env, &["python", "-c", LOOK, "x"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (143, ""), "{ran:?}");
    insta::assert_snapshot!(ran.stdout, @"
    1000 /opt/venv /opt/venv/lib/python3.11/site-packages/inside.py inside 1
    later FOLDER/later.py ['x']
    ");
    let script = run(&env, &["greet"]);
    assert_eq!((script.code, script.stdout.as_str()), (0, "hello\n"), "{script:?}");
    let piped = run(&env, &["sh", "-c", "yes | head -n 1"]);
    assert_eq!((piped.code, piped.stdout.as_str(), piped.stderr.as_str()), (0, "y\n", ""), "{piped:?}");
    // The program takes the place of what installs, and so gets the signals.
    let process = run(&env, &["sh", "-c", "echo $$; cat /proc/1/cmdline | tr '\\0' ' '"]);
    insta::assert_snapshot!(process.stdout, @"
    2
    /proc/self/exe __sandbox init
    ");
    let absent = run(&env, &["nonexistent"]);
    assert_eq!((absent.code, absent.stderr.as_str()), (127, "imagespec: there is no program nonexistent\n"));
    let nothing = run(&env, &[]);
    assert_eq!((nothing.code, nothing.stderr.as_str()), (127, "imagespec: the image names no program to run\n"));

    // Nobody serves them any more.
    drop(index);
    let ran = run(&env, &["true"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (125, ""));
    assert!(
        ran.stderr.starts_with("imagespec: cannot install the runtime packages inside later==2 ;"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("127.0.0.1"), "{}", ran.stderr);
}

#[test]
fn an_image_without_entry_point_or_packages_of_its_own_has_runtime_packages_too() {
    let env = TestEnv::with_debian();
    let index = index(&env);
    let program = "import inside; print(inside.VALUE, inside.__file__.split('/')[1])";
    env.write(
        "app.yaml",
        &format!(
            "name: app\nruntime_packages: [inside]\npip_index: {}\nentrypoint: []\ncmd: [python, -c, \"{program}\"]\n",
            index.url()
        ),
    );
    let config = built(&env);
    assert_eq!(config["Entrypoint"], json!(["/opt/imagespec/start"]));
    assert_eq!(config["Cmd"], json!(["python", "-c", program]));
    let ran = run(&env, &[]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "inside 3 tmp\n", ""));

    env.write("app.yaml", &format!("name: app\nruntime_packages: [inside==2]\npip_index: {}\n", index.url()));
    built(&env);
    let ran = run(&env, &["true"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (125, ""));
    assert!(ran.stderr.starts_with("imagespec: cannot install the runtime packages inside==2:\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("there is no version of inside==2"), "{}", ran.stderr);
}

#[test]
fn arguments_of_the_resolver_count_for_runtime_packages_alone() {
    let env = TestEnv::with_debian();
    let index = index(&env);
    let page = format!("{}/inside/", index.url());
    let program = "import inside; print(inside.VALUE)";
    let arguments = format!("pip_extra_args: [--no-index, --find-links, '{page}']");
    env.write("app.yaml", &format!("name: app\nruntime_packages: [inside==3]\n{arguments}\n"));
    built(&env);
    let ran = run(&env, &["python", "-c", program]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "inside 3\n", ""));
}
