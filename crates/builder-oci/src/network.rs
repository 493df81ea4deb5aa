//! What a failed transfer comes down to. Pure.

use std::error::Error;
use std::io;

/// What lies at the bottom of `error`: that a connection was refused, and not that a request could not be sent. The
/// address, which may hold a password, is not in it.
pub(crate) fn innermost(error: &reqwest::Error) -> io::Error {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() {
        return io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    }
    match cause.downcast_ref::<reqwest::Error>() {
        // It is its own cause, and would name the address.
        Some(_) => io::Error::other("the request could not be sent"),
        None => io::Error::other(cause.to_string()),
    }
}
