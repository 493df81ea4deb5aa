//! The client against the real `docker-registry` of Debian, open, with passwords and with TLS of its own authority.

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use imagespec_core::builder::RegistryAccess;
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_distribution::{
    Blob, Client, ClientOptions, ConnectionProblem, CredentialStore, Error, Existence, Pushed, RetryPolicy,
};
use imagespec_tests::{DockerRegistry, PASSWORD, Setup, output};
use support::CuttingProxy;

const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

fn options() -> ClientOptions {
    let retry = RetryPolicy { delay_base: Duration::ZERO, ..RetryPolicy::default() };
    ClientOptions { retry, ..ClientOptions::default() }
}

fn client(options: ClientOptions) -> Client<'static> {
    Client::new(options, &|| false)
}

fn reference_in(registry: &DockerRegistry, name: &str) -> Reference {
    format!("{}/{name}", registry.host()).parse().expect("a reference")
}

fn content(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|index| (index / 251 + index % 251) as u8).collect()
}

/// Pushes an image of one layer, its tag last.
fn push_image(client: &Client<'_>, reference: &Reference, layer: &[u8]) -> Digest {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    for bytes in [&config, &layer.to_vec()] {
        let mut sent = 0;
        let pushed = client.push_blob(reference, Blob::of(bytes), None, bytes, &mut |sum| sent = sum);
        assert_eq!(pushed.expect("it is pushed"), Pushed::Uploaded);
        assert_eq!(sent, bytes.len() as u64);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": IMAGE_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": [{"mediaType": LAYER_TYPE, "digest": Digest::of(layer), "size": layer.len()}],
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    for reference in [&reference.with_digest(digest), reference] {
        assert_eq!(client.push_manifest(reference, IMAGE_TYPE, manifest.as_bytes()).expect("it is pushed"), digest);
    }
    digest
}

/// Pushes an image, finds it, mounts its layer elsewhere and pulls it back.
fn round_trip(client: &Client<'_>, reference: &Reference) -> Digest {
    assert!(matches!(client.exists(reference), Existence::No));
    let layer = content(12_000_000);
    let digest = push_image(client, reference, &layer);
    let existence = client.exists(reference);
    assert!(matches!(existence, Existence::Yes { digest: found } if found == digest), "{existence:?}");

    let pulled = client.pull_manifest(reference).expect("it is pulled");
    assert_eq!((pulled.digest, pulled.media_type.as_str()), (digest, IMAGE_TYPE));
    let mut bytes = Vec::new();
    client.pull_blob(reference, Blob::of(&layer), &mut bytes, &mut |_| {}).expect("it is pulled");
    assert!(bytes == layer);

    let other: Reference = format!("{}/other/x:a", reference.registry()).parse().expect("a reference");
    assert!(!client.has_blob(&other, Digest::of(&layer)).expect("the registry says"));
    let pushed = client.push_blob(&other, Blob::of(&layer), Some(reference), &layer, &mut |_| {});
    assert_eq!(pushed.expect("it is mounted"), Pushed::Mounted);
    let pushed = client.push_blob(&other, Blob::of(b""), None, &Vec::new(), &mut |_| {});
    assert_eq!(pushed.expect("an empty blob is pushed"), Pushed::Uploaded);
    digest
}

#[test]
fn an_open_registry_takes_an_image_that_skopeo_reads() {
    let registry = DockerRegistry::start(Setup::Open);
    let reference = reference_in(&registry, "team/x:a");
    let digest = round_trip(&client(options()), &reference);
    let raw = output(
        Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false"]).arg(format!("docker://{reference}")),
    );
    assert_eq!(Digest::of(&raw), digest);
}

#[test]
fn a_registry_with_passwords_takes_an_image_from_who_has_one() {
    let registry = DockerRegistry::start(Setup::Password);
    let reference = reference_in(&registry, "team/x:a");
    let credentials = CredentialStore::from_files(vec![registry.config()]);
    round_trip(&client(ClientOptions { credentials, ..options() }), &reference);

    let Existence::Unknown(error) = client(options()).exists(&reference) else { panic!("nobody may see it") };
    assert!(error.is_denied() && !format!("{error:?}").contains(PASSWORD), "{error:?}");
}

#[test]
fn a_registry_with_tls_takes_an_image_from_who_trusts_its_authority() {
    let registry = DockerRegistry::start(Setup::Tls);
    let reference = reference_in(&registry, "team/x:a");
    let access = RegistryAccess { insecure: false, ca_bundle: Some(registry.authority()) };
    let registries = BTreeMap::from([(registry.host(), access)]);
    round_trip(&client(ClientOptions { registries, ..options() }), &reference);

    // It is found to speak TLS without being told; whom to trust must be told.
    match client(options()).exists(&reference) {
        Existence::Unknown(error @ Error::Connection { problem: ConnectionProblem::Tls(_), .. }) => {
            let text = error.to_string().replace(&registry.host(), "HOST");
            insta::assert_snapshot!(text, @"cannot talk to `https://HOST/v2/team/x/manifests/a`: TLS failed: invalid peer certificate: UnknownIssuer");
            let hint = error.hint().expect("a hint").replace(&registry.host(), "HOST");
            insta::assert_snapshot!(hint, @r#"under `[registries."HOST"]` of `imagespec.toml`, name the authority that signed its certificate as `ca_bundle`, or set `insecure = true`"#);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_insecure_registry_is_used_with_any_certificate_or_none() {
    for setup in [Setup::Tls, Setup::Open] {
        let registry = DockerRegistry::start(setup);
        let access = RegistryAccess { insecure: true, ca_bundle: None };
        let registries = BTreeMap::from([(registry.host(), access)]);
        round_trip(&client(ClientOptions { registries, ..options() }), &reference_in(&registry, "team/x:a"));
    }
}

#[test]
fn a_missing_ca_bundle_is_named() {
    let access = RegistryAccess { insecure: false, ca_bundle: Some("/nonexistent/authority.pem".into()) };
    let registries = BTreeMap::from([("127.0.0.1:1".to_owned(), access)]);
    let reference = "127.0.0.1:1/x".parse().expect("a reference");
    match client(ClientOptions { registries, ..options() }).exists(&reference) {
        Existence::Unknown(error) => {
            insta::assert_snapshot!(error, @"cannot use the certificate authorities in `/nonexistent/authority.pem`");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_upload_that_is_cut_off_is_completed() {
    let registry = DockerRegistry::start(Setup::Open);
    let proxy = CuttingProxy::start(registry.address(), 8_000_000);
    let bytes = content(20_000_000);
    let reference = proxy.reference("team/x");
    let pushed = client(options()).push_blob(&reference, Blob::of(&bytes), None, &bytes, &mut |_| {});
    assert_eq!(pushed.expect("it is pushed"), Pushed::Uploaded);
    assert!(proxy.has_cut());
    let mut pulled = Vec::new();
    let direct = reference_in(&registry, "team/x");
    client(options()).pull_blob(&direct, Blob::of(&bytes), &mut pulled, &mut |_| {}).expect("it is there");
    assert!(pulled == bytes);
}
