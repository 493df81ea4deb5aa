//! From a tree of values to a spec, by the table of fields. Every error of a file is found at once.

use super::check;
use super::error::{self, Refusal, SpecError, SpecErrorKind, shorten};
use super::field::{self, Field, Kind, Lines};
use super::{BaseImage, Spec, base, secret};
use crate::diagnostic::Diagnostic;
use crate::document::{Entry, Format, Node, Scalar, ScalarKind, Value};
use crate::place::{Located, Place};
use crate::suggestion;

/// Nobody reads more errors than this of one file.
const ERRORS_MAX: usize = 100;

impl Spec {
    /// Reads a spec. `name` is how errors call the text.
    ///
    /// # Errors
    /// What is wrong with it, in the order of the text and at most a hundred errors; only one if the text is not even
    /// YAML, TOML or JSON.
    pub fn parse(name: &str, text: &[u8], format: Format) -> Result<Self, Vec<SpecError>> {
        let node = Node::parse(name, text, format).map_err(|error| vec![error])?;
        Self::from_node(&node)
    }

    /// Reads a spec from a tree of values.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn from_node(node: &Node) -> Result<Self, Vec<SpecError>> {
        let mut decoder = Decoder::default();
        let spec = decoder.spec(node, "the file");
        let mut errors = decoder.errors;
        if errors.is_empty() {
            return Ok(spec);
        }
        error::sort(&mut errors);
        errors.truncate(ERRORS_MAX);
        Err(errors)
    }

    /// What is probably not meant, though it is no error: packages named by what they are imported as.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        for package in self.packages.iter().chain(&self.runtime_packages) {
            if let Some(likely) = check::likely_package(&package.value) {
                let warning = Diagnostic::warning(format!("`{}` is imported from another package", package.value));
                warnings.push(warning.at(package.place.clone()).hint(format!("did you mean `{likely}`?")));
            }
        }
        if let Some(Located { value: BaseImage::Spec(nested), .. }) = &self.base_image {
            warnings.extend(nested.warnings());
        }
        warnings
    }
}

/// Reads values and remembers what is wrong with them.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(crate) errors: Vec<SpecError>,
}

impl Decoder {
    /// Reads a mapping of fields.
    pub(crate) fn spec(&mut self, node: &Node, what: &str) -> Spec {
        let mut spec = Spec::default();
        let Some(entries) = self.mapping(node, what) else { return spec };
        for Entry { key, value } in entries {
            match field::find(&key.value) {
                None => {
                    let suggestion = field::suggest(&key.value);
                    self.unknown_key(key, None, suggestion, "`imagespec schema` lists every field");
                }
                // A field without a value is a field that was left out; so a later layer can take back an earlier one.
                Some(_) if value.is_null() => {}
                Some(field) => self.field(field, value, &mut spec),
            }
        }
        spec
    }

    fn field(&mut self, field: &Field, node: &Node, spec: &mut Spec) {
        match &field.kind {
            Kind::Text(take) => {
                if let Some(text) = self.text(field, node) {
                    self.take(field.name, text, |text| take(spec, text));
                }
            }
            Kind::Choice(words, take) => {
                let Some(text) = self.text(field, node) else { return };
                match words.contains(&text.value.as_str()) {
                    true => self.take(field.name, text, |text| take(spec, text)),
                    false => self.refuse(field.name, &text, not_one_of(&text.value, words)),
                }
            }
            Kind::Path(take) => {
                if let Some(text) = self.text(field, node) {
                    self.take(field.name, text, |text| take(spec, text.map(Into::into)));
                }
            }
            Kind::List(take) => {
                for text in self.list(field, node) {
                    self.take(field.name, text, |text| take(spec, text));
                }
            }
            Kind::Words(take) => {
                for text in self.words(field, node) {
                    self.take(field.name, text, |text| take(spec, text));
                }
            }
            Kind::Arguments(take) => {
                if let Some(words) = self.arguments(field, node) {
                    let text = Located { value: String::new(), place: words.place.clone() };
                    self.take(field.name, text, |_| take(spec, words));
                }
            }
            Kind::Variables { check_name, take } => {
                for (name, value) in self.variables(field, node, *check_name) {
                    take(spec, name, value);
                }
            }
            Kind::Options(take) => {
                for Entry { key, value } in self.mapping_of(field, node) {
                    let located = Located { value: value.to_json(), place: value.place.clone() };
                    take(spec, key.value.clone(), located);
                }
            }
            Kind::Secrets(take) => {
                for secret in self.secrets(field, node) {
                    take(spec, secret);
                }
            }
            Kind::Base => self.base(field, node, spec),
        }
    }

