//! Sources that a lock file names: an archive by its digest, a repository by its commit. Pure.
//!
//! Format: PEP 751, `packages.sdist`, `packages.archive` and `packages.vcs`. The values reach git and a build in the
//! sandbox, so that each is checked for what it may be there.

use imagespec_core::digest::Digest;
use serde::Deserialize;
use url::Url;

use super::download::Wanted;
use super::pylock::LockedFile;
use crate::layer::LayerPath;

/// Endings of archives that the standard library of every Python opens.
const ENDINGS: [&str; 8] = [".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar", ".zip"];
/// What git is let fetch from. `file` and `ext`, which run programs or reach what lies in the sandbox, are none.
const SCHEMES: [&str; 4] = ["http", "https", "ssh", "git"];

/// What a wheel must be built of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedSource {
    /// The package's normalised name.
    pub name: String,
    /// Its version, if the lock says so.
    pub version: Option<String>,
    /// Where the sources are.
    pub origin: Origin,
    /// The folder of the package in them, without a leading `/`.
    pub subdirectory: Option<LayerPath>,
}

/// Where sources are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In an archive.
    Archive {
        /// The file's name.
        file_name: String,
        /// What it ends with: `.tar.gz`.
        ending: &'static str,
        /// Where it lies: `https`, `http` or `file`.
        url: Url,
        /// Digest of the file.
        sha256: Digest,
        /// Length in bytes, if the lock says so.
        size_bytes: Option<u64>,
    },
    /// In a git repository.
    Repository {
        /// Where it is.
        url: Url,
        /// The commit: all of its 40 or 64 hexadecimal digits.
        commit: String,
    },
}

/// A repository as a lock file has it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LockedRepository {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    commit_id: String,
    subdirectory: Option<String>,
}

impl SelectedSource {
    /// The package with its version: `six 1.17.0`.
    pub fn title(&self) -> String {
        match (&self.version, &self.origin) {
            (Some(version), _) => format!("{} {version}", self.name),
            (None, Origin::Repository { commit, .. }) => format!("{} {}", self.name, &commit[..12]),
            (None, Origin::Archive { .. }) => self.name.clone(),
        }
    }

    /// Digest of the archive; none where a commit says what is meant.
    pub fn sha256(&self) -> Option<Digest> {
        match &self.origin {
            Origin::Archive { sha256, .. } => Some(*sha256),
            Origin::Repository { .. } => None,
        }
    }

    /// The file to fetch; none where git fetches.
    pub(crate) fn wanted(&self) -> Option<Wanted<'_>> {
        match &self.origin {
            Origin::Archive { file_name, url, sha256, size_bytes, .. } => {
                Some(Wanted { url, file: file_name, digest: *sha256, size_bytes: *size_bytes })
            }
            Origin::Repository { .. } => None,
        }
    }

    /// The sources in `file`.
    pub(super) fn of_archive(name: String, version: Option<String>, file: &LockedFile) -> Result<Self, String> {
        let file_name = file.file_name();
        let lower = file_name.to_ascii_lowercase();
        let ending = ENDINGS.into_iter().find(|ending| lower.ends_with(ending));
        let ending = ending.ok_or_else(|| format!("`{}` is no archive that is known", file_name.escape_debug()))?;
        let (url, sha256, size_bytes) = (file.url()?, file.sha256()?, file.size);
        let subdirectory = subdirectory(file.subdirectory.as_deref())?;
        Ok(Self { name, version, origin: Origin::Archive { file_name, ending, url, sha256, size_bytes }, subdirectory })
    }
}

impl LockedRepository {
    /// The sources at its commit.
    pub(super) fn select(&self, name: String, version: Option<String>) -> Result<SelectedSource, String> {
        if self.kind != "git" {
            return Err(format!("repositories of kind `{}` are not known", self.kind.escape_debug()));
        }
        let url = self.url.as_deref().ok_or("it has no `url`")?;
        let url = url.strip_prefix("git+").unwrap_or(url);
        let url = Url::parse(url).map_err(|error| format!("`url` is none: {error}"))?;
        // It would stand in locks and images. By ssh, a user is no secret.
        if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "its address at `{host}` has credentials in it, which would end up in the image's plan"
            ));
        }
        if !SCHEMES.contains(&url.scheme()) || url.host_str().is_none_or(|host| host.starts_with('-')) {
            return Err(format!("git does not fetch by `{}`", url.scheme()));
        }
        let commit = self.commit_id.to_ascii_lowercase();
        if !matches!(commit.len(), 40 | 64) || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("`{}` is no commit", commit.escape_debug()));
        }
        let subdirectory = subdirectory(self.subdirectory.as_deref())?;
        Ok(SelectedSource { name, version, origin: Origin::Repository { url, commit }, subdirectory })
    }
}

