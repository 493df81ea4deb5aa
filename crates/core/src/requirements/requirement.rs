//! One requirement: PEP 508, or the bare URL that pip also takes, brought to a normal text. Pure.

use std::ops::Range;

use pep508_rs::{MarkerWarningKind, Pep508ErrorSource, VerbatimUrl, VersionOrUrl};

/// Longer than any real requirement, and short enough that markers cannot keep the parser busy.
const LENGTH_MAX: usize = 16 * 1024;
/// Operators of one marker. Simplifying a marker takes time that grows steeply with them.
const MARKER_OPERATORS_MAX: usize = 48;
/// Parentheses inside each other in one marker; the parser recurses on them.
const MARKER_DEPTH_MAX: usize = 32;

/// Endings that pip takes for a file when a requirement consists of nothing else.
const ARCHIVES: [&str; 12] =
    [".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lz", ".tlz", ".tar.lzma"];

/// Those of them that hold sources, and that the standard library of every Python opens.
const SOURCE_ARCHIVES: [&str; 8] = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz"];

/// What may stand before `://`; `file` gets an error of its own.
const SCHEMES: [&str; 7] = ["http", "https", "git+http", "git+https", "git+ssh", "git+file", "file"];

/// What to do about credentials in a URL of a package or an index.
pub(crate) const CREDENTIALS_HINT: &str =
    "give the credentials to the build: in a netrc file named under `pip_secret_mounts`";

/// Text that is no requirement, or one that an image cannot be built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRequirement {
    /// What is wrong.
    pub(crate) problem: RequirementProblem,
    /// The bytes of the text that it is about.
    pub(crate) span: Range<usize>,
}

/// What is wrong with a requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementProblem {
    /// Not PEP 508.
    #[error("not a requirement: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
        /// What was probably meant.
        likely: Option<String>,
    },
    /// A marker that means nothing, which pip would take for true or refuse.
    #[error("the marker means nothing: {message}")]
    Marker {
        /// What the parser says.
        message: String,
    },
    /// Longer or deeper than anything real.
    #[error("the requirement is too long or its marker too complex")]
    TooComplex,
    /// `${NAME}`, which pip takes from the environment.
    #[error("`${{{name}}}` would be taken from the environment, and an image must not depend on that")]
    EnvironmentVariable {
        /// Name of the variable.
        name: String,
    },
    /// A file or folder of this machine.
    #[error("`{path}` is a file or folder of this machine, and only what an index or a URL has can be installed")]
    Local {
        /// What was written.
        path: String,
    },
    /// A user name or password inside a URL.
    #[error("the URL of `{host}` contains credentials, which would end up in the image's plan")]
    Credentials {
        /// The URL's host.
        host: String,
    },
    /// A repository whose URL lacks the name of its version control.
    #[error("`{url}` is a repository, and no archive")]
    Repository {
        /// The URL.
        url: String,
    },
    /// A file of a kind that packages do not come in.
    #[error("`{url}` is neither a wheel nor an archive of sources")]
    Archive {
        /// The URL.
        url: String,
    },
    /// A URL that nobody can fetch.
    #[error("URLs of kind `{scheme}` cannot be installed from")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
}

impl RequirementProblem {
    fn syntax(message: impl Into<String>) -> Self {
        Self::Syntax { message: message.into(), likely: None }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Syntax { likely: Some(likely), .. } => format!("did you mean `{likely}`?"),
            Self::Syntax { .. } | Self::TooComplex => {
                "write a name and perhaps versions, as in `pandas>=2,<3`, or `NAME @ https://…`".into()
            }
            Self::Marker { .. } => "compare a variable with a quoted value: `python_version < \"3.12\"`".into(),
            Self::EnvironmentVariable { .. } => {
                "write the value itself, and hand secrets over with `pip_secret_mounts`".into()
            }
            Self::Local { .. } => {
                "publish it to an index, or copy it with `copy` and install it with a line in `commands`".into()
            }
            Self::Credentials { .. } => CREDENTIALS_HINT.into(),
            Self::Archive { .. } => {
                "name the URL of a wheel, which ends in `.whl`, of an archive, as `.tar.gz` or `.zip`, or of a repository, \
                 as `git+https://…`"
                    .into()
            }
            Self::Repository { url } => format!("write `git+{url}`"),
            Self::Scheme { .. } => "name the URL of a wheel, `https://…/NAME-VERSION-py3-none-any.whl`".into(),
        }
    }
}

