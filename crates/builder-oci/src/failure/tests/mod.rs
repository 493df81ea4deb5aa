//! Failures as a user reads them.

mod conda;
mod debian;
mod lock;
mod machine;
mod packages;
mod server;
mod sources;

use crate::builder::Failure;
use server::{Answer, Server};

fn told(failure: impl Into<Failure>) -> String {
    failure.into().tell().diagnostic().render()
}

/// `text` with a word in place of each digest, which differs from release to release.
fn without_digests(text: &str) -> String {
    let words = text.split_inclusive(|character: char| character.is_whitespace() || character == '`');
    let shown = words.map(|word| match word.split_once("sha256:") {
        Some((before, digest)) => {
            let end = digest.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(digest.len());
            format!("{before}DIGEST{}", &digest[end..])
        }
        None => word.to_owned(),
    });
    shown.collect()
}

/// An address of this machine at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}
