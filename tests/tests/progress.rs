//! What a build says while it runs, and how it is stopped.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use imagespec_tests::TestEnv;
use serde_json::Value;

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: scratch\nname: app\ncopy: [file.txt]\n");
    env.write("file.txt", "content\n");
    env
}

#[test]
fn json_is_one_event_a_line_and_stdout_is_one_line() {
    let env = project();
    let built = env.run(&["build", "app.yaml", "--progress", "json"]);
    let events: Vec<Value> = built.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["title"].as_str().unwrap_or_default()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    step-started copy 1 file
    step-finished 
    ");
    assert_eq!(events[1]["outcome"], "done");
    assert_eq!(built.stdout.lines().count(), 1);
}

#[test]
fn json_is_all_that_is_said_of_an_image_that_exists_and_of_warnings() {
    let env = project();
    env.write("token", "hunter2");
    assert_eq!(env.run(&["build", "app.yaml"]).code, 0);
    let said = env.run(&["build", "app.yaml", "--progress", "json", "--secret", "id=token,src=token"]).stderr;
    insta::with_settings!({filters => vec![(r"\b[a-z2-7]{32}\b", "HASH")]}, {
        insta::assert_snapshot!(said, @r#"
        {"event":"warning","message":"secret `token` is given, and nothing asks for it"}
        {"event":"notice","message":"app:HASH exists, nothing to build"}
        "#);
    });
    let preview = env.run(&["build", "app.yaml", "--progress", "json", "--dry-run"]).stderr;
    assert!(preview.lines().count() > 5 && preview.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn quiet_says_nothing_and_plain_has_a_line_for_each_step() {
    let env = project();
    assert_eq!(env.run(&["build", "app.yaml", "--progress", "quiet"]).stderr, "");
    let plain = env.run(&["build", "app.yaml", "--force", "--progress", "plain"]).stderr;
    insta::assert_snapshot!(plain, @"  cached  copy 1 file  8 bytes");
    // Without a terminal, bars would be noise.
    assert_eq!(env.run(&["build", "app.yaml", "--force", "--progress", "tty"]).stderr, plain);
}

#[test]
fn the_first_interrupt_cancels_and_says_so() {
    let env = TestEnv::new();
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = registry.local_addr().unwrap();
    env.write("app.yaml", &format!("base_image: {host}/team/base:1\nname: app\n"));
    let mut build = env.command(&["build", "app.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // It asks for the base, and gets no answer.
    let (mut question, _) = registry.accept().unwrap();
    question.read_exact(&mut [0]).unwrap();
    let killed = Command::new("kill").args(["-INT", &build.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut said = String::new();
    build.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(build.wait().unwrap().code(), Some(1));
    insta::assert_snapshot!(said, @r"
    cancelling; press Ctrl-C again to leave at once
    error: the build was cancelled
    ");
}
