//! Every way through a bridge leads to BuildKit, those are refused who may not, and builds are counted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::Bridge;
use super::calls::{Builds, PREFACE, payload_size_bytes};
use crate::authority::{Authority, Certificate, Validity};
use crate::engine::{Engine, Kind, skip};

/// An empty SETTINGS frame, and PING with what it is to answer (RFC 9113, sections 6.5 and 6.7).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0together";
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0together";
const TIMEOUT: Duration = Duration::from_secs(20);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Says hello in HTTP/2 and waits for the answer.
fn greet(stream: &mut dyn Stream) -> io::Result<()> {
    stream.write_all(&[PREFACE, &SETTINGS, PING].concat())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(PONG) {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    assert_eq!(answer[3], 4, "a server of HTTP/2 sends its settings first");
    let size = payload_size_bytes(&answer);
    assert_eq!(answer[3 + size..9 + size], [0, 1, 0, 0, 0, 0], "calls are written out");
    Ok(())
}

fn connect(bridge: &Bridge) -> io::Result<Box<dyn Stream>> {
    let address = bridge.address();
    if let Some(path) = address.strip_prefix("unix://") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        return Ok(Box::new(stream));
    }
    Ok(Box::new(connect_tcp(bridge)?))
}

fn connect_tcp(bridge: &Bridge) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(bridge.address().trim_start_matches("tcp://"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Says hello as a client that trusts `authority` and shows `own`.
fn greet_by_tls(bridge: &Bridge, authority: &Path, own: Option<&Certificate>) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("it is one");
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => {
            let certificate = CertificateDer::from_pem_file(&own.certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
            config.with_client_auth_cert(vec![certificate], key).expect("they fit together")
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("127.0.0.1").expect("an address is a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("the configuration is whole");
    let mut stream = StreamOwned::new(connection, connect_tcp(bridge)?);
    greet(&mut stream)?;
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    Ok(())
}

/// The engine, or nothing where there can be none, which is said.
fn engine() -> Option<Engine> {
    Engine::start(Kind::Docker26).map_err(|why| skip("bridges to BuildKit", &why)).ok()
}

#[test]
fn every_way_through_a_bridge_leads_to_buildkit_until_it_is_severed() {
    let Some(engine) = engine() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path());
    let stranger = Authority::new(&folder.path().join("stranger"));
    let server = authority.server("server", "IP:127.0.0.1", Validity::Now);
    let trusted = authority.certificate();

    for bridge in [Bridge::unix(&engine), Bridge::tcp(&engine)] {
        let mut first = connect(&bridge).expect("it listens");
        greet(&mut *first).expect("BuildKit answers");
        greet(&mut *connect(&bridge).expect("it listens")).expect("BuildKit answers");
        let counts = bridge.counts();
        assert_eq!((counts.connections_total, counts.builds_total), (2, 0));
        bridge.sever();
        assert_eq!(bridge.counts().connections, 0);
        let mut rest = Vec::new();
        // The end of the stream, or that it was reset.
        assert_ne!(first.read_to_end(&mut rest).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        let refused = connect(&bridge).err().expect("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        bridge.serve_again();
        greet(&mut *connect(&bridge).expect("it listens again")).expect("BuildKit answers");
        let address = bridge.address();
        drop(bridge);
        assert!(!Path::new(address.trim_start_matches("unix://")).exists());
    }

    let bridge = Bridge::tls(&engine, &authority, &server);
    let good = authority.client("good", Validity::Now);
    greet_by_tls(&bridge, &trusted, Some(&good)).expect("BuildKit answers");
    // Both authorities have one name, so that it is the signature that tells them apart.
    let refused = [
        (None, "CertificateRequired"),
        (Some(authority.client("old", Validity::Past)), "CertificateExpired"),
        (Some(stranger.client("strange", Validity::Now)), "DecryptError"),
        (Some(authority.server("wrong", "IP:127.0.0.1", Validity::Now)), "received fatal alert"),
    ];
    for (own, why) in refused {
        let told = greet_by_tls(&bridge, &trusted, own.as_ref()).expect_err("nobody else is let in").to_string();
        assert!(told.contains(why), "{own:?}: {told}");
    }
    let old = authority.server("old-server", "IP:127.0.0.1", Validity::Past);
    let told = greet_by_tls(&Bridge::tls(&engine, &authority, &old), &trusted, Some(&good)).expect_err("it is old");
    assert!(told.to_string().contains("certificate expired"), "{told}");
    let told = greet_by_tls(&bridge, &stranger.certificate(), Some(&good)).expect_err("nobody trusts it");
    assert!(told.to_string().contains("invalid peer certificate"), "{told}");
    assert!(greet(&mut *connect(&bridge).expect("it listens")).is_err(), "there is no way without TLS");
    // Its own end of the last one may come a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while bridge.failures().len() < 6 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(bridge.failures().len(), 6, "{:?}", bridge.failures());
}

#[test]
fn a_bridge_to_an_engine_that_ended_ends_its_connections() {
    let Some(engine) = engine() else { return };
    let bridge = Bridge::tcp(&engine);
    let mut stream = connect(&bridge).expect("it listens");
    greet(&mut *stream).expect("BuildKit answers");
    engine.kill();
    assert!(greet(&mut *stream).is_err());
    // It listens still, and has nobody to ask.
    assert!(greet(&mut *connect(&bridge).expect("it listens")).is_err());
}

/// A HEADERS frame of one stream with one header, whose value has a length and may be in the code of RFC 7541.
fn call(stream: u8, value: &[u8], is_in_code: bool) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("it is short");
    let payload = [&[0x44, u8::from(is_in_code) << 7 | length], value].concat();
    [&[0, 0, length + 2, 1, 4, 0, 0, 0, stream], payload.as_slice()].concat()
}

#[test]
fn builds_are_counted_from_the_call_to_its_answer() {
    let mut builds = Builds::new();
    let data = [&[0, 0, 31, 0, 0, 0, 0, 0, 1][..], b"/moby.buildkit.v1.Control/Solve"].concat();
    let opening = [PREFACE, &SETTINGS, &call(1, b"/moby.buildkit.v1.Control/Solve", false)].concat();
    // In pieces of one byte, as a slow network has them.
    let seen: Vec<usize> = opening.iter().map(|byte| builds.client_sends(&[*byte])).collect();
    assert_eq!((seen[seen.len() - 2], seen[seen.len() - 1]), (0, 1));
    assert_eq!(builds.client_sends(&data), 1);
    assert_eq!(builds.client_sends(&call(3, b"/moby.buildkit.v1.Control/Status", false)), 1);
    // Headers that open the answer, then those that end it.
    assert_eq!(builds.daemon_sends(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]), 1);
    assert_eq!(builds.daemon_sends(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]), 0);
    // The same path in the code of RFC 7541, as another implementation writes it.
    let coded = hex::decode("6293c7e978ed3512753257ee15ef1ea4d87a18dc7a3b97").expect("it is hex");
    assert_eq!(builds.client_sends(&call(5, &coded, true)), 1);
    // The client gives up: RST_STREAM.
    assert_eq!(builds.client_sends(&[0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 8]), 0);
}
