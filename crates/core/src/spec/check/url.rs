//! URLs of package indexes, channels and mirrors: never with a password in them.

use url::Url;

use crate::requirements::{CREDENTIALS_HINT, RequirementProblem, check_url};
use crate::spec::error::Refusal;

/// A Python package index.
pub(crate) fn index_url(text: &str) -> Result<(), Refusal> {
    check_url(text).map_err(|problem| {
        let problem = match problem {
            RequirementProblem::Credentials { .. } => return Refusal::Credentials { hint: CREDENTIALS_HINT },
            RequirementProblem::Scheme { .. } => "its URL begins with neither `https://` nor `http://`".to_owned(),
            RequirementProblem::Syntax { message, .. } => format!("it is no URL: {message}"),
            RequirementProblem::Local { .. } => "it is no URL".to_owned(),
            problem => problem.to_string(),
        };
        Refusal::new(problem).hint("write a whole URL, as in `https://pypi.org/simple`")
    })
}

/// A channel of conda.
pub(crate) fn channel_url(text: &str) -> Result<(), Refusal> {
    check(text, "https://conda.anaconda.org/conda-forge", "give the credentials to the build as a secret instead")
}

/// A mirror of Debian's archive.
pub(crate) fn mirror_url(text: &str) -> Result<(), Refusal> {
    check(text, "http://deb.debian.org/debian", "use a mirror that needs no credentials")
}

fn check(text: &str, example: &str, credentials_hint: &'static str) -> Result<(), Refusal> {
    let example = format!("write a whole URL, as in `{example}`");
    let url =
        Url::parse(text).map_err(|error| Refusal::new(format!("it is no URL: {error}")).hint(example.as_str()))?;
    refuse_credentials(&url, credentials_hint)?;
    match url.scheme() {
        "http" | "https" | "file" => Ok(()),
        _ => Err(Refusal::new("its URL begins with none of `https://`, `http://` and `file://`").hint(example)),
    }
}

/// Refuses a password, and a user name too where it serves as one.
fn refuse_credentials(url: &Url, hint: &'static str) -> Result<(), Refusal> {
    let is_web = url.scheme().ends_with("http") || url.scheme().ends_with("https");
    if url.password().is_some() || (is_web && !url.username().is_empty()) {
        return Err(Refusal::Credentials { hint });
    }
    Ok(())
}
