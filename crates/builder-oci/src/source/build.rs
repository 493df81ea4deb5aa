//! From sources to a wheel, which is hostile until it was compared with what was asked for.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use imagespec_core::digest::Digest;
use imagespec_core::event::{self, Outcome, Unit};
use pep440_rs::Version;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::SourceError;
use super::{INPUT, OUTPUT, UV, Workshop, interpreter, mount, output};
use crate::builder::Failure;
use crate::cache::Key;
use crate::execute::{ExecuteError, Program};
use crate::progress::Step;
use crate::python::PythonError;
use crate::sandbox::Access;
use crate::wheel::{Origin, SelectedSource, SelectedWheel, Target, Wheel, WheelName};

const SCRIPT: &str = include_str!("build.py");
/// The script's exit codes.
const NO_GIT: i32 = 91;
const NOT_FETCHED: i32 = 92;
const NO_COMMIT: i32 = 93;
const NO_FOLDER: i32 = 94;
const NOT_UNPACKED: i32 = 95;
/// A longer wheel is refused.
const WHEEL_BYTES_MAX: u64 = 8 << 30;
/// Arguments of `pip_extra_args` that say where the packages that a build needs come from, and whether a value follows.
const OF_BUILDS: [(&str, bool); 8] = [
    ("--exclude-newer", true),
    ("--exclude-newer-package", true),
    ("--find-links", true),
    ("-f", true),
    ("--index-strategy", true),
    ("--native-tls", false),
    ("--no-index", false),
    ("--system-certs", false),
];

/// A wheel that was built before.
#[derive(Serialize, Deserialize)]
struct Built {
    file_name: String,
    digest: Digest,
    size_bytes: u64,
}

impl Workshop<'_> {
    /// The wheel of `source`: found, or built now.
    pub(crate) fn wheel(&self, source: &SelectedSource, target: &Target) -> Result<SelectedWheel, Failure> {
        let building = self.building;
        let key = self.wheel_key(source);
        building
            .progress
            .counted(
                &format!("build {}", source.title()),
                Unit::Items,
                None,
                |step| {
                    if let Some(wheel) = self.known(key, source, target)? {
                        return Ok((wheel, Outcome::Cached));
                    }
                    let _lock = building.cache.lock(&key.to_string())?;
                    if let Some(wheel) = self.known(key, source, target)? {
                        return Ok((wheel, Outcome::Cached));
                    }
                    if building.cache.is_offline() {
                        return Err(SourceError::Offline { package: source.title() }.into());
                    }
                    let built = self.build(source, step).map_err(|failure| told(failure, source))?;
                    let wheel = self.checked(&built, source, target)?;
                    building.cache.remember(key, &built)?;
                    Ok((wheel, Outcome::Done))
                },
                |(wheel, outcome)| (*outcome, wheel.size_bytes.map(event::size).unwrap_or_default()),
            )
            .map(|(wheel, _)| wheel)
    }

    fn known(&self, key: Key, source: &SelectedSource, target: &Target) -> Result<Option<SelectedWheel>, Failure> {
        let cache = &self.building.cache;
        if !cache.finds_layers() {
            return Ok(None);
        }
        match cache.record::<Built>(key)? {
            Some(built) if cache.has_blob(built.digest) => self.checked(&built, source, target).map(Some),
            _ => Ok(None),
        }
    }

    fn build(&self, source: &SelectedSource, step: &Step<'_>) -> Result<Built, Failure> {
        let mut wanted = json!({
            "archive": null,
            "repository": null,
            "commit": null,
            "subdirectory": source.subdirectory.as_ref().map(|path| path.as_str()),
            "uv": [UV],
            "python": interpreter(),
            "options": self.options(),
            "output": OUTPUT,
        });
        let mut mounts = Vec::new();
        match &source.origin {
            Origin::Archive { file_name, ending, sha256, .. } => {
                let unread = || io::Error::new(io::ErrorKind::NotFound, format!("`{file_name}` is not in the cache"));
                let path = self.building.cache.verified_blob_path(*sha256)?;
                let path = path.ok_or_else(|| SourceError::Exchange { source: unread() })?;
                let place = format!("/run/imagespec/source{ending}");
                mounts.push(mount(path, &place, Access::ReadOnly));
                wanted["archive"] = place.into();
            }
            Origin::Repository { url, commit } => {
                wanted["repository"] = url.as_str().into();
                wanted["commit"] = commit.as_str().into();
            }
        }
        let argv =
            vec![interpreter(), "-I".into(), "-B".into(), format!("{INPUT}/build.py"), format!("{INPUT}/build.json")];
        let prepare = |folder: &Path| {
            fs::write(folder.join("build.py"), SCRIPT)?;
            fs::write(folder.join("build.json"), wanted.to_string())
        };
        let program = Program { name: source.title(), argv };
        self.run(step, program, mounts, prepare, |folder| self.taken(source, folder))
    }

    /// Arguments of `uv pip install` for what the build requires.
    fn options(&self) -> Vec<String> {
        let links = self.step.find_links.iter().flat_map(|link| ["--find-links".to_owned(), link.clone()]);
        ["--color", "never"]
            .map(str::to_owned)
            .into_iter()
            .chain(links)
            .chain(of_builds(&self.step.extra_args))
            .collect()
    }

    /// Takes the one wheel in `folder` into the cache.
    fn taken(&self, source: &SelectedSource, folder: &Path) -> Result<Built, Failure> {
        let unreadable = |error| SourceError::Output { package: source.title(), source: error };
        let names = output::names(folder, ".whl").map_err(unreadable)?;
        let [file_name] = names.as_slice() else {
            let found = if names.is_empty() { "no wheel".to_owned() } else { format!("{} wheels", names.len()) };
            return Err(SourceError::OtherWheel { package: source.title(), found }.into());
        };
        let mut reader = output::reader(&folder.join(file_name), WHEEL_BYTES_MAX).map_err(unreadable)?;
        let mut writer = self.building.cache.blob_writer()?;
        copy(&mut reader, &mut writer).map_err(|error| match error {
            CopyError::Read(error) => Failure::from(unreadable(error)),
            CopyError::Write(error) => Failure::from(writer.io_error(error)),
        })?;
        let stored = writer.commit()?;
        Ok(Built { file_name: file_name.clone(), digest: stored.digest, size_bytes: stored.size_bytes })
    }

    /// What was built, if it is what was asked for and runs on `target`.
    fn checked(&self, built: &Built, source: &SelectedSource, target: &Target) -> Result<SelectedWheel, Failure> {
        let shown = built.file_name.escape_debug().to_string();
        let other = |found: String| SourceError::OtherWheel { package: source.title(), found };
        let file_name = WheelName::new(&built.file_name).map_err(|error| other(error.to_string()))?;
        let is_version = source.version.as_ref().is_none_or(|version| is_same(version, file_name.version()));
        if file_name.normalized() != source.name || !is_version {
            return Err(other(format!("`{shown}`, which is another package or version")).into());
        }
        if file_name.rank(target).is_none() {
            return Err(other(format!("`{shown}`, which does not run on {target}")).into());
        }
        let path = self.building.cache.blob_path(built.digest);
        Wheel::open(&path, &file_name).map_err(PythonError::from)?;
        let (Origin::Archive { url, .. } | Origin::Repository { url, .. }) = &source.origin;
        Ok(SelectedWheel {
            name: source.name.clone(),
            version: source.version.clone().unwrap_or_else(|| file_name.version().to_owned()),
            file_name,
            url: url.clone(),
            sha256: built.digest,
            size_bytes: Some(built.size_bytes),
        })
    }

    fn wheel_key(&self, source: &SelectedSource) -> Key {
        let described = self.described().to_string();
        let origin = match &source.origin {
            Origin::Archive { ending, sha256, .. } => format!("{sha256} {ending}"),
            Origin::Repository { url, commit } => format!("{url} {commit}"),
        };
        let folder = source.subdirectory.as_ref().map(|path| path.as_str()).unwrap_or_default();
        let arguments = of_builds(&self.step.extra_args);
        let parts = [&described, &origin, folder].into_iter().chain(arguments.iter().map(String::as_str));
        Key::new("built-wheel", parts.map(str::as_bytes))
    }
}

