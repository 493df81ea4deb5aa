use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::testing::{Project, at, texts};

fn collected(project: &Project, copy: &[&str], source: Option<(&str, SourceCopyMode)>) -> Result<String, String> {
    let copy = texts(copy);
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
    insta::assert_snapshot!(copied(&project, &["files/input.txt", "./data/", "data/run.sh"]), @"");
    insta::assert_snapshot!(copied(&project, &["data/__pycache__"]), @"");
}

#[test]
fn paths_that_are_not_beneath_the_spec_are_refused() {
    let project = Project::new(&[("a/b", "")]);
    insta::assert_snapshot!(refused(&project, &["/etc/passwd"]), @"");
    insta::assert_snapshot!(refused(&project, &["../x"]), @"");
    insta::assert_snapshot!(refused(&project, &["a/../a/b"]), @"");
    insta::assert_snapshot!(refused(&project, &["a/missing"]), @"");
}

#[test]
fn links_stay_links_when_they_lead_to_what_is_copied() {
    let project = Project::new(&[("data/v1/model", "m"), ("data/deep/x", "")]);
    project.link("data/latest", "v1");
    project.link("data/deep/model", "../latest/model");
    project.link("data/deep/absolute", project.path("data/v1/model"));
    insta::assert_snapshot!(copied(&project, &["data"]), @"");
}

#[test]
fn links_that_lead_out_or_to_nothing_are_refused() {
    let project = Project::new(&[("data/x", ""), ("other/y", "")]);
    project.link("data/link", "/etc/passwd");
    insta::assert_snapshot!(refused(&project, &["data"]), @"");
    insta::assert_snapshot!(refused(&project, &["data/link"]), @"");
    project.link("up/link", "../../..");
    insta::assert_snapshot!(refused(&project, &["up"]), @"");
    project.link("dangling/link", "nowhere");
    insta::assert_snapshot!(refused(&project, &["dangling"]), @"");
    project.link("left/link", "../other/y");
    insta::assert_snapshot!(refused(&project, &["left"]), @"");
    insta::assert_snapshot!(copied(&project, &["left", "other"]), @"");
    project.link("etc", "/etc");
    insta::assert_snapshot!(refused(&project, &["etc/passwd"]), @"");
    project.link("circle/a", "b");
    project.link("circle/b", "a");
    insta::assert_snapshot!(refused(&project, &["circle"]), @"");
}

#[test]
fn what_is_neither_file_nor_folder_is_refused() {
    let project = Project::new(&[("run/x", "")]);
    let socket = std::os::unix::net::UnixListener::bind(project.path("run/socket")).unwrap();
    insta::assert_snapshot!(refused(&project, &["run"]), @"");
    drop(socket);
    project.write("names/bad\nname", "");
    insta::assert_snapshot!(refused(&project, &["names"]), @"");
    let latin = std::ffi::OsString::from(std::ffi::OsStr::new("latin"));
    let latin = {
        use std::os::unix::ffi::OsStringExt as _;
        let mut bytes = latin.into_vec();
        bytes.push(0xe9);
        std::ffi::OsString::from_vec(bytes)
    };
    std::fs::create_dir(project.path("latin")).unwrap();
    std::fs::write(project.path("latin").join(latin), "").unwrap();
    insta::assert_snapshot!(refused(&project, &["latin"]), @"");
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
    insta::assert_snapshot!(source(&project, SourceCopyMode::Auto), @"");
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @"");
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
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @"");
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
    insta::assert_snapshot!(source(&project, SourceCopyMode::All), @"");
    project.write("src/.dockerignore", "ok\n[a");
    insta::assert_snapshot!(collected(&project, &[], Some(("src", SourceCopyMode::All))).unwrap_err(), @"");
}

#[test]
fn two_different_files_for_one_path_are_refused_and_equal_ones_are_not() {
    let project = Project::new(&[("src/conf.py", "1"), ("conf.py", "2"), ("src/d/e.py", ""), ("d", "")]);
    let both = |copy: &str| collected(&project, &[copy], Some(("src", SourceCopyMode::Auto)));
    insta::assert_snapshot!(both("conf.py").unwrap_err(), @"");
    insta::assert_snapshot!(both("d").unwrap_err(), @"");
    project.write("conf.py", "1");
    insta::assert_snapshot!(both("conf.py").unwrap(), @"");
}

#[test]
fn a_source_root_that_is_no_folder_or_outside_is_refused() {
    let project = Project::new(&[("x.py", "")]);
    let error = |folder| collected(&project, &[], Some((folder, SourceCopyMode::Auto))).unwrap_err();
    insta::assert_snapshot!(error("x.py"), @"");
    insta::assert_snapshot!(error(".."), @"");
    insta::assert_snapshot!(error("missing"), @"");
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
