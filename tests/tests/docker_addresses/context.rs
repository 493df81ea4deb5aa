//! Docker's contexts, as `docker context create` lays them out.

use std::fs;

use imagespec_core::digest::Digest;

use crate::tls::{behind_tls, make_certificates};
use crate::{Server, builds, engine, project, refusal};

#[test]
fn a_context_leads_to_an_engine_with_its_certificates() {
    let engine = engine!();
    let engine = engine.as_ref().as_ref().unwrap();
    let env = project();
    let certificates = env.path().join("certificates");
    make_certificates(&certificates, "IP:127.0.0.1");
    let server: Server = behind_tls(engine, &certificates);
    let id = Digest::of(b"team").to_hex();
    let meta = |context: &str| format!("docker/contexts/meta/{}/meta.json", Digest::of(context.as_bytes()).to_hex());
    let endpoint = |host: &str, skips: bool| {
        format!(
            r#"{{"Name":"x","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":{skips}}}}}}}"#
        )
    };
    env.write(&meta("team"), &endpoint(&format!("tcp://127.0.0.1:{}", server.port), false));
    env.write(&meta("socket"), &endpoint(&engine.host(), false));
    let tls = env.path().join("docker/contexts/tls").join(&id).join("docker");
    fs::create_dir_all(&tls).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(certificates.join(name), tls.join(name)).unwrap();
    }
    let config = env.path().join("docker").display().to_string();
    let config = ("DOCKER_CONFIG", config.as_str());

    // Named by a variable, by an option, and by Docker's own configuration.
    builds(&env, &[config, ("DOCKER_CONTEXT", "team")]);
    builds(&env, &[config, ("DOCKER_CONTEXT", "socket")]);
    let arguments = ["build", "app.yaml", "--builder", "docker", "--force", "--builder-opt", "context=team"];
    let built = env.run_with(&arguments, &[config, ("DOCKER_HOST", "unix:///nonexistent.sock")]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    env.write("docker/config.json", r#"{"currentContext": "team"}"#);
    builds(&env, &[config]);

    insta::assert_snapshot!(refusal(&env, &[config, ("DOCKER_CONTEXT", "nobodys")]), @"
    error: there is no Docker context `nobodys`, which DOCKER_CONTEXT names
    hint: an address is `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`
    ");
    env.write(&meta("team"), &endpoint("tcp://127.0.0.1:2376", true));
    insta::assert_snapshot!(refusal(&env, &[config]), @"
    error: Docker context `team` takes any certificate (`SkipTLSVerify`), and imagespec does not
    hint: an address is `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`
    ");
    env.write(&meta("team"), "nonsense");
    insta::assert_snapshot!(refusal(&env, &[config]).replace(&id, "ID"), @"
    error: `FOLDER/docker/contexts/meta/ID/meta.json` is no Docker context
    hint: an address is `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`
    ");
}