/// The normal text of a requirement: equal for all ways of writing the same one.
///
/// `Requests [socks,security] >=2, !=2.1; python_version>"3.8"` becomes
/// `requests[security,socks]!=2.1,>=2 ; python_full_version >= '3.9'`. A bare URL stays a URL.
pub(crate) fn normalize(text: &str) -> Result<String, BadRequirement> {
    let trimmed = text.trim();
    let start = text.len() - text.trim_start().len();
    let whole = start..start + trimmed.len();
    let bad = |problem| BadRequirement { problem, span: whole.clone() };
    if trimmed.len() > LENGTH_MAX || is_too_complex(trimmed) {
        return Err(bad(RequirementProblem::TooComplex));
    }
    if let Some(name) = environment_variable(trimmed) {
        return Err(bad(RequirementProblem::EnvironmentVariable { name: name.to_owned() }));
    }
    if trimmed.is_empty() {
        return Err(bad(RequirementProblem::syntax("it is empty")));
    }
    if let Some(scheme) = scheme(trimmed).filter(|scheme| !SCHEMES.contains(scheme)) {
        return Err(bad(RequirementProblem::Scheme { scheme: scheme.to_owned() }));
    }
    let first = trimmed.split(char::is_whitespace).next().unwrap_or_default();
    if is_local(first) {
        return Err(bad(RequirementProblem::Local { path: first.to_owned() }));
    }
    if is_bare_url(first) {
        // The parser wants a name, so it gets one that does not come out again.
        let prefix = "url @ ";
        let parsed = parse(&format!("{prefix}{trimmed}")).map_err(|bad| BadRequirement {
            span: shift(&bad.span, start as isize - prefix.len() as isize, &whole),
            ..bad
        })?;
        return display(&parsed, "").map_err(bad);
    }
    let parsed =
        parse(trimmed).map_err(|bad| BadRequirement { span: shift(&bad.span, start as isize, &whole), ..bad })?;
    display(&parsed, parsed.name.as_ref()).map_err(bad)
}

/// Checks that a URL that a requirement in its normal form names is one of a repository, of a wheel, or of an archive of
/// sources.
pub(crate) fn refuse_unknown_archives(normal: &str) -> Result<(), RequirementProblem> {
    let Some(url) = url(normal).filter(|url| !url.starts_with("git+")) else { return Ok(()) };
    let path = url.split(['#', '?']).next().unwrap_or_default();
    if path.ends_with(".whl") || SOURCE_ARCHIVES.iter().any(|ending| path.ends_with(ending)) {
        return Ok(());
    }
    Err(RequirementProblem::Archive { url: path.to_owned() })
}

/// The URL that a requirement in its normal form names.
pub(crate) fn url(normal: &str) -> Option<&str> {
    let word = normal.split(" ; ").next().unwrap_or_default();
    let url = word.split_once(" @ ").map_or(word, |(_, url)| url).trim();
    is_bare_url(url).then_some(url)
}

