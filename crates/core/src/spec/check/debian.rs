//! Names of Debian's and conda's packages.

use super::is_made_of;
use super::url::{channel_url, refuse_channel_token};
use crate::conda::local_channel;
use crate::spec::error::Refusal;

/// `NAME[:ARCHITECTURE][=VERSION][/SUITE]` as apt-get takes it (Debian Policy 5.6.1 for names, 5.6.12 for versions).
pub(crate) fn apt_package(text: &str) -> Result<(), Refusal> {
    if text.contains(' ') {
        let names: Vec<_> = text.split_whitespace().collect();
        return Err(Refusal::new("an entry is one package").hint(format!("write `[{}]`", names.join(", "))));
    }
    if text.starts_with('-') {
        return Err(Refusal::new("it is an option of apt, and only packages stand here"));
    }
    let (rest, version) = match text.split_once('=') {
        Some((rest, version)) => (rest, Some(version)),
        None => (text, None),
    };
    let (rest, suite) = match rest.split_once('/') {
        Some((rest, suite)) => (rest, Some(suite)),
        None => (rest, None),
    };
    let (name, architecture) = match rest.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (rest, None),
    };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Refusal::new("Debian's package names are lower case")
            .hint(format!("did you mean `{}`?", { text.replacen(name, &name.to_ascii_lowercase(), 1) })));
    }
    let is_alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_name = name.len() > 1
        && is_made_of(name, is_alphanumeric, |next| is_alphanumeric(next) || "+.-".contains(next))
        // apt takes a dash at the end as the wish to remove the package.
        && !name.ends_with('-');
    if !is_name {
        return Err(Refusal::new("it is no name of a Debian package")
            .hint("a name has at least two of `a-z`, `0-9`, `+`, `.` and `-`, as in `libgomp1` or `g++`"));
    }
    let is_word = |word: &str| is_made_of(word, is_alphanumeric, |next| is_alphanumeric(next) || "+.-".contains(next));
    if architecture.is_some_and(|architecture| !is_word(architecture)) {
        return Err(Refusal::new("`:` is followed by an architecture, as in `libc6:arm64`"));
    }
    if suite.is_some_and(|suite| !is_word(suite)) {
        return Err(Refusal::new("`/` is followed by a suite, as in `curl/bookworm-backports`"));
    }
    let is_version = |version: &str| {
        is_made_of(
            version,
            |first| first.is_ascii_alphanumeric(),
            |next| next.is_ascii_alphanumeric() || ".+-:~".contains(next),
        )
    };
    if version.is_some_and(|version| !is_version(version)) {
        return Err(Refusal::new("`=` is followed by one exact version, as in `curl=7.88.1-10+deb12u5`"));
    }
    Ok(())
}

/// The code name of a Debian release.
pub(crate) fn suite(text: &str) -> Result<(), Refusal> {
    let hint = "write the code name of a release, as in `bootstrap:debian/bookworm`";
    if matches!(text, "stable" | "testing" | "unstable" | "oldstable" | "oldoldstable") {
        return Err(Refusal::new(format!("`{text}` is another release every few years")).hint(hint));
    }
    if !is_made_of(text, |first| first.is_ascii_lowercase(), |next| next.is_ascii_lowercase() || next == '-') {
        return Err(Refusal::new("the release is no code name").hint(hint));
    }
    Ok(())
}

/// A match spec of conda: `[CHANNEL::]NAME`, then a version and a build, or both in brackets.
pub(crate) fn conda_package(text: &str) -> Result<(), Refusal> {
    let (channel, rest) = match text.split_once("::") {
        Some((channel, rest)) => (Some(channel), rest),
        None => (None, text),
    };
    if let Some(channel) = channel {
        if local_channel(channel).is_some() {
            return Err(Refusal::new("its channel is a folder").hint("name the folder in `conda_channels`"));
        }
        conda_channel(channel)?;
    }
    // A channel may stand in brackets too.
    refuse_channel_token(rest)?;
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    let name_end = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
    let (name, version) = rest.split_at(name_end);
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_') {
        return Err(Refusal::new("it does not begin with the name of a package")
            .hint("write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`"));
    }
    let version = version.trim_start();
    let is_version = version.is_empty()
        || (version.starts_with(|first: char| first.is_ascii_alphanumeric() || "=<>!~*[^".contains(first))
            && version.chars().all(|next| next.is_ascii_alphanumeric() || "=<>!~*[]^$|,._+- :/\"'".contains(next)));
    let opens = version.matches('[').count();
    if !is_version || opens > 1 || opens != version.matches(']').count() || (opens == 1 && !version.ends_with(']')) {
        return Err(Refusal::new("what follows the name is no version")
            .hint("write a match spec, as in `numpy`, `numpy>=1.26` or `conda-forge::numpy=1.26`"));
    }
    Ok(())
}

/// A channel by name, `conda-forge` or `conda-forge/label/dev`, by URL, or by a path that begins with `./` or `../`.
pub(crate) fn conda_channel(text: &str) -> Result<(), Refusal> {
    // A plan has no path of a channel on this machine, so that its components may have any name.
    let is_local = local_channel(text).is_some();
    if !is_local {
        refuse_channel_token(text)?;
    }
    if text.contains("://") {
        return channel_url(text);
    }
    if is_local {
        return Ok(());
    }
    let is_name = |component: &str| {
        is_made_of(
            component,
            |first| first.is_ascii_alphanumeric() || first == '_',
            |next| next.is_ascii_alphanumeric() || "_.-".contains(next),
        )
    };
    if !text.split('/').all(is_name) {
        return Err(Refusal::new("it is no channel")
            .hint("write a name, as in `conda-forge`, or a URL that begins with `https://` or `file://`"));
    }
    Ok(())
}
