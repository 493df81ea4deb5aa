//! Which builds go through a connection, read from its HTTP/2 frames (RFC 9113, section 4) and nothing else of them. Pure.

use std::collections::BTreeSet;

/// What a client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The call of BuildKit that is a build: `moby.buildkit.v1.Control`, method `Solve`.
const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
/// Of the head of a frame.
pub(super) const HEAD_SIZE_BYTES: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Reads frames as they come, in pieces of any length.
#[derive(Default)]
pub(super) struct Frames {
    unread: Vec<u8>,
    is_past_preface: bool,
}

/// The frames that tell of calls.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The builds of one connection: the streams of their calls.
pub(super) struct Builds {
    running: BTreeSet<u32>,
    from_client: Frames,
    from_daemon: Frames,
    /// The path of the call as headers hold it: plain, and in the code of RFC 7541.
    needles: [Vec<u8>; 2],
}

impl Builds {
    pub(super) fn new() -> Self {
        let from_daemon = Frames { is_past_preface: true, ..Frames::default() };
        let needles = [SOLVE.as_bytes().to_vec(), in_code(SOLVE)];
        Self { running: BTreeSet::new(), from_client: Frames::default(), from_daemon, needles }
    }

    /// Reads what the client sends, and says how many builds there are now.
    pub(super) fn client_sends(&mut self, bytes: &[u8]) -> usize {
        for frame in self.from_client.read(bytes) {
            let is_solve = self.needles.iter().any(|needle| contains(&frame.payload, needle));
            match frame.kind {
                HEADERS if is_solve => _ = self.running.insert(frame.stream),
                RST_STREAM => _ = self.running.remove(&frame.stream),
                _ => {}
            }
        }
        self.running.len()
    }

    /// Reads what the daemon sends, and says how many builds there are now.
    pub(super) fn daemon_sends(&mut self, bytes: &[u8]) -> usize {
        for frame in self.from_daemon.read(bytes) {
            if frame.kind == RST_STREAM || frame.flags & END_STREAM != 0 {
                self.running.remove(&frame.stream);
            }
        }
        self.running.len()
    }
}

impl Frames {
    fn read(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.unread.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut rest = self.unread.as_slice();
        if !self.is_past_preface {
            let Some(behind) = rest.get(PREFACE.len()..) else { return frames };
            rest = behind;
            self.is_past_preface = true;
        }
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD_SIZE_BYTES>() {
            let Some((payload, behind)) = behind.split_at_checked(payload_size_bytes(head)) else { break };
            if matches!(head[3], HEADERS | RST_STREAM) {
                let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
                frames.push(Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() });
            }
            rest = behind;
        }
        self.unread = rest.to_vec();
        frames
    }
}

/// How much follows the head of a frame.
pub(super) fn payload_size_bytes(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// The daemon's frame SETTINGS, with the word that it keeps no table of headers (RFC 9113, section 6.5.2): the client then
/// writes the path of each call out, where it would otherwise be a number from the second call on.
pub(super) fn without_table(mut settings: Vec<u8>) -> Vec<u8> {
    settings.extend([0, 1, 0, 0, 0, 0]);
    let size = u32::try_from(settings.len() - HEAD_SIZE_BYTES).expect("a frame is short");
    settings[..3].copy_from_slice(&size.to_be_bytes()[1..]);
    settings
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A text in the code of HPACK (RFC 7541, appendix B), filled up with ones.
fn in_code(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for character in text.chars() {
        bits.push_str(match character {
            '.' => "010111",
            '/' => "011000",
            '1' => "00001",
            'C' => "1011110",
            'S' => "1101110",
            'b' => "100011",
            'd' => "100100",
            'e' => "00101",
            'i' => "00110",
            'k' => "1110101",
            'l' => "101000",
            'm' => "101001",
            'n' => "101010",
            'o' => "00111",
            'r' => "101100",
            't' => "01001",
            'u' => "101101",
            'v' => "1110111",
            'y' => "1111010",
            other => panic!("`{other}` stands in no path that is looked for"),
        });
    }
    let full = bits.len().next_multiple_of(8);
    bits.extend(std::iter::repeat_n('1', full - bits.len()));
    let byte = |place: usize| u8::from_str_radix(&bits[place..place + 8], 2).expect("there are only ones and zeros");
    (0..full).step_by(8).map(byte).collect()
}
