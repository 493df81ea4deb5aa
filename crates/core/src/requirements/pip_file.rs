//! requirements.txt as pip defines it (pip's documentation, "Requirements File Format").

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{RequirementsError, RequirementsProblem};
use super::path::{display_name, locate};
use super::requirement::{self, RequirementProblem};
use super::text::{LogicalLine, TextFile, place};
use crate::place::{Located, Place, Source};
use crate::plan::Requirement;

/// Files that include each other.
const DEPTH_MAX: usize = 16;
/// Requirements in all files together.
const REQUIREMENTS_MAX: usize = 100_000;

/// What a requirements file and all that it includes say.
#[derive(Default)]
pub(super) struct PipFile {
    pub(super) requirements: BTreeSet<Requirement>,
    pub(super) constraints: BTreeSet<Requirement>,
    pub(super) index: Option<Located<String>>,
    pub(super) extra_indexes: Vec<String>,
    pub(super) find_links: Vec<String>,
    pub(super) extra_args: Vec<String>,
}

/// What the lines of a file are for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Requirement,
    Constraint,
}

/// What an option of a line does.
#[derive(Clone, Copy)]
enum Meaning {
    Index,
    ExtraIndex,
    FindLinks,
    Include(Role),
    Hash,
    RequireHashes,
    Editable,
    /// Handed to the resolver.
    CarryFlag,
    /// Wheels are all that is installed, so it says nothing new.
    OnlyBinary,
    Refused(&'static str),
}

/// Options by their long and short name.
const OPTIONS: [(&str, Option<&str>, Meaning); 18] = [
    ("--index-url", Some("-i"), Meaning::Index),
    ("--pypi-url", None, Meaning::Index),
    ("--extra-index-url", None, Meaning::ExtraIndex),
    ("--find-links", Some("-f"), Meaning::FindLinks),
    ("--requirement", Some("-r"), Meaning::Include(Role::Requirement)),
    ("--constraint", Some("-c"), Meaning::Include(Role::Constraint)),
    ("--editable", Some("-e"), Meaning::Editable),
    ("--hash", None, Meaning::Hash),
    ("--require-hashes", None, Meaning::RequireHashes),
    ("--no-index", None, Meaning::CarryFlag),
    ("--pre", None, Meaning::CarryFlag),
    (
        "--no-binary",
        None,
        Meaning::Refused("remove it: what has a wheel is installed from it, and only the rest is built"),
    ),
    ("--only-binary", None, Meaning::OnlyBinary),
    ("--prefer-binary", None, Meaning::Refused("remove it, or name the packages with `--only-binary`")),
    ("--trusted-host", None, Meaning::Refused("use an index with a certificate that this machine trusts")),
    ("--use-feature", None, Meaning::Refused("remove it: it chooses between versions of pip itself")),
    ("--config-settings", Some("-C"), Meaning::Refused("build the package to a wheel beforehand")),
    ("--global-option", None, Meaning::Refused("build the package to a wheel beforehand")),
];

/// A requirement as it stands in a line, to check hashes once all are known.
struct Written {
    requirement: Requirement,
    source: Arc<Source>,
    span: Range<usize>,
}

impl Written {
    // Counting lines takes time, so it is left for the one that is wrong.
    fn place(&self) -> Place {
        place(&self.source, self.span.clone())
    }
}

struct Reader<'a> {
    root: &'a Path,
    found: PipFile,
    written: Vec<Written>,
    constraints: usize,
    requires_hashes: bool,
    /// What was read already; a file may be included twice.
    seen: BTreeSet<(PathBuf, Role)>,
    /// The files from the first to the one that is being read: path and name.
    stack: Vec<(PathBuf, String)>,
}

/// Reads `file` and what it includes; included files lie inside of `root`.
pub(super) fn read(file: &TextFile, root: &Path) -> Result<PipFile, RequirementsError> {
    let mut reader = Reader {
        root,
        found: PipFile::default(),
        written: Vec::new(),
        constraints: 0,
        requires_hashes: false,
        seen: BTreeSet::new(),
        stack: Vec::new(),
    };
    reader.file(file, Role::Requirement)?;
    reader.check_hashes()?;
    reader.found.requirements = merged(reader.written);
    Ok(reader.found)
}

