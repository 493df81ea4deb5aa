//! Ports with TLS, where both ends show a certificate.

use std::fs;
use std::path::{Path, PathBuf};

use imagespec_tests::{Authority, Engine, TestEnv, Validity};

use crate::{Server, builds, engine, project, refusal};

/// An authority in `ca.pem`, and certificates that it signed: `server.pem` for the engine, `cert.pem` with `key.pem` for us.
pub(crate) fn make_certificates(folder: &Path, server_names: &str) {
    let authority = Authority::new(folder);
    authority.server("server", server_names, Validity::Now);
    let own = authority.client("cert", Validity::Now);
    fs::rename(own.key, folder.join("key.pem")).unwrap();
}

/// An engine behind TLS with the certificates in `folder`, which takes whoever has one of the same authority.
pub(crate) fn behind_tls(engine: &Engine, folder: &Path) -> Server {
    let path = |name: &str| folder.join(name).display().to_string();
    Server::passing_on(engine, |port| {
        let (certificate, key, authority) = (path("server.pem"), path("server.key"), path("ca.pem"));
        format!("OPENSSL-LISTEN:{port},cert={certificate},key={key},cafile={authority},verify=1")
    })
}

/// A folder beneath the project with the files of the names.
fn folder_with(env: &TestEnv, name: &str, source: &Path, files: &[&str]) -> PathBuf {
    let folder = env.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in files {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    folder
}

#[test]
fn tls_leads_to_an_engine_that_knows_our_certificate() {
    let engine = engine!();
    let env = project();
    let (good, other) = (env.path().join("good"), env.path().join("other"));
    make_certificates(&good, "IP:127.0.0.1");
    make_certificates(&other, "IP:127.0.0.1");
    let server = behind_tls(engine.as_ref().as_ref().unwrap(), &good);
    let host = format!("tcp://127.0.0.1:{}", server.port);
    let with = |folder: &Path| {
        let folder = folder.display().to_string();
        refusal(&env, &[("DOCKER_HOST", &host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder)])
            .replace(&host, "HOST")
    };
    let folder = good.display().to_string();
    builds(&env, &[("DOCKER_HOST", &host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder)]);

    // An authority that did not sign the engine's certificate.
    insta::assert_snapshot!(with(&other), @"
    error: cannot reach a Docker engine at `HOST`
    note: TLS failed
    note: invalid peer certificate: BadSignature
    hint: put the authority of the engine's certificate into `ca.pem`, in the folder of DOCKER_CERT_PATH or the context's
    ");
    // No certificate of our own.
    insta::assert_snapshot!(with(&folder_with(&env, "bare", &good, &["ca.pem"])), @"
    error: cannot reach a Docker engine at `HOST`
    note: TLS failed
    note: received fatal alert: CertificateRequired
    hint: the engine wants another certificate: put `cert.pem` and `key.pem` into the folder of DOCKER_CERT_PATH or the context's
    ");
    // One of another authority.
    let strange = folder_with(&env, "strange", &other, &["cert.pem", "key.pem"]);
    fs::copy(good.join("ca.pem"), strange.join("ca.pem")).unwrap();
    insta::assert_snapshot!(with(&strange), @"
    error: cannot reach a Docker engine at `HOST`
    note: TLS failed
    note: received fatal alert: UnknownCA
    hint: the engine wants another certificate: put `cert.pem` and `key.pem` into the folder of DOCKER_CERT_PATH or the context's
    ");
    // A key of something else.
    let mixed = folder_with(&env, "mixed", &good, &["ca.pem", "cert.pem"]);
    fs::copy(other.join("key.pem"), mixed.join("key.pem")).unwrap();
    insta::assert_snapshot!(with(&mixed), @"
    error: cannot reach a Docker engine at `HOST`
    note: the certificate and the key do not fit together
    note: keys may not be consistent: KeyMismatch
    ");
    // No key at all.
    fs::write(mixed.join("key.pem"), "nonsense").unwrap();
    insta::assert_snapshot!(with(&mixed), @"
    error: cannot reach a Docker engine at `HOST`
    note: `FOLDER/mixed/key.pem` is no key in PEM
    ");
    // Without TLS.
    let told = refusal(&env, &[("DOCKER_HOST", &host)]).replace(&host, "HOST");
    insta::assert_snapshot!(told, @"
    error: what answers at `HOST` is no Docker engine: Connection reset by peer (os error 104)
    hint: start Docker, or name another engine by DOCKER_HOST, a Docker context or `--builder-opt host=…`
    hint: `--builder oci` needs no engine
    ");
}

#[test]
fn an_engine_whose_certificate_is_for_another_name_is_not_spoken_to() {
    let engine = engine!();
    let env = project();
    let folder = env.path().join("certificates");
    make_certificates(&folder, "DNS:build.example.org");
    let server = behind_tls(engine.as_ref().as_ref().unwrap(), &folder);
    let (host, folder) = (format!("tcp://127.0.0.1:{}", server.port), folder.display().to_string());
    let variables = [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder)];
    insta::assert_snapshot!(refusal(&env, &variables).replace(&host, "HOST"), @r#"
    error: cannot reach a Docker engine at `HOST`
    note: TLS failed
    note: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("build.example.org")
    hint: call the engine by a name that stands in its certificate
    "#);
}

#[test]
fn tls_to_an_engine_without_it_is_told() {
    let engine = engine!();
    let env = project();
    let folder = env.path().join("certificates");
    make_certificates(&folder, "IP:127.0.0.1");
    let server = Server::passing_on(engine.as_ref().as_ref().unwrap(), |port| format!("TCP-LISTEN:{port}"));
    let (host, folder) = (format!("tcp://127.0.0.1:{}", server.port), folder.display().to_string());
    let variables = [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder)];
    insta::assert_snapshot!(refusal(&env, &variables).replace(&host, "HOST"), @"
    error: cannot reach a Docker engine at `HOST`
    note: TLS failed
    note: received corrupt message of type InvalidContentType
    hint: if the engine speaks without TLS, unset DOCKER_TLS_VERIFY
    ");
}
