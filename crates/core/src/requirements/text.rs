//! A text file named by a spec, read within bounds, with places in it; and the logical lines of a requirements file.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::RequirementsProblem;
use super::path::PathProblem;
use crate::digest::Digest;
use crate::place::{Place, Source};

/// Bytes that a requirements or lock file may have.
const SIZE_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// A file that was read.
pub(super) struct TextFile {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its name for errors, and its text without a byte order mark.
    pub(super) source: Arc<Source>,
    /// Digest of its bytes.
    pub(super) digest: Digest,
}

impl TextFile {
    /// Reads the file at `path`, called `name` in errors.
    pub(super) fn read(path: &Path, name: &str) -> Result<Self, RequirementsProblem> {
        let unreadable = |error| PathProblem::Unreadable { path: name.to_owned(), source: error };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        // Opening a fifo would wait for a writer.
        if !metadata.is_file() {
            return Err(RequirementsProblem::NotAFile { path: name.to_owned() });
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > SIZE_BYTES_MAX {
            return Err(RequirementsProblem::TooLarge { path: name.to_owned() });
        }
        let digest = Digest::of(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| RequirementsProblem::NotUtf8 { path: name.to_owned() })?;
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let source = Arc::new(Source { name: name.to_owned(), text });
        Ok(Self { path: path.to_owned(), source, digest })
    }

    /// The place of the bytes `span` of the text.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        place(&self.source, span)
    }

    /// The first line of the file, for errors about all of it.
    pub(super) fn start(&self) -> Place {
        Place { source: Arc::clone(&self.source), line: 1, column: 1, length: 1 }
    }

    /// Reads the text as TOML.
    pub(super) fn toml<T: serde::de::DeserializeOwned>(&self) -> Result<T, (RequirementsProblem, Place)> {
        toml::from_str(&self.source.text).map_err(|error| {
            let place = error.span().map_or_else(|| self.start(), |span| self.place(span));
            (RequirementsProblem::Toml { message: error.message().to_owned() }, place)
        })
    }
}

/// The place of the bytes `span` of a text; what goes beyond the first line is cut off.
pub(super) fn place(source: &Arc<Source>, span: Range<usize>) -> Place {
    let text = &source.text;
    let start = floor(text, span.start);
    let end = floor(text, span.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |position| position + 1);
    let stretch = text[start..end].lines().next().unwrap_or_default();
    Place {
        source: Arc::clone(source),
        line: text[..start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        length: stretch.chars().count().max(1),
    }
}

fn floor(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

/// A line of a requirements file after continuation lines were joined and the comment was cut off.
pub(super) struct LogicalLine<'a> {
    /// The joined text.
    pub(super) text: String,
    /// From which byte of `text` on it comes from which byte of the file, in order.
    segments: Vec<(usize, usize)>,
    file: &'a TextFile,
}

impl<'a> LogicalLine<'a> {
    /// The place of the bytes `span` of this line in the file.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let start = self.file_offset(span.start);
        self.file.place(start..start + span.len())
    }

    /// The place of the whole line.
    pub(super) fn whole(&self) -> Place {
        self.file.place(self.span())
    }

    /// The bytes of the file that the line begins with.
    pub(super) fn span(&self) -> Range<usize> {
        let indent = self.text.len() - self.text.trim_start().len();
        let start = self.file_offset(indent);
        start..start + self.text.trim().len()
    }

    /// The file's text.
    pub(super) fn source(&self) -> Arc<Source> {
        Arc::clone(&self.file.source)
    }

    fn file_offset(&self, position: usize) -> usize {
        let segment = self.segments.iter().rev().find(|(start, _)| *start <= position);
        segment.map_or(0, |(start, offset)| offset + (position - start))
    }

    /// The lines of `file` that say something, as pip joins and strips them.
    pub(super) fn all(file: &'a TextFile) -> Vec<Self> {
        let mut lines = Vec::new();
        let mut open: Option<Self> = None;
        let mut offset = 0;
        for raw in file.source.text.split('\n') {
            let line = raw.strip_suffix('\r').unwrap_or(raw);
            let current = open.get_or_insert_with(|| Self { text: String::new(), segments: Vec::new(), file });
            current.segments.push((current.text.len(), offset));
            offset += raw.len() + 1;
            // A comment ends a continued line, and a backslash inside of it continues nothing.
            let is_comment = line.trim_start().starts_with('#');
            if let Some(continued) = line.strip_suffix('\\').filter(|_| !is_comment) {
                current.text.push_str(continued);
                continue;
            }
            if !is_comment {
                current.text.push_str(line);
            }
            lines.extend(open.take());
        }
        lines.extend(open);
        for line in &mut lines {
            line.cut_comment();
        }
        lines.retain(|line| !line.text.trim().is_empty());
        lines
    }

    fn cut_comment(&mut self) {
        let bytes = self.text.as_bytes();
        let comment = (0..bytes.len())
            .find(|&position| bytes[position] == b'#' && (position == 0 || bytes[position - 1].is_ascii_whitespace()));
        if let Some(position) = comment {
            self.text.truncate(position);
        }
    }
}
