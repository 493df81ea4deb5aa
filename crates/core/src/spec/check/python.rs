//! Python versions and packages.

use pep508_rs::{Pep508ErrorSource, Requirement};
use url::Url;

use super::is_version;
use super::url::refuse_credentials;
use crate::spec::error::Refusal;

/// A requirement longer than this is no requirement; the parser of markers recurses and multiplies.
const CHARACTERS_MAX: usize = 1000;
/// How many `and` and `or` a marker may have: each can double the work of the parser.
const MARKER_OPERATORS_MAX: usize = 24;

const CREDENTIALS_HINT: &str = "give the credentials to the build: in a netrc file named under `pip_secret_mounts`";

const LOCAL_HINT: &str = "copy the package by `copy` and install it in `commands`, or name its published version";

/// `3.MINOR` or `3.MINOR.PATCH`.
pub(crate) fn python_version(text: &str) -> Result<(), Refusal> {
    if is_version(text, 2..=3) && text.starts_with("3.") {
        return Ok(());
    }
    if text.starts_with(['<', '>', '=', '~', '!', '^']) || text.contains(['*', ',']) {
        return Err(Refusal::new("a range is no version").hint("choose one version, as in `3.11`"));
    }
    let number = text.trim_start_matches(|character: char| !character.is_ascii_digit());
    if text == "2" || text.starts_with("2.") {
        return Err(Refusal::new("Python 2 is not supported").hint("write a version of Python 3, as in `3.11`"));
    }
    if text == "3" {
        return Err(Refusal::new("the minor version is missing").hint("write it too, as in `3.11`"));
    }
    if number != text && is_version(number, 2..=3) && number.starts_with("3.") {
        return Err(Refusal::new("a version is numbers and dots").hint(format!("did you mean `{number}`?")));
    }
    // `py311` is what wheels and linters call Python 3.11.
    if let Some(minor) = number.strip_prefix('3').filter(|minor| is_version(minor, 1..=1) && number != "3") {
        return Err(Refusal::new("a version is numbers and dots").hint(format!("did you mean `3.{minor}`?")));
    }
    Err(Refusal::new("it is no version of Python").hint("write `3.MINOR` or `3.MINOR.PATCH`, as in `3.11`"))
}

/// A requirement as PEP 508 has it, or a bare URL as pip takes it: `git+https://…` or the URL of an archive.
pub(crate) fn python_package(text: &str) -> Result<(), Refusal> {
    if text.len() > CHARACTERS_MAX {
        return Err(Refusal::new(format!("it is longer than {CHARACTERS_MAX} characters")));
    }
    if !text.is_ascii() {
        return Err(Refusal::new("a requirement has only ASCII characters"));
    }
    if text.starts_with('-') {
        return Err(Refusal::new("it is an option of pip, and only packages stand here")
            .hint("options go to `pip_extra_args`, and a requirements file to `requirements`"));
    }
    if is_bare_url(text) {
        return bare_url(text);
    }
    if text.starts_with(['.', '/', '~']) {
        return Err(Refusal::new("it lies on this machine, and may change unseen").hint(LOCAL_HINT));
    }
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let operators = words.filter(|word| matches!(*word, "and" | "or")).count();
    if operators > MARKER_OPERATORS_MAX || text.matches('(').count() > MARKER_OPERATORS_MAX {
        return Err(Refusal::new("its marker is too complicated"));
    }
    if names(text).any(|name| name.ends_with(['.', '-', '_'])) {
        return Err(Refusal::new("a name ends with a letter or a digit"));
    }
    match text.parse::<Requirement<Url>>() {
        Ok(requirement) => match requirement.version_or_url {
            Some(pep508_rs::VersionOrUrl::Url(url)) => refuse_credentials(&url, CREDENTIALS_HINT),
            _ => Ok(()),
        },
        Err(error) => Err(refusal(text, error.message)),
    }
}

/// The name and the extras of a requirement. The parser takes their last characters for granted, and panics.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let name_end = text.find(|character| !is_part(character)).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let extras = rest.trim_start().strip_prefix('[').and_then(|extras| extras.split(']').next()).unwrap_or_default();
    std::iter::once(name).chain(extras.split(',').map(str::trim))
}

fn refusal(text: &str, source: Pep508ErrorSource<Url>) -> Refusal {
    let message = source.to_string();
    let message = message.lines().next().unwrap_or_default();
    let problem =
        message.chars().take(1).flat_map(char::to_lowercase).chain(message.chars().skip(1)).collect::<String>();
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let are_names = words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let refusal = Refusal::new(problem.trim_end_matches('.'));
    if words.len() > 1 && are_names {
        return refusal.hint(format!("an entry is one package: write `[{}]`", words.join(", ")));
    }
    if let Some((name, version)) = text.split_once('=').filter(|(name, version)| {
        !version.starts_with('=') && name.ends_with(|last: char| last.is_ascii_alphanumeric())
    }) {
        return refusal.hint(format!("did you mean `{name}=={version}`?"));
    }
    refusal.hint("write a name and perhaps versions, as in `pandas` or `pandas>=2,<3`")
}

fn is_bare_url(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    matches!(scheme, "http" | "https" | "file" | "ssh" | "git")
        || ["git+", "hg+", "svn+", "bzr+"].iter().any(|version_control| scheme.starts_with(version_control))
}

fn bare_url(text: &str) -> Result<(), Refusal> {
    // A marker may follow a URL, behind a blank and a semicolon.
    let address = text.split_once(" ;").map_or(text, |(address, _)| address).trim_end();
    let url = Url::parse(address).map_err(|error| Refusal::new(format!("it is no URL: {error}")))?;
    refuse_credentials(&url, CREDENTIALS_HINT)?;
    if address.contains(' ') {
        return Err(Refusal::new("a URL has no blanks"));
    }
    if url.host_str().is_none_or(str::is_empty) && !url.scheme().ends_with("file") {
        return Err(Refusal::new("its URL has no host"));
    }
    match url.scheme() {
        "http" | "https" if url.path().ends_with(".git") => {
            Err(Refusal::new("it is a repository, and no archive").hint(format!("write `git+{text}`")))
        }
        "http" | "https" | "git+https" | "git+http" | "git+ssh" => Ok(()),
        "file" | "git+file" => Err(Refusal::new("it lies on this machine, and may change unseen").hint(LOCAL_HINT)),
        "ssh" | "git" => Err(Refusal::new("pip does not take it").hint("write `git+ssh://…` or `git+https://…`")),
        scheme => Err(Refusal::new(format!("`{scheme}` is not supported"))
            .hint("a repository is given as `git+https://…` or `git+ssh://…`")),
    }
}

/// The package that people mean who name a package by what they import.
pub(crate) fn likely_package(requirement: &str) -> Option<&'static str> {
    let name_end = requirement.find(|next: char| !next.is_ascii_alphanumeric() && !"_.-".contains(next));
    let name = &requirement[..name_end.unwrap_or(requirement.len())];
    Some(match name.to_ascii_lowercase().as_str() {
        "sklearn" => "scikit-learn",
        "skimage" => "scikit-image",
        "cv2" => "opencv-python-headless",
        "pil" => "pillow",
        "bs4" => "beautifulsoup4",
        "yaml" => "pyyaml",
        "dotenv" => "python-dotenv",
        "dateutil" => "python-dateutil",
        _ => return None,
    })
}
