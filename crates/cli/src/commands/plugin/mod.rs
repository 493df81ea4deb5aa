//! `imagespec plugin`: builders that are files.

mod add;
mod config;
mod list;

pub(crate) use add::{add, remove};
pub(crate) use list::{list, verify};
