//! The commands that need no builder inside this program, one file each; the others are `local`'s. They print what they are asked for on stdout and return everything else.

pub(crate) mod build;
pub(crate) mod builders;
pub(crate) mod doctor;
pub(crate) mod exists;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod render;
pub(crate) mod schema;
