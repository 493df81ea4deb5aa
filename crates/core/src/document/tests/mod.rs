//! What the three readers take, and the exact text of what they refuse.

mod hostile;
mod refused;
mod scalars;

use std::time::{Duration, Instant};

use super::*;

fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Node, SpecError> {
    let format = Format::of(Path::new(name))?;
    Node::parse(name, text.as_ref(), format)
}

/// The error of a text, found quickly however hostile the text is.
fn error(name: &str, text: impl AsRef<[u8]>) -> String {
    let start = Instant::now();
    let result = parse(name, text);
    let elapsed = start.elapsed();
    // Ten times the promise, because this is a debug build on a busy machine.
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    match result {
        Ok(node) => panic!("accepted: {}", node.to_json()),
        Err(error) => error.diagnostic().render(),
    }
}
