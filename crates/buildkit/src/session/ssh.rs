//! Hands the user's SSH agent through to a step. Bytes alone: the keys stay with the agent. Protocol:
//! `moby.sshforward.v1`.

use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// The id by which a Dockerfile asks for the agent, also when it says none.
const DEFAULT_ID: &str = "default";
const CHUNK_SIZE_BYTES: usize = 32 * 1024;

/// An agent that listens on a socket of this machine.
pub(super) struct Agent {
    pub(super) socket: PathBuf,
}

#[tonic::async_trait]
impl Ssh for Agent {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        match request.into_inner().id.as_str() {
            "" | DEFAULT_ID => Ok(Response::new(CheckAgentResponse {})),
            id => Err(Status::not_found(format!("there is no SSH agent called {id}"))),
        }
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let agent = UnixStream::connect(&self.socket).await;
        let agent =
            agent.map_err(|error| Status::failed_precondition(format!("the SSH agent does not answer: {error}")))?;
        let (mut from_agent, mut to_agent) = agent.into_split();
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = asked.next().await {
                if to_agent.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK_SIZE_BYTES];
            while let Ok(count @ 1..) = from_agent.read(&mut buffer).await {
                if sender.send(Ok(BytesMessage { data: buffer[..count].to_vec() })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
