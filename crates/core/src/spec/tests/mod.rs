//! What specs are read as, and the exact text of every error of a field.

mod files;
mod golden;
mod image;
mod packages;

use crate::document::Format;
use crate::spec::Spec;

/// All errors of a YAML spec as a user sees them.
fn errors(text: &str) -> String {
    match Spec::parse("train.yaml", text.as_bytes(), Format::Yaml) {
        Ok(spec) => panic!("accepted: {spec:?}"),
        Err(errors) => errors.iter().map(|error| error.diagnostic().render()).collect(),
    }
}

/// The errors of one field with each of `values`, without the lines that they point at.
fn refused(field: &str, values: &[&str]) -> String {
    let mut text = String::new();
    for value in values {
        let spec = format!("{field}: {value}\n");
        match Spec::parse("train.yaml", spec.as_bytes(), Format::Yaml) {
            Ok(spec) => panic!("accepted: {value}: {spec:?}"),
            Err(errors) => {
                for error in errors {
                    let rendered = error.diagnostic().render();
                    text.extend(rendered.lines().filter(|line| !line.starts_with(' ')).flat_map(|line| [line, "\n"]));
                }
            }
        }
    }
    text
}

/// Checks that one field takes each of `values`.
fn taken(field: &str, values: &[&str]) {
    for value in values {
        let spec = format!("{field}: {value}\n");
        if let Err(errors) = Spec::parse("train.yaml", spec.as_bytes(), Format::Yaml) {
            panic!("{}", errors[0].diagnostic().render());
        }
    }
}
