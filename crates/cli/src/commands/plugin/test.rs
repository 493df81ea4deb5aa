//! `imagespec plugin test`: the conformance kit, each mode in a process of its own, and what only its end shows.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::diagnostic::Diagnostic;
use imagespec_plugin_host::{ARGUMENT, Candidate, Descriptor, Mode, PluginFile, bundled, ending};
use imagespec_plugin_sdk::conformance::{Check, Verdict};
use serde_json::{Value, json};

use super::kit::{self, LOADED, Place, RESULTS, Scene};
use crate::arguments::Format;
use crate::failure::{FAILED, Failure};
use crate::prepare::Surroundings;
use crate::session::print_data;

/// A single check may take this long, and whoever takes longer is ended.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// As often it is asked whether the process has ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// What is examined.
enum Subject {
    /// The bundled builder of a name.
    Bundled(OsString),
    /// A file.
    File(PluginFile),
}

/// Examines the builder that `target` names: a file, or one that is bundled.
pub(crate) fn test(target: &OsStr, format: Format) -> Result<u8, Failure> {
    let (subject, places) = subject(target)?;
    let mut all: Vec<(Place, Check)> = Vec::new();
    for place in places {
        if format == Format::Text {
            print_data(place.name())?;
        }
        for scene in Scene::ALL {
            let checks = play(scene, *place, &subject)?;
            let is_loaded = !checks.iter().any(|check| check.name == LOADED && check.is_failed());
            for check in checks {
                if format == Format::Text {
                    print_data(&format!("  {check}"))?;
                }
                all.push((*place, check));
            }
            // The same would be said of every scene.
            if !is_loaded {
                break;
            }
        }
    }
    let count = |wanted: fn(&Verdict) -> bool| all.iter().filter(|(_, check)| wanted(&check.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    match format {
        Format::Text => {
            let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
            let passed = all.len() - failed - skipped;
            print_data(&format!("{passed} passed, {failed} failed, {skipped} skipped"))?;
        }
        Format::Json => {
            let list: Vec<_> = all.iter().map(|(place, check)| member(*place, check)).collect();
            print_data(&serde_json::to_string_pretty(&list).expect("a list of checks has only string keys"))?;
        }
    }
    Ok(if failed > 0 { FAILED } else { 0 })
}

fn member(place: Place, check: &Check) -> Value {
    let mut member = json!({"mode": place.name()});
    let check = serde_json::to_value(check).expect("a check has only string keys");
    let members = check.as_object().into_iter().flatten();
    members.for_each(|(name, value)| member[name] = value.clone());
    member
}

/// What is meant by `target`, and where its code is to run.
fn subject(target: &OsStr) -> Result<(Subject, &'static [Place]), Failure> {
    if bundled().any(|bundled| target == bundled.name) {
        return Ok((Subject::Bundled(target.to_owned()), &[Place::Bundled]));
    }
    let named = |candidate: &Candidate| target == candidate.name.as_str();
    let catalog = Surroundings::read(&std::env::current_dir()?)?.catalog()?;
    let known = catalog.candidates().into_iter().find(named);
    // A name means what a build would take. Whoever names a file means that file.
    if let Some(problem) = known.as_ref().and_then(|known| Some(known.problem.as_ref()?.diagnostic(known))) {
        return Err(Failure::new(problem));
    }
    let file = match known.as_ref().and_then(|known| Some((known, known.path.as_ref()?))) {
        Some((known, path)) => known.read(path).map_err(Failure::new)?,
        None if !Path::new(target).exists() => {
            let diagnostic = Diagnostic::error(format!("there is no builder and no file `{}`", target.display()));
            return Err(Failure::new(diagnostic.hint("name the file that `cargo build` made, `target/debug/lib….so`")));
        }
        None => PluginFile::read(Path::new(target))?,
    };
    // What is no plugin at all is told once.
    Descriptor::read(&file)?;
    Ok((Subject::File(file), &[Place::File(Mode::InProcess), Place::File(Mode::Worker)]))
}

/// Has a process do one scene, and gives what it found and what its end shows.
fn play(scene: Scene, place: Place, subject: &Subject) -> Result<Vec<Check>, Failure> {
    let folder = tempfile::Builder::new().prefix("imagespec-plugin-test-").tempdir()?;
    let subject = match subject {
        Subject::Bundled(name) => name.clone(),
        // The bytes that were looked at, whatever happens to the file meanwhile.
        Subject::File(file) => {
            let copy = folder.path().join(file.path.file_name().unwrap_or_default());
            fs::write(&copy, &file.bytes)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o600))?;
            copy.into()
        }
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ARGUMENT, kit::ARGUMENT, scene.name(), place.name()]).arg(subject).arg(folder.path());
    // So that nothing is left of a process that is ended.
    command.env("TMPDIR", folder.path());
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let printed = process.stdout.take().map(listen);
    let results = folder.path().join(RESULTS);
    let (mut length, mut last) = (0, Instant::now());
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break Some(status);
        }
        let now = fs::metadata(&results).map_or(0, |metadata| metadata.len());
        if now != length {
            (length, last) = (now, Instant::now());
        }
        if last.elapsed() > SILENCE_MAX {
            process.kill()?;
            process.wait()?;
            break None;
        }
        thread::sleep(INTERVAL);
    };
    let mut checks = found(&results, status)?;
    if scene == Scene::Kit {
        checks.push(Check { name: "prints nothing to stdout".to_owned(), verdict: silence(printed) });
    }
    Ok(checks)
}

/// The checks that are in the file; one that was not ended is where the process was.
fn found(results: &Path, status: Option<ExitStatus>) -> io::Result<Vec<Check>> {
    let text = fs::read_to_string(results).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error),
    })?;
    let mut checks = Vec::new();
    let mut begun: Option<String> = None;
    for line in text.lines() {
        let Ok(mut line) = serde_json::from_str::<Value>(line) else { continue };
        begun = line["begun"].as_str().map(str::to_owned);
        checks.extend(serde_json::from_value::<Check>(line["ended"].take()));
    }
    let how = match status {
        None => format!("the builder did not answer within {} seconds, and was ended", SILENCE_MAX.as_secs()),
        Some(status) => format!("the builder {}", ending(status)),
    };
    match begun {
        Some(name) => checks.push(Check { name, verdict: Verdict::Failed(how) }),
        None if status.is_some_and(|status| status.success()) => {}
        None => checks.push(Check { name: "lets the program end".to_owned(), verdict: Verdict::Failed(how) }),
    }
    Ok(checks)
}

/// Takes what comes, to its end.
fn listen(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    const SIZE_BYTES_MAX: u64 = 1 << 20;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error counts.
        let _ = stdout.by_ref().take(SIZE_BYTES_MAX).read_to_end(&mut bytes);
        drop(sender.send(bytes));
        drop(io::copy(&mut stdout, &mut io::sink()));
    });
    receiver
}

fn silence(printed: Option<Receiver<Vec<u8>>>) -> Verdict {
    const PATIENCE: Duration = Duration::from_secs(2);
    let advice = "stdout holds the name of the image alone, so that what a builder has to say goes into events";
    match printed.map(|printed| printed.recv_timeout(PATIENCE)) {
        Some(Ok(bytes)) if bytes.is_empty() => Verdict::Passed,
        Some(Ok(bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            let line: String = text.lines().next().unwrap_or_default().chars().take(100).collect();
            Verdict::Failed(format!("it wrote `{}`: {advice}", line.escape_debug()))
        }
        _ => Verdict::Failed("a process that it left behind keeps stdout open".to_owned()),
    }
}
