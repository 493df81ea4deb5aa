//! What is said between the program and a worker. A frame is its kind (one byte), the operation (eight, little-endian),
//! the length of the text (four) and the text.

use std::io::{self, Read, Write};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the worker: have a method done. The text is the method, a line feed, and the request.
    Call,
    /// To the worker: stop.
    Cancel,
    /// From the worker, first: the description.
    Ready,
    /// From the worker, first and last: why it is not ready.
    Refused,
    /// From the worker: the same, as the builder itself says it.
    RefusedByBuilder,
    /// From the worker.
    Event,
    /// From the worker.
    Trace,
    /// From the worker: the answer to a call.
    Answer,
    /// From the worker: the builder's error.
    Failure,
}

impl Kind {
    /// The longest text of its kind in bytes.
    fn size_bytes_max(self) -> usize {
        match self {
            // A request with the plan of a large image has less than a tenth of it.
            Self::Call | Self::Answer | Self::Ready | Self::Failure => 256 << 20,
            // A thousand of them may wait.
            Self::Cancel | Self::Refused | Self::RefusedByBuilder | Self::Event | Self::Trace => 1 << 20,
        }
    }
}

const KINDS: [Kind; 9] = [
    Kind::Call,
    Kind::Cancel,
    Kind::Ready,
    Kind::Refused,
    Kind::RefusedByBuilder,
    Kind::Event,
    Kind::Trace,
    Kind::Answer,
    Kind::Failure,
];

/// Something that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) operation: u64,
    pub(super) text: String,
}

impl Frame {
    /// Writes it in one piece.
    pub(super) fn write(kind: Kind, operation: u64, text: &str, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= kind.size_bytes_max());
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a text is too long"))?;
        let number = KINDS.iter().position(|known| *known == kind).expect("every kind is listed");
        let mut bytes = Vec::with_capacity(13 + text.len());
        bytes.push(u8::try_from(number).expect("there are nine"));
        bytes.extend(operation.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(text.as_bytes());
        to.write_all(&bytes)
    }

    /// Reads one, or nothing at the end.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut number = [0];
        loop {
            match from.read(&mut number) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let kind = *KINDS.get(usize::from(number[0])).ok_or_else(|| invalid("a frame of an unknown kind"))?;
        let (mut operation, mut length) = ([0; 8], [0; 4]);
        from.read_exact(&mut operation)?;
        from.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > kind.size_bytes_max() {
            return Err(invalid("a frame is too long"));
        }
        let mut text = Vec::new();
        // It is believed as it comes: a length alone reserves no memory.
        if from.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut text)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8(text).map_err(|_| invalid("a frame is not UTF-8"))?;
        Ok(Some(Self { kind, operation: u64::from_le_bytes(operation), text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_and_broken_ones_are_refused() {
        let mut bytes = Vec::new();
        for kind in KINDS {
            Frame::write(kind, 7, "text\n", &mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        for kind in KINDS {
            let frame = Frame { kind, operation: 7, text: "text\n".to_owned() };
            assert_eq!(Frame::read(&mut rest).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut rest).unwrap(), None);
        assert!(Frame::read(&mut &bytes[..5]).is_err());
        assert!(Frame::read(&mut &bytes[..15]).is_err());
        assert!(Frame::read(&mut [9_u8; 13].as_slice()).is_err());
        assert!(Frame::read(&mut [0_u8, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255].as_slice()).is_err());
    }
}
