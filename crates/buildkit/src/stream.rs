//! Between what blocks, readers and writers, and streams, which do not.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const CHUNK_SIZE_BYTES: usize = 256 * 1024;
/// Chunks on their way; more would only lie in memory.
const CHUNKS_MAX: usize = 8;

/// What `work` writes, on a thread of its own, until nobody listens. Its error ends the stream.
pub fn written(
    work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut sink = Sink { sender, chunk: BytesMut::new() };
        let result = work(&mut sink).and_then(|()| sink.flush());
        if let Err(error) = result {
            // Nobody may listen any more.
            let _ = sink.sender.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(receiver)
}

struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_SIZE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = self.chunk.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A reader of what comes over a stream, for a blocking thread. It ends with an error when the stream breaks.
pub struct Reader {
    parts: mpsc::Receiver<Part>,
    rest: Bytes,
    has_ended: Arc<AtomicBool>,
}

/// Hands the parts of a stream to a [`Reader`].
#[derive(Clone)]
pub struct Feeder(mpsc::Sender<Part>, Arc<AtomicBool>);

enum Part {
    Data(Bytes),
    /// A reader that does not see it knows that something broke.
    End,
    Broken,
}

/// Both ends.
pub fn pipe() -> (Feeder, Reader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let has_ended = Arc::<AtomicBool>::default();
    (Feeder(sender, Arc::clone(&has_ended)), Reader { parts: receiver, rest: Bytes::new(), has_ended })
}

impl Feeder {
    /// Hands all of `stream` over, until it ends or nobody reads.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn feed<E>(self, stream: impl Stream<Item = Result<Bytes, E>>) -> Result<(), E> {
        let mut stream = std::pin::pin!(stream);
        while let Some(part) = stream.next().await {
            if self.0.send(Part::Data(part?)).await.is_err() {
                return Ok(());
            }
        }
        // Nobody may read any more.
        let _ = self.0.send(Part::End).await;
        Ok(())
    }

    /// Whether nobody reads any more, before the end.
    pub fn is_unread(&self) -> bool {
        self.0.is_closed() && !self.1.load(Ordering::Relaxed)
    }

    /// Nothing more comes, whoever else holds this end. Blocks until the reader has taken what came before.
    pub fn close(self) {
        // Nobody may read any more.
        let _ = self.0.blocking_send(Part::Broken);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.has_ended.load(Ordering::Relaxed) {
            match self.parts.blocking_recv() {
                Some(Part::Data(part)) => self.rest = part,
                Some(Part::End) => self.has_ended.store(true, Ordering::Relaxed),
                Some(Part::Broken) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