fn subdirectory(path: Option<&str>) -> Result<Option<LayerPath>, String> {
    let path = path.unwrap_or_default().trim_matches('/');
    if path.is_empty() || path == "." {
        return Ok(None);
    }
    match LayerPath::new(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) => Err(format!("`subdirectory`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AllowedDigests, Libc, PylockError, Target, select};
    use super::*;

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const COMMIT: &str = "90a4455c2cc2b3e171dfff69f605f47d48ea1ff1";

    fn selected(entry: &str) -> Result<Vec<SelectedSource>, PylockError> {
        let target =
            Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } };
        let entry = entry.replace("HASH", HASH).replace("COMMIT", COMMIT);
        let text = format!("lock-version = \"1.0\"\n[[packages]]\nname = \"A.b\"\n{entry}");
        select(&text, &target, &AllowedDigests::default()).map(|selection| selection.sources)
    }

    fn problem(entry: &str) -> String {
        selected(entry).unwrap_err().to_string()
    }

    #[test]
    fn sources_are_taken_where_no_wheel_fits() {
        let sdist = "sdist = { url = \"https://x.test/a_b-1.tar.gz\", size = 3, hashes = { sha256 = \"HASH\" } }\n";
        let wheel = |tags: &str| {
            format!("wheels = [{{ url = \"https://x.test/a_b-1-{tags}.whl\", hashes = {{ sha256 = \"HASH\" }} }}]\n")
        };
        assert_eq!(selected(&format!("version = \"1\"\n{sdist}{}", wheel("py3-none-any"))).unwrap(), []);
        let sources = selected(&format!("version = \"1\"\n{sdist}{}", wheel("cp312-cp312-win_amd64"))).unwrap();
        assert_eq!(sources[0].title(), "a-b 1");
        assert!(matches!(&sources[0].origin, Origin::Archive { ending: ".tar.gz", size_bytes: Some(3), .. }));
    }

    #[test]
    fn a_repository_is_taken_by_its_commit_and_folder() {
        let sources = selected(
            "vcs = { type = \"git\", url = \"ssh://git@x.test/a\", commit-id = \"COMMIT\", subdirectory = \"b/c\" }",
        )
        .unwrap();
        assert_eq!(sources[0].title(), "a-b 90a4455c2cc2");
        assert_eq!(sources[0].subdirectory.as_ref().map(LayerPath::as_str), Some("b/c"));
    }

    #[test]
    fn what_would_lead_git_or_the_build_astray_is_refused() {
        let git = |url: &str, commit: &str, folder: &str| {
            problem(&format!(
                "vcs = {{ type = \"git\", url = \"{url}\", commit-id = \"{commit}\", subdirectory = \"{folder}\" }}"
            ))
        };
        insta::assert_snapshot!(git("ext::sh -c id", COMMIT, ""), @"the sources of package `A.b` cannot be used: git does not fetch by `ext`");
        insta::assert_snapshot!(git("https://joe:canary@x.test/a", COMMIT, ""), @"the sources of package `A.b` cannot be used: its address at `x.test` has credentials in it, which would end up in the image's plan");
        insta::assert_snapshot!(git("https://canary@x.test/a", COMMIT, ""), @"the sources of package `A.b` cannot be used: its address at `x.test` has credentials in it, which would end up in the image's plan");
        insta::assert_snapshot!(git("file:///etc", COMMIT, ""), @"the sources of package `A.b` cannot be used: git does not fetch by `file`");
        insta::assert_snapshot!(git("ssh://-oProxyCommand=id/x", COMMIT, ""), @"the sources of package `A.b` cannot be used: git does not fetch by `ssh`");
        insta::assert_snapshot!(git("https://x.test/a", "--upload-pack=id", ""), @"the sources of package `A.b` cannot be used: `--upload-pack=id` is no commit");
        insta::assert_snapshot!(git("https://x.test/a", COMMIT, "../../etc"), @"the sources of package `A.b` cannot be used: `subdirectory`: `../../etc` is no path for a layer: it leads out with `..`");
        insta::assert_snapshot!(problem("vcs = { type = \"hg\", url = \"https://x.test/a\", commit-id = \"COMMIT\" }"), @"the sources of package `A.b` cannot be used: repositories of kind `hg` are not known");
        insta::assert_snapshot!(problem("archive = { url = \"https://x.test/a.exe\", hashes = { sha256 = \"HASH\" } }"), @"the sources of package `A.b` cannot be used: `a.exe` is no archive that is known");
        insta::assert_snapshot!(problem("archive = { url = \"https://x.test/a.zip\", hashes = {} }"), @"the sources of package `A.b` cannot be used: `a.zip` has no sha256");
        insta::assert_snapshot!(problem("archive = { url = \"https://x.test/a.zip\", hashes = { sha256 = \"HASH\" }, subdirectory = \"a/../..\" }"), @"the sources of package `A.b` cannot be used: `subdirectory`: `a/../..` is no path for a layer: it leads out with `..`");
    }
}
