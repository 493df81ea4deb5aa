//! The embedded builder: assembles OCI images with no daemon.

pub mod sandbox;
