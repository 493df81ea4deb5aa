//! The builder `remote`: builds on BuildKit daemons, wherever they run, and chooses among several by who has most of an
//! image already.

pub mod fleet;
