//! `imagespec plugin`: builders that are files.

mod add;
mod config;
mod list;
mod new;
mod template;

pub(crate) use add::{add, remove};
pub(crate) use list::{list, verify};
pub(crate) use new::new;
