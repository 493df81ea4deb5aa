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

/// What to do about a login in the URL of a channel.
const CHANNEL_LOGIN_HINT: &str = "log in with `rattler auth login HOST`, or write the login into the file that NETRC names, \
                                  and leave it out of the spec";

/// A channel of conda.
pub(crate) fn channel_url(text: &str) -> Result<(), Refusal> {
    check(text, "https://conda.anaconda.org/conda-forge", CHANNEL_LOGIN_HINT)
}

/// Refuses a text with the token of a conda channel in it: `/t/TOKEN/`, as anaconda.org has it, or behind a `?`. It is
/// looked for in the mere text, so that a URL that is wrong otherwise is not shown with its token.
pub(crate) fn refuse_channel_token(text: &str) -> Result<(), Refusal> {
    let is_word = |character: char| !"[]='\" ,".contains(character);
    let has_token = text.split(|character| !is_word(character)).any(|word| {
        // A server takes an encoded letter for the letter, and the URL standard `\` for `/`.
        let components = word.split(['/', '\\']);
        let mut pairs = components.clone().zip(components.skip(1));
        pairs.any(|(first, second)| matches!(first, "t" | "%74") && !second.is_empty())
    });
    // The query of a channel is never sent to its server: what stands there is a login, or of no use.
    let has_query =
        text.split_once(['?', '#']).is_some_and(|(address, query)| address.contains("://") || query.contains('='));
    if has_token || has_query { Err(Refusal::Credentials { hint: CHANNEL_LOGIN_HINT }) } else { Ok(()) }
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
