//! Whatever ends the program early: what to print, and the exit code.

use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::options::OptionError;
use imagespec_core::resolve::{ResolveError, ResolveProblem};
use imagespec_core::spec::SpecError;
use imagespec_plugin_host::PluginError;

use crate::prepare::NestedErrors;

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a command line that makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Exit code of `exists` when the registry does not say.
pub(crate) const UNKNOWN: u8 = 3;
/// Exit code of a failure that may be gone the next time: EX_TEMPFAIL of sysexits.h.
pub(crate) const TRY_AGAIN: u8 = 75;

/// Errors to print, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], code: FAILED }
    }

    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { diagnostics: vec![Diagnostic::error(message).hint(hint)], code: USAGE }
    }

    /// An error of a library, with what it came from as notes.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        Self::new(diagnostic_of(error))
    }

    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

/// `error` and its causes, without a place.
pub(crate) fn diagnostic_of(error: &dyn std::error::Error) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(error.to_string());
    diagnostic.notes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
    diagnostic
}

/// The failure of a file that `text` names and that cannot be read.
pub(crate) fn unreadable(text: &str, error: &std::io::Error) -> Failure {
    let mut diagnostic = diagnostic_of(error);
    let cause = std::mem::replace(&mut diagnostic.message, format!("cannot read `{text}`"));
    diagnostic.notes.insert(0, cause);
    Failure::new(diagnostic)
}

impl From<Vec<SpecError>> for Failure {
    fn from(errors: Vec<SpecError>) -> Self {
        Self { diagnostics: errors.iter().map(SpecError::diagnostic).collect(), code: FAILED }
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self::new(error.diagnostic())
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        vec![error].into()
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let mut diagnostic = diagnostic_of(&error).at(error.place().clone());
        diagnostic.hints.extend(error.hint());
        let nested = match error.problem() {
            ResolveProblem::NestedSpec { source, .. } => source.downcast_ref::<NestedErrors>(),
            _ => None,
        };
        let Some(NestedErrors(errors)) = nested else { return Self::new(diagnostic) };
        // Each of them has a place of its own, so they are no causes in one line.
        diagnostic.notes.clear();
        let diagnostics = std::iter::once(diagnostic).chain(errors.iter().map(SpecError::diagnostic)).collect();
        Self { diagnostics, code: FAILED }
    }
}

impl From<Vec<OptionError>> for Failure {
    fn from(errors: Vec<OptionError>) -> Self {
        Self { diagnostics: errors.iter().map(OptionError::diagnostic).collect(), code: FAILED }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = if error.kind == FailureKind::Temporary { TRY_AGAIN } else { FAILED };
        Self::new(error.diagnostic()).code(code)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::of(&error)
    }
}
