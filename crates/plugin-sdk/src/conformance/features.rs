//! Whether a builder has what it says that it has: for each feature, a plan that needs it.

use imagespec_core::boundary::LOCK;
use imagespec_core::builder::{FailureKind, Feature};
use imagespec_core::plan::{FILES_ROOT, ID_VARIABLE, Plan};
use imagespec_core::report::Report;
use serde_json::{Value, json};

use super::behaviour;
use super::bench::{self, Bench};
use super::find;
use super::layout::{self, Entry, Found};
use super::material::{self, BASE_ENV, CMD, DIRECTORY, ENTRYPOINT, ENV, FILES, LABELS, LINK, USER, WORKDIR};
use super::render;
use super::subject::{Fault, shortened, told};

/// The features that it says that it has, and that can be tried.
pub(super) fn tried(bench: &Bench) -> Vec<Feature> {
    let is_tried = |feature: &Feature| {
        matches!(feature, Feature::Lock | Feature::Render | Feature::Find | Feature::Reproducible)
            || is_base(*feature)
            || bench.output(*feature, &bench.folder("try")).is_some()
            || material::ask(&mut bench.smallest(), *feature)
    };
    bench.subject.description.features.iter().copied().filter(is_tried).collect()
}

/// What is not tried.
pub(super) fn rest(bench: &Bench) -> Result<(), Fault> {
    let tried = tried(bench);
    let rest = bench
        .subject
        .description
        .features
        .iter()
        .filter(|feature| **feature != bench.base() && !tried.contains(feature));
    let names: Vec<_> = rest.map(|feature| format!("`{}`", feature.name())).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Fault::Skipped(format!("it takes a network, an engine or programs in a base to try {}", names.join(", "))))
}

/// Bases that are made here. One in a registry is tried only where there is no other, as the smallest plan.
fn is_base(feature: Feature) -> bool {
    matches!(feature, Feature::BaseScratch | Feature::BaseOciLayout | Feature::BaseDockerArchive)
}

/// Tries one of [`tried`].
pub(super) fn check(bench: &Bench, feature: Feature) -> Result<(), Fault> {
    if feature == Feature::Lock {
        return lock(bench);
    }
    if feature == Feature::Render {
        return render::check(bench);
    }
    if feature == Feature::Find {
        return find::check(bench);
    }
    if feature == Feature::Reproducible {
        return behaviour::reproducible(bench);
    }
    let mut plan = bench.smallest();
    if is_base(feature) {
        plan = material::plan(bench.material.base(feature).expect("such a base is made here"));
    } else {
        material::ask(&mut plan, feature);
    }
    let name = format!("has-{}", feature.name());
    let mut request = bench.request(plan.clone(), &name);
    if let Some(output) = bench.output(feature, &bench.folder(&name)) {
        request.outputs = vec![output];
    }
    let report = match bench.attempt(&request)? {
        // What it may do elsewhere: not every engine keeps several platforms, nor does every machine emulate others.
        Err(error) if feature == Feature::MultiplePlatforms && error.kind == FailureKind::Machine => {
            return Err(Fault::Skipped(format!("this machine does not let it: {}", told(&error))));
        }
        answer => answer.map_err(|error| bench::refused(&error))?,
    };
    covers(&report, &plan)?;
    if feature == Feature::OutputDockerArchive {
        return is_archive(bench, &name);
    }
    let Some(folder) = bench.layout(&name).filter(|_| feature != Feature::OutputStore) else { return Ok(()) };
    for platform in &plan.platforms {
        let image = layout::read(&folder, report.digest, platform).map_err(Fault::Failed)?;
        shows(&image, feature)?;
    }
    Ok(())
}

/// Whether the report names an image for each platform, or none at all, as one that builds nothing.
fn covers(report: &Report, plan: &Plan) -> Result<(), Fault> {
    let images: Vec<_> = report.images.iter().map(|image| &image.platform).collect();
    if images.is_empty() || plan.platforms.iter().all(|platform| images.contains(&platform)) {
        return Ok(());
    }
    let wanted: Vec<_> = plan.platforms.iter().map(ToString::to_string).collect();
    let reported: Vec<_> = images.iter().map(ToString::to_string).collect();
    let (wanted, reported) = (wanted.join(", "), reported.join(", "));
    Err(Fault::Failed(format!("{wanted} was asked for, and its report has images for {reported}")))
}

