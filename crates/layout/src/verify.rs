//! Readers that fail when what they read is not what it must be.

use std::io::{self, Read};

use imagespec_core::digest::{Digest, Hasher};
use imagespec_distribution::Blob;

/// Reads content of a length that is known, and fails when it has another one.
pub(crate) struct Exact<R> {
    reader: R,
    size_bytes: u64,
    read_bytes: u64,
}

/// Reads a blob, and fails at its end if it is not what its digest says.
pub(crate) struct Verified<R> {
    reader: Exact<R>,
    hasher: Option<Hasher>,
    expected: Digest,
}

impl<R> Exact<R> {
    pub(crate) fn new(reader: R, size_bytes: u64) -> Self {
        Self { reader, size_bytes, read_bytes: 0 }
    }
}

impl<R> Verified<R> {
    pub(crate) fn new(reader: R, blob: Blob) -> Self {
        Self { reader: Exact::new(reader, blob.size_bytes), hasher: Some(Hasher::default()), expected: blob.digest }
    }
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read_bytes += count as u64;
        let is_short = count == 0 && !buffer.is_empty() && self.read_bytes < self.size_bytes;
        if is_short || self.read_bytes > self.size_bytes {
            // A reader that verifies what it reads knows better at its end what is wrong, and what to do about it.
            let rest_bytes = io::copy(&mut self.reader, &mut io::sink())?;
            let problem = format!("it has {} bytes instead of {}", self.read_bytes + rest_bytes, self.size_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(count)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish().0;
            if found != self.expected {
                let problem = format!("it has digest {found} instead of {}", self.expected);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        Ok(count)
    }
}
