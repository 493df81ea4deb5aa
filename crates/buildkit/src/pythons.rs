//! Which builds of Python uv would fetch, asked of the uv on this machine: whoever wants another one hears so before any work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::builder::BuildRequest;
use imagespec_core::plan::{Base, Plan, PythonStep, Step};
use imagespec_core::resolve::suite_python;
use imagespec_core::uv::UV_VERSION;
use serde::Deserialize;

use crate::dockerfile::Machine;
use crate::prepare::fetched_uv;
use crate::progress::Progress;

/// A list that comes from elsewhere (UV_PYTHON_DOWNLOADS_JSON_URL) is waited for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it takes at most until somebody who wants to stop is heard.
const STEP: Duration = Duration::from_millis(20);
/// The list has about a megabyte.
const LIST_SIZE_BYTES_MAX: u64 = 32 << 20;

/// A Python that nobody has: neither the Debian that is to be the base, nor uv.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no Python {wanted} for {machine}: Debian {suite} has {shipped}, and uv {UV_VERSION} brings {}", list(.known))]
pub struct NoPython {
    /// The field that asked for it.
    pub field: &'static str,
    wanted: String,
    machine: String,
    suite: String,
    shipped: &'static str,
    /// What follows `3.`, of those that uv knows.
    known: BTreeSet<(u16, Option<u16>)>,
}

/// A line of uv's list. What is not read here, uv may change.
#[derive(Deserialize)]
struct Listed {
    version: String,
    os: String,
    arch: String,
    libc: String,
    implementation: String,
}

/// Asks uv whether there is the Python of each step that stands on a Debian of Debian's archive: what such a one has is known
/// before it is made. Where uv does not say, the step will.
///
/// # Errors
/// When there is none.
pub fn check_pythons(request: &BuildRequest, progress: &Progress<'_>) -> Result<(), NoPython> {
    let missing = missing(&request.plan, "python_version");
    if missing.is_empty() {
        return Ok(());
    }
    // Whether it can be fetched is told by the build, which needs it.
    let uv = fetched_uv(request, progress, std::env::consts::ARCH).ok().flatten();
    let variables = Machine::of(std::env::vars_os()).uv;
    let listed = uv.and_then(|uv| listed(&uv.path, &variables, &|| progress.is_cancelled()));
    let Some(listed) = listed else { return Ok(()) };
    for (field, suite, shipped, wanted) in missing {
        for platform in &request.plan.platforms {
            let known = known(&listed, platform.machine());
            let is_known = known.iter().any(|(minor, patch)| {
                wanted == format!("3.{minor}") || wanted == format!("3.{minor}.{}", patch.unwrap_or_default())
            });
            if !is_known && !known.is_empty() {
                let of_minor: BTreeSet<_> =
                    known.iter().filter(|(minor, _)| wanted.starts_with(&format!("3.{minor}."))).copied().collect();
                // Of a minor version that there is, it is the patch that there is not.
                let known = match of_minor.is_empty() {
                    true => known.into_iter().map(|(minor, _)| (minor, None)).collect(),
                    false => of_minor,
                };
                let (wanted, machine) = (wanted.to_owned(), platform.machine().to_owned());
                return Err(NoPython { field, wanted, machine, suite: suite.to_owned(), shipped, known });
            }
        }
    }
    Ok(())
}

/// Versions that the Debian at the bottom of `plan` does not have, each with the field, the release and what that has.
fn missing<'p>(plan: &'p Plan, field: &'static str) -> Vec<(&'static str, &'p str, &'static str, &'p str)> {
    let mut missing = match &plan.base {
        // The fields are those of another spec.
        Base::Plan(nested) => self::missing(nested, "base_image"),
        _ => Vec::new(),
    };
    let Some((suite, (shipped, _))) = suite(plan).and_then(|suite| Some((suite, suite_python(suite)?))) else {
        return missing;
    };
    if plan.steps.iter().any(|step| matches!(step, Step::Conda(_))) {
        return missing;
    }
    missing.extend(plan.steps.iter().filter_map(|step| match step {
        Step::Python(PythonStep { version: Some(wanted), executable: None }) => {
            let is_shipped = wanted == shipped || wanted.starts_with(&format!("{shipped}."));
            (!is_shipped).then_some((field, suite, shipped, wanted.as_str()))
        }
        _ => None,
    }));
    missing
}

/// The release of Debian at the bottom.
fn suite(plan: &Plan) -> Option<&str> {
    match &plan.base {
        Base::Bootstrap(bootstrap) => Some(&bootstrap.suite),
        Base::Plan(nested) => suite(nested),
        _ => None,
    }
}

