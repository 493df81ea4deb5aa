//! What the three readers take, and the exact text of what they refuse.

mod hostile;
mod refused;
mod scalars;

use super::*;

fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Node, SpecError> {
    let format = Format::of(Path::new(name))?;
    Node::parse(name, text.as_ref(), format)
}

/// The error of a text. That it is found quickly is for the benches to show.
fn error(name: &str, text: impl AsRef<[u8]>) -> String {
    match parse(name, text) {
        Ok(node) => panic!("accepted: {}", node.to_json()),
        Err(error) => error.diagnostic().render(),
    }
}
