//! The builder `docker`: Docker Engine and Podman over their API alone, and the BuildKit inside.

pub mod engine;
