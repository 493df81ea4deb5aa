//! What a builder does with requests that cannot go well: it answers an error, and builds on.

use std::fs;
use std::path::Path;

use imagespec_core::builder::{BuildRequest, FailureKind, Feature, Output};
use imagespec_core::digest::Digest;
use imagespec_core::plan::{CopiedFile, CopyStep, Plan, Step};
use serde_json::json;

use super::bench::Bench;
use super::material::{self, FILES};
use super::subject::{Fault, is_panic, told};

/// Files that were not handed over, or are not what their digest says.
pub(super) fn files(bench: &Bench) -> Result<(), Fault> {
    if !bench.features.contains(&Feature::Copy) {
        return Err(Fault::Skipped("it copies no files".to_owned()));
    }
    let fresh = |name: &str| {
        let mut plan = bench.smallest();
        material::ask(&mut plan, Feature::Copy);
        // A layer of these files may be in its cache already, for which it need not read them.
        bench.request_in(plan, &bench.folder(&format!("cache-{name}")), &bench.folder(name))
    };
    let digest = Digest::of(FILES[0].1.as_bytes());
    let mut absent = fresh("not-handed-over");
    absent.files.remove(&digest);
    let mut gone = fresh("removed");
    gone.files.insert(digest, bench.folder("nothing-is-here"));
    let mut changed = fresh("changed");
    let path = bench.folder("changed-file");
    // As long as it should be.
    let written = fs::write(&path, FILES[0].1.to_uppercase());
    written.map_err(|error| Fault::Skipped(format!("a file cannot be written: {error}")))?;
    changed.files.insert(digest, path);
    let requests = [
        ("a file of the plan was not handed over", absent),
        ("a file of the plan was handed over, and is not there", gone),
        ("a file of the plan was changed after it was digested", changed),
    ];
    for (what, request) in requests {
        match bench.attempt(&request).map_err(|fault| fault.when(what))? {
            Ok(_) => {
                let why = format!("{what}, and it made an image: compare each file with its digest as you read it");
                return Err(Fault::Failed(why));
            }
            Err(error) if is_panic(&error) => {
                return Err(Fault::Failed(format!("{what}, and it panicked: {}", told(&error))));
            }
            Err(_) => {}
        }
    }
    bench.is_well_after("files were absent or changed")
}

/// What a failed build leaves at its output.
pub(super) fn leftovers(bench: &Bench) -> Result<(), Fault> {
    let Some(folder) = bench.layout("half").filter(|_| bench.features.contains(&Feature::Copy)) else {
        return Err(Fault::Skipped("it takes copied files and the output `output-oci` to try it".to_owned()));
    };
    let mut plan = bench.smallest();
    material::ask(&mut plan, Feature::Copy);
    let mut request = bench.request_in(plan, &bench.folder("cache-half"), &bench.folder("half"));
    request.files.clear();
    if bench.attempt(&request)?.is_ok() {
        return Err(Fault::Skipped("it makes images of files that are absent".to_owned()));
    }
    let left = fs::read_dir(folder).into_iter().flatten().flatten().next();
    match left {
        Some(entry) => {
            let name = entry.file_name().display().to_string();
            Err(Fault::Failed(format!("`{name}` was left in the layout that the image was to go to")))
        }
        None => Ok(()),
    }
}

/// Requests that are well-formed, and that no user writes.
pub(super) fn absurd(bench: &Bench) -> Result<(), Fault> {
    for (number, (what, change)) in CHANGES.iter().enumerate() {
        let mut request = bench.request(bench.full(), &format!("absurd-{number}"));
        change(&mut request);
        let what = format!("it was asked for {what}");
        match bench.attempt(&request).map_err(|fault| fault.when(&what))? {
            Err(error) if is_panic(&error) => {
                return Err(Fault::Failed(format!("{what}, and panicked: {}", told(&error))));
            }
            Ok(_) | Err(_) => {}
        }
        bench.is_well_after(&what)?;
    }
    Ok(())
}

type Change = fn(&mut BuildRequest);

const CHANGES: [(&str, Change); 12] = [
    ("10,000 variables", |request| {
        let variables = (0..10_000).map(|number| (format!("VARIABLE_{number}"), number.to_string()));
        request.plan.config.env.extend(variables);
    }),
    ("a label of a megabyte", |request| {
        request.plan.config.labels.insert("long".to_owned(), "x".repeat(1 << 20));
    }),
    ("a variable with control characters", |request| {
        request.plan.config.env.insert("A=B\nC\0".to_owned(), "\0\u{1b}[2J\n".to_owned());
    }),
    ("no working directory", |request| request.plan.config.workdir.clear()),
    ("a working directory outside of everything", |request| {
        request.plan.config.workdir = "../../../..//etc/\0".to_owned();
    }),
    ("a user that is none", |request| request.plan.config.user = Some("\0:::".to_owned())),
    ("an empty program", |request| {
        request.plan.config.entrypoint = Some(vec![String::new()]);
        request.plan.config.cmd = Some(Vec::new());
    }),
    ("an image on an image on an image, twenty times", |request| {
        for _ in 0..20 {
            request.plan = material::plan(imagespec_core::plan::Base::Plan(Box::new(request.plan.clone())));
        }
    }),
    ("a file of more bytes than there are, and of a long name", |request| {
        let file = CopiedFile::File { digest: Digest::of(b"nobody"), size_bytes: u64::MAX, executable: true };
        let files = [("x".repeat(100_000), file)].into();
        request.plan.steps = vec![Step::Copy(CopyStep { files })];
    }),
    ("a file that lies in a file", |request| {
        let file = |content: &str| CopiedFile::File {
            digest: Digest::of(content.as_bytes()),
            size_bytes: content.len() as u64,
            executable: false,
        };
        let files = [("a".to_owned(), file(FILES[0].1)), ("a/b".to_owned(), file(FILES[1].1))].into();
        request.plan.steps = vec![Step::Copy(CopyStep { files })];
    }),
    ("a time at the end of time, and options of another builder", |request| {
        request.timestamp = u64::MAX;
        request.options.insert("conformance".to_owned(), json!([[{"a": null}]]));
    }),
    ("a cache and an output beneath a file", |request| {
        let file = request.files.values().next().expect("the kit has files").clone();
        request.cache_dir = file.join("cache");
        request.outputs.push(Output::Oci { dest: file.join("layout") });
    }),
];

/// Whether it says why it cannot build to a disk that takes nothing more.
pub(super) fn disk(bench: &Bench, folder: &Path) -> Result<(), Fault> {
    let features = [Feature::Copy, Feature::Env].into_iter().filter(|feature| bench.claims(*feature));
    let mut plan: Plan = bench.smallest();
    for feature in features {
        material::ask(&mut plan, feature);
    }
    let request = bench.request_in(plan.clone(), &folder.join("cache"), &folder.join("out"));
    match bench.attempt(&request)? {
        // One that writes nothing needs no disk.
        Ok(_) => {}
        Err(error) if is_panic(&error) => return Err(Fault::Failed(format!("it panicked: {}", told(&error)))),
        Err(error) if error.kind == FailureKind::Internal => {
            return Err(Fault::Failed(format!(
                "it took that for a bug of its own (`FailureKind::Internal`), where it is the machine: {}",
                told(&error)
            )));
        }
        Err(_) => {}
    }
    let built = bench.build(&bench.request(plan, "elsewhere"));
    built.map(drop).map_err(|fault| fault.when("it does not build on a good disk after that"))
}
