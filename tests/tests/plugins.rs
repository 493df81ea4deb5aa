//! Builders that are files: what a user may rely on, however bad the file is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imagespec_core::builder::Builder;
use imagespec_plugin_host::{Loaded, Mode, PluginFile};
use imagespec_tests::{Finished, TestEnv, insta, outsider, plugin};

/// A base that nobody has to look up.
const BASE: &str = "debian@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The error that a run ended with, without what differs from one machine to the next.
fn error(env: &TestEnv, failed: &Finished) -> String {
    assert_eq!(failed.stdout, "", "{}", failed.stderr);
    let start = failed.stderr.find("error: ").unwrap_or_else(|| panic!("no error: {failed:?}"));
    let text = failed.stderr[start..].replace(&env.path().display().to_string(), "FOLDER");
    // A panic says its line.
    let lines = text.lines().map(|line| match line.split_once("lib.rs:") {
        Some((before, _)) => format!("{before}lib.rs:LINE"),
        None => line.to_owned(),
    });
    let lines: Vec<_> = lines.collect();
    format!("exit {}\n{}\n", failed.code, lines.join("\n"))
}

/// A folder with a spec of the builder `hostile`, which the user has added.
fn hostile() -> TestEnv {
    let env = TestEnv::new();
    let file = plugin(env.path(), "hostile");
    let added = env.run(&["plugin", "add", "--yes", &file.display().to_string()]);
    assert_eq!((added.code, added.stdout.as_str()), (0, "hostile\n"), "{}", added.stderr);
    env.write("spec.yaml", "name: spec\nbase_image: scratch\nbuilder: hostile\n");
    env
}

fn build_hostile(env: &TestEnv, deed: &str) -> Finished {
    env.run(&["build", "spec.yaml", "--builder-opt", &format!("do={deed}")])
}

fn written_config(env: &TestEnv) -> String {
    fs::read_to_string(env.path().join("home/.config/imagespec/config.toml")).unwrap_or_default()
}