/// What uv would fetch for a processor on glibc, which Debian has.
fn known(listed: &[Listed], machine: &str) -> BTreeSet<(u16, Option<u16>)> {
    let fitting = listed.iter().filter(|listed| {
        listed.os == "linux" && listed.implementation == "cpython" && listed.arch == machine && listed.libc == "gnu"
    });
    let versions = fitting.filter_map(|listed| {
        let (minor, patch) = listed.version.strip_prefix("3.")?.split_once('.')?;
        // One before a release, `0rc1`, has no number.
        Some((minor.parse().ok()?, Some(patch.parse().ok()?)))
    });
    versions.collect()
}

/// Everything that uv would fetch, if it says so.
fn listed(uv: &Path, variables: &BTreeMap<String, String>, cancelled: &dyn Fn() -> bool) -> Option<Vec<Listed>> {
    let mut command = Command::new(uv);
    command.args(["python", "list", "--only-downloads", "--all-versions", "--all-platforms", "--all-arches"]);
    command.args(["--output-format", "json", "--no-config", "--no-cache", "--color", "never"]);
    let kept = [
        "PATH",
        "HOME",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
    ];
    let kept = kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = command
        .env_clear()
        .envs(kept)
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .inspect_err(|error| tracing::debug!(%error, "uv is not asked which builds of Python there are"))
        .ok()?;
    let stdout = child.stdout.take().expect("it is piped");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.take(LIST_SIZE_BYTES_MAX).read_to_end(&mut text).map(|_| text)
    });
    let is_done = wait(&mut child, cancelled);
    let text = reader.join().expect("reading does not panic").ok()?;
    is_done.then(|| serde_json::from_slice(&text).ok()).flatten()
}

/// Whether it ended well, in time and before somebody wanted to stop. It has ended in any case.
fn wait(child: &mut Child, cancelled: &dyn Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE && !cancelled() {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(STEP),
            Err(_) => break,
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// `3.8, 3.9 and 3.10`
fn list(known: &BTreeSet<(u16, Option<u16>)>) -> String {
    let version = |(minor, patch): &(u16, Option<u16>)| match patch {
        Some(patch) => format!("3.{minor}.{patch}"),
        None => format!("3.{minor}"),
    };
    let mut versions: Vec<_> = known.iter().map(version).collect();
    let last = versions.pop().unwrap_or_default();
    if versions.is_empty() { last } else { format!("{} and {last}", versions.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Vec<Listed> {
        let text = r#"[
            {"version": "3.12.1", "os": "linux", "arch": "x86_64", "libc": "gnu", "implementation": "cpython"},
            {"version": "3.12.3", "os": "linux", "arch": "x86_64", "libc": "gnu", "implementation": "cpython"},
            {"version": "3.15.0a1", "os": "linux", "arch": "x86_64", "libc": "gnu", "implementation": "cpython"},
            {"version": "3.13.1", "os": "linux", "arch": "x86_64", "libc": "musl", "implementation": "cpython"},
            {"version": "3.14.1", "os": "linux", "arch": "aarch64", "libc": "gnu", "implementation": "cpython"},
            {"version": "3.10.1", "os": "linux", "arch": "x86_64", "libc": "gnu", "implementation": "pypy"},
            {"version": "3.9.1", "os": "linux", "arch": "x86_64", "libc": "gnu", "implementation": "cpython", "other": 1}
        ]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn releases_for_the_processor_on_glibc_count() {
        assert_eq!(known(&listed(), "x86_64"), BTreeSet::from([(9, Some(1)), (12, Some(1)), (12, Some(3))]));
        assert_eq!(list(&known(&listed(), "x86_64")), "3.9.1, 3.12.1 and 3.12.3");
        assert_eq!(list(&BTreeSet::from([(9, None)])), "3.9");
    }

    #[test]
    fn what_debian_has_is_not_asked_for() {
        let plan = |base: &str, step: &str| {
            let base = format!(r#"{{"kind":"bootstrap","suite":"{base}","packages":[]}}"#);
            let text = format!(
                r#"{{"version":1,"platforms":["linux/amd64"],"base":{base},"steps":[{step}],"config":{{"workdir":"/root"}}}}"#
            );
            Plan::from_json(&text).unwrap()
        };
        let python = |version: &str| format!(r#"{{"kind":"python","version":"{version}"}}"#);
        let versions = |plan: &Plan| -> Vec<String> {
            missing(plan, "python_version").into_iter().map(|(.., wanted)| wanted.to_owned()).collect()
        };
        assert_eq!(versions(&plan("bookworm", &python("3.11"))), Vec::<String>::new());
        assert_eq!(versions(&plan("bookworm", &python("3.11.2"))), Vec::<String>::new());
        assert_eq!(versions(&plan("bookworm", &python("3.99"))), ["3.99"]);
        assert_eq!(versions(&plan("unknown", &python("3.99"))), Vec::<String>::new());
    }
}
