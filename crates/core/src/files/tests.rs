//! Tests of collecting files, in folders that they make.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::testing::{Project, at};

fn collected(project: &Project, copy: &[&str], source: Option<(&str, SourceCopyMode)>) -> Result<String, String> {
    let copy: Vec<_> = copy.iter().map(|path| at(CopyPath::new(*path))).collect();
    let source = source.map(|(folder, mode)| (at(PathBuf::from(folder)), mode));
    let wanted = WantedFiles {
        root: project.root(),
        directory: project.root(),
        copy: &copy,
        source: source.as_ref().map(|(folder, mode)| (folder, *mode)),
    };
    let collected = collect(&wanted).map_err(|error| {
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("{error}{hint}")
    })?;
    let mut text = String::new();
    for (path, file) in &collected.entries {
        match file {
            CopiedFile::File { digest, size_bytes, executable } => {
                let executable = if *executable { " x" } else { "" };
                writeln!(text, "{path} {size_bytes}{executable}").unwrap();
                assert_eq!(Digest::of(&std::fs::read(&collected.paths[digest]).unwrap()), *digest);
            }
            CopiedFile::Link { target } => writeln!(text, "{path} -> {target}").unwrap(),
            CopiedFile::Directory => writeln!(text, "{path}/").unwrap(),
        }
    }
    Ok(text)
}

fn copied(project: &Project, copy: &[&str]) -> String {
    collected(project, copy, None).unwrap()
}

fn refused(project: &Project, copy: &[&str]) -> String {
    collected(project, copy, None).unwrap_err()
}

fn source(project: &Project, mode: SourceCopyMode) -> String {
    collected(project, &[], Some(("src", mode))).unwrap()
}