/// Checks that a URL of an index or of a page with wheels can be fetched and holds no credentials.
pub(crate) fn check_url(text: &str) -> Result<(), RequirementProblem> {
    if let Some(name) = environment_variable(text) {
        return Err(RequirementProblem::EnvironmentVariable { name: name.to_owned() });
    }
    if !text.contains("://") {
        return Err(RequirementProblem::Local { path: text.to_owned() });
    }
    let url = VerbatimUrl::parse_url(text).map_err(|error| RequirementProblem::syntax(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(RequirementProblem::Scheme { scheme: url.scheme().to_owned() });
    }
    refuse_credentials(&url)
}

/// Checks that no URL in a command line's argument holds credentials.
pub(crate) fn refuse_credentials_in(argument: &str) -> Result<(), RequirementProblem> {
    let Some(userinfo) = userinfo(argument) else { return Ok(()) };
    let rest = &argument[userinfo.end + 1..];
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default().to_owned();
    Err(RequirementProblem::Credentials { host })
}

/// The name of the first `${NAME}`, in the form that pip replaces.
pub(crate) fn environment_variable(text: &str) -> Option<&str> {
    text.match_indices("${").find_map(|(start, _)| {
        let name = &text[start + 2..];
        let name = &name[..name.find('}')?];
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
    })
}

/// The user name and password of the first URL in `text` that has them, as bytes of `text`.
pub(crate) fn userinfo(text: &str) -> Option<Range<usize>> {
    text.match_indices("://").find_map(|(start, separator)| {
        let start = start + separator.len();
        let authority = &text[start..];
        let end = authority.find(|character: char| "/?# \t\r\n\"'".contains(character)).unwrap_or(authority.len());
        authority[..end].rfind('@').map(|at| start..start + at)
    })
}

fn parse(text: &str) -> Result<pep508_rs::Requirement<VerbatimUrl>, BadRequirement> {
    check_names(text)?;
    let mut nonsense = None;
    let mut reporter = |kind: MarkerWarningKind, warning: String| {
        if !matches!(kind, MarkerWarningKind::DeprecatedMarkerName) {
            nonsense.get_or_insert(warning);
        }
    };
    // The parser takes a folder for local paths, which cannot come here.
    let parsed = pep508_rs::Requirement::<VerbatimUrl>::parse_reporter(text, "/", &mut reporter);
    let parsed = parsed.map_err(|error| {
        let message = match &error.message {
            Pep508ErrorSource::String(message) | Pep508ErrorSource::UnsupportedRequirement(message) => message.clone(),
            Pep508ErrorSource::UrlError(error) => error.to_string(),
        };
        let problem = RequirementProblem::Syntax { message: sentence(&message), likely: likely(text) };
        BadRequirement { problem, span: error.start..error.start.saturating_add(error.len) }
    })?;
    match nonsense {
        Some(warning) => {
            let message = sentence(&sentence(&warning).replace(", will be ignored", ""));
            Err(BadRequirement { problem: RequirementProblem::Marker { message }, span: 0..text.len() })
        }
        None => Ok(parsed),
    }
}

/// Checks the ends of the name and of the extras, because the parser takes them for granted and panics.
fn check_names(text: &str) -> Result<(), BadRequirement> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    let name_end = text.find(|character| !is_part(character)).unwrap_or(text.len());
    let mut names = vec![(0, &text[..name_end])];
    let rest = text[name_end..].trim_start();
    if let Some(extras) = rest.strip_prefix('[') {
        let start = text.len() - extras.len();
        let extras = extras.split(']').next().unwrap_or_default();
        let mut offset = start;
        for extra in extras.split(',') {
            let indent = extra.len() - extra.trim_start().len();
            names.push((offset + indent, extra.trim()));
            offset += extra.len() + 1;
        }
    }
    for (start, name) in names {
        if name.ends_with(['.', '-', '_']) {
            let problem = RequirementProblem::syntax(format!("the name `{name}` ends with a separator"));
            return Err(BadRequirement { problem, span: start..start + name.len() });
        }
    }
    Ok(())
}

fn display(parsed: &pep508_rs::Requirement<VerbatimUrl>, name: &str) -> Result<String, RequirementProblem> {
    let mut text = name.to_owned();
    let mut extras: Vec<_> = parsed.extras.iter().map(ToString::to_string).collect();
    if !extras.is_empty() {
        extras.sort();
        extras.dedup();
        text = format!("{text}[{}]", extras.join(","));
    }
    match &parsed.version_or_url {
        None => {}
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => {
            let mut specifiers: Vec<_> = specifiers.iter().map(ToString::to_string).collect();
            specifiers.sort();
            specifiers.dedup();
            text.push_str(&specifiers.join(","));
        }
        Some(VersionOrUrl::Url(url)) => {
            check_requirement_url(url)?;
            if !text.is_empty() {
                text.push_str(" @ ");
            }
            text.push_str(url.as_str());
        }
    }
    if let Some(marker) = parsed.marker.contents() {
        text = format!("{text} ; {marker}");
    }
    Ok(text)
}