/// One requirement that stands twice has the hashes of both.
fn merged(written: Vec<Written>) -> BTreeSet<Requirement> {
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Written { requirement, .. } in written {
        by_text.entry(requirement.text).or_default().extend(requirement.hashes);
    }
    by_text.into_iter().map(|(text, hashes)| Requirement { text, hashes }).collect()
}

impl Reader<'_> {
    fn file(&mut self, file: &TextFile, role: Role) -> Result<(), RequirementsError> {
        self.stack.push((file.path.clone(), file.source.name.clone()));
        for line in LogicalLine::all(file) {
            self.line(file, &line, role)?;
        }
        self.stack.pop();
        Ok(())
    }

    fn line(&mut self, file: &TextFile, line: &LogicalLine<'_>, role: Role) -> Result<(), RequirementsError> {
        let text = &line.text;
        if let Some((position, bad)) = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
            let problem = RequirementsProblem::ControlCharacter { code: u32::from(bad) };
            return Err(RequirementsError::new(problem, line.place(position..position + bad.len_utf8())));
        }
        if let Some(name) = requirement::environment_variable(text) {
            let position = text.find("${").unwrap_or_default();
            let problem = RequirementProblem::EnvironmentVariable { name: name.to_owned() };
            let place = line.place(position..position + name.len() + 3);
            return Err(RequirementsError::new(RequirementsProblem::Requirement(problem), place));
        }
        let options_start = options_start(text);
        let wanted = &text[..options_start];
        let options = split_words(&text[options_start..]).map_err(|at| {
            RequirementsError::new(RequirementsProblem::OpenQuote, line.place(options_start + at..text.len()))
        })?;
        let options = options.into_iter().map(|(word, span)| (word, shift(span, options_start))).collect();
        let options = read_options(options, line)?;
        if wanted.trim().is_empty() {
            for option in options {
                self.option(file, option, line)?;
            }
            return Ok(());
        }
        self.requirement(wanted, options, line, role)
    }

    fn requirement(
        &mut self,
        wanted: &str,
        options: Vec<GivenOption>,
        line: &LogicalLine<'_>,
        role: Role,
    ) -> Result<(), RequirementsError> {
        let text = requirement::normalize(wanted).map_err(|bad| {
            RequirementsError::new(RequirementsProblem::Requirement(bad.problem), line.place(bad.span))
        })?;
        requirement::refuse_unknown_archives(&text)
            .map_err(|problem| RequirementsError::new(RequirementsProblem::Requirement(problem), line.whole()))?;
        let mut hashes = BTreeSet::new();
        for option in options {
            match option.meaning {
                Meaning::Hash => hashes.insert(option.hash(line)?),
                Meaning::Refused(hint) => return Err(option.refused(hint, line)),
                _ => return Err(option.refused("write it on a line of its own", line)),
            };
        }
        if self.written.len() + self.constraints >= REQUIREMENTS_MAX {
            let problem = RequirementsProblem::TooMany { limit: REQUIREMENTS_MAX };
            return Err(RequirementsError::new(problem, line.whole()));
        }
        let requirement = Requirement { text, hashes };
        match role {
            Role::Requirement => self.written.push(Written { requirement, source: line.source(), span: line.span() }),
            Role::Constraint => {
                self.constraints += 1;
                self.found.constraints.insert(requirement);
            }
        }
        Ok(())
    }

    fn option(
        &mut self,
        file: &TextFile,
        option: GivenOption,
        line: &LogicalLine<'_>,
    ) -> Result<(), RequirementsError> {
        let value = option.value.clone().unwrap_or_default();
        match option.meaning {
            Meaning::Index => {
                option.check_url(line)?;
                // The last one counts, as with pip.
                self.found.index = Some(Located { value, place: line.place(option.value_span.clone()) });
            }
            Meaning::ExtraIndex => {
                option.check_url(line)?;
                push_new(&mut self.found.extra_indexes, value);
            }
            Meaning::FindLinks => {
                option.check_url(line)?;
                push_new(&mut self.found.find_links, value);
            }
            // pip takes the lines of an included file for what the including option says, whatever the file itself was.
            Meaning::Include(included) => self.include(file, &value, included, line.place(option.value_span))?,
            Meaning::RequireHashes => self.requires_hashes = true,
            Meaning::CarryFlag => push_new(&mut self.found.extra_args, option.name),
            Meaning::OnlyBinary if value.split(',').any(|package| package.trim() == ":none:") => {
                return Err(option
                    .refused("remove it: what has a wheel is installed from it, and only the rest is built", line));
            }
            Meaning::OnlyBinary => self.found.extra_args.extend([option.name, value]),
            Meaning::Editable => {
                let place = line.whole();
                return Err(RequirementsError::new(RequirementsProblem::Editable { option: option.name }, place));
            }
            Meaning::Hash => return Err(option.refused("write it behind the requirement that it belongs to", line)),
            Meaning::Refused(hint) => return Err(option.refused(hint, line)),
        }
        Ok(())
    }

    fn include(&mut self, from: &TextFile, value: &str, role: Role, place: Place) -> Result<(), RequirementsError> {
        if value.contains("://") {
            return Err(RequirementsError::new(RequirementsProblem::RemoteInclude { url: value.to_owned() }, place));
        }
        let directory = from.path.parent().expect("a file that was read lies in a folder");
        let name = display_name(&from.source.name, value);
        let path = match locate(self.root, directory, Path::new(value)) {
            Ok(path) => path,
            Err(problem) => return Err(RequirementsError::new(problem.into(), place)),
        };
        if self.stack.iter().any(|(open, _)| *open == path) {
            let mut chain: Vec<_> = self.stack.iter().map(|(_, name)| format!("`{name}`")).collect();
            chain.push(format!("`{name}`"));
            let problem = RequirementsProblem::Cycle { path: name, chain: chain.join(" → ") };
            return Err(RequirementsError::new(problem, place));
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(RequirementsError::new(RequirementsProblem::TooDeep { limit: DEPTH_MAX }, place));
        }
        if !self.seen.insert((path.clone(), role)) {
            return Ok(());
        }
        let file = TextFile::read(&path, &name).map_err(|problem| RequirementsError::new(problem, place))?;
        self.file(&file, role)
    }

    /// pip's hash-checking mode: one hash anywhere, and everything must be pinned and have one.
    fn check_hashes(&self) -> Result<(), RequirementsError> {
        let why = if self.requires_hashes {
            "`--require-hashes` is set"
        } else if self.written.iter().any(|written| !written.requirement.hashes.is_empty()) {
            "other requirements have one"
        } else {
            return Ok(());
        };
        for written in &self.written {
            let requirement = &written.requirement;
            let text = &requirement.text;
            // Of a URL, the fragment is a hash too.
            let is_url = text.contains("://");
            let has_fragment = is_url && ["#sha256=", "#sha384=", "#sha512="].iter().any(|hash| text.contains(hash));
            if requirement.hashes.is_empty() && !has_fragment {
                let problem = RequirementsProblem::MissingHash { requirement: text.clone(), why };
                return Err(RequirementsError::new(problem, written.place()));
            }
            let specifiers = text.split(" ; ").next().unwrap_or_default();
            let is_pinned = specifiers.split_once("==").is_some_and(|(_, version)| !version.contains(['*', ',']));
            if !is_url && !is_pinned {
                let problem = RequirementsProblem::NotPinned { requirement: text.clone() };
                return Err(RequirementsError::new(problem, written.place()));
            }
        }
        Ok(())
    }
}