#[test]
fn files_and_folders_keep_their_path() {
    let project = Project::new(&[
        ("files/input.txt", "hello"),
        ("data/a/one.bin", "1"),
        ("data/run.sh", "#!/bin/sh"),
        ("data/__pycache__/x.pyc", ""),
        ("data/.git/HEAD", ""),
        ("other", ""),
    ]);
    std::fs::create_dir_all(project.path("data/empty/inner")).unwrap();
    std::fs::set_permissions(project.path("data/run.sh"), std::fs::Permissions::from_mode(0o710)).unwrap();
    insta::assert_snapshot!(copied(&project, &["files/input.txt", "./data/", "data/run.sh"]), @r"
    data/a/one.bin 1
    data/empty/inner/
    data/run.sh 9 x
    files/input.txt 5
    ");
    insta::assert_snapshot!(copied(&project, &["data/__pycache__"]), @"data/__pycache__/x.pyc 0");
}

#[test]
fn paths_that_are_not_beneath_the_spec_are_refused() {
    let project = Project::new(&[("a/b", "")]);
    insta::assert_snapshot!(refused(&project, &["/etc/passwd"]), @"
    `/etc/passwd` is an absolute path
    hint: paths are relative to the folder of the file that names them
    ");
    insta::assert_snapshot!(refused(&project, &["../x"]), @r"
    `../x` leads out of the folder of the spec
    hint: move the files into that folder, or the spec further up
    ");
    insta::assert_snapshot!(refused(&project, &["a/../a/b"]), @r"
    `a/../a/b` leads out of the folder of the spec
    hint: move the files into that folder, or the spec further up
    ");
    insta::assert_snapshot!(refused(&project, &["a/missing"]), @"
    `a/missing` does not exist
    hint: paths are relative to the folder of the file that names them
    ");
}

#[test]
fn links_stay_links_when_they_lead_to_what_is_copied() {
    let project = Project::new(&[("data/v1/model", "m"), ("data/deep/x", "")]);
    project.link("data/latest", "v1");
    project.link("data/deep/model", "../latest/model");
    project.link("data/deep/absolute", project.path("data/v1/model"));
    insta::assert_snapshot!(copied(&project, &["data"]), @r"
    data/deep/absolute -> ../../data/v1/model
    data/deep/model -> ../latest/model
    data/deep/x 0
    data/latest -> v1
    data/v1/model 1
    ");
}

#[test]
fn links_that_lead_out_or_to_nothing_are_refused() {
    let project = Project::new(&[("data/x", ""), ("other/y", "")]);
    project.link("data/link", "/etc/passwd");
    insta::assert_snapshot!(refused(&project, &["data"]), @r"
    `data/link` is a symbolic link to `/etc/passwd`, which leads out of the folder of the spec
    hint: replace the link by the file itself
    ");
    insta::assert_snapshot!(refused(&project, &["data/link"]), @r"
    `data/link` is a symbolic link to `/etc/passwd`, which leads out of the folder of the spec
    hint: replace the link by the file itself
    ");
    project.link("up/link", "../../..");
    insta::assert_snapshot!(refused(&project, &["up"]), @r"
    `up/link` is a symbolic link to `../../..`, which leads out of the folder of the spec
    hint: replace the link by the file itself
    ");
    project.link("dangling/link", "nowhere");
    insta::assert_snapshot!(refused(&project, &["dangling"]), @r"
    `dangling/link` is a symbolic link to `nowhere`, which leads nowhere
    hint: remove the link
    ");
    project.link("left/link", "../other/y");
    insta::assert_snapshot!(refused(&project, &["left"]), @r"
    `left/link` is a symbolic link to `../other/y`, which is not copied
    hint: add the target to `copy`, or replace the link by the file itself
    ");
    insta::assert_snapshot!(copied(&project, &["left", "other"]), @r"
    left/link -> ../other/y
    other/y 0
    ");
    project.link("etc", "/etc");
    insta::assert_snapshot!(refused(&project, &["etc/passwd"]), @r"
    `etc` is a symbolic link to `/etc`, which leads out of the folder of the spec
    hint: replace the link by the file itself
    ");
    project.link("circle/a", "b");
    project.link("circle/b", "a");
    insta::assert_snapshot!(refused(&project, &["circle"]), @r"
    `circle/a` is a symbolic link to `b`, which leads nowhere
    hint: remove the link
    ");
}

#[test]
fn what_is_neither_file_nor_folder_is_refused() {
    let project = Project::new(&[("run/x", "")]);
    let socket = std::os::unix::net::UnixListener::bind(project.path("run/socket")).unwrap();
    insta::assert_snapshot!(refused(&project, &["run"]), @"
    `run/socket` is a socket, and only files, folders and symbolic links can be copied
    hint: remove it, or leave it out
    ");
    drop(socket);
    project.write("names/bad\nname", "");
    insta::assert_snapshot!(refused(&project, &["names"]), @r#"
    the name "names/bad\nname" is not plain UTF-8 text
    hint: rename the file
    "#);
    let latin = std::ffi::OsString::from(std::ffi::OsStr::new("latin"));
    let latin = {
        use std::os::unix::ffi::OsStringExt as _;
        let mut bytes = latin.into_vec();
        bytes.push(0xe9);
        std::ffi::OsString::from_vec(bytes)
    };
    std::fs::create_dir(project.path("latin")).unwrap();
    std::fs::write(project.path("latin").join(latin), "").unwrap();
    insta::assert_snapshot!(refused(&project, &["latin"]), @r#"
    the name "latin/latin�" is not plain UTF-8 text
    hint: rename the file
    "#);
}

#[test]
fn auto_takes_python_files_alone() {
    let project = Project::new(&[
        ("src/main.py", ""),
        ("src/pkg/__init__.py", ""),
        ("src/pkg/py.typed", ""),
        ("src/pkg/types.pyi", ""),
        ("src/pkg/data.csv", ""),
        ("src/docs/readme.md", ""),
        ("src/.venv/lib/x.py", ""),
        ("src/env/pyvenv.cfg", ""),
        ("src/env/lib/y.py", ""),
        ("src/app.egg-info/z.py", ""),
    ]);
    project.link("src/alias", "pkg");
    project.link("src/manual", "docs");
    project.link("src/latest.csv", "pkg/data.csv");
    insta::assert_snapshot!(source(&project, SourceCopyMode::Auto), @r"
    alias -> pkg
    main.py 0
    pkg/__init__.py 0
    pkg/py.typed 0
    pkg/types.pyi 0
    ");
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @r"
    alias -> pkg
    docs/readme.md 0
    latest.csv -> pkg/data.csv
    main.py 0
    manual -> docs
    pkg/__init__.py 0
    pkg/data.csv 0
    pkg/py.typed 0
    pkg/types.pyi 0
    ");
    insta::assert_snapshot!(source(&project, SourceCopyMode::None), @"");
}

#[test]
fn ignore_files_of_git_count_at_every_level_and_without_a_repository() {
    let project = Project::new(&[
        (".gitignore", "*.log\n/src/build/\n"),
        ("src/.gitignore", "secret*\n!secret-ok\n"),
        ("src/sub/.gitignore", "!keep.log\n/top\n"),
        ("src/a.log", ""),
        ("src/build/x", ""),
        ("src/secret.txt", ""),
        ("src/secret-ok", ""),
        ("src/sub/keep.log", ""),
        ("src/sub/other.log", ""),
        ("src/sub/top", ""),
        ("src/sub/deep/top", ""),
    ]);
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @r"
    .gitignore 19
    secret-ok 0
    sub/.gitignore 15
    sub/deep/top 0
    sub/keep.log 0
    ");
}

#[test]
fn the_dockerignore_of_the_source_root_counts_by_dockers_rules() {
    let project = Project::new(&[
        ("src/.dockerignore", "# rules\n*.log\nbuild\n!build/keep\n**/tmp\n.dockerignore\n"),
        ("src/a.log", ""),
        ("src/sub/a.log", ""),
        ("src/build/x", ""),
        ("src/build/keep/y", ""),
        ("src/sub/deep/tmp/z", ""),
    ]);
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @r"
    build/keep/y 0
    sub/a.log 0
    sub/deep/
    ");
    project.write("src/.dockerignore", "ok\n[a");
    insta::assert_snapshot!(collected(&project, &[], Some(("src", SourceCopyMode::All))).unwrap_err(), @"
    `src/.dockerignore` line 2: the pattern `[a` cannot be understood: `[` is not closed
    hint: correct the line, or remove it
    ");
}

#[test]
fn two_different_files_for_one_path_are_refused_and_equal_ones_are_not() {
    let project = Project::new(&[("src/conf.py", "1"), ("conf.py", "2"), ("src/d/e.py", ""), ("d", "")]);
    let both = |copy: &str| collected(&project, &[copy], Some(("src", SourceCopyMode::Auto)));
    insta::assert_snapshot!(both("conf.py").unwrap_err(), @r"
    two different files would become `/root/conf.py`: `conf.py` (`copy`) and `conf.py` beneath `source_root`
    hint: rename one of them, or leave it out with a line in `.dockerignore`
    ");
    insta::assert_snapshot!(both("d").unwrap_err(), @r"
    two different files would become `/root/d`: `d` (`copy`) and `d/e.py` beneath `source_root`
    hint: rename one of them, or leave it out with a line in `.dockerignore`
    ");
    project.write("conf.py", "1");
    insta::assert_snapshot!(both("conf.py").unwrap(), @r"
    conf.py 1
    d/e.py 0
    ");
}

#[test]
fn a_source_root_that_is_no_folder_or_outside_is_refused() {
    let project = Project::new(&[("x.py", "")]);
    let error = |folder| collected(&project, &[], Some((folder, SourceCopyMode::Auto))).unwrap_err();
    insta::assert_snapshot!(error("x.py"), @"
    `x.py` is not a folder
    hint: name the folder that the source files lie in
    ");
    insta::assert_snapshot!(error(".."), @r"
    `..` leads out of the project's folder
    hint: move the files into that folder, or the spec further up
    ");
    insta::assert_snapshot!(error("missing"), @"
    `missing` does not exist
    hint: paths are relative to the folder of the file that names them
    ");
}

#[test]
fn what_a_project_file_says_is_copied_from_its_own_folder() {
    let project = Project::new(&[("shared/a.txt", "shared"), ("specs/shared/a.txt", "of the spec")]);
    project.link("shared/b.txt", project.path("shared/a.txt"));
    let copied = |folder: &str, path: &str| {
        let copy = [at(CopyPath { folder: folder.into(), path: path.to_owned() })];
        let directory = project.path("specs");
        collect(&WantedFiles { root: project.root(), directory: &directory, copy: &copy, source: None })
    };
    let collected = copied("..", "shared").unwrap();
    assert_eq!(collected.entries.keys().collect::<Vec<_>>(), ["shared/a.txt", "shared/b.txt"]);
    assert_eq!(collected.entries["shared/b.txt"], CopiedFile::Link { target: "../shared/a.txt".to_owned() });
    assert_eq!(collected.paths[&Digest::of(b"shared")], project.path("shared/a.txt"));
    project.link("shared/c.txt", "/etc/passwd");
    insta::assert_snapshot!(copied("..", "shared").unwrap_err(), @"`shared/c.txt` is a symbolic link to `/etc/passwd`, which leads out of the folder of the file that says so");
    insta::assert_snapshot!(copied("../..", "x").unwrap_err(), @"`../..` leads out of the project's folder");
}

#[test]
fn many_files_are_listed_in_the_same_order_by_many_threads() {
    let project = Project::new(&[]);
    for number in 0..500 {
        project.write(&format!("many/{number}.txt"), number.to_string());
    }
    let first = copied(&project, &["many"]);
    assert_eq!(first.lines().count(), 500);
    assert_eq!(first, copied(&project, &["many"]));
}

#[test]
fn a_gitignore_that_cannot_be_understood_is_refused() {
    let project = Project::new(&[("src/a", ""), (".gitignore", "ok\n{a\n")]);
    insta::assert_snapshot!(collected(&project, &[], Some(("src", SourceCopyMode::All))).unwrap_err(), @"
    `.gitignore` line 2: the pattern `{a` cannot be understood: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
    hint: correct the line, or remove it
    ");
}
