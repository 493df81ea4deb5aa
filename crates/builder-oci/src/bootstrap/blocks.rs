//! Writes in blocks of one size, however the bytes come. The compressed bytes of a stream depend on how it is cut, and
//! what comes through a pipe is cut as the kernel likes.

use std::io::{self, Write};

const BLOCK_SIZE_BYTES: usize = 256 << 10;

/// Cuts what is written into blocks.
pub(super) struct Blocks<W> {
    output: W,
    block: Vec<u8>,
}

impl<W: Write> Blocks<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, block: Vec::with_capacity(BLOCK_SIZE_BYTES) }
    }

    /// Writes the last block, which is shorter.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.output.write_all(&self.block)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK_SIZE_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK_SIZE_BYTES {
            self.output.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
