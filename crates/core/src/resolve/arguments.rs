//! Which arguments of the resolver a spec may hand on. Pure.
//!
//! The list is closed: other arguments of `uv pip compile` execute programs of this machine (`--python`), read or write
//! its files (`--constraint`, `--output-file`), build packages (`--no-binary`), or say what a field says.

use super::error::{ResolveError, ResolveProblem};
use crate::place::Located;
use crate::requirements::{check_url, refuse_credentials_in};

/// What stands behind an argument.
#[derive(Clone, Copy)]
enum Value {
    None,
    Word,
    /// A page with wheels.
    Url,
    /// Names of packages, or `:all:`.
    Packages,
}

const ALLOWED: [(&str, Value); 22] = [
    ("--exclude-newer", Value::Word),
    ("--exclude-newer-package", Value::Word),
    ("--find-links", Value::Url),
    ("-f", Value::Url),
    ("--fork-strategy", Value::Word),
    ("--index-strategy", Value::Word),
    ("--native-tls", Value::None),
    ("--no-deps", Value::None),
    ("--no-emit-package", Value::Word),
    ("--no-index", Value::None),
    ("--only-binary", Value::Packages),
    ("--pre", Value::None),
    ("--prerelease", Value::Word),
    ("--refresh", Value::None),
    ("--refresh-package", Value::Word),
    ("--resolution", Value::Word),
    ("--system-certs", Value::None),
    ("--unsafe-package", Value::Word),
    ("--upgrade", Value::None),
    ("-U", Value::None),
    ("--upgrade-package", Value::Word),
    ("-P", Value::Word),
];

/// What to write instead of others that people know.
const INSTEAD: [(&str, &str); 15] = [
    ("--index-url", "use `pip_index`"),
    ("-i", "use `pip_index`"),
    ("--default-index", "use `pip_index`"),
    ("--extra-index-url", "use `pip_extra_index_url`"),
    ("--index", "use `pip_extra_index_url`"),
    ("--requirement", "use `requirements`"),
    ("-r", "use `requirements`"),
    ("--constraint", "write `-c FILE` into the file that `requirements` names"),
    ("-c", "write `-c FILE` into the file that `requirements` names"),
    ("--python", "use `python_version` or `base_image`"),
    ("-p", "use `python_version` or `base_image`"),
    ("--python-version", "use `python_version`"),
    ("--python-platform", "use `platform`"),
    ("--no-binary", "what has a wheel is installed from it, and only the rest is built"),
    ("--trusted-host", "use an index with a certificate that this machine trusts"),
];

/// Checks `pip_extra_args`.
pub(super) fn check(arguments: &[Located<String>]) -> Result<(), ResolveError> {
    let mut words = arguments.iter();
    while let Some(argument) = words.next() {
        let url_problem = |problem| ResolveError::new(ResolveProblem::Url(problem), &argument.place);
        refuse_credentials_in(&argument.value).map_err(url_problem)?;
        let (name, attached) = match argument.value.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (argument.value.as_str(), None),
        };
        let refused = |hint: String| {
            let problem = ResolveProblem::Argument { argument: name.to_owned(), hint };
            ResolveError::new(problem, &argument.place)
        };
        let Some((_, takes)) = ALLOWED.iter().find(|(allowed, _)| *allowed == name) else {
            return Err(refused(instead(name)));
        };
        if let Value::None = takes {
            match attached {
                None => continue,
                Some(_) => return Err(refused(format!("it takes no value: write `{name}`"))),
            }
        }
        let missing = || refused(format!("it takes a value: write `{name}`, and the value behind it"));
        let value = match attached {
            Some(value) => value,
            None => &words.next().ok_or_else(missing)?.value,
        };
        if value.is_empty() || value.starts_with('-') {
            return Err(missing());
        }
        match takes {
            Value::Url => check_url(value).map_err(url_problem)?,
            Value::Packages if value.split(',').any(|package| package.trim() == ":none:") => {
                return Err(refused(
                    "remove it: what has a wheel is installed from it, and only the rest is built".to_owned(),
                ));
            }
            Value::None | Value::Word | Value::Packages => {}
        }
    }
    Ok(())
}

fn instead(name: &str) -> String {
    if let Some((_, hint)) = INSTEAD.iter().find(|(known, _)| *known == name) {
        return (*hint).to_owned();
    }
    if !name.starts_with('-') {
        return "packages are listed in `packages`".to_owned();
    }
    let allowed: Vec<_> = ALLOWED.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!("these can: {}", allowed.join(", "))
}
