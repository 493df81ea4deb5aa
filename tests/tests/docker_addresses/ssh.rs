//! An engine on another machine, which is this one behind a real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use imagespec_tests::{Engine, TestEnv, output};

use crate::{Server, builds, engine, project, refusal};

/// Makes keys of a server and of a user, and an `ssh` that reads the configuration of the test: it would look for one in
/// the home that the system says, whatever HOME says.
fn prepare(env: &TestEnv) {
    for name in ["server", "user", "stranger"] {
        let file = env.path().join(name).display().to_string();
        output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file]));
    }
    let folder = env.path().display().to_string();
    let config = "UserKnownHostsFile FOLDER/known_hosts\nStrictHostKeyChecking yes\nIdentitiesOnly yes\n";
    env.write("config", &config.replace("FOLDER", &folder));
    env.write("bin/ssh", &format!("#!/bin/sh\nexec /usr/bin/ssh -F {folder}/config -i {folder}/\"$KEY\" \"$@\"\n"));
    fs::set_permissions(env.path().join("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A server whose users have `engine` for theirs.
fn serve(env: &TestEnv, engine: &Engine) -> Server {
    let folder = env.path().display().to_string();
    let config = format!(
        "ListenAddress 127.0.0.1\nHostKey {folder}/server\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\nUsePAM no\n\
         StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv DOCKER_HOST={}\n",
        engine.host()
    );
    env.write("sshd_config", &config);
    // sshd asks for it, and the package's own start makes it.
    fs::create_dir_all("/run/sshd").unwrap();
    Server::start(|port| {
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-p", &port.to_string(), "-f", &format!("{folder}/sshd_config")]);
        command
    })
}

#[test]
fn ssh_leads_to_an_engine_and_what_it_says_is_told() {
    let engine = engine!();
    let env = project();
    prepare(&env);
    let server = serve(&env, engine.as_ref().as_ref().unwrap());
    let host = format!("ssh://root@127.0.0.1:{}", server.port);
    let path = format!("{}:/usr/bin:/bin", env.path().join("bin").display());
    let variables = |key| [("DOCKER_HOST", host.as_str()), ("PATH", path.as_str()), ("KEY", key)];
    let told = |key| refusal(&env, &variables(key)).replace(&server.port.to_string(), "PORT");

    // A server that nobody knows yet.
    insta::assert_snapshot!(told("user"), @"
    error: cannot reach a Docker engine at `ssh://root@127.0.0.1:PORT`
    note: ssh: Host key verification failed.
    hint: `ssh -p PORT root@127.0.0.1 docker version` must work without a question
    hint: ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client
    ");
    let key = fs::read_to_string(env.path().join("server.pub")).unwrap();
    env.write("known_hosts", &format!("[127.0.0.1]:{} {key}", server.port));
    builds(&env, &variables("user"));
    // A key that it does not take.
    insta::assert_snapshot!(told("stranger"), @"
    error: cannot reach a Docker engine at `ssh://root@127.0.0.1:PORT`
    note: ssh: root@127.0.0.1: Permission denied (publickey,keyboard-interactive).
    hint: `ssh -p PORT root@127.0.0.1 docker version` must work without a question
    hint: ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client
    ");
    // A socket that is not there.
    let absent = format!("{host}/nonexistent.sock");
    let absent = [("DOCKER_HOST", absent.as_str()), ("PATH", &path), ("KEY", "user")];
    insta::assert_snapshot!(refusal(&env, &absent).replace(&server.port.to_string(), "PORT"), @"
    error: cannot reach a Docker engine at `ssh://root@127.0.0.1:PORT`
    note: ssh: failed to open the raw stream connection: dial unix /nonexistent.sock: connect: no such file or directory
    hint: `ssh -p PORT root@127.0.0.1 docker version` must work without a question
    hint: ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client
    ");

    let port = server.port.to_string();
    drop(server);
    insta::assert_snapshot!(refusal(&env, &variables("user")).replace(&port, "PORT"), @"
    error: cannot reach a Docker engine at `ssh://root@127.0.0.1:PORT`
    note: ssh: ssh: connect to host 127.0.0.1 port PORT: Connection refused
    hint: `ssh -p PORT root@127.0.0.1 docker version` must work without a question
    hint: ssh takes hosts, keys and users from ~/.ssh/config; the other machine needs Docker's client
    ");
    // No ssh on this machine.
    let without = [("DOCKER_HOST", host.as_str()), ("PATH", "/nonexistent")];
    insta::assert_snapshot!(refusal(&env, &without).replace(&port, "PORT"), @"
    error: cannot reach a Docker engine at `ssh://root@127.0.0.1:PORT`
    note: cannot run `ssh`
    note: No such file or directory (os error 2)
    hint: install an SSH client, as Debian's package openssh-client
    ");
}