/// An option with its value and where it stands in the line.
struct GivenOption {
    name: String,
    meaning: Meaning,
    span: Range<usize>,
    value: Option<String>,
    value_span: Range<usize>,
}

impl GivenOption {
    fn check_url(&self, line: &LogicalLine<'_>) -> Result<(), RequirementsError> {
        requirement::check_url(self.value.as_deref().unwrap_or_default()).map_err(|problem| {
            RequirementsError::new(RequirementsProblem::Requirement(problem), line.place(self.value_span.clone()))
        })
    }

    fn hash(&self, line: &LogicalLine<'_>) -> Result<String, RequirementsError> {
        let text = self.value.clone().unwrap_or_default();
        normal_hash(&text).ok_or_else(|| {
            RequirementsError::new(RequirementsProblem::Hash { text }, line.place(self.value_span.clone()))
        })
    }

    fn refused(&self, hint: &'static str, line: &LogicalLine<'_>) -> RequirementsError {
        let problem = RequirementsProblem::RefusedOption { option: self.name.clone(), hint };
        RequirementsError::new(problem, line.place(self.span.clone()))
    }
}

/// `ALGORITHM:DIGITS` in lower case, if it is one of the digests that pip takes.
pub(super) fn normal_hash(text: &str) -> Option<String> {
    let (algorithm, digits) = text.split_once(':')?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return None,
    };
    let is_digest = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| text.to_ascii_lowercase())
}

