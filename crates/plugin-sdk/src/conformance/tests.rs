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
    format!("{}\nof {} checks, {skipped} skipped", without_digests(&lines.join("\n")), checks.len())
}

/// Digests of what depends on the name of a temporary folder are others each time, and lines of source move.
fn without_digests(text: &str) -> String {
    let is_digit = |letter: char| letter.is_ascii_hexdigit();
    ["sha256:", "tiny.rs:"].into_iter().fold(text.to_owned(), |text, before| {
        let mut parts = text.split(before);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + before + "…" + part.trim_start_matches(is_digit))
    })
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
    insta::assert_snapshot!(lines(&checks), @"
    ok       describes itself, and always the same
    ok       says what it is and which kinds of options it takes
    ok       answers an unknown method by an error
    ok       answers a request that is none by an error
    ok       builds the smallest plan that it offers
    ok       has `base-scratch`, as it says
    ok       has `copy`, as it says
    ok       has `env`, as it says
    ok       has `labels`, as it says
    ok       has `reproducible`, as it says
    ok       has `render`, as it says
    ok       has `find`, as it says
    ok       has `output-store`, as it says
    ok       has `output-oci`, as it says
    ok       has all else that it says
    ok       makes the same image of the same plan
    ok       makes images that know which spec they are of
    ok       refuses to lock, render and find unless it says that it can
    ok       ignores what it does not know in a request
    ok       tells of its steps in order
    ok       does not begin a build that was cancelled before
    ok       stops within two seconds of being cancelled
    ok       builds four images at once
    ok       refuses files that are absent or changed
    ok       leaves nothing where a build that failed was to go
    ok       takes absurd requests without a panic
    ok       describes itself as before, after all this
    ");
    check(Tiny::new(Lie::None));
}

#[test]
#[should_panic(expected = "FAILED   has `labels`, as it says")]
fn the_test_of_an_author_fails_with_what_is_wrong() {
    check(Tiny::new(Lie::ForgetsLabels));
}

#[test]
fn what_a_builder_says_of_itself_is_checked() {
    insta::assert_snapshot!(found(Lie::DescribesItselfAnew), @r#"
    FAILED   describes itself, and always the same: it said `"tiny","version":"1.1","summary":"of next to nothing","featu`, and when it was asked again `"tiny","version":"1.2","summary":"of next to nothing","featu`: `describe` must not depend on anything that changes
    of 1 checks, 0 skipped
    "#);
    insta::assert_snapshot!(found(Lie::HasAnOptionWithoutType), @"
    FAILED   says what it is and which kinds of options it takes: its option `jobs` has no `type` in `options_schema` that the program knows: give it one of `string`, `integer`, `number`, `boolean`, `array`, `object`, `null`
    of 27 checks, 0 skipped
    ");
}

#[test]
fn a_feature_that_is_not_there_is_found() {
    insta::assert_snapshot!(found(Lie::ForgetsTheId), @"
    FAILED   makes images that know which spec they are of: the last variable of the image must be `IMAGESPEC_ID=zemkr33mj5paiwai6ay2vwv4yoxqt77g`: by it, a program knows its image
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::RefusesLabels), @"
    FAILED   has `labels`, as it says: it answered an error: `labels cannot be set` (leave them out)
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::ForgetsLabels), @r#"
    FAILED   has `labels`, as it says: the label of the image must be `"a label = a value"`, and is none
    of 27 checks, 0 skipped
    "#);
    insta::assert_snapshot!(found(Lie::CopiesNothing), @"
    FAILED   has `copy`, as it says: `/root/conformance/data.txt`, which was to be copied, is not in the image
    of 27 checks, 2 skipped
    ");
}

#[test]
fn what_is_rendered_and_cannot_be_used_is_found() {
    insta::assert_snapshot!(found(Lie::RendersTheTime), @"
    FAILED   has `render`, as it says: it rendered `an image of fiwzeogvt7d2li56y6dbhik7m5tt4pra and 2 variables `, and of the same plan `an image of fiwzeogvt7d2li56y6dbhik7m5tt4pra and 3 variables `: nothing of the machine, the time or an order by chance may reach it
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::RendersNothing), @"
    FAILED   has `render`, as it says: it answers to `render` what cannot be used: what it renders is empty, or has control characters
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::RendersWithoutFiles), @"
    FAILED   has `render`, as it says: `conformance/data.txt`, which is to be copied, is not in the folder that it wrote
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::RendersWhatItDoesNotOffer), @r#"
    FAILED   refuses to lock, render and find unless it says that it can: it was asked to render, which is not among its features, and answered `{"text":"an image of u23vxtgzsr5w3gjvzqjx3nyfkdtu2nwz and 0 variables\n"}`
    of 26 checks, 0 skipped
    "#);
}

