//! Ports with TLS, where both ends show a certificate.

use std::fs;
use std::path::Path;

use imagespec_tests::{
    Authority, Bridge, Certificate, DockerRegistry, EVERYTHING_PRINTS, Engine, Setup, TestEnv, Validity, everything,
    insta,
};

use crate::{Place, engine, pulled_and_run};

#[test]
fn the_quickstart_and_a_spec_with_everything_are_built_over_tls_pushed_and_run() {
    let Some(engine) = engine() else { return };
    let env = TestEnv::with_debian();
    let authority = Authority::new(&env.path().join("certificates"));
    let server = authority.server("server", "DNS:build.example", Validity::Now);
    let own = authority.client("own", Validity::Now);
    let bridge = Bridge::tls(&engine, &authority, &server);
    let registry = DockerRegistry::start(Setup::Password);
    // As a user has it: in the own config.
    env.write(
        "config/imagespec/config.toml",
        &format!(
            "[builders.remote]\nendpoints = ['{}']\nca = '{}'\ncert = '{}'\nkey = '{}'\nserver_name = 'build.example'\n",
            bridge.address(),
            authority.certificate().display(),
            own.certificate.display(),
            own.key.display()
        ),
    );
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for file in ["imagespec.yaml", "report.py"] {
        env.write(&format!("quickstart/{file}"), &fs::read_to_string(example.join(file)).unwrap());
    }
    let own_config = env.path().join("config").display().to_string();
    let logins = registry.config().parent().unwrap().display().to_string();
    let team = format!("{}/team", registry.host());
    let build = |spec: &str, arguments: &[&str], variables: &[(&str, &str)]| {
        let own = [("XDG_CONFIG_HOME", own_config.as_str()), ("DOCKER_CONFIG", logins.as_str())];
        let arguments = [&["build", spec, "--builder", "remote", "--registry", &team], arguments].concat();
        let built = env.run_online(&arguments, &[&own[..], variables].concat());
        assert_eq!(built.code, 0, "{}", built.stderr);
        built
    };
    let built = build("quickstart/imagespec.yaml", &[], &[]);
    let printed = pulled_and_run(&engine, &registry, built.stdout.trim());
    assert!(printed.starts_with("hello from Python 3.11.") && printed.ends_with("mean age 11.5\n"), "{printed}");
    let again = build("quickstart/imagespec.yaml", &[], &[]);
    assert_eq!(again.stdout, built.stdout);
    assert!(again.stderr.ends_with("exists, nothing to build\n"), "{}", again.stderr);

    let _server = everything(&env, Path::new(env!("CARGO_TARGET_TMPDIR")), Engine::MACHINE);
    let built = build("app.yaml", &["--secret", "id=token,env=TOKEN"], &[("TOKEN", "canary-Vb7Qm")]);
    assert_eq!(pulled_and_run(&engine, &registry, built.stdout.trim()), EVERYTHING_PRINTS, "{}", built.stderr);
}

#[test]
fn a_daemon_is_refused_that_cannot_be_trusted_and_says_so_of_us() {
    let Some(engine) = engine() else { return };
    let place = Place::new("['true']");
    let folder = place.env.path();
    let authority = Authority::new(&folder.join("good"));
    let other = Authority::new(&folder.join("other"));
    let server = |name: &str, names: &str, validity| authority.server(name, names, validity);
    let bridge = Bridge::tls(&engine, &authority, &server("server", "IP:127.0.0.1", Validity::Now));
    let refused = |address: &str, ca: &Authority, own: Option<&Certificate>| {
        let mut options = vec![format!("endpoints={address}"), format!("ca={}", ca.certificate().display())];
        if let Some(own) = own {
            options.push(format!("cert={}", own.certificate.display()));
            options.push(format!("key={}", own.key.display()));
        }
        let arguments: Vec<_> = options.iter().flat_map(|option| ["--builder-opt", option]).collect();
        let told = place.refusal(&arguments, &[]).replace(address, "ENDPOINT");
        // The time of day.
        let lines = told.lines().map(|line| line.split(": verification time").next().unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    };
    let good = authority.client("own", Validity::Now);

    // No certificate of ours, one of somebody else, one whose time is over.
    insta::assert_snapshot!(refused(&bridge.address(), &authority, None), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: received fatal alert: CertificateRequired
    hint: the daemon wants a certificate of ours that it trusts and that is in time: `cert` and `key` in `[builders.remote]`
    ");
    insta::assert_snapshot!(refused(&bridge.address(), &authority, Some(&other.client("stranger", Validity::Now))), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: received fatal alert: DecryptError
    hint: the daemon wants a certificate of ours that it trusts and that is in time: `cert` and `key` in `[builders.remote]`
    ");
    insta::assert_snapshot!(refused(&bridge.address(), &authority, Some(&authority.client("old", Validity::Past))), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: received fatal alert: CertificateExpired
    hint: the daemon wants a certificate of ours that it trusts and that is in time: `cert` and `key` in `[builders.remote]`
    ");
    // A daemon with a certificate of somebody else, of another name, whose time is over.
    insta::assert_snapshot!(refused(&bridge.address(), &other, Some(&good)), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: invalid peer certificate: BadSignature
    hint: name the authority of the daemon's certificate: `ca` in `[builders.remote]`, or `?ca=/PATH/ca.pem`
    ");
    let named = Bridge::tls(&engine, &authority, &server("named", "DNS:build.example", Validity::Now));
    insta::assert_snapshot!(refused(&named.address(), &authority, Some(&good)), @r#"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("build.example")
    hint: call the daemon by a name that stands in its certificate, or say which one does: `?server_name=NAME`
    "#);
    let expired = Bridge::tls(&engine, &authority, &server("expired", "IP:127.0.0.1", Validity::Past));
    insta::assert_snapshot!(refused(&expired.address(), &authority, Some(&good)), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: invalid peer certificate: certificate expired
    hint: whoever runs the daemon must renew its certificate; look whether this machine's clock is right, too
    ");
    // A daemon that speaks without TLS where it is expected, and the other way round.
    let plain = Bridge::tcp(&engine);
    insta::assert_snapshot!(refused(&plain.address(), &authority, Some(&good)), @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: TLS failed
    note: received corrupt message of type InvalidContentType
    hint: what answers there seems to speak without TLS: let it speak TLS, or say `?tls=off` if nobody listens between
    ");
    let endpoint = format!("endpoints={}", bridge.address());
    let refusal = place.refusal(&["--builder-opt", &endpoint], &[]).replace(&bridge.address(), "ENDPOINT");
    insta::assert_snapshot!(refusal, @"
    exit 1
    error: cannot reach the BuildKit daemon at `ENDPOINT`
    note: what answers there is no BuildKit daemon: connection error detected: frame with invalid size
    hint: if the daemon speaks TLS, name its authority: `?ca=/PATH/ca.pem`, or `ca` in `[builders.remote]`
    ");
    // And with all that is right it is built.
    let options = [
        endpoint,
        format!("ca={}", authority.certificate().display()),
        format!("cert={}", good.certificate.display()),
        format!("key={}", good.key.display()),
    ];
    let arguments: Vec<_> = options.iter().flat_map(|option| ["--builder-opt", option]).collect();
    let built = place.build_with("app.yaml", &arguments, &[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
}
