//! Compresses a layer as one gzip member (RFC 1952), on as many processors as there are, and takes its digests.
//!
//! What is written is gathered into blocks of one length, and each block is compressed by itself, with the end of the
//! block before it as a dictionary. So the bytes depend neither on how the content was cut when it was written, nor on
//! how many processors worked on it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use imagespec_core::digest::Hasher;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Layer, LayerError};
use crate::cache::BlobWriter;
use crate::point::{self, Point};

/// gzip's own default; the next level costs twice the time for one per cent.
const GZIP_LEVEL: Compression = Compression::new(6);

/// No name, no time, no flags, an unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Large enough that what a block costs does not show, small enough that small layers have several.
const BLOCK_SIZE_BYTES: usize = 256 << 10;

/// As far back as deflate can refer (RFC 1951, section 2).
const DICTIONARY_SIZE_BYTES: usize = 32 << 10;

/// Threads of their own, for they wait for nothing: whoever waits for them may be a thread of another pool. Absent
/// where no threads can be started.
static THREADS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| ThreadPoolBuilder::new().build().ok());

/// Compresses what is written to it, and takes the digests before and after.
pub struct Compressor {
    blob: BlobWriter,
    content: Hasher,
    crc: Crc,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    pending: VecDeque<Receiver<io::Result<Deflated>>>,
}

/// A compressed block.
struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Whether a block is followed by another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Inner,
    Last,
}

impl Compressor {
    pub(super) fn new(blob: BlobWriter) -> Self {
        Self {
            blob,
            content: Hasher::default(),
            crc: Crc::new(),
            block: Vec::new(),
            dictionary: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    pub(super) fn finish(mut self) -> Result<Layer, LayerError> {
        let io_error = |source| LayerError::Io { path: "end".to_owned(), source };
        while self.receive().map_err(io_error)? {}
        self.content.update(&self.block);
        let last = deflate(&self.block, &self.dictionary, Position::Last).map_err(io_error)?;
        self.take(&last).map_err(io_error)?;
        let trailer = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
        self.blob.write_all(&trailer).map_err(io_error)?;
        let (diff_id, _) = self.content.finish();
        let blob = self.blob.commit()?;
        Ok(Layer { digest: blob.digest, size_bytes: blob.size_bytes, diff_id })
    }

    /// Has the block compressed, which is full and not the last one.
    fn send(&mut self) -> io::Result<()> {
        self.content.update(&self.block);
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_SIZE_BYTES));
        let next = block[BLOCK_SIZE_BYTES - DICTIONARY_SIZE_BYTES..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, next);
        let (sender, receiver) = sync_channel(1);
        // Nobody receives when the layer was given up.
        let work = move || drop(sender.send(deflate(&block, &dictionary, Position::Inner)));
        let in_flight_max = match &*THREADS {
            Some(threads) => {
                threads.spawn(work);
                2 * threads.current_num_threads()
            }
            None => {
                work();
                1
            }
        };
        self.pending.push_back(receiver);
        if self.pending.len() >= in_flight_max {
            self.receive()?;
        }
        Ok(())
    }

    /// Writes the first of the compressed blocks that were sent; `false` if there is none.
    fn receive(&mut self) -> io::Result<bool> {
        let Some(receiver) = self.pending.pop_front() else { return Ok(false) };
        let deflated = receiver.recv().map_err(io::Error::other)??;
        self.take(&deflated)?;
        Ok(true)
    }

    fn take(&mut self, deflated: &Deflated) -> io::Result<()> {
        if self.blob.size_bytes() == 0 {
            self.blob.write_all(&GZIP_HEADER)?;
        }
        self.crc.combine(&deflated.crc);
        self.blob.write_all(&deflated.bytes)?;
        point::reached(Point::LayerBegun);
        Ok(())
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The last block may be full, so a full one is sent when more comes.
        if self.block.len() == BLOCK_SIZE_BYTES {
            self.send()?;
        }
        let count = bytes.len().min(BLOCK_SIZE_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses a block. One that is not the last ends at a whole byte, so that the next can be put behind it.
fn deflate(block: &[u8], dictionary: &[u8], position: Position) -> io::Result<Deflated> {
    let mut compress = Compress::new(GZIP_LEVEL, false);
    if !dictionary.is_empty() {
        compress.set_dictionary(dictionary)?;
    }
    let flush = match position {
        Position::Inner => FlushCompress::Sync,
        Position::Last => FlushCompress::Finish,
    };
    // No block takes more than nine bits for each of its bytes, and some words.
    let mut bytes = Vec::with_capacity(block.len() + block.len() / 8 + 1024);
    let status = compress.compress_vec(block, &mut bytes, flush)?;
    let is_whole = compress.total_in() == block.len() as u64 && bytes.len() < bytes.capacity();
    if !is_whole || (position == Position::Last && status != Status::StreamEnd) {
        return Err(io::Error::other("a block was not compressed at once"));
    }
    let mut crc = Crc::new();
    crc.update(block);
    Ok(Deflated { bytes, crc })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::bufread::GzDecoder;

    use super::*;
    use crate::cache::Cache;

    /// Text that repeats itself, now near and now far, and noise that does not.
    fn content(size_bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::with_capacity(size_bytes);
        while bytes.len() < size_bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 30 {
                0 => bytes.extend(state.to_le_bytes()),
                1 => bytes.extend_from_within(bytes.len().saturating_sub(20_000)..bytes.len().saturating_sub(19_950)),
                _ => bytes.extend(format!("line {} of the text\n", state >> 24).into_bytes()),
            }
        }
        bytes.truncate(size_bytes);
        bytes
    }

    fn compressed(cache: &Cache, content: &[u8], chunk_size_bytes: usize) -> Layer {
        let mut compressor = Compressor::new(cache.blob_writer().unwrap());
        for chunk in content.chunks(chunk_size_bytes) {
            compressor.write_all(chunk).unwrap();
        }
        compressor.finish().unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_the_content_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let content = content(3_000_000);
        let whole = compressed(&cache, &content, content.len());
        for chunk_size_bytes in [1, 7, 4096, 65_537] {
            assert_eq!(compressed(&cache, &content, chunk_size_bytes), whole, "{chunk_size_bytes}");
        }
        // Another digest for the same content needs another FORMAT_VERSION.
        insta::assert_snapshot!(whole.digest, @"sha256:628be4f713b0705acca25e5672a1ccb38b96be5457cba1e1d504038e2203a80c");
    }

    #[test]
    fn one_gzip_member_comes_out_whatever_the_length() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let long = content(2 * BLOCK_SIZE_BYTES + 1);
        for size_bytes in [0, 1, BLOCK_SIZE_BYTES - 1, BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES + 1, long.len()] {
            let layer = compressed(&cache, &long[..size_bytes], 100_000);
            let blob = cache.read_blob(layer.digest).unwrap().unwrap();
            let mut member = GzDecoder::new(blob.as_slice());
            let mut found = Vec::new();
            member.read_to_end(&mut found).unwrap();
            assert!(found == long[..size_bytes], "{size_bytes}");
            assert!(member.into_inner().is_empty(), "{size_bytes}: something stands behind the member");
            assert_eq!(imagespec_core::digest::Digest::of(&found), layer.diff_id);
        }
    }

    #[test]
    fn content_that_cannot_be_compressed_fits_as_well() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(BLOCK_SIZE_BYTES)
        .collect();
        assert!(deflate(&noise, &[], Position::Inner).is_ok());
        assert!(deflate(&noise, &noise[..DICTIONARY_SIZE_BYTES], Position::Last).is_ok());
    }
}