    fn base(&mut self, field: &Field, node: &Node, spec: &mut Spec) {
        let place = node.place.clone();
        if matches!(node.value, Value::Mapping(_)) {
            let nested = self.spec(node, "`base_image`");
            spec.base_image = Some(Located { value: BaseImage::Spec(Box::new(nested)), place });
            return;
        }
        let Some(text) = self.scalar(node) else {
            return self.wrong_kind(field, "a text or a nested spec", node);
        };
        if let Some(text) = self.check_lines(field, text) {
            self.take(field.name, text, |text| {
                let base = base::parse(&text.value)?;
                spec.base_image = Some(text.map(|_| base));
                Ok(())
            });
        }
    }

    fn secrets(&mut self, field: &Field, node: &Node) -> Vec<Located<crate::plan::SecretMount>> {
        let alone = matches!(node.value, Value::Mapping(_) | Value::Scalar(_));
        let items = match &node.value {
            Value::Sequence(items) => items.as_slice(),
            _ if alone => std::slice::from_ref(node),
            _ => &[],
        };
        items.iter().enumerate().filter_map(|(index, item)| secret::read(self, field, index, item)).collect()
    }

    /// One scalar by its source text.
    pub(crate) fn text(&mut self, field: &Field, node: &Node) -> Option<Located<String>> {
        match self.scalar(node) {
            Some(text) => self.check_lines(field, text),
            None => {
                self.wrong_kind(field, "a text", node);
                None
            }
        }
    }

    /// A scalar by its source text, unless it is nothing.
    pub(crate) fn scalar(&self, node: &Node) -> Option<Located<String>> {
        match &node.value {
            Value::Scalar(Scalar { kind, text }) if *kind != ScalarKind::Null => {
                Some(Located { value: text.clone(), place: node.place.clone() })
            }
            _ => None,
        }
    }

    fn check_lines(&mut self, field: &Field, text: Located<String>) -> Option<Located<String>> {
        if field.lines == Lines::Many {
            return Some(text);
        }
        match check::one_line(&text.value) {
            Ok(()) => Some(text),
            Err(refusal) => {
                self.refuse(field.name, &text, refusal);
                None
            }
        }
    }

    fn list(&mut self, field: &Field, node: &Node) -> Vec<Located<String>> {
        let items = match &node.value {
            Value::Sequence(items) => items.as_slice(),
            Value::Scalar(_) => std::slice::from_ref(node),
            Value::Mapping(_) => {
                self.wrong_kind(field, "a list of texts", node);
                &[]
            }
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match self.scalar(item) {
                Some(text) => texts.extend(self.check_lines(field, text)),
                None => self.wrong_entry(field, index, "a text", item),
            }
        }
        texts
    }

    fn words(&mut self, field: &Field, node: &Node) -> Vec<Located<String>> {
        let Some(text) = self.scalar(node) else { return self.list(field, node) };
        match check::shell_words(&text.value) {
            Ok(words) => words.into_iter().map(|value| Located { value, place: text.place.clone() }).collect(),
            Err(refusal) => {
                self.refuse(field.name, &text, refusal);
                Vec::new()
            }
        }
    }

    fn arguments(&mut self, field: &Field, node: &Node) -> Option<Located<Vec<String>>> {
        if let Some(text) = self.scalar(node) {
            let kind = SpecErrorKind::WrongKind {
                field: field.name.to_owned(),
                expected: "a list of texts",
                found: node.found(),
            };
            let words = check::shell_words(&text.value).unwrap_or_else(|_| vec![text.value]);
            let words: Vec<_> = words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
            let list = format!("write `{}: [{}]`", field.name, shorten(&words.join(", ")));
            self.errors.push(SpecError::new(kind, node.place.clone()).hint(list));
            return None;
        }
        let errors = self.errors.len();
        let words = self.list(field, node).into_iter().map(|word| word.value).collect();
        (self.errors.len() == errors).then(|| Located { value: words, place: node.place.clone() })
    }