fn check_requirement_url(url: &VerbatimUrl) -> Result<(), RequirementProblem> {
    if url.host_str().is_none_or(str::is_empty) && !url.scheme().ends_with("file") {
        return Err(RequirementProblem::syntax("its URL has no host"));
    }
    if url.given().is_some_and(|given| given.trim().contains(char::is_whitespace)) {
        return Err(RequirementProblem::syntax("a URL has no blanks"));
    }
    match url.scheme() {
        "http" | "https" if url.path().ends_with(".git") => {
            refuse_credentials(url)?;
            Err(RequirementProblem::Repository { url: url.to_string() })
        }
        "http" | "https" | "git+http" | "git+https" => refuse_credentials(url),
        // The user name of an ssh URL is no secret: it is `git` everywhere.
        "git+ssh" if url.password().is_none() => Ok(()),
        "git+ssh" => refuse_credentials(url),
        "file" | "git+file" => Err(RequirementProblem::Local { path: url.to_string() }),
        scheme => Err(RequirementProblem::Scheme { scheme: scheme.to_owned() }),
    }
}

fn refuse_credentials(url: &VerbatimUrl) -> Result<(), RequirementProblem> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    Err(RequirementProblem::Credentials { host: url.host_str().unwrap_or_default().to_owned() })
}

/// `pandas==2` for `pandas=2`, which conda takes and pip does not.
fn likely(text: &str) -> Option<String> {
    let (name, version) = text.split_once('=')?;
    let is_name = name.ends_with(|last: char| last.is_ascii_alphanumeric());
    (is_name && !version.starts_with('=')).then(|| format!("{name}=={version}"))
}

/// What stands before the first `://`.
fn scheme(text: &str) -> Option<&str> {
    let (before, _) = text.split_once("://")?;
    let start = before.rfind(|character: char| !character.is_ascii_alphanumeric() && !"+-.".contains(character));
    Some(&before[start.map_or(0, |position| position + before[position..].chars().next().map_or(1, char::len_utf8))..])
}

fn is_bare_url(word: &str) -> bool {
    word.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    })
}

fn is_local(word: &str) -> bool {
    if is_bare_url(word) {
        return false;
    }
    // What follows these belongs to a version, an extra or a URL.
    let name = word.split(['@', ';', '=', '<', '>', '!', '~', '[', '(']).next().unwrap_or_default();
    let lower = word.to_ascii_lowercase();
    let is_archive = name == word && ARCHIVES.iter().any(|ending| lower.ends_with(ending));
    word.starts_with(['.', '~'])
        || lower.starts_with("file:")
        || name.contains(['/', '\\'])
        || name.split_once(':').is_some_and(|(drive, _)| drive.len() == 1)
        || is_archive
}

fn is_too_complex(text: &str) -> bool {
    let Some((_, marker)) = text.split_once(';') else { return false };
    let mut depth = 0;
    let mut depth_max = 0;
    for byte in marker.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        depth_max = depth_max.max(depth);
    }
    let operators = marker
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| matches!(*word, "and" | "or"))
        .count();
    depth_max > MARKER_DEPTH_MAX as i32 || operators > MARKER_OPERATORS_MAX
}

/// The parser's message in our style: lower case at the start, one line.
fn sentence(message: &str) -> String {
    let mut words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(first) = words.get(..1).filter(|_| !words[1..].starts_with(|next: char| next.is_ascii_uppercase())) {
        let lower = first.to_ascii_lowercase();
        words.replace_range(..1, &lower);
    }
    words.trim_end_matches('.').to_owned()
}

