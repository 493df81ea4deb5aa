//! The step that installs conda packages: rattler, which is what the embedded builder is made with, as the Python package
//! that its authors publish.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use imagespec_core::conda::channel_digest;
use imagespec_core::digest::Digest;
use imagespec_core::plan::{CondaStep, PythonStep};
use serde_json::{Value, json};

use super::error::LowerError;
use super::mounts::{apt_caches, bind};
use super::stage::Stage;
use super::writer::Told;
use super::{Lowering, OWN, TOOLS, count, script};
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
        for platform in &self.plan.platforms {
            if !matches!(platform.machine(), "x86_64" | "aarch64") {
                return Err(LowerError::CondaPlatform { platform: platform.to_string() });
            }
        }
        let prefix = if self.is_last { String::new() } else { format!("{}-", self.name) };
        let packages = with_python(&step.packages, self.plan.python());
        let (channels, folders) = self.lowering.channels(&step.channels, &format!("{prefix}channels"))?;
        let mirrors = self.lowering.request.options.get("conda_mirrors").cloned().unwrap_or_else(|| json!({}));
        let asked: Value = json!({ "packages": packages, "channels": channels, "mirrors": mirrors });
        let (mount, path) = self.script("conda.sh", script::conda());
        self.lowering.own("conda.py", include_str!("scripts/conda.py"));
        self.lowering.own("rattler.txt", RATTLER);
        self.lowering.own(&format!("{prefix}conda.json"), format!("{asked:#}\n"));
        let mut mounts = vec![mount, bind("conda.py", "conda.py"), bind("rattler.txt", "rattler.txt")];
        mounts.push(bind(&format!("{prefix}conda.json"), "conda.json"));
        if folders > 0 {
            mounts.push(bind(&format!("{prefix}channels"), "channels"));
        }
        mounts.extend(apt_caches(base));
        mounts.extend(self.lowering.uv(&machines)?);
        let title = format!("install {}", count(packages.len(), "conda package"));
        let field = self.field("conda_packages");
        self.lowering.writer.comment("Conda packages, and Python among them");
        self.lowering.writer.run(&mounts, ["/bin/sh".to_owned(), path], Told { title, field });
        Ok(())
    }
}

impl Lowering<'_> {
    /// The addresses of channels, and how many of them lie in the context.
    fn channels(&mut self, names: &[String], place: &str) -> Result<(Vec<String>, usize), LowerError> {
        let (mut channels, mut folders) = (Vec::new(), 0);
        for name in names {
            match name.parse::<Digest>() {
                Ok(digest) => {
                    let folder = self.request.base_paths.get(&digest).ok_or(LowerError::Missing { digest })?.clone();
                    if channel_digest(&folder).ok() != Some(digest) {
                        return Err(LowerError::Changed { path: folder });
                    }
                    self.channel(&folder, &format!("{place}/{folders}"))?;
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
        Ok((channels, folders))
    }

    /// Puts a channel into the context: what its subdirectories have.
    fn channel(&mut self, folder: &Path, place: &str) -> Result<(), LowerError> {
        let failed = |source| LowerError::Channel { path: folder.to_owned(), source };
        let mut files: Vec<(String, PathBuf)> = Vec::new();
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
                    files.push((format!("{OWN}/{place}/{subdir}/{name}"), file.path()));
                }
            }
        }
        for (name, path) in files {
            let (digest, size_bytes) =
                File::open(&path).and_then(|mut file| Digest::of_reader(&mut file)).map_err(failed)?;
            self.context.insert(name, Entry::File { path, digest, size_bytes, executable: false });
        }
        Ok(())
    }
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
