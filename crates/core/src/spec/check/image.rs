//! What becomes part of an image's name or of its config.

use super::{is_made_of, is_version};
use crate::plan::ID_VARIABLE;
use crate::platform::{InvalidPlatform, Platform};
use crate::reference::{REGISTRY_CREDENTIALS_HINT, Reference, holds_credentials};
use crate::spec::error::Refusal;
use crate::suggestion;

const COMMON_PLATFORMS: [&str; 6] =
    ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64"];

/// Labels by which an image says where it comes from.
const OWN_LABELS: [&str; 5] = [
    "imagespec.id",
    "imagespec.spec-hash",
    "imagespec.version",
    "org.opencontainers.image.base.digest",
    "org.opencontainers.image.base.name",
];

/// What a spec hash looks like to the grammar of tags: 32 characters of base32.
const ANY_HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The repository of an image, without its registry: components of lower-case letters between `/`.
pub(crate) fn image_name(text: &str) -> Result<(), Refusal> {
    let parsed = format!("localhost/{text}").parse::<Reference>();
    if parsed.is_ok_and(|reference| reference.repository() == text) {
        return Ok(());
    }
    let refusal = Refusal::new("a name has lower-case letters, digits and single `.`, `_` or `-` between them");
    let likely: String = text
        .to_lowercase()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-/".contains(character) { character } else { '-' })
        .collect();
    let likely = likely.trim_matches(['.', '_', '-', '/']);
    match format!("localhost/{likely}").parse::<Reference>() {
        Ok(_) if likely != text && !text.contains(':') => Err(refusal.hint(format!("did you mean `{likely}`?"))),
        _ => Err(refusal.hint("the registry goes to `registry`, and the tag to `tag_format`")),
    }
}

/// `HOST[:PORT][/PATH]`, or the name of an account on Docker Hub.
pub(crate) fn registry(text: &str) -> Result<(), Refusal> {
    if holds_credentials(text) {
        return Err(Refusal::Credentials { hint: REGISTRY_CREDENTIALS_HINT });
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(Refusal::new("a registry is written without a scheme")
            .hint(format!("write `{}`", rest.trim_end_matches('/'))));
    }
    if text.ends_with('/') {
        return Err(Refusal::new("it ends in a slash").hint(format!("write `{}`", text.trim_end_matches('/'))));
    }
    // A host alone is a registry too, but the grammar of references knows it only with a repository behind it.
    match format!("{text}/x").parse::<Reference>() {
        Ok(reference) if reference.digest().is_none() => Ok(()),
        _ => Err(Refusal::new("it is not `HOST`, `HOST:PORT` or one of them with a path")
            .hint("write where images are pushed, as in `ghcr.io/team` or `localhost:5000`")),
    }
}

/// A tag with `{spec_hash}` in it.
pub(crate) fn tag_format(text: &str) -> Result<(), Refusal> {
    let tag = text.replace("{spec_hash}", ANY_HASH);
    if tag.contains(['{', '}']) {
        return Err(Refusal::new("`{spec_hash}` is the only placeholder").hint("write it as in `{spec_hash}-dev`"));
    }
    if tag == text {
        return Err(Refusal::new("without `{spec_hash}` the tag would stay the same when the image changes")
            .hint(format!("write `{{spec_hash}}-{text}`")));
    }
    let any = "localhost/x".parse::<Reference>().map_err(|_| Refusal::new("it is no tag"))?;
    match any.with_tag(&tag) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new("the tag would not be valid")
            .hint("a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two")),
    }
}

/// A platform that images can be built for.
pub(crate) fn platform(text: &str) -> Result<Platform, Refusal> {
    let error = match text.parse::<Platform>() {
        Ok(platform) => return Ok(platform),
        Err(error) => error,
    };
    if text.contains(',') {
        let list: Vec<_> = text.split(',').map(str::trim).collect();
        return Err(Refusal::new("it is more than one platform").hint(format!("write `[{}]`", list.join(", "))));
    }
    let architecture = text.rsplit_once('/').map_or(text, |(_, architecture)| architecture);
    let architecture = match architecture {
        "x86_64" | "x64" | "x86-64" => "amd64",
        "aarch64" | "armv8" => "arm64",
        "armv7l" | "armhf" => "arm/v7",
        other => other,
    };
    let likely = format!("linux/{architecture}");
    let refusal = Refusal::new(match error {
        InvalidPlatform::NotLinux { .. } => "images are built for Linux alone",
        InvalidPlatform::Unknown { .. } => "it is no platform that images are built for",
    });
    Err(match likely.parse::<Platform>() {
        Ok(_) => refusal.hint(format!("did you mean `{likely}`?")),
        Err(_) => match suggestion::closest(text, COMMON_PLATFORMS) {
            Some(likely) => refusal.hint(format!("did you mean `{likely}`?")),
            None => refusal.hint("the usual ones are `linux/amd64` and `linux/arm64`"),
        },
    })
}

