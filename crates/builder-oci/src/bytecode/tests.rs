//! Tests of what the image's interpreter runs, by the interpreter of this machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::*;

/// Compiles modules with these texts after `before`, and says how that ended and which of them have bytecode.
fn compile(before: &str, texts: &[&str], prepare: impl FnOnce(&Path)) -> (Output, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let (sources, target) = (folder.path().join("sources"), folder.path().join("target"));
    fs::create_dir(&sources).and_then(|()| fs::create_dir(&target)).unwrap();
    let mut list = String::new();
    for (number, text) in texts.iter().enumerate() {
        fs::write(sources.join(number.to_string()), text).unwrap();
        list.push_str(&format!("{number} /opt/{number}.py\n"));
    }
    fs::write(sources.join("list"), list).unwrap();
    prepare(&target);
    let program = format!("{before}\n{COMPILE}");
    let arguments = ["-B", "-S", "-s", "-W", "ignore", "-c", &program];
    let ran = Command::new("python3").args(arguments).args([&sources, &target]).output().unwrap();
    let made = (0..texts.len()).filter(|number| target.join(number.to_string()).is_file()).collect();
    (ran, made)
}

#[test]
fn the_compiler_passes_over_what_is_no_program_and_fails_where_the_machine_does() {
    let deep = format!("x = {}{}\n", "(".repeat(100_000), ")".repeat(100_000));
    let (ran, made) = compile("", &["x = 1\n", "def {{ name }}(:\n", "\0", &deep, "y = '\u{e9}'\n"], |_| {});
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(made, [0, 4]);

    // What it cannot write.
    let (ran, _) = compile("", &["x = 1\n", "y = 2\n"], |target| fs::create_dir(target.join("1")).unwrap());
    assert_eq!(ran.status.code(), Some(1));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.starts_with("cannot compile /opt/1.py: FileExistsError("), "{said}");
}

#[test]
fn a_module_whose_compiler_was_killed_is_compiled_alone_and_missed_where_that_ends_so_too() {
    let killed = |when: &str| {
        format!(
            "import os, py_compile, signal\nparent, own = os.getpid(), py_compile.compile\n\
             def broken(file, *further, **named):\n    \
             mark = os.path.dirname(file) + '/mark'\n    \
             if file.endswith('/1') and ({when}):\n        \
             open(mark, 'w').close()\n        os.kill(os.getpid(), signal.SIGKILL)\n    \
             own(file, *further, **named)\npy_compile.compile = broken"
        )
    };
    let texts = ["x = 1\n", "y = 2\n", "z = 3\n"];
    let (ran, made) = compile(&killed("not os.path.exists(mark)"), &texts, |_| {});
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(made, [0, 1, 2]);
    let (ran, _) = compile(&killed("True"), &texts, |_| {});
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "/opt/1.py could not be compiled\n");
}

#[test]
fn only_bytecode_of_a_likely_size_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["good", "sparse", "link", "absent"];
    let (sources, target) = (folder.path().join("sources"), folder.path().join("target"));
    fs::create_dir(&sources).and_then(|()| fs::create_dir(&target)).unwrap();
    let header = [&[0, 0, 0, 0][..], &[1, 0, 0, 0], &[0; 20]].concat();
    for name in names {
        fs::write(sources.join(name), "x = 1\n").unwrap();
    }
    fs::write(target.join("good"), &header).unwrap();
    fs::write(target.join("sparse"), &header).unwrap();
    fs::OpenOptions::new().write(true).open(target.join("sparse")).unwrap().set_len(70_000).unwrap();
    std::os::unix::fs::symlink(target.join("good"), target.join("link")).unwrap();
    let modules = names.map(|name| (format!("opt/{name}.py"), name.to_owned())).into();
    let compiled = Modules::open(&sources, &target, &modules, 11).unwrap();
    assert_eq!(compiled.paths(), ["opt/__pycache__/good.cpython-311.pyc"]);
}
