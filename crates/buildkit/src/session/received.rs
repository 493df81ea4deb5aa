//! The result of a build, handed over as one archive. Protocol: `moby.filesync.v1`, FileSend.

use std::pin::Pin;
use std::sync::Mutex;

use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::stream::Feeder;

/// Takes one archive.
pub(super) struct Receiver {
    feeder: Mutex<Option<Feeder>>,
}

impl Receiver {
    pub(super) fn new(feeder: Feeder) -> Self {
        Self { feeder: Mutex::new(Some(feeder)) }
    }
}

#[tonic::async_trait]
impl FileSend for Receiver {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let feeder = self.feeder.lock().ok().and_then(|mut feeder| feeder.take());
        let feeder = feeder.ok_or_else(|| Status::failed_precondition("one archive is taken, and it came already"))?;
        let kept = feeder.clone();
        feeder.feed(request.into_inner().map(|message| message.map(|message| message.data.into()))).await?;
        if kept.is_unread() {
            return Err(Status::aborted("the archive cannot be kept here"));
        }
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}
