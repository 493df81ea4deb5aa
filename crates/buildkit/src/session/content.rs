//! Images of this machine for a daemon that cannot pull them: blobs by digest. Protocol: `containerd.services.content.v1`, of
//! which BuildKit asks two methods for a base `oci-layout://`.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs::File;
use std::future::{Future, Ready, ready};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use http::header::CONTENT_TYPE;
use imagespec_core::digest::Digest;
use imagespec_layout::blob_path;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

/// Bytes of a blob in one message.
const CHUNK_SIZE_BYTES: u64 = 256 * 1024;
/// Messages on their way.
const MESSAGES_MAX: usize = 4;
const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";

/// The methods, as a session names what it has.
pub(super) const METHODS: [&str; 2] = [INFO, READ];

/// Blobs of one folder, laid out as in an OCI image layout.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    sizes: BTreeMap<Digest, u64>,
}

/// Answers what is asked of [`Blobs`].
#[derive(Clone)]
pub(super) struct ContentServer(pub(super) Arc<Blobs>);

#[derive(Clone, PartialEq, Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
    #[prost(message, optional, tag = "3")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    updated_at: Option<Timestamp>,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    /// All that is left if it is 0.
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

impl Blobs {
    /// Those of `folder` with these digests and lengths in bytes. No other file is ever read.
    pub fn new(folder: &Path, sizes: BTreeMap<Digest, u64>) -> Self {
        Self { folder: folder.to_owned(), sizes }
    }

    fn find(&self, digest: &str) -> Result<(Digest, u64), Status> {
        let found = digest.parse().ok().and_then(|digest| Some((digest, *self.sizes.get(&digest)?)));
        found.ok_or_else(|| Status::not_found("there is no such blob"))
    }

    fn info(&self, request: &InfoRequest) -> Result<InfoResponse, Status> {
        let (digest, size_bytes) = self.find(&request.digest)?;
        let info =
            Info { digest: digest.to_string(), size: i64::try_from(size_bytes).unwrap_or(i64::MAX), ..Info::default() };
        Ok(InfoResponse { info: Some(info) })
    }

    /// Hands a part of a blob over. The daemon compares the whole with its digest.
    fn read(&self, request: &ReadRequest) -> Result<mpsc::Receiver<Result<ReadResponse, Status>>, Status> {
        let (digest, size_bytes) = self.find(&request.digest)?;
        let number = |number: i64| u64::try_from(number).map_err(|_| Status::invalid_argument("a number is negative"));
        let (offset, wanted) = (number(request.offset)?, number(request.size)?);
        let rest = size_bytes.checked_sub(offset).ok_or_else(|| Status::out_of_range("the blob is shorter"))?;
        let wanted = if wanted == 0 { rest } else { wanted.min(rest) };
        let unreadable =
            |error: std::io::Error| Status::data_loss(format!("a blob of the base cannot be read: {error}"));
        let mut file = File::open(blob_path(&self.folder, digest)).map_err(unreadable)?;
        file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        std::thread::spawn(move || {
            let mut done = 0;
            while done < wanted {
                let mut data = Vec::new();
                let read = file.by_ref().take(CHUNK_SIZE_BYTES.min(wanted - done)).read_to_end(&mut data);
                let part = match read {
                    Ok(0) => Err(Status::data_loss("a blob of the base is shorter than it was")),
                    Ok(_) => Ok(ReadResponse { offset: i64::try_from(offset + done).unwrap_or(i64::MAX), data }),
                    Err(error) => Err(unreadable(error)),
                };
                done += part.as_ref().map_or(wanted, |part| part.data.len() as u64);
                // Nobody may listen any more.
                if sender.blocking_send(part).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

impl UnaryService<InfoRequest> for ContentServer {
    type Response = InfoResponse;
    type Future = Ready<Result<Response<InfoResponse>, Status>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        ready(self.0.info(request.get_ref()).map(Response::new))
    }
}

impl ServerStreamingService<ReadRequest> for ContentServer {
    type Response = ReadResponse;
    type ResponseStream = ReceiverStream<Result<ReadResponse, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        ready(self.0.read(request.get_ref()).map(|parts| Response::new(ReceiverStream::new(parts))))
    }
}

impl NamedService for ContentServer {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl Service<http::Request<Body>> for ContentServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                INFO => Grpc::new(ProstCodec::<InfoResponse, InfoRequest>::default()).unary(server, request).await,
                READ => {
                    let codec = ProstCodec::<ReadResponse, ReadRequest>::default();
                    Grpc::new(codec).server_streaming(server, request).await
                }
                _ => unimplemented(),
            })
        })
    }
}

fn unimplemented() -> http::Response<Body> {
    let mut response = http::Response::new(Body::default());
    response.headers_mut().insert(Status::GRPC_STATUS, (Code::Unimplemented as i32).into());
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}
