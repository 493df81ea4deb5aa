//! Whether a builder finds the image that it keeps, and no other.

use imagespec_core::boundary::{self, FIND};
use imagespec_core::builder::{BuildRequest, Feature, Output};
use imagespec_core::hash::SpecHash;
use imagespec_core::plan::{ImageConfig, Plan};
use imagespec_core::report::Report;

use super::bench::{self, Bench};
use super::subject::Fault;

/// Looks for an image before it is built, and after.
pub(super) fn check(bench: &Bench) -> Result<(), Fault> {
    if !bench.claims(Feature::OutputStore) {
        return Err(Fault::Skipped("it takes the output `output-store` to see what it keeps".to_owned()));
    }
    let plan = bench.smallest();
    let mut request = bench.request(plan.clone(), "found");
    request.name = bench.own_name("found");
    request.outputs = vec![Output::Store];
    finds_nothing(bench, &request, "before it built the image")?;
    let built = bench.build(&request)?.digest;
    let found = find(bench, &request)?.ok_or_else(|| {
        Fault::Failed("it built an image, and asked for that name and spec hash it finds none".to_owned())
    })?;
    if found.digest != built {
        let found = found.digest;
        return Err(Fault::Failed(format!("it built the image {built}, and asked for it finds {found}")));
    }
    let config = ImageConfig { workdir: "/another".to_owned(), ..plan.config.clone() };
    let spec_hash = SpecHash::of(&Plan { config, ..plan });
    finds_nothing(bench, &BuildRequest { spec_hash, ..request.clone() }, "for another spec hash")?;
    let elsewhere = bench.output(Feature::OutputOci, &bench.folder("found"));
    if let Some(elsewhere) = elsewhere.filter(|_| bench.claims(Feature::OutputOci)) {
        let outputs = vec![Output::Store, elsewhere];
        finds_nothing(bench, &BuildRequest { outputs, ..request }, "for an image that is to go to a layout, too")?;
    }
    Ok(())
}

fn finds_nothing(bench: &Bench, request: &BuildRequest, when: &str) -> Result<(), Fault> {
    match find(bench, request)? {
        None => Ok(()),
        Some(found) => Err(Fault::Failed(format!("it must find nothing {when}, and finds {}", found.digest))),
    }
}

fn find(bench: &Bench, request: &BuildRequest) -> Result<Option<Report>, Fault> {
    let conversation = bench.subject.call(FIND, &bench::json(request)?)?;
    let answer = conversation.answer.map_err(|error| bench::refused(&error))?;
    boundary::found_from_json(&answer)
        .map_err(|invalid| Fault::Failed(format!("it answers to `find` what cannot be used: {invalid}")))
}
