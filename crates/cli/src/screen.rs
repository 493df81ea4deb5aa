//! The terminal at stderr, on which bars are drawn in buffered writes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::TermLike;

/// A terminal that says no size.
const SIZE_UNKNOWN: (u16, u16) = (80, 24);

/// Stderr as a terminal that knows ANSI's escape sequences (ECMA-48).
#[derive(Debug, Default)]
pub(crate) struct Screen {
    pending: Mutex<String>,
    /// Whether what is drawn last is a bar.
    ///
    /// Lines come padded to the whole width, so that what others print next begins a new one. But behind a bar the next
    /// is the `^C` that the terminal shows, and a new line more than expected leaves a bar behind.
    has_bars: Arc<AtomicBool>,
}

impl Screen {
    /// A screen that is told by `has_bars` whether there are any.
    pub(crate) fn new(has_bars: Arc<AtomicBool>) -> Self {
        Self { has_bars, ..Self::default() }
    }

    fn put(&self, text: &str) -> io::Result<()> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    fn move_cursor(&self, count: usize, direction: char) -> io::Result<()> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if count > 0 {
            write!(pending, "\x1b[{count}{direction}").map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Columns and rows.
fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => SIZE_UNKNOWN,
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size().0
    }

    fn height(&self) -> u16 {
        size().1
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.put(text)?;
        self.put("\r\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let text = if self.has_bars.load(Ordering::Relaxed) { text.trim_end_matches(' ') } else { &text };
        let mut stderr = io::stderr().lock();
        stderr.write_all(text.as_bytes())?;
        stderr.flush()
    }
}
