//! What a BuildKit daemon answers beside builds: what it builds for, and a session over the connection that is there.
//! Protocol: `moby.buildkit.v1.Control`.

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{BytesMessage, ListWorkersRequest};
use imagespec_core::platform::Platform;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataKey;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::connection::Connection;
use crate::session::Session;
use crate::text::one_line;

/// Bytes of a session in one message, and on their way within this process.
const CHUNK_SIZE_BYTES: usize = 32 * 1024;
const BUFFER_SIZE_BYTES: usize = 256 * 1024;
/// Messages on their way.
const MESSAGES_MAX: usize = 8;

/// What a daemon says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The platforms that it builds for, its own first. Others are emulated.
    pub platforms: Vec<Platform>,
    /// Its version, if it says so: `v0.12.5`.
    pub version: Option<String>,
}

/// Asks the daemon what it builds for.
///
/// # Errors
/// When it does not say.
pub async fn about(channel: Channel) -> Result<About, Status> {
    let workers = ControlClient::new(channel).list_workers(ListWorkersRequest::default()).await?.into_inner().record;
    let mut about = About::default();
    for worker in workers {
        about.version = about.version.or(worker
            .buildkit_version
            .map(|version| one_line(&version.version))
            .filter(|version| !version.is_empty()));
        for platform in worker.platforms {
            let mut text = format!("{}/{}", platform.os, platform.architecture);
            if !platform.variant.is_empty() {
                text.push_str(&format!("/{}", platform.variant));
            }
            // Those of other systems are none that is asked for.
            about.platforms.extend(text.parse::<Platform>().ok().filter(|one| !about.platforms.contains(one)));
        }
    }
    Ok(about)
}

/// Opens the connection over which the daemon asks `session`, in a stream of `channel`.
///
/// # Errors
/// When the daemon does not take it.
pub async fn open_session(channel: Channel, session: &Session) -> Result<Connection, Status> {
    let (ours, theirs) = duplex(BUFFER_SIZE_BYTES);
    let (mut from_us, mut to_us) = split(theirs);
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let mut request = Request::new(ReceiverStream::new(receiver));
    for (name, value) in session.headers() {
        let key = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a header's name");
        request.metadata_mut().append(key, value.parse().expect("a header's value is plain"));
    }
    // Both end with the connection.
    tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK_SIZE_BYTES];
        while let Ok(count @ 1..) = from_us.read(&mut chunk).await {
            if sender.send(BytesMessage { data: chunk[..count].to_vec() }).await.is_err() {
                break;
            }
        }
    });
    let mut answers = ControlClient::new(channel).session(request).await?.into_inner();
    tokio::spawn(async move {
        while let Ok(Some(message)) = answers.message().await {
            if to_us.write_all(&message.data).await.is_err() {
                return;
            }
        }
        // Nobody listens where this fails.
        let _ = to_us.shutdown().await;
    });
    Ok(Connection::new(ours))
}
