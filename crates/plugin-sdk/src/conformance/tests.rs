//! That the kit passes who is honest, and that each lie is found by its check and by no other.

use std::sync::Arc;
use std::time::Duration;

use imagespec_core::boundary::{self, CallError, Door};
use imagespec_core::builder::{BuildError, FailureKind};

use super::subject::Limits;
use super::tiny::{Lie, Tiny};
use super::{Check, Disk, Verdict, check, examine_disk, examine_within};
use crate::speaker::Speaker;

fn speaker(lie: Lie) -> Speaker {
    Speaker::new(Box::new(Tiny::new(lie)))
}

/// The checks that failed, and how many were not tried.
fn failed(door: impl Door + 'static, limits: Limits) -> String {
    let checks = examine_within(Arc::new(door), limits, &mut |_| {});
    let lines: Vec<_> = checks.iter().filter(|check| check.is_failed()).map(ToString::to_string).collect();
    let skipped = checks.iter().filter(|check| matches!(check.verdict, Verdict::Skipped(_))).count();
    format!("{}\nof {} checks, {skipped} skipped", lines.join("\n"), checks.len())
}

/// The same, for a lie.
fn found(lie: Lie) -> String {
    failed(speaker(lie), Limits::default())
}

/// The report of a builder, without the digests.
fn lines(checks: &[Check]) -> String {
    checks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_honest_builder_passes() {
    let checks = examine_within(Arc::new(speaker(Lie::None)), Limits::default(), &mut |_| {});
    insta::assert_snapshot!(lines(&checks), @"");
    check(Tiny::new(Lie::None));
}

#[test]
#[should_panic(expected = "FAILED   has `labels`, as it says")]
fn the_test_of_an_author_fails_with_what_is_wrong() {
    check(Tiny::new(Lie::ForgetsLabels));
}

#[test]
fn what_a_builder_says_of_itself_is_checked() {
    insta::assert_snapshot!(found(Lie::DescribesItselfAnew), @"");
    insta::assert_snapshot!(found(Lie::HasAnOptionWithoutType), @"");
}

#[test]
fn a_feature_that_is_not_there_is_found() {
    insta::assert_snapshot!(found(Lie::RefusesLabels), @"");
    insta::assert_snapshot!(found(Lie::ForgetsLabels), @"");
    insta::assert_snapshot!(found(Lie::CopiesNothing), @"");
}

#[test]
fn an_image_that_is_not_always_the_same_is_found() {
    insta::assert_snapshot!(found(Lie::LooksAtTheCacheFolder), @"");
    let counts = found(Lie::CountsItsBuilds);
    assert!(counts.starts_with("FAILED   makes the same image of the same plan: the image was sha256:"), "{counts}");
    assert!(counts.ends_with("\nof 19 checks, 0 skipped") && counts.lines().count() == 2, "{counts}");
}

#[test]
fn events_out_of_order_are_found() {
    insta::assert_snapshot!(found(Lie::TellsOfAFinishedStep), @"");
    insta::assert_snapshot!(found(Lie::NeverFinishesAStep), @"");
}

#[test]
fn a_builder_that_does_not_stop_is_found_and_keeps_nobody() {
    insta::assert_snapshot!(found(Lie::BeginsWhatIsCancelled), @"");
    let limits = Limits { answer: Duration::from_secs(5), cancel: Duration::from_millis(250) };
    insta::assert_snapshot!(failed(speaker(Lie::StopsForNobody), limits), @"");
    let limits = Limits { answer: Duration::from_millis(250), ..limits };
    insta::assert_snapshot!(failed(speaker(Lie::NeverEnds), limits), @"");
}

#[test]
fn carelessness_with_files_is_found() {
    insta::assert_snapshot!(found(Lie::DoesNotDigest), @"");
    insta::assert_snapshot!(found(Lie::LeavesHalfALayout), @"");
}

#[test]
fn a_panic_and_what_it_leaves_are_found() {
    insta::assert_snapshot!(found(Lie::PanicsOnManyVariables), @"");
    insta::assert_snapshot!(found(Lie::FailsEverAfterManyVariables), @"");
    insta::assert_snapshot!(found(Lie::AnswersWithoutAMessage), @"");
}

/// A door that answers some words by itself.
struct Odd {
    speaker: Speaker,
    answer: fn(method: &str, request: &str) -> Option<Result<String, CallError>>,
}

impl Door for Odd {
    fn describe(&self) -> Result<String, CallError> {
        self.speaker.describe()
    }

    fn call(
        &self,
        operation: u64,
        method: &str,
        request: &str,
        events: &(dyn Fn(&str) + Sync),
    ) -> Result<String, CallError> {
        let own = (self.answer)(method, request);
        own.unwrap_or_else(|| self.speaker.call(operation, method, request, events))
    }

    fn cancel(&self, operation: u64) {
        self.speaker.cancel(operation);
    }
}

fn odd(answer: fn(&str, &str) -> Option<Result<String, CallError>>) -> String {
    failed(Odd { speaker: speaker(Lie::None), answer }, Limits::default())
}

fn error(kind: FailureKind, message: &str) -> BuildError {
    BuildError { kind, message: message.to_owned(), causes: Vec::new(), hints: Vec::new(), field: None }
}

#[test]
fn words_that_are_misunderstood_are_found() {
    insta::assert_snapshot!(odd(|method, _| (method != boundary::BUILD).then(|| Ok("{}".to_owned()))), @"");
    insta::assert_snapshot!(odd(|_, request| (!request.starts_with('{')).then(|| Err(CallError::Answered("no".to_owned())))), @"");
    let strict = |_: &str, request: &str| {
        let error = || CallError::Answered(boundary::error_to_json(&error(FailureKind::Internal, "unknown field")));
        request.contains("tomorrow").then(|| Err(error()))
    };
    insta::assert_snapshot!(odd(strict), @"");
}

#[test]
fn a_builder_that_is_gone_fails_whatever_is_tried_then() {
    let gone = |_: &str, request: &str| {
        let error = || CallError::Gone(Box::new(error(FailureKind::Internal, "builder `tiny` crashed: abort")));
        request.contains("CONFORMANCE_EMPTY").then(|| Err(error()))
    };
    insta::assert_snapshot!(odd(gone), @"");
}

#[test]
fn a_disk_that_takes_nothing_is_the_machine_and_no_bug() {
    let folder = tempfile::NamedTempFile::new().unwrap();
    // Nothing can be written beneath a file, either.
    let disk = |lie| lines(&examine_disk(Arc::new(speaker(lie)), folder.path(), Disk::Full, &mut |_| {}));
    insta::assert_snapshot!(disk(Lie::None), @"");
    insta::assert_snapshot!(disk(Lie::TakesADiskForABug), @"");
}
