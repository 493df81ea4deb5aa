//! Turns a request into a raw connection: `POST /grpc` leads to BuildKit's own API, `POST /session` lets BuildKit ask us.
//! Docker Engine API, "Initialize interactive session"; both answer 101 to `Upgrade: h2c`.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use imagespec_buildkit::connection::Connection;
use imagespec_buildkit::one_line;

/// Bytes of a refusal that are read.
const REFUSAL_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Why a request became no connection.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// HTTP failed.
    #[error("the connection broke")]
    Http(#[source] hyper::Error),
    /// The engine answered instead.
    #[error("it answers {status} to `{path}`: {problem}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What was asked for.
        path: String,
        /// What it said.
        problem: String,
    },
}

/// Asks for `path` over `connection`, which then is what the engine made of it.
pub(super) async fn upgrade(
    connection: Connection,
    path: &str,
    headers: &[(&'static str, String)],
) -> Result<Connection, UpgradeError> {
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(UpgradeError::Http)?;
    // It ends with the connection.
    tokio::spawn(driver.with_upgrades());
    let mut request = Request::builder().method(Method::POST).uri(path).header(HOST, "engine");
    request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "h2c");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("names and values of the headers are plain");
    let response = sender.send_request(request).await.map_err(UpgradeError::Http)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), REFUSAL_SIZE_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let problem = one_line(&String::from_utf8_lossy(&body));
        return Err(UpgradeError::Refused { status, path: path.to_owned(), problem });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(UpgradeError::Http)?;
    Ok(Connection::new(TokioIo::new(upgraded)))
}
