//! gRPC over a connection that somebody else opened.

use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// Hands one connection over, and has no second one.
struct Once<C>(Option<C>);

/// A gRPC channel over `connection`. When that breaks, so do all calls.
///
/// # Errors
/// When the other end does not speak HTTP/2.
pub async fn channel<C>(connection: C) -> Result<Channel, tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The address is for the form: all goes through the connection.
    Endpoint::from_static("http://buildkit").connect_with_connector(Once(Some(connection))).await
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> Service<Uri> for Once<C> {
    type Response = TokioIo<C>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection to BuildKit ended");
        ready(self.0.take().map(TokioIo::new).ok_or_else(gone))
    }
}