/// Moves a span of the parser's text to the caller's, and keeps it inside of `limits`.
fn shift(span: &Range<usize>, by: isize, limits: &Range<usize>) -> Range<usize> {
    let place = |position: usize| position.saturating_add_signed(by).clamp(limits.start, limits.end);
    place(span.start)..place(span.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        normalize(text).expect_err("a bad requirement").problem.to_string()
    }

    #[test]
    fn all_ways_of_writing_a_requirement_have_one_normal_text() {
        for text in [
            "Requests[socks,security]!=2.1,>=2;python_version>\"3.8\"",
            "  requests [ security , socks ] >= 2 , != 2.1 ; '3.8' < python_version ",
            "REQUESTS[security,socks,socks] (>=2,!=2.1) ; python_version > '3.8'",
        ] {
            assert_eq!(
                normalize(text).expect("a requirement"),
                "requests[security,socks]!=2.1,>=2 ; python_full_version >= '3.9'"
            );
        }
        let one = normalize("a ; os_name == 'posix' and sys_platform == 'linux'");
        assert_eq!(one, normalize("a ; sys_platform == 'linux' and os_name == 'posix'"));
        assert_eq!(normalize("Foo_Bar.baz").as_deref(), Ok("foo-bar-baz"));
    }

    #[test]
    fn a_normal_text_is_its_own_normal_text() {
        for text in [
            "numpy==2.1.0",
            "a[x]~=1.2,!=1.3.*",
            "torch @ https://download.pytorch.org/whl/torch-2.0-py3-none-any.whl#sha256=00 ; sys_platform == 'linux'",
            "git+https://github.com/flyteorg/flytekit.git@90a4455#subdirectory=plugins/flytekit-spark",
            "git+ssh://git@github.com/a/b@main",
            "https://example.org/x-1.0.tar.gz ; os_name == 'posix' or python_full_version < '3.9'",
        ] {
            let normal = normalize(text).expect("a requirement");
            assert_eq!(normalize(&normal).as_deref(), Ok(normal.as_str()), "{text}");
        }
    }

    #[test]
    fn what_no_image_can_be_built_from_is_refused() {
        insta::assert_snapshot!(problem("./pkg"), @"`./pkg` is a file or folder of this machine, and only what an index or a URL has can be installed");
        insta::assert_snapshot!(problem("a @ file:///tmp/a.whl"), @"`file:///tmp/a.whl` is a file or folder of this machine, and only what an index or a URL has can be installed");
        insta::assert_snapshot!(problem("requests-2.26.0.tar.gz"), @"`requests-2.26.0.tar.gz` is a file or folder of this machine, and only what an index or a URL has can be installed");
        insta::assert_snapshot!(problem("a @ https://joe:secret@example.org/a.whl"), @"the URL of `example.org` contains credentials, which would end up in the image's plan");
        insta::assert_snapshot!(problem("git+https://token@github.com/a/b"), @"the URL of `github.com` contains credentials, which would end up in the image's plan");
        insta::assert_snapshot!(problem("hg+https://example.org/a"), @"URLs of kind `hg+https` cannot be installed from");
        insta::assert_snapshot!(problem("a @ https://${TOKEN}@example.org/a.whl"), @"`${TOKEN}` would be taken from the environment, and an image must not depend on that");
        insta::assert_snapshot!(problem("a ; python_version > 'x'"), @"the marker means nothing: expected PEP 440 version to compare with python_version, found x: expected version to start with a number, but no leading ASCII digits were found");
        insta::assert_snapshot!(problem("a b"), @"not a requirement: expected one of `@`, `(`, `<`, `=`, `>`, `~`, `!`, `;`, found `b`");
        insta::assert_snapshot!(problem(""), @"not a requirement: it is empty");
        insta::assert_snapshot!(problem("a ; bogus == '1'"), @"not a requirement: expected a quoted string or a valid marker name, found `bogus`");
        insta::assert_snapshot!(problem("a == "), @"not a requirement: unexpected end of version specifier, expected version");
        insta::assert_snapshot!(problem(&format!("a ; {}", "(".repeat(40))), @"the requirement is too long or its marker too complex");
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let alphabet: Vec<char> = "aZ0 .,;<>=!~@[]()'\"#-_/\\é日${}:+\u{0}\t%".chars().collect();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            for text in [text.clone(), format!("a @ {text}"), format!("a ; {text}"), format!("git+https://{text}")] {
                if let Err(bad) = normalize(&text) {
                    assert!(bad.span.end <= text.len(), "{text:?}");
                }
            }
        }
    }
}
