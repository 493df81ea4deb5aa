//! Plans, and the whole `build.envd` that they become.

use imagespec_core::builder::BuildRequest;

use super::*;
use crate::testing::{on, request, uv};

fn lowered(request: &BuildRequest, base: &str) -> Result<Recipe, LowerError> {
    let uv = uv();
    lower(Parts { request, base, machine: None, uv: Some(&uv) })
}

fn shown(request: &BuildRequest) -> String {
    let recipe = lowered(request, "debian:12").unwrap();
    let context: Vec<_> = recipe.context.keys().map(String::as_str).collect();
    let told = recipe.commands.iter().chain(&recipe.apt).map(|told| format!("{} of {:?}", told.title, told.field));
    format!("{}\ncontext: {}\nsteps:\n{}", recipe.text, context.join(", "), told.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_plan_with_everything_becomes_a_build_envd() {
    let digest = Digest::of(b"data");
    let steps = format!(
        r#"{{"kind":"apt","packages":["git","libgomp1=12.2.0-14"]}},
        {{"kind":"python","version":"3.11"}},
        {{"kind":"pip","input":{{"kind":"requirements","requirements":[{{"text":"six>=1 ; python_version > \"3\""}}],
          "constraints":[{{"text":"six<2"}}]}},"index":"https://index.example/simple","extra_indexes":["https://more.example/s?a=b c"]}},
        {{"kind":"copy","files":{{"data.txt":{{"kind":"file","digest":"{digest}","size_bytes":4}},
          "empty":{{"kind":"directory"}},"link":{{"kind":"link","target":"data.txt"}}}}}},
        {{"kind":"run","commands":["echo \"it's\" $HOME","two\nlines"]}}"#
    );
    let config = r#""env":{"GREETING":"a 'b'","PYTHONPATH":"/root"},"workdir":"/srv/a b","entrypoint":["python","-m","app"],
        "cmd":["--x"],"labels":{"own":"label"}"#;
    insta::assert_snapshot!(shown(&request(&steps, config)), @r#"
    # syntax=v1

    # Made by imagespec, for envd 1.3. In the folder of this file:
    #   envd build --output type=image,name=registry.example/team/app:1,push=true
    # envd has no words for some of what stands in the config of an image. imagespec sets it when envd is done:
    #   workdir /srv/a b
    #   variable IMAGESPEC_ID
    #   PATH, which begins with /opt/venv/bin
    #   cmd ["--x"]
    #   label own=label
    #   labels of the base, and those of imagespec

    def shell(lines):
        # envd hands lines to bash between single quotes, in a folder that it makes and that should not stay.
        begin = ["cd /", "rmdir \"$OLDPWD\" \"${OLDPWD%/*}\" 2> /dev/null || :"]
        run(commands = [line.replace("'", "'\"'\"'") for line in begin + lines])

    def script(command, after = ["rm -rf /.imagespec/run"]):
        # It finds what it needs beneath /dev/imagespec, and what it leaves there is removed.
        shell([
            "mkdir -p /.imagespec/run/apt/lists/partial /.imagespec/run/apt/archives/partial",
            "ln -s /.imagespec/* /.imagespec/run/",
            "ln -s /.imagespec/run /dev/imagespec",
            command,
        ] + after)

    BEFORE = [
        "export PATH=/opt/venv/bin:\"$PATH\"",
        "export GREETING='a '\"'\"'b'\"'\"''",
        "export PYTHONPATH=/root",
        "cd '/srv/a b'",
    ]

    def command(text):
        # `BEFORE` is what envd does not do for commands.
        shell(BEFORE + ["exec /bin/sh -c '" + text.replace("'", "'\\''") + "'"])

    def build():
        base(image = "debian:12", dev = False)
        config.owner(uid = 0, gid = 0)
        install.apt_packages(name = ["git", "libgomp1=12.2.0-14"])
        runtime.environ(
            env = {"GREETING": "a 'b'", "PYTHONPATH": "/root"},
            extra_path = ["/opt/venv/bin"],
        )
        io.copy(source = "tools/.imagespec", target = "/")
        io.copy(source = "files/root", target = "/")
        io.copy(source = "workdir/a b", target = "/srv/")
        script(command = "/bin/sh /dev/imagespec/python.sh 3.11 ''")
        script(
            command = "/bin/sh /dev/imagespec/pip.sh -- requirements --default-index https://index.example/simple --index 'https://more.example/s?a=b c'",
            after = ["rm -rf /.imagespec", "chmod 0755 /root"],
        )
        command(text = "echo \"it's\" $HOME")
        command(text = "two\nlines")
        config.entrypoint(args = ["python", "-m", "app"])

    context: files/root/data.txt, files/root/empty, files/root/link, tools/.imagespec/constraints.txt, tools/.imagespec/pip.sh, tools/.imagespec/python.sh, tools/.imagespec/requirements.txt, tools/.imagespec/uv, workdir/a b
    steps:
    python environment of Some("python_version")
    install 1 Python package of Some("packages")
    run echo "it's" $HOME of Some("commands[0]")
    run two of Some("commands[1]")
    install 2 Debian packages of Some("apt_packages")
    "#);
}

#[test]
fn an_image_in_which_nothing_runs_needs_no_shell() {
    insta::assert_snapshot!(shown(&request("", r#""workdir":"/root""#)), @r#"
    # syntax=v1

    # Made by imagespec, for envd 1.3. In the folder of this file:
    #   envd build --output type=image,name=registry.example/team/app:1,push=true
    # envd has no words for some of what stands in the config of an image. imagespec sets it when envd is done:
    #   workdir /root
    #   variable IMAGESPEC_ID
    #   labels of the base, and those of imagespec

    def build():
        base(image = "debian:12", dev = False)
        config.owner(uid = 0, gid = 0)
        io.copy(source = "workdir/root", target = "/")

    context: workdir/root
    steps:
    "#);
}

#[test]
fn commands_alone_find_the_bases_variables_and_the_folder() {
    let config = r#""env":{"PATH":"/own:/usr/bin","A.B":"no name of a shell"},"workdir":"/""#;
    insta::assert_snapshot!(shown(&request(r#"{"kind":"run","commands":["true"]}"#, config)), @r#"
    # syntax=v1

    # Made by imagespec, for envd 1.3. In the folder of this file:
    #   envd build --output type=image,name=registry.example/team/app:1,push=true
    # envd has no words for some of what stands in the config of an image. imagespec sets it when envd is done:
    #   workdir /
    #   variable IMAGESPEC_ID
    #   PATH
    #   labels of the base, and those of imagespec

    def shell(lines):
        # envd hands lines to bash between single quotes, in a folder that it makes and that should not stay.
        begin = ["cd /", "rmdir \"$OLDPWD\" \"${OLDPWD%/*}\" 2> /dev/null || :"]
        run(commands = [line.replace("'", "'\"'\"'") for line in begin + lines])

    BEFORE = ["export PATH=/own:/usr/bin", "cd /"]

    def command(text):
        # `BEFORE` is what envd does not do for commands.
        shell(BEFORE + ["exec /bin/sh -c '" + text.replace("'", "'\\''") + "'"])

    def build():
        base(image = "debian:12", dev = False)
        config.owner(uid = 0, gid = 0)
        runtime.environ(env = {"A.B": "no name of a shell"})
        command(text = "true")

    context: 
    steps:
    run true of Some("commands[0]")
    "#);
}

#[test]
fn conda_packages_bring_their_python() {
    let steps =
        r#"{"kind":"python","version":"3.12"},{"kind":"conda","packages":["numpy"],"channels":["conda-forge"]}"#;
    let recipe = lowered(&request(steps, r#""workdir":"/root""#), "debian:12").unwrap();
    assert!(recipe.text.contains("conda.sh") && !recipe.text.contains("python.sh"), "{}", recipe.text);
    assert!(recipe.text.contains("\"CONDA_PREFIX\": \"/opt/venv\""), "{}", recipe.text);
    assert!(recipe.context.contains_key("tools/.imagespec/conda.json"));
}

#[test]
fn a_base_in_a_layout_is_named_as_it_will_be_pushed() {
    let base = format!(r#"{{"kind":"oci-layout","digest":"{}"}}"#, Digest::of(b"base"));
    let recipe = lowered(&on(&base, "", r#""workdir":"/root""#), "registry.example/team/app:imagespec-base-1").unwrap();
    assert!(recipe.text.contains("#   skopeo copy oci:base docker://registry.example/team/app:imagespec-base-1\n"));
}

#[test]
fn what_cannot_be_said_is_told_by_its_field() {
    let long = "'".repeat(40_000);
    let pip = |requirement: &str, more: &str| {
        format!(
            r#"{{"kind":"python"}},{{"kind":"pip","input":{{"kind":"requirements","requirements":[{{"text":"{requirement}"}}],
            "constraints":[]}}{more}}}"#
        )
    };
    let cases = [
        (pip("a @ git+ssh://git@host.example/a", ""), "packages"),
        (pip("a", r#","extra_args":["--no-emit-package=b"]"#), "pip_extra_args"),
        (format!(r#"{{"kind":"run","commands":["true","{long}"]}}"#), "commands[1]"),
        (r#"{"kind":"run","commands":["a\u0000b"]}"#.to_owned(), "commands[0]"),
    ];
    let mut told = String::new();
    for (steps, field) in cases {
        let error = lowered(&request(&steps, r#""workdir":"/root""#), "debian:12").unwrap_err().tell();
        assert_eq!(error.field.as_deref(), Some(field));
        told.push_str(&format!("{}; {}\n", error.message, error.hints.join("; ")));
    }
    insta::assert_snapshot!(told, @"
    `a @ git+ssh://git@host.example/a` is fetched by ssh, and envd hands no SSH agent to a build; `--builder docker` lets builds use an agent: `--ssh default`
    `--no-emit-package` is for lock files, and this builder installs without one; leave it out, or build with `--builder oci`
    command has 160000 bytes, and envd hands over 120000; put it into a file, and copy that: `copy`
    a command holds a null character; put it into a file, and copy that: `copy`
    ");
}
