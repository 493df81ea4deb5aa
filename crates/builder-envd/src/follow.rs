//! Follows envd while it builds: BuildKit's plain progress on its stdout as events, and what an error needs of both streams.
//!
//! Format: `#3 NAME` begins a step of BuildKit, or is said again where lines of several are mixed; `#3 DONE 0.3s`, `#3 CACHED`
//! and `#3 ERROR: …` end it, `#3 0.123 LINE` is what its program printed, and all else is about transfers. A name may have
//! several lines, and so may what a program prints without a line end: only the end of the build counts for the image.

use std::collections::{BTreeMap, VecDeque};

use imagespec_buildkit::{Progress, Step};
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;

use crate::lower::{Recipe, Told};
use crate::process::Stream;

/// How many of a failed step's last lines its error shows.
const LINES_MAX: usize = 20;
/// How BuildKit's name of a command begins.
const COMMAND: &str = "bash -c set -euo pipefail";
const APT: &str = "apt-get install ";
const BASE: &str = "docker-image://";
const EXPORT: &str = "exporting to ";
/// Before the digest of what is exported.
const MANIFEST: &str = "exporting manifest ";

/// What envd said so far.
pub(crate) struct Follower<'a> {
    progress: &'a Progress<'a>,
    recipe: &'a Recipe,
    vertices: BTreeMap<u32, Vertex<'a>>,
    commands: usize,
    /// The last ones that stood on stderr.
    errors: VecDeque<String>,
    /// Steps that were done earlier, by their title.
    cached: Vec<String>,
    failed: Option<FailedStep>,
    digest: Option<Digest>,
}

struct Vertex<'a> {
    name: String,
    told: Option<Told>,
    step: Option<Step<'a>>,
    last: VecDeque<String>,
}

/// The step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStep {
    /// BuildKit's name of it.
    pub(crate) name: String,
    /// What it is, if it is one that was asked for.
    pub(crate) told: Option<Told>,
    /// Why, in BuildKit's words.
    pub(crate) message: String,
    /// What its program printed last.
    pub(crate) lines: Vec<String>,
}

/// What is left of it when envd has ended.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Digest of the manifest that was exported, in envd's words.
    pub(crate) digest: Option<Digest>,
    /// Titles of the steps that were done earlier.
    pub(crate) cached: Vec<String>,
    /// The step that failed, if one did.
    pub(crate) failed: Option<FailedStep>,
    /// What envd said last of all, without its log's frame.
    pub(crate) errors: Vec<String>,
}

impl FailedStep {
    /// The exit code of its program, as BuildKit says it.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.message.rsplit_once("exit code: ")?.1.trim().parse().ok()
    }
}

impl<'a> Follower<'a> {
    pub(crate) fn new(progress: &'a Progress<'a>, recipe: &'a Recipe) -> Self {
        Self {
            progress,
            recipe,
            vertices: BTreeMap::new(),
            commands: 0,
            errors: VecDeque::new(),
            cached: Vec::new(),
            failed: None,
            digest: None,
        }
    }

    /// Takes a line.
    pub(crate) fn take(&mut self, stream: Stream, line: &str) {
        match (stream, numbered(line)) {
            (Stream::Out, Some((number, rest))) => self.vertex(number, rest),
            (Stream::Out, None) => {}
            (Stream::Error, _) => keep(&mut self.errors, message(line).unwrap_or_else(|| line.to_owned())),
        }
    }

    /// The end: whatever runs still is over.
    pub(crate) fn finish(mut self, is_good: bool) -> Followed {
        for vertex in self.vertices.values_mut() {
            if let Some(step) = vertex.step.take().filter(|_| is_good) {
                step.finish(Outcome::Done, String::new());
            }
        }
        let errors = self.errors.into_iter().filter(|line| !line.trim().is_empty()).collect();
        Followed { digest: self.digest, cached: self.cached, failed: self.failed, errors }
    }

    fn vertex(&mut self, number: u32, rest: &str) {
        if !self.vertices.contains_key(&number) {
            let (told, step) = self.begin(rest);
            let vertex = Vertex { name: rest.to_owned(), told, step, last: VecDeque::new() };
            self.vertices.insert(number, vertex);
            return;
        }
        let vertex = self.vertices.get_mut(&number).expect("it is there");
        if rest == vertex.name || rest == "..." {
        } else if rest == "CACHED" {
            self.cached.extend(vertex.told.as_ref().map(|told| told.title.clone()));
            end(vertex, Outcome::Cached);
        } else if rest.starts_with("DONE ") {
            end(vertex, Outcome::Done);
        } else if let Some(problem) = rest.strip_prefix("ERROR: ") {
            let lines = vertex.last.iter().cloned().collect();
            let (name, told) = (vertex.name.clone(), vertex.told.clone());
            self.failed.get_or_insert(FailedStep { name, told, message: problem.to_owned(), lines });
        } else if let Some(line) = printed(rest) {
            keep(&mut vertex.last, line.to_owned());
            if let Some(step) = &vertex.step {
                step.output(line);
            }
        } else if vertex.name.starts_with(EXPORT)
            && let Some(rest) = rest.strip_prefix(MANIFEST)
        {
            let digest = rest.split(' ').next().and_then(|digest| digest.parse().ok());
            self.digest = digest.or(self.digest);
        }
    }

    /// What the step called `name` is, and the step that is told for it.
    fn begin(&mut self, name: &str) -> (Option<Told>, Option<Step<'a>>) {
        let told = if name == COMMAND {
            self.commands += 1;
            self.recipe.commands.get(self.commands - 1).cloned()
        } else if name.starts_with(APT) {
            self.recipe.apt.clone()
        } else if let Some(base) = name.strip_prefix(BASE) {
            Some(Told { title: format!("base {base}"), field: Some("base_image".to_owned()) })
        } else if name.starts_with(EXPORT) {
            Some(Told { title: "export the image".to_owned(), field: None })
        } else {
            None
        };
        let step = told.as_ref().map(|told| self.progress.begin(&told.title));
        (told, step)
    }
}

fn end(vertex: &mut Vertex<'_>, outcome: Outcome) {
    if let Some(step) = vertex.step.take() {
        step.finish(outcome, String::new());
    }
}

fn keep(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// `#3 REST`
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, rest))
}

/// `0.123 LINE`
fn printed(rest: &str) -> Option<&str> {
    let (seconds, line) = rest.split_once(' ').unwrap_or((rest, ""));
    let (whole, part) = seconds.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(whole) && part.len() == 3 && is_number(part)).then_some(line)
}

/// What the log line of envd's end says: `time="…" level=fatal msg=exit app=envd error="…" version=v1.3.6`.
pub(crate) fn message(line: &str) -> Option<String> {
    if !line.starts_with("time=") {
        return None;
    }
    if !line.contains(" level=fatal ") && !line.contains(" level=error ") {
        // Nothing that went wrong.
        return Some(String::new());
    }
    let (_, rest) = line.split_once(" error=\"").or_else(|| line.split_once(" msg=\""))?;
    let mut text = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    Some(text)
}
