//! Why a spec has another hash than before: what two plans differ in, in the words of the spec. Pure.
//!
//! Plans are compared as the JSON that is hashed, so that whatever changes the hash is told, members that this program
//! does not know included.

mod compare;
mod document;
mod parts;
mod uncounted;

pub use compare::{Change, Difference, compare};
pub use document::{HashedPlan, NotAPlan};
pub use parts::{Part, PartValue, parts};
pub use uncounted::uncounted;

#[cfg(test)]
mod tests;