/// The name of an environment variable that a spec may set.
pub(crate) fn environment_name(text: &str) -> Result<(), Refusal> {
    if text == ID_VARIABLE {
        return Err(Refusal::new("imagespec sets it itself, to the id of the spec"));
    }
    match is_made_of(text, is_identifier_start, |next| is_identifier_start(next) || next.is_ascii_digit()) {
        true => Ok(()),
        false => Err(Refusal::new("a variable has letters, digits and `_`, and begins with no digit")),
    }
}

fn is_identifier_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

/// The name of a label, as in `org.opencontainers.image.source`.
pub(crate) fn label_name(text: &str) -> Result<(), Refusal> {
    if OWN_LABELS.contains(&text) {
        return Err(Refusal::new("imagespec sets it itself"));
    }
    let is_label = is_made_of(
        text,
        |first| first.is_ascii_alphanumeric(),
        |next| next.is_ascii_alphanumeric() || "._-/".contains(next),
    );
    match is_label {
        true => Ok(()),
        false => Err(Refusal::new("a label has letters, digits, `.`, `_`, `-` and `/`")),
    }
}

/// The name under which a secret is handed to a build.
pub(crate) fn secret_id(text: &str) -> Result<(), Refusal> {
    let is_id = is_made_of(text, is_identifier_start, |next| next.is_ascii_alphanumeric() || "_.-".contains(next));
    match is_id {
        true => Ok(()),
        false => Err(Refusal::new("an id has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`")),
    }
}

/// The name of a builder.
pub(crate) fn builder_name(text: &str) -> Result<(), Refusal> {
    let is_name = is_made_of(
        text,
        |first| first.is_ascii_lowercase() || first.is_ascii_digit(),
        |next| next.is_ascii_lowercase() || next.is_ascii_digit() || "_.-".contains(next),
    );
    match is_name {
        true => Ok(()),
        false => Err(Refusal::new("a builder has lower-case letters, digits, `_`, `.` and `-`")
            .hint("`imagespec builders` lists the ones that there are")),
    }
}

/// `USER`, `UID`, or one of them with `:GROUP` or `:GID` (OCI image-spec, "Image Configuration", property `User`).
pub(crate) fn user(text: &str) -> Result<(), Refusal> {
    let is_name = |name: &str| {
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let is_login =
            is_made_of(name, is_identifier_start, |next| next.is_ascii_alphanumeric() || "_.-".contains(next));
        (is_number && name.parse::<u32>().is_ok()) || (is_login && name.len() <= 32)
    };
    match text.split(':').count() <= 2 && text.split(':').all(is_name) {
        true => Ok(()),
        false => {
            Err(Refusal::new("it is no user").hint("write a name or a number, as in `app`, `1000` or `1000:1000`"))
        }
    }
}

/// A version of CUDA or cuDNN: numbers between dots.
pub(crate) fn cuda_version(text: &str) -> Result<(), Refusal> {
    if is_version(text, 1..=4) {
        return Ok(());
    }
    let number = text.trim_start_matches(|character: char| !character.is_ascii_digit());
    let refusal = Refusal::new("a version is numbers and dots");
    match is_version(number, 1..=4) {
        // PyTorch calls CUDA 12.4 `cu124`.
        true if text.starts_with("cu") && number.len() == 3 && !number.contains('.') => {
            Err(refusal.hint(format!("did you mean `{}.{}`?", &number[..2], &number[2..])))
        }
        true => Err(refusal.hint(format!("did you mean `{number}`?"))),
        false => Err(refusal.hint("write it as in `12.4`")),
    }
}