#[test]
fn a_plugin_is_added_used_verified_and_removed() {
    let env = TestEnv::new();
    let file = plugin(&env.path().join("lib"), "noop");
    let config = "# mine\n[project]\nregistry = \"localhost:1/team\" # later\n";
    env.write("home/.config/imagespec/config.toml", config);
    env.write("spec.yaml", &format!("name: spec\nbase_image: {BASE}\n"));
    let path = file.display().to_string();

    let nobody = env.run(&["plugin", "add", &path]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (2, ""));
    assert!(nobody.stderr.contains("its code will run with your rights"), "{}", nobody.stderr);
    let added = env.run(&["plugin", "add", "--yes", "lib/libimagespec_noop.so"]);
    assert_eq!((added.code, added.stdout.as_str()), (0, "noop\n"), "{}", added.stderr);
    let digest = outsider("sha256sum", &[&path]).split(' ').next().unwrap().to_owned();
    let said = added.stderr.replace(&path, "FILE").replace(&digest, "DIGEST");
    insta::assert_snapshot!(said, @"
    builder  noop
    file     FILE
    sha256   DIGEST
    made     for x86_64-unknown-linux-gnu, with imagespec-plugin-sdk 0.1.0
    ");
    let config = written_config(&env);
    insta::assert_snapshot!(config.replace(&path, "FILE").replace(&digest, "DIGEST"), @r#"
    # mine
    [project]
    registry = "localhost:1/team" # later

    [plugins.noop]
    path = "FILE"
    sha256 = "DIGEST"
    "#);

    let built = env.run(&["build", "spec.yaml", "--builder", "noop", "--no-push"]);
    assert_eq!((built.code, built.stdout.as_str()), (0, format!("{BASE}\n").as_str()), "{}", built.stderr);
    assert_eq!(env.run(&["plugin", "verify"]).stdout, "noop  ok\n");
    let listed = env.run(&["plugin", "list"]).stdout;
    assert_eq!(listed, format!("noop  your config  {path}\n"));
    let builders = env.run(&["builders"]).stdout;
    let noop = &builders[builders.find("noop").unwrap()..];
    insta::assert_snapshot!(noop.replace(&path, "FILE").replace(&digest, "DIGEST"), @"
    noop  0.1.0  answers with the base and builds nothing
      from your config: FILE, worker
      pin  sha256:DIGEST
      can  base-registry output-store output-registry
    ");

    assert_eq!(env.run(&["plugin", "remove", "noop"]).stdout, "noop\n");
    assert_eq!(written_config(&env), "# mine\n[project]\nregistry = \"localhost:1/team\" # later\n");
    insta::assert_snapshot!(error(&env, &env.run(&["build", "spec.yaml", "--builder", "noop"])), @"
    exit 1
    error: there is no builder `noop`
    hint: the builders are `docker`, `envd`, `oci`, `remote`; `imagespec plugin add PATH` adds one that is a file
    ");
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "remove", "noop"])), @"
    exit 1
    error: your config has no plugin `noop`
    hint: `imagespec plugin list` shows where each comes from
    ");
}

#[test]
fn comments_of_the_config_stay_where_a_plugin_is_added_again_and_removed() {
    let env = TestEnv::new();
    let file = plugin(env.path(), "noop").display().to_string();
    let config = "# [registries.\"old:5000\"]\n# insecure = true\n[plugins.noop] # pinned in May\n# by me\npath = \"x\" # old\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\nin_process = true\n\n[project]\nregistry = \"localhost:1/team\"\n# the end\n";
    env.write("home/.config/imagespec/config.toml", config);
    assert_eq!(env.run(&["plugin", "add", "--yes", &file]).code, 0);
    let digest = outsider("sha256sum", &[&file]).split(' ').next().unwrap().to_owned();
    insta::assert_snapshot!(written_config(&env).replace(&file, "FILE").replace(&digest, "DIGEST"), @r#"
    # [registries."old:5000"]
    # insecure = true
    [plugins.noop] # pinned in May
    # by me
    path = "FILE" # old
    sha256 = "DIGEST"
    in_process = true

    [project]
    registry = "localhost:1/team"
    # the end
    "#);
    assert_eq!(env.run(&["plugin", "remove", "noop"]).code, 0);
    insta::assert_snapshot!(written_config(&env), @r#"
    [project]
    registry = "localhost:1/team"
    # the end
    # [registries."old:5000"]
    # insecure = true
    "#);
}

#[test]
fn what_a_plugin_cannot_do_is_refused_before_any_work() {
    let env = TestEnv::new();
    let file = plugin(env.path(), "noop").display().to_string();
    assert_eq!(env.run(&["plugin", "add", "--yes", &file]).code, 0);
    env.write("spec.yaml", &format!("name: spec\nbase_image: {BASE}\nenv: {{A: b}}\ncommands: [\"true\"]\n"));
    insta::assert_snapshot!(error(&env, &env.run(&["build", "spec.yaml", "--builder", "noop"])), @r#"
    exit 1
    error: builder `noop` cannot do `commands`
      --> spec.yaml:4:12
       |
     4 | commands: ["true"]
       |            ^^^^^^
    error: builder `noop` cannot do `env`
      --> spec.yaml:3:10
       |
     3 | env: {A: b}
       |          ^
    hint: choose one that can: `--builder docker`, `--builder envd`, `--builder oci`
    "#);
    env.write("plain.yaml", &format!("name: plain\nbase_image: {BASE}\n"));
    let to_layout = ["build", "plain.yaml", "--builder", "noop", "--output", "type=oci,dest=out"];
    insta::assert_snapshot!(error(&env, &env.run(&to_layout)), @"
    exit 1
    error: builder `noop` cannot do `--output type=oci`
    hint: choose one that can: `--builder docker`, `--builder envd`, `--builder oci`, `--builder remote`
    ");
    assert!(!env.path().join("out").exists());
    let unknown = ["build", "plain.yaml", "--builder", "noop", "--builder-opt", "speed=11"];
    insta::assert_snapshot!(error(&env, &env.run(&unknown)), @"
    exit 1
    error: builder `noop` has no option `speed`
      --> --builder-opt:1:1
       |
     1 | speed
       | ^^^^^
    hint: `noop` takes no options
    ");
    env.write("unpinned.yaml", "name: unpinned\nbase_image: debian:12\n");
    insta::assert_snapshot!(error(&env, &env.run(&["build", "unpinned.yaml", "--builder", "noop"])), @"
    exit 1
    error: the base `debian:12` has no digest
      --> unpinned.yaml:2:13
       |
     2 | base_image: debian:12
       |             ^^^^^^^^^
    hint: write it as `NAME@sha256:…`: nothing is looked up here
    ");
}

#[test]
fn a_file_that_others_may_change_or_that_was_changed_is_not_loaded() {
    let env = TestEnv::new();
    let file = plugin(&env.path().join("lib"), "noop");
    let path = file.display().to_string();
    let add = || env.run(&["plugin", "add", "--yes", &path]);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(&file, 0o646);
    insta::assert_snapshot!(error(&env, &add()), @"
    exit 1
    error: plugin `FOLDER/lib/libimagespec_noop.so` is not loaded: `FOLDER/lib/libimagespec_noop.so` may be written to by others (mode 646)
    hint: `chmod o-w FOLDER/lib/libimagespec_noop.so`, or copy the plugin to a folder of your own
    ");
    mode(&file, 0o664);
    insta::assert_snapshot!(error(&env, &add()), @"
    exit 1
    error: plugin `FOLDER/lib/libimagespec_noop.so` is not loaded: `FOLDER/lib/libimagespec_noop.so` may be written to by its group (mode 664)
    hint: `chmod g-w FOLDER/lib/libimagespec_noop.so`, or copy the plugin to a folder of your own
    ");
    mode(&file, 0o644);
    mode(&env.path().join("lib"), 0o777);
    insta::assert_snapshot!(error(&env, &add()), @"
    exit 1
    error: plugin `FOLDER/lib/libimagespec_noop.so` is not loaded: `FOLDER/lib` may be written to by others (mode 777)
    hint: `chmod o-w FOLDER/lib`, or copy the plugin to a folder of your own
    ");
    mode(&env.path().join("lib"), 0o755);
    assert_eq!(add().code, 0);

    // One byte, after it was added.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    env.write("spec.yaml", &format!("name: spec\nbase_image: {BASE}\n"));
    let changed = error(&env, &env.run(&["build", "spec.yaml", "--builder", "noop"]));
    let digests = |text: &str| {
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        words.iter_mut().filter(|word| word.starts_with("sha256:")).for_each(|word| *word = "DIGEST".to_owned());
        words.join(" ")
    };
    insta::assert_snapshot!(digests(&changed), @"
    exit 1
    error: plugin `FOLDER/lib/libimagespec_noop.so` is not the file that was added
    note: it was added with DIGEST and has DIGEST now
    hint: if you put the new file there, and trust it, add it again: `imagespec plugin add FOLDER/lib/libimagespec_noop.so`
    ");
    assert_eq!(env.run(&["plugin", "verify"]).code, 1);
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "add", "--yes", "nothing.so"])), @"
    exit 1
    error: cannot read plugin `nothing.so`
    note: No such file or directory (os error 2)
    hint: look at the path: in a config or project file it starts from the folder of that file
    ");
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "add", "--yes", "lib/"])), @"
    exit 1
    error: the project has no plugin `lib/`
    hint: name a file, as in `imagespec plugin add target/release/libhello.so`
    ");
}

#[test]
fn bytes_that_are_no_plugin_are_refused_and_nothing_of_them_runs() {
    let env = TestEnv::new();
    let file = plugin(env.path(), "noop");
    let bytes = fs::read(&file).unwrap();
    let add = |name: &str, bytes: &[u8]| {
        fs::write(env.path().join(name), bytes).unwrap();
        error(&env, &env.run(&["plugin", "add", "--yes", name]))
    };
    let mut errors: Vec<_> = (0..50).map(|cut| add("cut.so", &bytes[..bytes.len() * cut / 50])).collect();
    errors.dedup();
    insta::assert_snapshot!(errors.join("\n"), @"
    exit 1
    error: `FOLDER/cut.so` is no plugin that can be loaded: it is no ELF file
    hint: a plugin is a `cdylib` that is written with `imagespec-plugin-sdk`; see `imagespec plugin new`

    exit 1
    error: `FOLDER/cut.so` is no plugin that can be loaded: it is not whole: Invalid ELF section header offset/size/alignment
    hint: compile the plugin again; the file may have been cut off when it was copied
    ");

    let descriptor = br#"{"abi":1,"#;
    let at = bytes.windows(descriptor.len()).position(|window| window == descriptor).expect("it has a descriptor");
    let mut newer = bytes.clone();
    newer[at..at + descriptor.len()].copy_from_slice(br#"{"abi":2,"#);
    insta::assert_snapshot!(add("newer.so", &newer), @"
    exit 1
    error: `FOLDER/newer.so` is no plugin that can be loaded: it speaks version 2 of the boundary, and this program speaks 1
    hint: compile the plugin with the `imagespec-plugin-sdk` of this version
    ");
    let mut foreign = bytes;
    // e_machine: EM_AARCH64, or EM_X86_64.
    foreign[18] = if foreign[18] == 0xb7 { 0x3e } else { 0xb7 };
    insta::assert_snapshot!(add("foreign.so", &foreign), @"
    exit 1
    error: `FOLDER/foreign.so` is no plugin that can be loaded: it was compiled for another processor
    hint: compile the plugin on this machine, or with `--target` for it
    ");

    // A library of somebody else, whose constructor must not run.
    env.write("other.c", "#include <stdio.h>\n__attribute__((constructor)) static void run(void) { fclose(fopen(\"was-here\", \"w\")); }\n");
    let at = |name: &str| env.path().join(name).display().to_string();
    outsider("cc", &["-shared", "-fPIC", "-o", &at("other.so"), &at("other.c")]);
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "add", "--yes", "other.so"])), @"
    exit 1
    error: `FOLDER/other.so` is no plugin that can be loaded: it has no section `.imagespec`
    hint: a plugin is a `cdylib` that is written with `imagespec-plugin-sdk`; see `imagespec plugin new`
    ");
    insta::assert_snapshot!(add("text.so", b"#!/bin/sh\n"), @"
    exit 1
    error: `FOLDER/text.so` is no plugin that can be loaded: it is no ELF file
    hint: a plugin is a `cdylib` that is written with `imagespec-plugin-sdk`; see `imagespec plugin new`
    ");
    assert!(!env.path().join("was-here").exists());
    assert_eq!(written_config(&env), "");
}

#[test]
fn nothing_is_loaded_from_the_current_directory() {
    let env = TestEnv::new();
    for folder in ["", "plugins", "imagespec/plugins", ".imagespec/plugins"] {
        plugin(&env.path().join(folder), "noop");
    }
    env.write("spec.yaml", &format!("name: spec\nbase_image: {BASE}\n"));
    let refused = env.run(&["build", "spec.yaml", "--builder", "noop"]);
    insta::assert_snapshot!(error(&env, &refused), @"
    exit 1
    error: there is no builder `noop`
    hint: the builders are `docker`, `envd`, `oci`, `remote`; `imagespec plugin add PATH` adds one that is a file
    ");
    // The folder of the user's own is another matter.
    plugin(&env.path().join("home/.local/share/imagespec/plugins"), "noop");
    let built = env.run(&["build", "spec.yaml", "--builder", "noop"]);
    assert_eq!((built.code, built.stdout), (0, format!("{BASE}\n")), "{}", built.stderr);
}

#[test]
fn a_plugin_of_a_project_counts_after_its_user_approved_it() {
    let env = TestEnv::new();
    let file = plugin(&env.path().join("project/tools"), "noop");
    let digest = outsider("sha256sum", &[&file.display().to_string()]).split(' ').next().unwrap().to_owned();
    let project = |digest: &str| {
        let path = "path = \"tools/libimagespec_noop.so\"";
        env.write(
            "project/imagespec.toml",
            &format!("[project]\nbuilder = \"noop\"\n[plugins.noop]\n{path}\nsha256 = \"{digest}\"\n"),
        );
    };
    project(&digest);
    env.write("project/spec.yaml", &format!("name: spec\nbase_image: {BASE}\n"));
    let inside = |arguments: &[&str]| {
        let output = env.command(arguments).current_dir(env.path().join("project")).output().unwrap();
        Finished {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap().replace(&digest, "DIGEST"),
        }
    };
    insta::assert_snapshot!(error(&env, &inside(&["build", "spec.yaml"])), @r#"
    exit 1
    error: builder `noop` is a file that the project names, and you did not approve it
      --> imagespec.toml:4:8
       |
     4 | path = "tools/libimagespec_noop.so"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: look at what it is and approve it: `imagespec plugin add noop`
    "#);
    let approved = inside(&["plugin", "add", "--yes", "noop"]);
    assert_eq!((approved.code, approved.stdout.as_str()), (0, "noop\n"), "{}", approved.stderr);
    let built = inside(&["build", "spec.yaml"]);
    assert_eq!((built.code, built.stdout), (0, format!("{BASE}\n")), "{}", built.stderr);

    // Nothing of it runs by its name alone.
    let tested = |target: &str| inside(&["plugin", "test", target]);
    assert_eq!(inside(&["plugin", "remove", "noop"]).stdout, "noop\n");
    insta::assert_snapshot!(error(&env, &tested("noop")), @r#"
    exit 1
    error: builder `noop` is a file that the project names, and you did not approve it
      --> imagespec.toml:4:8
       |
     4 | path = "tools/libimagespec_noop.so"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: look at what it is and approve it: `imagespec plugin add noop`
    "#);
    assert_eq!(inside(&["plugin", "add", "--yes", "noop"]).code, 0);

    // Another pin is another plugin.
    project(&"0".repeat(64));
    insta::assert_snapshot!(error(&env, &inside(&["build", "spec.yaml"])), @r#"
    exit 1
    error: the project names another file for builder `noop` than the one that you approved
      --> imagespec.toml:4:8
       |
     4 | path = "tools/libimagespec_noop.so"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    note: you approved sha256:DIGEST, and the project names sha256:0000000000000000000000000000000000000000000000000000000000000000
    hint: look at what it is and approve it: `imagespec plugin add noop`
    "#);
    project(&digest);
    assert_eq!(inside(&["plugin", "remove", "noop"]).stdout, "noop\n");
    assert_eq!(inside(&["build", "spec.yaml"]).code, 1);
}

#[test]
fn a_bundled_builder_is_not_replaced_by_accident() {
    let env = TestEnv::new();
    // The same file, which says that it is `oci`.
    let file = plugin(env.path(), "noop");
    let mut bytes = fs::read(&file).unwrap();
    let name = br#""name":"noop"}"#;
    let at = bytes.windows(name.len()).position(|window| window == name).expect("it has a descriptor");
    bytes[at..at + name.len()].copy_from_slice(br#""name":"oci" }"#);
    fs::write(&file, bytes).unwrap();
    let path = file.display().to_string();
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "add", "--yes", &path])), @"
    exit 1
    error: there is a bundled builder `oci`
    hint: `--override` has the plugin stand in for it, for every build of yours
    ");
    // And its code says that it is not.
    insta::assert_snapshot!(error(&env, &env.run(&["plugin", "add", "--yes", "--override", &path])), @"
    exit 1
    error: the plugin's file says that it is builder `oci`, and its code that it is `noop`
    hint: tell its author: `export_builder!` and `describe` must have the same name
    ");
    fs::create_dir_all(env.path().join("home/.local/share/imagespec/plugins")).unwrap();
    fs::copy(&file, env.path().join("home/.local/share/imagespec/plugins/liboci.so")).unwrap();
    env.write("spec.yaml", "name: spec\nbase_image: scratch\ncopy: [spec.yaml]\n");
    assert_eq!(env.run(&["build", "spec.yaml"]).code, 0);
    let builders = env.run(&["builders"]).stdout;
    let hidden = &builders[builders.rfind("oci  cannot").unwrap()..];
    insta::assert_snapshot!(hidden.replace(&env.path().display().to_string(), "FOLDER"), @"
    oci  cannot be used: builder `oci` in `FOLDER/home/.local/share/imagespec/plugins/liboci.so` is not used: the bundled one comes first
      hint: `imagespec plugin add --override PATH` has a plugin stand in for a bundled builder
      from FOLDER/home/.local/share/imagespec/plugins: FOLDER/home/.local/share/imagespec/plugins/liboci.so, worker
    ");
    // It is as it should be, until it is not.
    assert_eq!(env.run(&["plugin", "verify"]).code, 0);
    fs::write(env.path().join("home/.local/share/imagespec/plugins/liboci.so"), "").unwrap();
    assert_eq!(env.run(&["plugin", "verify"]).code, 1);
}

#[test]
fn a_builder_that_ends_its_process_is_an_error_and_the_next_build_is_none_the_worse() {
    let env = hostile();
    let mut errors = Vec::new();
    for deed in ["segfault", "abort", "overflow", "exit", "panic", "complain", "print", "lie", "no such deed"] {
        let text = error(&env, &build_hostile(&env, deed));
        // The thread has a number.
        let lines = text.lines().map(|line| match line.contains("<unknown>") {
            true => "note: thread … has overflowed its stack",
            false => line,
        });
        errors.push(format!("{deed}: {}\n", lines.collect::<Vec<_>>().join("\n")));
    }
    insta::assert_snapshot!(errors.join("\n"), @r#"
    segfault: exit 1
    error: builder `hostile` crashed: a segmentation fault
    hint: tell the builder's author; the image was not made

    abort: exit 1
    error: builder `hostile` crashed: abort
    hint: tell the builder's author; the image was not made

    overflow: exit 1
    error: builder `hostile` crashed: abort
    note: thread … has overflowed its stack
    note: fatal runtime error: stack overflow, aborting
    hint: tell the builder's author; the image was not made

    exit: exit 1
    error: builder `hostile` ended its process with code 0 in the middle of the work
    hint: tell the builder's author; the image was not made

    panic: exit 1
    error: builder `hostile` panicked
    note: at the disco at tests/hostile/src/lib.rs:LINE
    hint: tell the builder's author

    complain: exit 1
    error: builder `hostile` crashed: abort
    note: malloc(): corrupted top size
    note: �[2J
    hint: tell the builder's author; the image was not made

    print: exit 1
    error: builder `hostile` wrote to standard output, and was ended
    note: it wrote `registry.example/evil:latest`
    hint: tell the builder's author: what it has to say goes into events

    lie: exit 1
    error: builder `hostile` does not answer as a builder must: its report names no image, and no other one in its place
    hint: tell its author; `imagespec plugin test hostile` shows what else is wrong

    no such deed: exit 1
    error: builder `hostile` panicked
    note: assertion `left == right` failed: there is no such deed
            left: "no such deed"
           right: "" at tests/hostile/src/lib.rs:LINE
    hint: tell the builder's author
    "#);
    // Something that it started lives on, and holds what it inherited.
    let arguments = ["build", "spec.yaml", "--builder-opt", "do=abort"];
    let failed = env.run_with(&arguments, &[("HOSTILE_WHILE_LOADED", "leave a child")]);
    insta::assert_snapshot!(error(&env, &failed), @"
    exit 1
    error: builder `hostile` crashed: abort
    hint: tell the builder's author; the image was not made
    ");
    let built = build_hostile(&env, "");
    assert_eq!(built.code, 0, "{}", built.stderr);
}

#[test]
fn a_builder_that_misbehaves_while_it_is_loaded_is_an_error() {
    let env = hostile();
    let mut errors = Vec::new();
    for deed in ["segfault", "exit", "panic", "print"] {
        let failed = env.run_with(&["build", "spec.yaml"], &[("HOSTILE_WHILE_LOADED", deed)]);
        errors.push(format!("{deed}: {}", error(&env, &failed)));
    }
    insta::assert_snapshot!(errors.join("\n"), @"
    segfault: exit 1
    error: builder `hostile` crashed: a segmentation fault
      --> spec.yaml:3:10
       |
     3 | builder: hostile
       |          ^^^^^^^
    hint: tell the builder's author; the image was not made

    exit: exit 1
    error: builder `hostile` ended its process with code 0 in the middle of the work
      --> spec.yaml:3:10
       |
     3 | builder: hostile
       |          ^^^^^^^
    hint: tell the builder's author; the image was not made

    panic: exit 1
    error: builder `hostile` panicked
      --> spec.yaml:3:10
       |
     3 | builder: hostile
       |          ^^^^^^^
    note: at the disco at tests/hostile/src/lib.rs:LINE
    hint: tell the builder's author

    print: exit 1
    error: builder `hostile` wrote to standard output, and was ended
      --> spec.yaml:3:10
       |
     3 | builder: hostile
       |          ^^^^^^^
    note: it wrote `registry.example/evil:latest`
    hint: tell the builder's author: what it has to say goes into events
    ");
    // It is not added, either.
    let path = env.path().join("libimagespec_hostile.so").display().to_string();
    assert_eq!(env.run(&["plugin", "remove", "hostile"]).code, 0);
    let hanging = env.run_with(&["plugin", "add", "--yes", &path], &[("HOSTILE_WHILE_LOADED", "hang")]);
    insta::assert_snapshot!(error(&env, &hanging), @"
    exit 1
    error: builder `hostile` was not ready after 10 seconds, and was ended
    hint: tell the builder's author
    ");
    assert!(!written_config(&env).contains("hostile"));
}

#[test]
fn a_builder_that_hangs_is_ended_after_it_was_cancelled() {
    let env = hostile();
    let mut command = env.command(&["build", "spec.yaml", "--builder-opt", "do=hang"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its worker is there when the builder hangs, or is about to.
    let deadline = Instant::now() + Duration::from_secs(20);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while fs::read_to_string(&children).unwrap_or_default().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let worker = fs::read_to_string(&children).unwrap().trim().to_owned();
    outsider("kill", &["-INT", &child.id().to_string()]);
    let output = child.wait_with_output().unwrap();
    let failed = Finished {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    insta::assert_snapshot!(error(&env, &failed), @"
    exit 1
    error: builder `hostile` did not stop 5 seconds after it was cancelled, and was ended
    hint: tell the builder's author
    ");
    assert!(!Path::new("/proc").join(&worker).exists(), "the worker lives");
}

#[test]
fn a_flood_of_events_is_stopped_and_text_cannot_command_the_terminal() {
    let env = hostile();
    insta::assert_snapshot!(error(&env, &build_hostile(&env, "flood")), @"
    exit 1
    error: builder `hostile` sent more than a million events, and was ended
    hint: tell the builder's author
    ");
    let commanded = build_hostile(&env, "command");
    assert_eq!(commanded.code, 0, "{}", commanded.stderr);
    insta::assert_snapshot!(commanded.stderr, @"�]0;owned�");
}

#[test]
fn a_child_that_a_builder_leaves_behind_ends_with_its_worker() {
    let env = hostile();
    let built = build_hostile(&env, "leave a child");
    assert_eq!(built.code, 0, "{}", built.stderr);
    let marked = format!("HOME={}", env.path().join("home").display());
    let left = || {
        let mut processes = fs::read_dir("/proc").unwrap().flatten();
        processes.any(|entry| {
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains(&marked)
        })
    };
    // Whoever is killed takes a moment to be gone.
    let deadline = Instant::now() + Duration::from_secs(20);
    while left() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!left());
}

#[test]
fn what_a_builder_traces_is_shown_to_whoever_asks_for_it() {
    let env = hostile();
    let arguments = ["build", "spec.yaml", "--builder-opt", "do=trace"];
    let shown = env.run_with(&arguments, &[("RUST_LOG", "imagespec_hostile=debug")]).stderr;
    let line = shown.lines().find(|line| line.contains("said by")).unwrap_or_else(|| panic!("{shown}"));
    let (_, line) = line.split_once("Z ").unwrap_or_else(|| panic!("{shown}"));
    insta::assert_snapshot!(line.trim(), @"DEBUG imagespec_hostile: said by the builder answer=42");
    assert!(!shown.contains("said by nobody"), "{shown}");
    assert!(!env.run(&arguments).stderr.contains("said by"));
}

#[test]
fn a_crash_in_the_programs_own_process_is_what_its_user_chose() {
    let env = hostile();
    let path = env.path().join("libimagespec_hostile.so").display().to_string();
    assert_eq!(env.run(&["plugin", "add", "--yes", "--in-process", &path]).code, 0);
    assert!(written_config(&env).contains("in_process = true"));
    insta::assert_snapshot!(error(&env, &build_hostile(&env, "panic")), @"
    exit 1
    error: builder `hostile` panicked
    note: at the disco at tests/hostile/src/lib.rs:LINE
    hint: tell the builder's author
    ");
    assert_eq!(build_hostile(&env, "").code, 0);
    let status =
        env.command(&["build", "spec.yaml", "--builder-opt", "do=abort"]).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), None, "it was ended by a signal");
}

#[test]
fn plugins_in_one_process_are_told_apart_although_the_first_is_gone() {
    let folder = TestEnv::new();
    let name = |plugin_name: &str| {
        let file = PluginFile::read(&plugin(folder.path(), plugin_name)).unwrap();
        Loaded::load(&file, Mode::InProcess, Path::new("/nowhere")).unwrap().describe().name
    };
    assert_eq!([name("noop"), name("hostile"), name("noop")], ["noop", "hostile", "noop"]);
}

#[test]
#[ignore = "compiles all packages once more; tests/slow runs it"]
fn a_plugin_of_other_versions_of_everything_but_the_sdk_is_loaded() {
    let env = TestEnv::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("old-plugin/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("old-plugin");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--manifest-path"]).arg(sources).arg("--target-dir").arg(&target);
    assert!(cargo.env_remove("RUSTFLAGS").status().unwrap().success());
    let file = env.path().join("libimagespec_old.so");
    fs::copy(target.join("debug/libimagespec_old.so"), &file).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    env.write("spec.yaml", &format!("name: spec\nbase_image: {BASE}\n"));
    for place in [&[][..], &["--in-process"]] {
        let added = env.run(&[&["plugin", "add", "--yes", &file.display().to_string()], place].concat());
        assert_eq!((added.code, added.stdout.as_str()), (0, "noop\n"), "{}", added.stderr);
        let built = env.run(&["build", "spec.yaml", "--builder", "noop"]);
        assert_eq!((built.code, built.stdout), (0, format!("{BASE}\n")), "{}", built.stderr);
    }
}
