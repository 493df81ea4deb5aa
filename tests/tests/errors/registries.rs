//! Registries that do not answer, do not know who asks, or are not what they seem: unknown is never taken for no.

use std::net::TcpListener;

use imagespec_tests::{DockerRegistry, FixedServer, Setup, TestEnv};

use super::shown;

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("app.yaml", "base_image: scratch\nname: app\ntag_format: '{spec_hash}-x'\n");
    env
}

/// What `command` says when it is to find the image beneath `host`, with words in place of port and hash.
fn asked_in(env: &TestEnv, command: &str, host: &str, variables: &[(&str, &str)]) -> String {
    let hash = env.run(&["hash", "app.yaml"]).stdout;
    let registry = format!("{host}/team");
    let finished = env.run_with(&[command, "app.yaml", "--registry", &registry], variables);
    let port = host.split_once(':').unwrap().1;
    shown(env, finished).replace(port, "PORT").replace(hash.trim(), "HASH")
}

fn asked(command: &str, host: &str) -> String {
    asked_in(&env(), command, host, &[])
}

#[test]
fn a_registry_that_asks_who_is_there_is_not_taken_for_an_empty_one() {
    let server = FixedServer::start("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", "");
    insta::assert_snapshot!(asked("exists", &server.host()), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 401
    hint: run `docker login 127.0.0.1:PORT`; a private image looks the same as one that does not exist
    ");
    insta::assert_snapshot!(asked("build", &server.host()), @"
    exit 1
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 401
    hint: run `docker login 127.0.0.1:PORT`; a private image looks the same as one that does not exist
    hint: `--if-unknown build` builds it all the same
    ");
    let forbidden =
        FixedServer::start("403 Forbidden", "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not yours\"}]}");
    insta::assert_snapshot!(asked("exists", &forbidden.host()), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 403
    hint: run `docker login 127.0.0.1:PORT` with an account that may use this repository
    ");
}

#[test]
fn a_registry_that_is_broken_or_gone_may_be_asked_again_later() {
    let server = FixedServer::start("503 Service Unavailable", "");
    insta::assert_snapshot!(asked("exists", &server.host()), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 503
    hint: try again later
    ");
    insta::assert_snapshot!(asked("build", &server.host()), @"
    exit 75
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 503
    hint: try again later
    hint: `--if-unknown build` builds it all the same
    ");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    insta::assert_snapshot!(asked("exists", &nobody), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot talk to `http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x`: connection refused
    hint: check that `127.0.0.1:PORT` is the registry's address and that it is running
    ");
    let env = env();
    let assumed = env.run(&["build", "app.yaml", "--registry", &format!("{nobody}/team"), "--if-unknown", "assume"]);
    assert_eq!((assumed.code, assumed.stdout.starts_with(&format!("{nobody}/team/app:"))), (0, true), "{assumed:?}");
}

#[test]
fn a_registry_without_tls_is_used_only_where_the_project_says_so() {
    // An address of this machine that is none of those for which plain HTTP is taken for granted.
    let registry = DockerRegistry::start(Setup::Open);
    let host = registry.host().replace("127.0.0.1", "0.0.0.0");
    insta::assert_snapshot!(asked("exists", &host), @r#"
    exit 3
    error: cannot tell whether `0.0.0.0:PORT/team/app:HASH-x` exists
    note: cannot talk to `https://0.0.0.0:PORT/v2/team/app/manifests/HASH-x`: it does not speak TLS
    hint: if that is meant, set `insecure = true` under `[registries."0.0.0.0:PORT"]` of `imagespec.toml`
    "#);
    let env = env();
    env.write("imagespec.toml", &format!("[registries.'{host}']\ninsecure = true\n"));
    insta::assert_snapshot!(asked_in(&env, "exists", &host, &[]), @"
    exit 1
    0.0.0.0:PORT/team/app:HASH-x does not exist
    ");
}

#[test]
fn a_registry_whose_authority_nobody_knows_is_not_trusted() {
    let registry = DockerRegistry::start(Setup::Tls);
    insta::assert_snapshot!(asked("exists", &registry.host()), @r#"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot talk to `https://127.0.0.1:PORT/v2/team/app/manifests/HASH-x`: TLS failed: invalid peer certificate: UnknownIssuer
    hint: under `[registries."127.0.0.1:PORT"]` of `imagespec.toml`, name the authority that signed its certificate as `ca_bundle`, or set `insecure = true`
    "#);
    let env = env();
    env.write("imagespec.toml", &format!("[registries.'{}']\nca_bundle = 'authority.pem'\n", registry.host()));
    insta::assert_snapshot!(asked_in(&env, "exists", &registry.host(), &[]), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot use the certificate authorities in `FOLDER/authority.pem`
    note: No such file or directory (os error 2)
    hint: write `ca_bundle` as the path of a PEM file
    ");
}

#[test]
fn credentials_that_cannot_be_had_are_no_reason_to_go_without() {
    let server = FixedServer::start("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", "");
    let env = env();
    let folder = env.path().join("docker").display().to_string();
    let asked = |config: &str| {
        env.write("docker/config.json", &config.replace("HOST", &server.host()));
        asked_in(&env, "exists", &server.host(), &[("DOCKER_CONFIG", &folder), ("PATH", "/usr/bin:/bin")])
    };
    insta::assert_snapshot!(asked("{\"auths\": {\"HOST\": \"hunter2\"}}"), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot get the credentials of `127.0.0.1:PORT`
    note: `FOLDER/docker/config.json` is not a Docker configuration: something is wrong in line 1, column 39
    hint: correct `FOLDER/docker/config.json`, or remove it and run `docker login` again
    ");
    insta::assert_snapshot!(asked("{\"auths\": {\"HOST\": {\"auth\": \"hunter2\"}}}"), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot get the credentials of `127.0.0.1:PORT`
    note: `auth` of `127.0.0.1:PORT` in `FOLDER/docker/config.json` is not base64 of `USER:PASSWORD`
    hint: correct `FOLDER/docker/config.json`, or remove it and run `docker login` again
    ");
    insta::assert_snapshot!(asked("{\"credHelpers\": {\"HOST\": \"absent\"}}"), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot get the credentials of `127.0.0.1:PORT`
    note: cannot run the credential helper `docker-credential-absent`
    note: No such file or directory (os error 2)
    hint: install `docker-credential-absent`, or take it out of `credHelpers` and `credsStore`
    ");
    insta::assert_snapshot!(asked("{\"credsStore\": \"../evil\"}"), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: cannot get the credentials of `127.0.0.1:PORT`
    note: `../evil` is not the name of a credential helper
    hint: `credHelpers` and `credsStore` name programs: `desktop` for `docker-credential-desktop`
    ");
}

#[test]
fn a_wrong_password_is_not_taken_for_none() {
    let registry = DockerRegistry::start(Setup::Password);
    let env = env();
    // `joe:hunter2`
    let config = "{\"auths\": {\"HOST\": {\"auth\": \"am9lOmh1bnRlcjI=\"}}}".replace("HOST", &registry.host());
    env.write("docker/config.json", &config);
    let folder = env.path().join("docker").display().to_string();
    insta::assert_snapshot!(asked_in(&env, "exists", &registry.host(), &[("DOCKER_CONFIG", &folder)]), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 401
    hint: run `docker login 127.0.0.1:PORT` again: the user name or the password that is stored is not accepted
    ");
    insta::assert_snapshot!(asked_in(&env, "exists", &registry.host(), &[]), @"
    exit 3
    error: cannot tell whether `127.0.0.1:PORT/team/app:HASH-x` exists
    note: `HEAD http://127.0.0.1:PORT/v2/team/app/manifests/HASH-x` was answered with status 401
    hint: run `docker login 127.0.0.1:PORT`; a private image looks the same as one that does not exist
    ");
}

#[test]
fn a_host_that_nobody_knows_may_be_the_networks_fault() {
    insta::assert_snapshot!(asked("exists", "registry.invalid:5000").replace("PORT", "5000"), @"
    exit 3
    error: cannot tell whether `registry.invalid:5000/team/app:HASH-x` exists
    note: cannot talk to `https://registry.invalid:5000/v2/team/app/manifests/HASH-x`: no address is known for this host
    hint: check the spelling of `registry.invalid:5000`, or the network
    ");
}