#[test]
fn what_is_kept_and_not_found_or_found_and_not_meant_is_found() {
    insta::assert_snapshot!(found(Lie::FindsNothing), @"
    FAILED   has `find`, as it says: it built an image, and asked for that name and spec hash it finds none
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::FindsByName), @"
    FAILED   has `find`, as it says: it must find nothing for another spec hash, and finds sha256:…
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::FindsWhatGoesElsewhere), @"
    FAILED   has `find`, as it says: it must find nothing for an image that is to go to a layout, too, and finds sha256:…
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::FindsWhatItDoesNotOffer), @r#"
    FAILED   refuses to lock, render and find unless it says that it can: it was asked to find, which is not among its features, and answered `{"digest":"sha256:…","images":[],"name":"registry.invalid/conformance/image:1","duration_ms":0}`
    of 26 checks, 0 skipped
    "#);
}

#[test]
fn an_image_that_is_not_always_the_same_is_found() {
    insta::assert_snapshot!(found(Lie::LooksAtTheCacheFolder), @"
    FAILED   has `reproducible`, as it says: the image was sha256:…, and with its files and its cache in other folders sha256:…: nothing of the machine, the time or an order by chance may reach it
    FAILED   builds four images at once: four were built at once, and the image was sha256:… where it had been sha256:…
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::CountsItsBuilds), @"
    FAILED   has `reproducible`, as it says: the image was sha256:…, and with `CachePolicy::Rebuild` sha256:…: nothing of the machine, the time or an order by chance may reach it
    FAILED   makes the same image of the same plan: the image was sha256:…, and the second time sha256:…: nothing of the machine, the time or an order by chance may reach it
    of 27 checks, 0 skipped
    ");
}

#[test]
fn events_out_of_order_are_found() {
    insta::assert_snapshot!(found(Lie::TellsOfAFinishedStep), @"
    FAILED   tells of its steps in order: step 0 printed a line after it was finished
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::NeverFinishesAStep), @"
    FAILED   tells of its steps in order: the build went well, and its step 0 was never finished
    of 27 checks, 0 skipped
    ");
}

