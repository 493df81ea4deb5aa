//! Puts the text of a Dockerfile together, and counts what BuildKit will name by number. Pure.

use super::word;
use crate::recipe::RecipeStep;

/// A Dockerfile that is being written.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    steps: Vec<RecipeStep>,
    stage: String,
    index: usize,
}

/// What a step is, for people.
pub(super) struct Told {
    /// `install 2 Debian packages`
    pub(super) title: String,
    /// The field that asks for it.
    pub(super) field: Option<String>,
}

/// What a stage stands on.
pub(super) enum From<'a> {
    /// An image, or nothing, by its name.
    Image(&'a str),
    /// `scratch`
    Nothing,
    /// Another stage.
    Stage(&'a str),
}

impl Writer {
    /// Begins a stage.
    pub(super) fn stage(&mut self, from: &From<'_>, name: &str, told: Told) {
        let (From::Image(base) | From::Stage(base)) = from else { return self.stage_from("scratch", name) };
        self.stage_from(base, name);
        // Only an image that is fetched is a step of the stage.
        if matches!(from, From::Image(_)) {
            let step = RecipeStep { is_base: true, ..self.told(told) };
            self.step(step);
        }
    }

    fn stage_from(&mut self, base: &str, name: &str) {
        self.blank();
        self.line(&format!("FROM {base} AS {name}"));
        (self.stage, self.index) = (name.to_owned(), 0);
    }

    /// A line for people above what comes next, with a blank one before it.
    pub(super) fn comment(&mut self, text: &str) {
        self.blank();
        self.line(&word::comment(text));
    }

    pub(super) fn blank(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// An instruction with its values, one on each line.
    pub(super) fn values(&mut self, instruction: &str, values: &[String]) {
        if !values.is_empty() {
            self.line(&format!("{instruction} {}", values.join(" \\\n    ")));
        }
    }

    /// A program that runs on the image so far.
    pub(super) fn run<T: AsRef<str>>(&mut self, mounts: &[String], argv: impl IntoIterator<Item = T>, told: Told) {
        let argv = word::list(argv);
        let parts: Vec<_> = mounts.iter().map(|mount| format!("--mount={mount}")).chain([argv]).collect();
        self.values("RUN", &parts);
        let step = self.told(told);
        self.step(step);
    }

    /// Any other instruction that BuildKit counts.
    pub(super) fn counted(&mut self, line: &str, told: Told) {
        self.line(line);
        let step = self.told(told);
        self.step(step);
    }

    pub(super) fn finish(self) -> (String, Vec<RecipeStep>) {
        (self.text, self.steps)
    }

    /// The step that comes next.
    fn told(&self, Told { title, field }: Told) -> RecipeStep {
        RecipeStep { stage: self.stage.clone(), index: self.index + 1, is_base: false, title, field }
    }

    fn step(&mut self, step: RecipeStep) {
        self.index = step.index;
        self.steps.push(step);
    }
}
