//! What crosses the boundary between the program and a builder that it loaded: text, each a JSON document of a version.
//! Both sides use these words, and what one of them does not know, it ignores. Pure.
//!
//! | method | request | answer |
//! | --- | --- | --- |
//! | `build` | [`BuildRequest::to_json`](crate::builder::BuildRequest::to_json) | [`Report`](crate::report::Report), as JSON |
//! | `lock` | [`BuildRequest::to_json`](crate::builder::BuildRequest::to_json) | [`Plan::to_json`](crate::plan::Plan::to_json) |
//! | `render` | the same with a member `folder`, an absolute path or null: [`RenderRequest::to_json`] | a JSON object with a member `text` |
//! | `find` | [`BuildRequest::to_json`](crate::builder::BuildRequest::to_json) | [`Report`](crate::report::Report), as JSON, or null |
//! | `start` | a list of arguments | the exit code |
//!
//! An answer may be a [`BuildError`](crate::builder::BuildError) instead, which any method may give. Events are
//! [`Event`](crate::event::Event)s.

mod answer;
mod request;

use serde::{Deserialize, Serialize};

pub use answer::{
    InvalidAnswer, description_from_json, error_from_json, error_to_json, event_from_json, found_from_json,
    found_to_json, rendered_from_json, rendered_to_json, report_from_json,
};
pub use request::{InvalidRequest, RenderRequest};

use crate::builder::{BuildError, Restart};

/// Builds an image.
pub const BUILD: &str = "build";
/// Finds out what an image would be made of.
pub const LOCK: &str = "lock";
/// Writes down how an image is made.
pub const RENDER: &str = "render";
/// Looks whether an image can be made, and is there.
pub const FIND: &str = "find";
/// Runs the builder's own code as a process of its own, as [`Restart`] asked for.
pub const START: &str = "start";

/// The version of requests that this crate writes, and the only one that it reads.
pub const REQUEST_VERSION: u32 = 1;

/// What a builder is told when it is loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Greeting {
    /// The program that loaded it, with its version: `imagespec 0.1.0`.
    pub host: String,
    /// How it starts its own code in a new process.
    pub restart: Restart,
}

/// A loaded builder as the program sees it: text in, text out, wherever its code runs.
///
/// It is called from plain threads only, and from several at once.
pub trait Door: Send + Sync {
    /// What the builder says of itself, as JSON.
    ///
    /// # Errors
    /// When it cannot be reached, or panicked.
    fn describe(&self) -> Result<String, CallError>;

    /// Has `method` done and waits for its end. `events` gets each event as JSON, from any thread.
    ///
    /// `operation` is any number that no other call of this door has.
    ///
    /// # Errors
    /// What the builder answered, or why it could not be reached.
    fn call(
        &self,
        operation: u64,
        method: &str,
        request: &str,
        events: &(dyn Fn(&str) + Sync),
    ) -> Result<String, CallError>;

    /// Asks the builder to stop a call soon. It may come before the call, after it, and twice.
    fn cancel(&self, operation: u64);
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The builder's own error, as JSON.
    Answered(String),
    /// The builder cannot be reached, or is no more.
    Gone(Box<BuildError>),
}

impl CallError {
    /// The error for the user. One of the builder's that cannot be read is its bug.
    pub fn into_build_error(self, builder: &str) -> BuildError {
        match self {
            Self::Gone(error) => *error,
            Self::Answered(text) => error_from_json(&text).unwrap_or_else(|invalid| invalid.into_build_error(builder)),
        }
    }
}
