//! Bytecode: packages are compiled by the image's own Python, once, into layers of their own. Needs the network, for
//! Debian's archive.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;

use imagespec_tests::{TestEnv, WrittenWheel};
use serde_json::Value;

/// Writes the wheel of `name` 1 with these files and returns what a pylock.toml says of it.
fn wheel(env: &TestEnv, name: &str, files: &[(&str, &str)]) -> String {
    let WrittenWheel { path, sha256, .. } = WrittenWheel::write(env.path(), name, "1", &[], files);
    format!(
        "[[packages]]\nname = \"{name}\"\nversion = \"1\"\nwheels = [{{ url = \"file://{}\", hashes = {{ sha256 = \"{sha256}\" }} }}]\n",
        path.display()
    )
}

/// A Debian with Python in `base`.
fn debian(env: &TestEnv) {
    env.write("base.yaml", "name: base\npython_version: 3.11\n");
    let built = env.run_online(&["build", "base.yaml", "--output", "type=oci,dest=base"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}

/// Builds a spec of these packages and returns the layers' titles and digests, and what the build said.
fn build(env: &TestEnv, packages: &[String], fields: &str, arguments: &[&str]) -> (Vec<(String, String)>, String) {
    env.write("pylock.toml", &format!("lock-version = \"1.0\"\n{}", packages.concat()));
    env.write("app.yaml", &format!("name: app\nbase_image: oci:base\nrequirements: pylock.toml\n{fields}"));
    let arguments = [&["build", "app.yaml", "--force", "--metadata-file", "metadata.json"], arguments].concat();
    let built = env.run_online(&arguments, &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
    let text = |layer: &Value, key: &str| layer[key].as_str().unwrap().to_owned();
    let layers = metadata["images"][0]["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| (text(layer, "title"), text(layer, "digest")));
    (layers.filter(|(title, _)| title != "base").collect(), built.stderr)
}

fn python(env: &TestEnv, program: &str) -> String {
    let ran = env.run(&["run", "app.yaml", "--", "python", "-c", program]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// Where `module` comes from, its flags (PEP 552), and whether its file is older than what it was made of.
const LOOK: &str = "
import importlib, sys
for name in sys.argv[1:] or ['one', 'two', 'both']:
    module = importlib.import_module(name)
    flags = open(module.__cached__, 'rb').read(8)[4]
    print(name, module.VALUE, flags, module.__spec__.loader.get_code(name).co_filename)
";

#[test]
fn a_package_is_compiled_once_and_a_new_one_changes_one_layer_of_each_kind() {
    let env = TestEnv::with_debian();
    debian(&env);
    let one = wheel(
        &env,
        "one",
        &[
            ("one/__init__.py", "VALUE = {'a', 'b', 'c'} and 1\n"),
            ("one/template.py", "def {{ name }}(:\n"),
            ("one/zero.py", "\0"),
            ("both/__init__.py", "VALUE = 'of one'\n"),
            ("one/data.txt", "no module\n"),
        ],
    );
    let two = wheel(&env, "two", &[("two.py", "VALUE = 2\n"), ("both/__init__.py", "VALUE = 'of two'\n")]);
    let bare = wheel(&env, "bare", &[("bare.txt", "nothing to compile\n")]);
    let output = ["--output", "type=oci,dest=out"];
    let (first, said) = build(&env, &[one.clone(), bare.clone()], "", &output);
    let titles: Vec<_> = first.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles, ["python environment", "one 1", "bare 1", "bytecode of one 1"]);
    assert!(said.contains(" s  compile packages to bytecode  1 layer\n"), "{said}");

    let (again, said) = build(&env, &[one.clone(), bare.clone()], "", &[]);
    assert_eq!(again, first);
    assert!(said.contains("cached  compile packages to bytecode  1 layer\n"), "{said}");

    let (second, _) = build(&env, &[one.clone(), bare.clone(), two.clone()], "", &[]);
    let new = second.iter().filter(|layer| !first.contains(layer)).map(|(title, _)| title.as_str());
    assert_eq!(new.collect::<Vec<_>>(), ["two 1", "bytecode of two 1"]);
    assert_eq!(second.len(), first.len() + 2);
    // The file that both have is compiled from the one that is seen.
    insta::assert_snapshot!(python(&env, LOOK), @"
    one 1 1 /opt/venv/lib/python3.11/site-packages/one/__init__.py
    two 2 1 /opt/venv/lib/python3.11/site-packages/two.py
    both of two 1 /opt/venv/lib/python3.11/site-packages/both/__init__.py
    ");
    let listed = "import os; print(sorted(os.listdir('/opt/venv/lib/python3.11/site-packages/one/__pycache__')))";
    assert_eq!(python(&env, listed), "['__init__.cpython-311.pyc']\n");

    let (made_again, said) = build(&env, &[one.clone(), bare.clone(), two.clone()], "", &["--no-cache"]);
    assert_eq!(made_again, second);
    assert!(said.contains(" s  compile packages to bytecode  2 layers\n"), "{said}");

    let (without, said) = build(&env, &[one, bare, two], "", &["--builder-opt", "compile_bytecode=false"]);
    let is_bytecode = |(title, _): &&(String, String)| title.starts_with("bytecode");
    assert_eq!(without, second.iter().filter(|layer| !is_bytecode(layer)).cloned().collect::<Vec<_>>());
    assert!(!said.contains("bytecode"), "{said}");
}

#[test]
fn a_module_that_commands_change_is_not_hidden_by_its_bytecode() {
    let env = TestEnv::with_debian();
    debian(&env);
    let one = wheel(&env, "one", &[("one.py", "VALUE = 'as it was published'\n"), ("same.py", "VALUE = 'same'\n")]);
    let patch = "commands: [\"sed -i s/published/patched/ /opt/venv/lib/python3.11/site-packages/one.py\"]\n";
    let (layers, _) = build(&env, std::slice::from_ref(&one), patch, &["--output", "type=oci,dest=out"]);
    let titles: Vec<_> = layers.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles[1..], ["one 1", "bytecode of one 1", "commands"]);
    let look = "import sys; sys.dont_write_bytecode = True; import os, one, same; print(one.VALUE, os.path.exists(one.__cached__), os.path.exists(same.__cached__))";
    let import = env.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(import.code, 0, "{}", import.stderr);
    assert_eq!(python(&env, look), "as it was patched False True\n");
}

#[test]
fn bytecode_of_a_base_goes_when_commands_change_its_module_and_else_stays() {
    let env = TestEnv::with_debian();
    debian(&env);
    let one = wheel(&env, "one", &[("one.py", "VALUE = 'as it was published'\n"), ("same.py", "VALUE = 'same'\n")]);
    build(&env, std::slice::from_ref(&one), "", &["--output", "type=oci,dest=below"]);
    let outer = |command: &str| {
        env.write("app.yaml", &format!("name: app\nbase_image: oci:below\ncommands: [\"{command}\"]\n"));
        let built = env.run_online(&["build", "app.yaml", "--metadata-file", "metadata.json"], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let look =
            "import one, same, os; print(one.VALUE, os.path.exists(one.__cached__), os.path.exists(same.__cached__))";
        let ran = env.run(&["run", "app.yaml", "--", "/opt/venv/bin/python", "-B", "-c", look]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let metadata: Value = serde_json::from_slice(&fs::read(env.path().join("metadata.json")).unwrap()).unwrap();
        let layers = metadata["images"][0]["layers"].as_array().unwrap();
        let size = layers.iter().find(|layer| layer["title"] == "commands").unwrap()["size_bytes"].as_u64().unwrap();
        (ran.stdout, size)
    };
    let site = "/opt/venv/lib/python3.11/site-packages";
    let (said, _) = outer(&format!("sed -i s/published/patched/ {site}/one.py"));
    assert_eq!(said, "as it was patched False True\n");
    // A layer without an entry takes this much at most.
    let (said, size) = outer("true");
    assert_eq!(said, "as it was published True True\n");
    assert!(size < 100, "{size}");
    // There is no Python then that could look.
    env.write("app.yaml", "name: app\nbase_image: oci:below\ncommands: [rm /opt/venv/bin/python]\n");
    let built = env.run_online(&["build", "app.yaml"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}

#[test]
fn bytecode_that_a_base_with_another_compiler_made_is_its_own() {
    let env = TestEnv::with_debian();
    let compiler = "/usr/lib/python3.11/py_compile.py";
    let patch =
        format!("sed -i \\\"s/source_bytes = loader.get_data(file)/source_bytes = b'VALUE = 666'/\\\" {compiler}");
    let other = format!("{patch}; rm -f /usr/lib/python3.11/__pycache__/py_compile*");
    env.write("other.yaml", &format!("name: other\npython_version: 3.11\ncommands: [\"{other}\"]\n"));
    let built = env.run_online(&["build", "other.yaml", "--output", "type=oci,dest=other"], &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    debian(&env);
    let one = wheel(&env, "one", &[("one.py", "VALUE = 1\n")]);
    env.write("pylock.toml", &format!("lock-version = \"1.0\"\n{one}"));
    let on = |base: &str| {
        env.write("app.yaml", &format!("name: app\nbase_image: oci:{base}\nrequirements: pylock.toml\n"));
        let built = env.run_online(&["build", "app.yaml"], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        assert!(built.stderr.contains(" s  compile packages to bytecode  1 layer\n"), "{}", built.stderr);
        python(&env, "import one; print(one.VALUE)")
    };
    assert_eq!(on("other"), "666\n");
    assert_eq!(on("base"), "1\n");
}
