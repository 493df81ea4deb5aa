//! The texts that `base_image` takes.

use std::path::PathBuf;

use super::BaseImage;
use super::check;
use super::error::Refusal;
use crate::document::Format;
use crate::reference::{REGISTRY_CREDENTIALS_HINT, Reference, holds_credentials};

/// Reads the text of a `base_image`.
pub(crate) fn parse(text: &str) -> Result<BaseImage, Refusal> {
    if text == "scratch" {
        return Ok(BaseImage::Scratch);
    }
    let is_local =
        ["oci:", "docker-archive:", "bootstrap:", "./", "../", "/"].iter().any(|start| text.starts_with(start));
    if !is_local && holds_credentials(text) {
        return Err(Refusal::Credentials { hint: REGISTRY_CREDENTIALS_HINT });
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let hint = match scheme {
            "docker" | "http" | "https" => format!("write `{rest}`"),
            _ => "write a reference, as in `python:3.11-slim`".to_owned(),
        };
        return Err(Refusal::new("an image is named without a scheme").hint(hint));
    }
    match text.split_once(':') {
        Some(("oci", path)) => return Ok(BaseImage::OciLayout(local(path, "oci:DIR")?)),
        Some(("docker-archive", path)) => return Ok(BaseImage::DockerArchive(local(path, "docker-archive:FILE")?)),
        Some(("bootstrap", release)) => return bootstrap(release),
        _ => {}
    }
    let is_path = text.starts_with("./") || text.starts_with("../") || text.starts_with('/');
    let path = PathBuf::from(text);
    if Format::of(&path).is_ok() {
        return Ok(BaseImage::SpecFile(path));
    }
    if is_path {
        return Err(Refusal::new("a path must be that of another spec")
            .hint("a spec's name ends in `.yaml`, `.yml`, `.toml` or `.json`")
            .hint(format!("an OCI layout is named `oci:{text}`")));
    }
    match text.parse::<Reference>() {
        Ok(reference) => Ok(BaseImage::Registry(reference)),
        Err(error) => Err(Refusal::new(error.problem())
            .hint("write a reference, as in `python:3.11-slim` or `ghcr.io/team/base@sha256:…`")),
    }
}

fn local(path: &str, form: &str) -> Result<PathBuf, Refusal> {
    match path {
        "" => Err(Refusal::new("the path is missing").hint(format!("write `{form}`, relative to the spec"))),
        path => Ok(PathBuf::from(path)),
    }
}

fn bootstrap(release: &str) -> Result<BaseImage, Refusal> {
    match release.split_once('/') {
        Some(("debian", suite)) => {
            check::suite(suite)?;
            Ok(BaseImage::Bootstrap { suite: suite.to_owned() })
        }
        _ => Err(Refusal::new("only Debian can be made from its packages")
            .hint("write the code name of a release, as in `bootstrap:debian/bookworm`")),
    }
}