    fn variables(
        &mut self,
        field: &Field,
        node: &Node,
        check_name: fn(&str) -> Result<(), Refusal>,
    ) -> Vec<(String, Located<String>)> {
        let mut variables = Vec::new();
        for Entry { key, value } in self.mapping_of(field, node) {
            if let Err(refusal) = check_name(&key.value) {
                self.refuse_key(field.name, key, refusal);
                continue;
            }
            match self.scalar(value) {
                Some(text) => variables.push((key.value.clone(), text)),
                None => {
                    let name = format!("{}.{}", field.name, shorten(&key.value));
                    self.wrong(&name, "a text", value, format!("write `{}: \"\"` for an empty one", key.value));
                }
            }
        }
        variables
    }

    fn mapping_of<'n>(&mut self, field: &Field, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Mapping(entries) => entries,
            _ => {
                self.wrong_kind(field, "a mapping", node);
                &[]
            }
        }
    }

    /// The entries of a mapping; anything else is an error about `what`.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Mapping(entries) => Some(entries),
            _ => {
                let kind = SpecErrorKind::NotMapping { what: what.to_owned(), found: node.found() };
                self.errors.push(SpecError::new(kind, node.place.clone()));
                None
            }
        }
    }

    fn take(&mut self, field: &str, text: Located<String>, take: impl FnOnce(Located<String>) -> Result<(), Refusal>) {
        let (shown, place) = (text.value.clone(), text.place.clone());
        if let Err(refusal) = take(text) {
            self.errors.push(SpecError::refused(field, &shown, place, refusal));
        }
    }

    pub(crate) fn refuse(&mut self, field: &str, text: &Located<String>, refusal: Refusal) {
        self.errors.push(SpecError::refused(field, &text.value, text.place.clone(), refusal));
    }

    /// The error that `refusal` is about a key of the mapping `field`.
    pub(crate) fn refuse_key(&mut self, field: &str, key: &Located<String>, refusal: Refusal) {
        if let Refusal::Invalid { problem, hints } = refusal {
            let (key, place) = (shorten(&key.value).into(), key.place.clone());
            let kind = SpecErrorKind::InvalidKey { field: field.to_owned(), key, problem: problem.into() };
            self.errors.push(SpecError { kind, place: Some(place), hints });
        }
    }

    /// The error that `node` is not what `field` takes.
    pub(crate) fn wrong_kind(&mut self, field: &Field, expected: &'static str, node: &Node) {
        self.wrong(field.name, expected, node, format!("write `{}`", field.example));
    }

    /// The error that the entry `index` of a list is not what `field` takes.
    pub(crate) fn wrong_entry(&mut self, field: &Field, index: usize, expected: &'static str, node: &Node) {
        self.wrong(&format!("{}[{index}]", field.name), expected, node, format!("write `{}`", field.example));
    }

    pub(crate) fn wrong(&mut self, field: &str, expected: &'static str, node: &Node, hint: String) {
        let kind = SpecErrorKind::WrongKind { field: field.to_owned(), expected, found: node.found() };
        self.errors.push(SpecError::new(kind, node.place.clone()).hint(hint));
    }

    /// The error that nobody knows `key`, with what it probably means, or else with `otherwise` as the hint.
    pub(crate) fn unknown_key(
        &mut self,
        key: &Located<String>,
        within: Option<&str>,
        suggestion: Option<&str>,
        otherwise: &str,
    ) {
        let kind = SpecErrorKind::UnknownKey { key: shorten(&key.value), within: within.map(str::to_owned) };
        let hint = match suggestion {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => otherwise.to_owned(),
        };
        self.errors.push(SpecError::new(kind, key.place.clone()).hint(hint));
    }

    pub(crate) fn missing(&mut self, what: impl Into<String>, key: &'static str, place: &Place, hint: &str) {
        let kind = SpecErrorKind::Missing { what: what.into(), key };
        self.errors.push(SpecError::new(kind, place.clone()).hint(hint));
    }
}

fn not_one_of(text: &str, words: &[&str]) -> Refusal {
    let listed: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    let refusal = Refusal::new(format!("it is one of {}", listed.join(", ")));
    match suggestion::closest(text, words.iter().copied()) {
        Some(word) => refusal.hint(format!("did you mean `{word}`?")),
        None => refusal,
    }
}