fn push_new(list: &mut Vec<String>, value: String) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn shift(span: Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

/// Where the options of a line begin: at the first word that starts with a dash.
fn options_start(text: &str) -> usize {
    let mut at_word = true;
    for (position, character) in text.char_indices() {
        if at_word && character == '-' {
            return position;
        }
        at_word = character.is_whitespace();
    }
    text.len()
}

/// Splits as a POSIX shell would, without expanding anything. The error is where an open quote begins.
fn split_words(text: &str) -> Result<Vec<(String, Range<usize>)>, usize> {
    let mut words = Vec::new();
    let mut word: Option<(String, usize)> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match (quote, character) {
            (None, character) if character.is_whitespace() => {
                words.extend(word.take().map(|(word, start)| (word, start..position)));
            }
            (None, '"' | '\'') => {
                word.get_or_insert_with(|| (String::new(), position));
                quote = Some((character, position));
            }
            (Some((open, _)), character) if open == character => quote = None,
            (None | Some(('"', _)), '\\') => {
                let (word, _) = word.get_or_insert_with(|| (String::new(), position));
                word.extend(characters.next().map(|(_, escaped)| escaped));
            }
            (_, character) => word.get_or_insert_with(|| (String::new(), position)).0.push(character),
        }
    }
    if let Some((_, start)) = quote {
        return Err(start);
    }
    words.extend(word.map(|(word, start)| (word, start..text.len())));
    Ok(words)
}

fn read_options(
    words: Vec<(String, Range<usize>)>,
    line: &LogicalLine<'_>,
) -> Result<Vec<GivenOption>, RequirementsError> {
    let mut options = Vec::new();
    let mut words = words.into_iter();
    while let Some((word, span)) = words.next() {
        let unknown = || {
            let option = word.split('=').next().unwrap_or_default().to_owned();
            RequirementsError::new(RequirementsProblem::UnknownOption { option }, line.place(span.clone()))
        };
        let (name, attached) = split_option(&word);
        let (long, _, meaning) =
            OPTIONS.iter().find(|(long, short, _)| *long == name || *short == Some(name)).ok_or_else(unknown)?;
        let takes_value = !matches!(meaning, Meaning::CarryFlag | Meaning::RequireHashes);
        let mistaken = |takes| {
            let problem = RequirementsProblem::OptionValue { option: name.to_owned(), takes };
            RequirementsError::new(problem, line.place(span.clone()))
        };
        let mut value =
            attached.map(|attached| (attached.to_owned(), span.end - attached.len().min(span.len())..span.end));
        if !takes_value && value.is_some() {
            return Err(mistaken("no value"));
        }
        if takes_value && value.is_none() && !matches!(meaning, Meaning::Refused(_)) {
            value = Some(words.next().ok_or_else(|| mistaken("a value"))?);
        }
        if let Meaning::Refused(_) = meaning {
            // What follows may be its value, and the option is refused anyway.
            words = Vec::new().into_iter();
        }
        let (value, value_span) = value.map_or((None, span.clone()), |(value, span)| (Some(value), span));
        let name = match meaning {
            Meaning::Editable | Meaning::Include(_) => name.to_owned(),
            _ => (*long).to_owned(),
        };
        options.push(GivenOption { name, meaning: *meaning, span, value, value_span });
    }
    Ok(options)
}

/// `--name=value` and `-nvalue` into name and value.
fn split_option(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    }
    match word.char_indices().nth(2) {
        Some((position, _)) => (&word[..position], Some(word[position..].trim_start_matches('='))),
        None => (word, None),
    }
}
