//! The step that installs conda packages: rattler, which is what the embedded builder is made with, as the Python package
//! that its authors publish.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use imagespec_core::builder::BuildRequest;
use imagespec_core::conda::channel_digest;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{CondaStep, Plan, PythonStep};
use serde_json::{Value, json};

use super::error::LowerError;
use super::mounts::{apt_caches, bind};
use super::stage::Stage;
use super::writer::Told;
use super::{OWN, TOOLS, count, script};
use crate::recipe::Entry;

/// Where named channels lie.
const ALIAS: &str = "https://conda.anaconda.org";
/// The channel of a spec that names none.
const DEFAULT: &str = "conda-forge";
/// What conda calls `defaults`.
const DEFAULTS: [&str; 2] = ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"];
/// rattler for Python, by the sha256 of its wheels: x86_64 and aarch64, with glibc, which conda packages need as well.
const RATTLER: &str = "py-rattler==0.28.0 \
    --hash=sha256:4f4ab1d34d5394e7ce130a86e59009c95ace4f5757d9c3af04de1351bcea47eb \
    --hash=sha256:61b24202374188e72130f1b3dc63b455befaafc3e49e5481a38b6a6c8828c1e0\n";
/// A folder of a channel, and its lists of packages.
const REPODATA: &str = "repodata.json";

impl Stage<'_, '_> {
    pub(super) fn conda(&mut self, step: &CondaStep, base: &str) -> Result<(), LowerError> {
        let machines: Vec<_> = self.plan.platforms.iter().map(|platform| platform.machine()).collect();
        let prefix = if self.is_last { String::new() } else { format!("{}-", self.name) };
        let files = conda_files(self.lowering.request, self.plan, step, &prefix)?;
        let has_folders = files.keys().any(|path| path.starts_with(&format!("{prefix}channels/")));
        self.lowering.context.extend(files.into_iter().map(|(path, entry)| (format!("{OWN}/{path}"), entry)));
        let (mount, path) = self.script("conda.sh", script::conda());
        let mut mounts = vec![mount, bind("conda.py", "conda.py"), bind("rattler.txt", "rattler.txt")];
        mounts.push(bind(&format!("{prefix}conda.json"), "conda.json"));
        if has_folders {
            mounts.push(bind(&format!("{prefix}channels"), "channels"));
        }
        mounts.extend(apt_caches(base));
        mounts.extend(self.lowering.uv(&machines)?);
        let packages = with_python(&step.packages, self.plan.python());
        let title = format!("install {}", count(packages.len(), "conda package"));
        let field = self.field("conda_packages");
        self.lowering.writer.comment("Conda packages, and Python among them");
        self.lowering.writer.run(&mounts, ["/bin/sh".to_owned(), path], Told { title, field });
        Ok(())
    }
}

/// What the script that installs conda packages reads, by path in its folder; `prefix` stands before the names of what
/// is of this step alone.
///
/// # Errors
/// When conda has no packages for a platform, or a channel on this machine cannot be read.
pub fn conda_files(
    request: &BuildRequest,
    plan: &Plan,
    step: &CondaStep,
    prefix: &str,
) -> Result<BTreeMap<String, Entry>, LowerError> {
    for platform in &plan.platforms {
        if !matches!(platform.machine(), "x86_64" | "aarch64") {
            return Err(LowerError::CondaPlatform { platform: platform.to_string() });
        }
    }
    let own = |content: String| Entry::Bytes { content: content.into_bytes(), executable: false };
    let mut files = BTreeMap::new();
    let packages = with_python(&step.packages, plan.python());
    let channels = channels(request, &step.channels, &format!("{prefix}channels"), &mut files)?;
    let mirrors = request.options.get("conda_mirrors").cloned().unwrap_or_else(|| json!({}));
    let asked: Value = json!({ "packages": packages, "channels": channels, "mirrors": mirrors });
    files.insert("conda.py".to_owned(), own(include_str!("scripts/conda.py").to_owned()));
    files.insert("rattler.txt".to_owned(), own(RATTLER.to_owned()));
    files.insert(format!("{prefix}conda.json"), own(format!("{asked:#}\n")));
    Ok(files)
}

/// The addresses of channels. Those on this machine are put among `files`, at `place`.
fn channels(
    request: &BuildRequest,
    names: &[String],
    place: &str,
    files: &mut BTreeMap<String, Entry>,
) -> Result<Vec<String>, LowerError> {
    let (mut channels, mut folders) = (Vec::new(), 0);
    for name in names {
        match name.parse::<Digest>() {
            Ok(digest) => {
                let folder = request.base_paths.get(&digest).ok_or(LowerError::Missing { digest })?.clone();
                if channel_digest(&folder).ok() != Some(digest) {
                    return Err(LowerError::Changed { path: folder });
                }
                channel(&folder, &format!("{place}/{folders}"), files)?;
                channels.push(format!("file://{TOOLS}/channels/{folders}"));
                folders += 1;
            }
            Err(_) if name == "defaults" => channels.extend(DEFAULTS.map(str::to_owned)),
            Err(_) => channels.push(address(name)),
        }
    }
    if channels.is_empty() {
        channels.push(address(DEFAULT));
    }
    Ok(channels)
}

/// What the subdirectories of a channel have.
fn channel(folder: &Path, place: &str, files: &mut BTreeMap<String, Entry>) -> Result<(), LowerError> {
    let failed = |source| LowerError::Channel { path: folder.to_owned(), source };
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for subdir in fs::read_dir(folder).map_err(failed)? {
        let subdir = subdir.map_err(failed)?;
        if !subdir.path().join(REPODATA).is_file() {
            continue;
        }
        for file in fs::read_dir(subdir.path()).map_err(failed)? {
            let file = file.map_err(failed)?;
            let (Ok(subdir), Ok(name)) = (subdir.file_name().into_string(), file.file_name().into_string()) else {
                continue;
            };
            let is_wanted = [".conda", ".tar.bz2"].iter().any(|ending| name.ends_with(ending)) || name == REPODATA;
            if is_wanted {
                found.push((format!("{place}/{subdir}/{name}"), file.path()));
            }
        }
    }
    for (name, path) in found {
        let (digest, size_bytes) =
            File::open(&path).and_then(|mut file| Digest::of_reader(&mut file)).map_err(failed)?;
        files.insert(name, Entry::File { path, digest, size_bytes, executable: false });
    }
    Ok(())
}

fn address(name: &str) -> String {
    if name.contains("://") { name.to_owned() } else { format!("{ALIAS}/{name}") }
}

/// The match specs of a step, and Python in the version of the spec.
fn with_python(packages: &BTreeSet<String>, python: Option<&PythonStep>) -> BTreeSet<String> {
    let version = python.and_then(|python| python.version.as_ref());
    let python = version.map_or_else(|| "python".to_owned(), |version| format!("python {version}.*"));
    packages.iter().cloned().chain([python]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_asked_for_in_the_version_of_the_spec() {
        let packages = BTreeSet::from(["numpy".to_owned()]);
        let asked = |version: Option<&str>| {
            let step = PythonStep { version: version.map(str::to_owned), executable: None };
            with_python(&packages, Some(&step)).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(asked(None), ["numpy", "python"]);
        assert_eq!(asked(Some("3.11")), ["numpy", "python 3.11.*"]);
    }
}
