//! `imagespec doctor`: what this machine can do, and what to do where it cannot. The exit code is 1 if something fails.

use std::env;
use std::fs::File;

use serde_json::{Value, json};

use crate::arguments::Format;
use crate::failure::{FAILED, Failure};
use crate::local;
use crate::prepare::{self, Surroundings};
use crate::session::print_data;

/// Whether a thing that builds may need is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is.
    Ok,
    /// Builds go without it, or with less of it.
    Warn,
    /// It is not, and builds that need it fail.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Finding {
    mark: Mark,
    /// What was found, in one line.
    text: String,
    /// What it came from, each one line.
    notes: Vec<String>,
    /// What to do.
    hints: Vec<String>,
}

/// Things that belong together.
struct Section {
    name: &'static str,
    findings: Vec<Finding>,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    pub(crate) fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self { mark, text: text.into(), notes: Vec::new(), hints: Vec::new() }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What fails with `failure`.
    pub(crate) fn of(failure: Failure, mark: Mark) -> Self {
        let mut diagnostics = failure.diagnostics.into_iter();
        let first = diagnostics.next().expect("a failure says what failed");
        Self { mark, text: first.message, notes: first.notes, hints: first.hints }
    }

    fn text(&self) -> String {
        let mut text = format!("  {:<4}  {}\n", self.mark.word(), self.text);
        self.notes.iter().for_each(|note| text.push_str(&format!("        {note}\n")));
        self.hints.iter().for_each(|hint| text.push_str(&format!("        hint: {hint}\n")));
        text
    }

    fn json(&self) -> Value {
        json!({"mark": self.mark.word(), "text": self.text, "notes": self.notes, "hints": self.hints})
    }
}

/// Prints what was found, and returns the exit code.
pub(crate) fn doctor(format: Format) -> Result<u8, Failure> {
    let sections = [
        Section { name: "cache", findings: vec![cache()] },
        Section { name: "sandbox", findings: vec![local::sandbox_finding().unwrap_or_else(failed)] },
        Section { name: "engine", findings: engine() },
        Section { name: "daemons", findings: daemons() },
        Section { name: "envd", findings: envd() },
        Section { name: "logins", findings: logins() },
    ];
    // What nobody set up is nothing to talk about.
    let sections: Vec<_> = sections.into_iter().filter(|section| !section.findings.is_empty()).collect();
    match format {
        Format::Text => {
            for section in &sections {
                let findings: String = section.findings.iter().map(Finding::text).collect();
                print_data(format!("{}\n{findings}", section.name).trim_end())?;
            }
        }
        Format::Json => {
            let list: Vec<_> = sections.iter().map(Section::json).collect();
            print_data(&serde_json::to_string_pretty(&list).expect("a list of findings has only string keys"))?;
        }
    }
    let is_failed = sections.iter().flat_map(|section| &section.findings).any(|finding| finding.mark == Mark::Fail);
    Ok(if is_failed { FAILED } else { 0 })
}

impl Section {
    fn json(&self) -> Value {
        json!({"section": self.name, "findings": self.findings.iter().map(Finding::json).collect::<Vec<_>>()})
    }
}

fn failed(failure: Failure) -> Finding {
    Finding::of(failure, Mark::Fail)
}

fn surroundings() -> Result<Surroundings, Failure> {
    env::current_dir().map_err(Failure::from).and_then(|folder| Surroundings::read(&folder))
}

fn daemons() -> Vec<Finding> {
    // What is wrong with the surroundings is told of the engine.
    let Ok(surroundings) = surroundings() else { return Vec::new() };
    local::daemon_findings(&surroundings).unwrap_or_else(|failure| vec![failed(failure)])
}

fn envd() -> Vec<Finding> {
    let Ok(surroundings) = surroundings() else { return Vec::new() };
    let findings = local::envd_findings(&surroundings, &surroundings.preferred_builder().name);
    findings.unwrap_or_else(|failure| vec![failed(failure)])
}

fn engine() -> Vec<Finding> {
    let findings = surroundings()
        .and_then(|surroundings| local::engine_findings(&surroundings, &surroundings.preferred_builder().name));
    findings.unwrap_or_else(|failure| vec![failed(failure)])
}

fn cache() -> Finding {
    match local::cache_root() {
        Ok(folder) => Finding::new(Mark::Ok, folder.display().to_string()),
        Err(failure) => failed(failure),
    }
}

/// The files that logins of registries are taken from.
fn logins() -> Vec<Finding> {
    let files = prepare::credential_files(None).into_iter().filter(|path| path.is_file());
    let found: Vec<_> = files
        .map(|file| match File::open(&file) {
            Ok(_) => Finding::new(Mark::Ok, file.display().to_string()),
            Err(error) => Finding::new(Mark::Warn, format!("{} cannot be read: {error}", file.display())),
        })
        .collect();
    match found.is_empty() {
        true => {
            vec![Finding::new(Mark::Ok, "none, which public images do without").hint("`docker login HOST` makes one")]
        }
        false => found,
    }
}
