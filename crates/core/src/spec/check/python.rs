//! Python versions and packages.

use super::is_version;
use crate::requirements::{CREDENTIALS_HINT, RequirementProblem, normalize};
use crate::spec::error::Refusal;

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

/// A requirement as a line of requirements.txt has it: PEP 508, or a bare URL.
pub(crate) fn python_package(text: &str) -> Result<(), Refusal> {
    if text.starts_with('-') {
        return Err(Refusal::new("it is an option of pip, and only packages stand here")
            .hint("options go to `pip_extra_args`, and a requirements file to `requirements`"));
    }
    normalize(text).map(drop).map_err(|bad| refusal(text, &bad.problem))
}

fn refusal(text: &str, problem: &RequirementProblem) -> Refusal {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let are_names = words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    match problem {
        RequirementProblem::Credentials { .. } => Refusal::Credentials { hint: CREDENTIALS_HINT },
        RequirementProblem::Syntax { message, .. } if words.len() > 1 && are_names => {
            Refusal::new(message).hint(format!("an entry is one package: write `[{}]`", words.join(", ")))
        }
        // The value stands in the message already, so these do not repeat it.
        RequirementProblem::Syntax { message, .. } => Refusal::new(message).hint(problem.hint()),
        RequirementProblem::Local { .. } => {
            Refusal::new("it lies on this machine, and only what an index or a URL has can be installed")
                .hint(problem.hint())
        }
        RequirementProblem::Repository { .. } => {
            Refusal::new("it is a repository, and no archive").hint(problem.hint())
        }
        _ => Refusal::new(problem.to_string()).hint(problem.hint()),
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
