//! `imagespec plugin`: builders that are files.

pub(crate) mod new;
mod template;
