//! How a builder behaves while it builds what it can: the same image always, events in order, an end when it is told to
//! end, several builds at once.

use std::collections::BTreeMap;

use imagespec_core::boundary;
use imagespec_core::builder::{BuildError, CachePolicy, FailureKind};
use imagespec_core::digest::Digest;
use imagespec_core::event::Event;

use super::bench::{Bench, refused, report};
use super::material::Material;
use super::subject::{Cancel, Conversation, Fault, is_panic, shortened, told};

/// Builds one plan twice, and gives the digest that it had both times.
pub(super) fn determinism(bench: &Bench) -> Result<Digest, Fault> {
    let first = bench.build(&bench.request(bench.full(), "same-1"))?.digest;
    let second = bench.build(&bench.request(bench.full(), "same-2"))?.digest;
    is_same(first, second, "the second time")?;
    Ok(first)
}

/// Builds one plan without what it remembers, and elsewhere.
pub(super) fn reproducible(bench: &Bench) -> Result<(), Fault> {
    let first = bench.build(&bench.request(bench.full(), "reproduced-1"))?.digest;
    let mut request = bench.request(bench.full(), "reproduced-2");
    request.cache = CachePolicy::Rebuild;
    is_same(first, bench.build(&request)?.digest, "with `CachePolicy::Rebuild`")?;
    let elsewhere = bench.folder("elsewhere");
    let material = Material::write(&elsewhere);
    let material = material.map_err(|error| Fault::Skipped(format!("the files cannot be written: {error}")))?;
    let mut request = bench.request_in(bench.full(), &elsewhere.join("cache"), &elsewhere.join("out"));
    (request.files, request.base_paths) = (material.files, material.base_paths);
    is_same(first, bench.build(&request)?.digest, "with its files and its cache in other folders")
}

fn is_same(first: Digest, digest: Digest, how: &str) -> Result<(), Fault> {
    match digest == first {
        true => Ok(()),
        false => Err(Fault::Failed(format!(
            "the image was {first}, and {how} {digest}: nothing of the machine, the time or an order by chance may reach it"
        ))),
    }
}

/// Whether events of good builds can be read and are in order.
pub(super) fn events(bench: &Bench) -> Result<(), Fault> {
    for (name, cache) in [("events-1", CachePolicy::Rebuild), ("events-2", CachePolicy::Use)] {
        let mut request = bench.request(bench.full(), name);
        request.cache = cache;
        let Conversation { answer, events } = bench.begin(&request, Cancel::Never)?.wait()?;
        answer.map_err(|error| refused(&error))?;
        in_order(&events).map_err(Fault::Failed)?;
    }
    Ok(())
}

fn in_order(events: &[String]) -> Result<(), String> {
    /// What is said of a step after its beginning.
    #[derive(PartialEq, Eq)]
    enum State {
        Running,
        Finished,
    }
    let mut steps: BTreeMap<u32, State> = BTreeMap::new();
    for json in events {
        let event = boundary::event_from_json(json)
            .ok_or_else(|| format!("nobody can read its event `{}`", shortened(json)))?;
        let (step, what) = match event {
            Event::StepStarted { step, title } => {
                if title.trim().is_empty() {
                    return Err(format!("step {step} has an empty title"));
                }
                if steps.insert(step, State::Running).is_some() {
                    return Err(format!("step {step} was started twice: each step of a build has a number of its own"));
                }
                continue;
            }
            Event::StepProgress { step, .. } => (step, "came further"),
            Event::Output { step, .. } => (step, "printed a line"),
            Event::StepFinished { step, .. } => (step, "was finished"),
            Event::Notice { .. } | Event::Warning { .. } => continue,
        };
        match steps.get(&step) {
            Some(State::Running) => {}
            Some(State::Finished) => return Err(format!("step {step} {what} after it was finished")),
            None => return Err(format!("step {step} {what} before it was started")),
        }
        if what == "was finished" {
            steps.insert(step, State::Finished);
        }
    }
    match steps.iter().find(|(_, state)| **state == State::Running) {
        Some((step, _)) => Err(format!("the build went well, and its step {step} was never finished")),
        None => Ok(()),
    }
}

/// Whether a build that was cancelled before its call is none.
pub(super) fn cancelled_before(bench: &Bench) -> Result<(), Fault> {
    let request = bench.request(bench.full(), "cancelled-before");
    match bench.begin(&request, Cancel::Before)?.wait()?.answer {
        Err(error) => is_cancelled(&error)?,
        Ok(_) => {
            let why = "it built the image: look at `Session::is_cancelled` before the first step, too";
            return Err(Fault::Failed(why.to_owned()));
        }
    }
    bench.is_well_after("a build was cancelled")
}

/// Whether a build ends soon after it is cancelled.
pub(super) fn cancelled_meanwhile(bench: &Bench) -> Result<(), Fault> {
    let mut request = bench.request(bench.full(), "cancelled-meanwhile");
    request.cache = CachePolicy::Rebuild;
    match bench.begin(&request, Cancel::Meanwhile)?.wait()?.answer {
        // It was done already, or could not be stopped any more.
        Ok(text) => drop(report(&text)?),
        Err(error) => is_cancelled(&error)?,
    }
    bench.is_well_after("a build was cancelled in the middle")
}

fn is_cancelled(error: &BuildError) -> Result<(), Fault> {
    if error.kind == FailureKind::Cancelled {
        return Ok(());
    }
    let what = if is_panic(error) { "it panicked" } else { "it answered another error" };
    Err(Fault::Failed(format!("{what}: {}; one of kind `FailureKind::Cancelled` is right", told(error))))
}

/// Whether four builds at once, that share an empty cache, all make the image.
pub(super) fn at_once(bench: &Bench) -> Result<(), Fault> {
    let cache = bench.folder("cache-at-once");
    let request = |number: u32| bench.request_in(bench.full(), &cache, &bench.folder(&format!("at-once-{number}")));
    let running: Result<Vec<_>, _> = (0..4).map(|number| bench.begin(&request(number), Cancel::Never)).collect();
    for running in running? {
        let text = running.wait()?.answer.map_err(|error| refused(&error))?;
        bench.compare(report(&text)?.digest, "four were built at once")?;
    }
    Ok(())
}