/// What every image has, whoever builds it and whatever was asked for.
pub(super) fn contract(bench: &Bench) -> Result<(), Fault> {
    let Some(folder) = bench.layout("contract") else {
        return Err(Fault::Skipped("it takes the output `output-oci` to see its images".to_owned()));
    };
    let request = bench.request(bench.smallest(), "contract");
    let digest = bench.build(&request)?.digest;
    let image = layout::read(&folder, digest, &material::platform()).map_err(Fault::Failed)?;
    let config = &image.config["config"];
    let last = config["Env"].as_array().and_then(|env| env.last());
    let wanted = format!("{ID_VARIABLE}={}", request.id);
    if last != Some(&Value::from(wanted.as_str())) {
        let why = format!("the last variable of the image must be `{wanted}`: by it, a program knows its image");
        return Err(Fault::Failed(why));
    }
    same(&config["WorkingDir"], &json!(FILES_ROOT), "working directory").map_err(Fault::Failed)
}

/// Whether what was asked for is there.
fn shows(image: &Found, feature: Feature) -> Result<(), Fault> {
    let config = &image.config["config"];
    let has_variable =
        |variable: &str| config["Env"].as_array().is_some_and(|env| env.iter().any(|one| one == variable));
    let found = match feature {
        Feature::Env => ENV.iter().map(|(name, value)| format!("{name}={value}")).try_for_each(|wanted| {
            has_variable(&wanted).then_some(()).ok_or_else(|| format!("the image lacks the variable `{wanted}`"))
        }),
        Feature::Labels => {
            LABELS.iter().try_for_each(|(name, value)| same(&config["Labels"][name], &json!(value), "label"))
        }
        Feature::User => same(&config["User"], &json!(USER), "user"),
        Feature::Workdir => same(&config["WorkingDir"], &json!(WORKDIR), "working directory"),
        Feature::Entrypoint => same(&config["Entrypoint"], &json!(ENTRYPOINT), "entry point"),
        Feature::Cmd => same(&config["Cmd"], &json!(CMD), "list of arguments"),
        Feature::BaseOciLayout | Feature::BaseDockerArchive => has_variable(BASE_ENV)
            .then_some(())
            .ok_or_else(|| format!("the image lacks `{BASE_ENV}`, which its base has")),
        Feature::Copy => return copied(image),
        _ => Ok(()),
    };
    found.map_err(Fault::Failed)
}

fn same(found: &Value, wanted: &Value, what: &str) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    let found = if found.is_null() { "none".to_owned() } else { format!("`{}`", shortened(&found.to_string())) };
    Err(format!("the {what} of the image must be `{wanted}`, and is {found}"))
}

fn copied(image: &Found) -> Result<(), Fault> {
    let Some(files) = &image.files else {
        return Err(Fault::Skipped("its layers are zstd, which the kit does not read".to_owned()));
    };
    let file = |(path, content): (&'static str, &str)| {
        let content = content.as_bytes().to_vec();
        (path, Entry::File { content, is_executable: path.ends_with(".sh") })
    };
    let others = [(LINK.0, Entry::Link { target: LINK.1.to_owned() }), (DIRECTORY, Entry::Directory)];
    for (path, wanted) in FILES.into_iter().map(file).chain(others) {
        let path = format!("{}/{path}", FILES_ROOT.trim_start_matches('/'));
        match files.get(&path) {
            Some(found) if *found == wanted => {}
            Some(_) => return Err(Fault::Failed(format!("`/{path}` in the image is not what was to be copied"))),
            None => return Err(Fault::Failed(format!("`/{path}`, which was to be copied, is not in the image"))),
        }
    }
    Ok(())
}

fn is_archive(bench: &Bench, name: &str) -> Result<(), Fault> {
    let file = bench.folder(name).with_extension("tar");
    match std::fs::metadata(&file) {
        Ok(metadata) if metadata.len() > 0 => Ok(()),
        Ok(_) => Err(Fault::Failed("the archive that it wrote is empty".to_owned())),
        Err(error) => Err(Fault::Failed(format!("the archive that it was to write is not there: {error}"))),
    }
}

/// Locks, and builds of what was locked.
fn lock(bench: &Bench) -> Result<(), Fault> {
    let request = bench.request(bench.smallest(), "has-lock");
    let conversation = bench.subject.call(LOCK, &bench::json(&request)?)?;
    let text = conversation.answer.map_err(|error| bench::refused(&error))?;
    let locked = Plan::from_json(&text)
        .map_err(|invalid| Fault::Failed(format!("it answers to `lock` with a plan that cannot be used: {invalid}")))?;
    let without = Plan { lock: bench.smallest().lock, ..locked.clone() };
    if without != bench.smallest() {
        return Err(Fault::Failed(
            "what it answers to `lock` is another plan than the one that was asked for".to_owned(),
        ));
    }
    bench.build(&bench.request(locked, "has-lock")).map(drop)
}
