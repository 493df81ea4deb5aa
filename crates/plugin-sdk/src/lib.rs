//! For authors of builders: a type that implements [`Builder`](core::builder::Builder) becomes a file that imagespec
//! loads.
//!
//! ```ignore
//! imagespec_plugin_sdk::export_builder! { name: "mine", make: |_restart| Box::new(MyBuilder) }
//! ```
//!
//! Which words cross the boundary says [`core::boundary`]; an author need not know them. [`conformance`] is the kit that
//! every builder passes, for the author's own tests.

#[cfg(panic = "abort")]
compile_error!(
    "a plugin must be compiled with `panic = \"unwind\"`: a panic is an error of the build, not the end of imagespec"
);

mod descriptor;
mod export;
mod speaker;
mod trace;

pub use imagespec_core as core;
#[doc(hidden)]
pub use imagespec_plugin_abi as abi;

#[doc(hidden)]
pub use descriptor::{descriptor, length as descriptor_length};
#[doc(hidden)]
pub use export::{Exported, Exports, plugin};
pub use speaker::Speaker;