/// Those of the resolver's arguments that are for builds too.
fn of_builds(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if let Some((_, takes_value)) = OF_BUILDS.iter().find(|(known, _)| *known == name) {
            kept.push(word.clone());
            if *takes_value && name == word {
                kept.extend(words.next().cloned());
            }
        }
    }
    kept
}

/// Whether a version and the one in a wheel's file name, which has `_` for `-`, are the same.
fn is_same(version: &str, of_file: &str) -> bool {
    let parsed = |text: &str| text.replace('_', "-").parse::<Version>().ok();
    version == of_file || parsed(version).is_some_and(|version| parsed(of_file) == Some(version))
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(reader: &mut impl Read, writer: &mut impl io::Write) -> Result<(), CopyError> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => writer.write_all(&buffer[..count]).map_err(CopyError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

/// The failure of building `source`.
fn told(failure: Failure, source: &SelectedSource) -> Failure {
    let package = source.title();
    match failure {
        Failure::Execute(ExecuteError::Failed { code, lines, .. }) => match (code, &source.origin) {
            (NO_GIT, _) => SourceError::NoGit { package },
            (NOT_FETCHED, _) => SourceError::NotFetched { package, lines },
            (NO_COMMIT, Origin::Repository { commit, .. }) => {
                SourceError::NoCommit { package, commit: commit.clone(), lines }
            }
            (NO_FOLDER, _) => {
                let subdirectory = source.subdirectory.as_ref().map(ToString::to_string).unwrap_or_default();
                SourceError::NoFolder { package, subdirectory }
            }
            (NOT_UNPACKED, _) => SourceError::NotUnpacked { package, lines },
            _ => SourceError::Failed { package, code, lines },
        }
        .into(),
        Failure::Execute(ExecuteError::CannotExecute { source, .. }) => {
            SourceError::CannotBuild { package, source }.into()
        }
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_say_where_packages_come_from_reach_the_build() {
        let given = [
            "--pre",
            "--exclude-newer",
            "2026-01-01",
            "--resolution",
            "lowest",
            "--index-strategy=unsafe-best-match",
            "--no-deps",
            "-f",
            "https://x.test/",
        ];
        let kept = of_builds(&given.map(str::to_owned));
        assert_eq!(
            kept,
            ["--exclude-newer", "2026-01-01", "--index-strategy=unsafe-best-match", "-f", "https://x.test/"]
        );
    }

    #[test]
    fn a_version_is_the_same_however_it_is_written() {
        assert!(is_same("1.0.post1", "1.0.post1") && is_same("1.0", "1.0.0") && is_same("1+a.b", "1+a_b"));
        assert!(!is_same("1.0", "1.1") && !is_same("x", "y"));
    }
}