#[test]
fn a_builder_that_does_not_stop_is_found_and_keeps_nobody() {
    insta::assert_snapshot!(found(Lie::BeginsWhatIsCancelled), @"
    FAILED   does not begin a build that was cancelled before: it built the image: look at `Session::is_cancelled` before the first step, too
    of 27 checks, 0 skipped
    ");
    let limits = Limits { answer: Duration::from_secs(5), cancel: Duration::from_millis(250) };
    insta::assert_snapshot!(failed(speaker(Lie::StopsForNobody), limits), @"
    FAILED   stops within two seconds of being cancelled: it was still at work 0.25 seconds after it was cancelled: look at `Session::is_cancelled` between steps and while it waits
    of 27 checks, 5 skipped
    ");
    let limits = Limits { answer: Duration::from_millis(250), ..limits };
    insta::assert_snapshot!(failed(speaker(Lie::NeverEnds), limits), @"
    FAILED   builds the smallest plan that it offers: it did not answer within 0.25 seconds
    of 5 checks, 0 skipped
    ");
}

#[test]
fn carelessness_with_files_is_found() {
    insta::assert_snapshot!(found(Lie::DoesNotDigest), @"
    FAILED   refuses files that are absent or changed: a file of the plan was changed after it was digested, and it made an image: compare each file with its digest as you read it
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::LeavesHalfALayout), @"
    FAILED   leaves nothing where a build that failed was to go: `blobs` was left in the layout that the image was to go to
    of 27 checks, 0 skipped
    ");
}

#[test]
fn a_panic_and_what_it_leaves_are_found() {
    insta::assert_snapshot!(found(Lie::PanicsOnManyVariables), @"
    FAILED   takes absurd requests without a panic: it was asked for 10,000 variables, and panicked: `builder `tiny` panicked: so many variables at crates/plugin-sdk/src/conformance/tiny.rs:…` (tell the builder's author)
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::FailsEverAfterManyVariables), @"
    FAILED   takes absurd requests without a panic: it was asked for 10,000 variables, and the next build did not go well: it answered an error: `there were so many variables`
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(found(Lie::AnswersWithoutAMessage), @"
    FAILED   takes absurd requests without a panic: it was asked for 10,000 variables: it answered an error without a message: say what happened and where
    of 27 checks, 0 skipped
    ");
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

/// As one that takes its cache for itself alone.
#[test]
fn one_that_cannot_build_twice_at_once_is_found() {
    let locked = |_: &str, request: &str| {
        let error =
            || CallError::Answered(boundary::error_to_json(&error(FailureKind::Machine, "the cache is in use")));
        request.contains("at-once-3").then(|| Err(error()))
    };
    insta::assert_snapshot!(odd(locked), @"
    FAILED   builds four images at once: it answered an error: `the cache is in use`
    of 27 checks, 0 skipped
    ");
}

fn odd(answer: fn(&str, &str) -> Option<Result<String, CallError>>) -> String {
    failed(Odd { speaker: speaker(Lie::None), answer }, Limits::default())
}

fn error(kind: FailureKind, message: &str) -> BuildError {
    BuildError { kind, message: message.to_owned(), causes: Vec::new(), hints: Vec::new(), field: None }
}

#[test]
fn words_that_are_misunderstood_are_found() {
    insta::assert_snapshot!(odd(|method, _| (method != boundary::BUILD).then(|| Ok("{}".to_owned()))), @"
    FAILED   answers an unknown method by an error: it was asked the method `conformance-of-tomorrow`, which there is not, and answered `{}`
    FAILED   has `render`, as it says: it answers to `render` what cannot be used: its answer to `render` is not readable
    FAILED   has `find`, as it says: it answers to `find` what cannot be used: its report is not readable
    FAILED   refuses to lock, render and find unless it says that it can: it was asked to lock, which is not among its features, and answered `{}`
    of 27 checks, 0 skipped
    ");
    insta::assert_snapshot!(odd(|_, request| (!request.starts_with('{')).then(|| Err(CallError::Answered("no".to_owned())))), @"
    FAILED   answers a request that is none by an error: it was asked no text at all: it answered the error `no`, which nobody can read: its error is not readable
    of 27 checks, 0 skipped
    ");
    let strict = |_: &str, request: &str| {
        let error = || CallError::Answered(boundary::error_to_json(&error(FailureKind::Internal, "unknown field")));
        request.contains("tomorrow").then(|| Err(error()))
    };
    insta::assert_snapshot!(odd(strict), @"
    FAILED   ignores what it does not know in a request: it answered an error: `unknown field`
    of 27 checks, 0 skipped
    ");
}

#[test]
fn a_builder_that_is_gone_fails_whatever_is_tried_then() {
    let gone = |_: &str, request: &str| {
        let error = || CallError::Gone(Box::new(error(FailureKind::Internal, "builder `tiny` crashed: abort")));
        request.contains("CONFORMANCE_EMPTY").then(|| Err(error()))
    };
    insta::assert_snapshot!(odd(gone), @"
    FAILED   has `env`, as it says: it cannot be reached any more: `builder `tiny` crashed: abort`
    of 27 checks, 0 skipped
    ");
}

#[test]
fn a_disk_that_takes_nothing_is_the_machine_and_no_bug() {
    let folder = tempfile::NamedTempFile::new().unwrap();
    // Nothing can be written beneath a file, either.
    let disk = |lie| lines(&examine_disk(Arc::new(speaker(lie)), folder.path(), Disk::Full, &mut |_| {}));
    insta::assert_snapshot!(disk(Lie::None), @"ok       says so when the disk is full");
    insta::assert_snapshot!(disk(Lie::TakesADiskForABug), @"FAILED   says so when the disk is full: it took that for a bug of its own (`FailureKind::Internal`), where it is the machine: `Not a directory (os error 20)`");
}
