//! What imagespec is about, without doing any of it: specs, plans, their hashes, and the trait of a builder.
//!
//! The crate is sync and reads files only where a spec names them. It knows no network, no environment and no clock.

pub mod boundary;
pub mod builder;
pub mod cache_location;
pub mod conda;
pub mod diagnostic;
pub mod digest;
pub mod document;
pub mod event;
pub mod explanation;
pub mod files;
pub mod hash;
pub mod lock;
pub mod lower;
pub mod masked;
pub mod options;
pub mod place;
pub mod plan;
pub mod platform;
pub mod project;
pub mod reference;
pub mod report;
pub mod requirements;
pub mod resolve;
pub mod runtime;
pub mod schema;
pub mod spec;
pub mod suggestion;
pub mod uv;

#[cfg(test)]
mod testing;
