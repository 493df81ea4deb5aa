//! Where packages are fetched from. Everything that is fetched is bounded, and verified by its digest or its signature.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use imagespec_core::digest::Digest;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde::{Deserialize, Serialize};

use super::packages::Archive;
use crate::cache::{Cache, CacheError, Key};
use crate::network::innermost;
use crate::point::{self, Point};

const DEFAULT_MAIN: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY: &str = "http://deb.debian.org/debian-security";

/// How often a transfer is tried.
const ATTEMPTS_MAX: u32 = 3;

/// How long a mirror may say nothing: the blocking client counts anew for each read.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The status of an answer that there is no such file.
const ABSENT: u16 = 404;

/// Debian's largest has 0.3 MB.
const RELEASE_SIZE_BYTES_MAX: u64 = 8 << 20;

/// Debian's archive and its security archive, as some server has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// URL of the archive, the folder above `dists`, without a slash at its end.
    pub main: String,
    /// URL of the security archive.
    pub security: String,
    /// Who chose it.
    pub origin: MirrorOrigin,
    /// Whether its releases may be out of date.
    pub valid_until: ValidUntil,
}

/// What to make of the date until which a release is valid (apt.conf(5), "Acquire::Check-Valid-Until").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidUntil {
    /// A release is refused after it.
    Checked,
    /// It is of no concern: the mirror keeps old releases on purpose.
    Ignored,
}

/// Who chose a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOrigin {
    /// The project: its images name it, too.
    Project,
    /// This machine or nobody: images name Debian's own servers.
    Machine,
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The mirror cannot be reached, or broke off.
    #[error("cannot fetch `{url}`")]
    Transfer {
        /// What was fetched.
        url: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The mirror answered something else.
    #[error("cannot fetch `{url}`: the server answered {status}")]
    Status {
        /// What was fetched.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// The mirror sends more than it should.
    #[error("`{url}` has more than {size_bytes_max} bytes")]
    TooLarge {
        /// What was fetched.
        url: String,
        /// The bound.
        size_bytes_max: u64,
    },
    /// It is not in the cache, and nothing may be fetched.
    #[error("`{url}` is not in the cache, and the build is offline")]
    Offline {
        /// What would be fetched.
        url: String,
    },
    /// What came could not be stored, or is not what it must be.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl MirrorError {
    /// Whether the mirror says that it has no such file.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Status { status: ABSENT, .. })
    }
}

impl Mirror {
    /// The mirror at `url`, as a project names it. The security archive is looked for beside it.
    pub fn of_project(url: &str) -> Self {
        Self { origin: MirrorOrigin::Project, ..Self::beside(url) }
    }

    /// The mirror that this machine's apt uses if it is a Debian, else Debian's own.
    pub fn of_machine() -> Self {
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        if os_release.lines().any(|line| line == "ID=debian") {
            Self::of_sources(&apt_sources(Path::new("/etc/apt")))
        } else {
            Self::of_sources(&[])
        }
    }

    /// The servers that an image names.
    pub fn published(&self) -> (&str, &str) {
        match self.origin {
            MirrorOrigin::Project => (&self.main, &self.security),
            MirrorOrigin::Machine => (DEFAULT_MAIN, DEFAULT_SECURITY),
        }
    }

    /// The server of `archive` that an image names.
    pub(super) fn published_url(&self, archive: Archive) -> &str {
        let (main, security) = self.published();
        match archive {
            Archive::Main => main,
            Archive::Security => security,
        }
    }

    pub(super) fn url(&self, archive: Archive) -> &str {
        match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        }
    }

    fn beside(url: &str) -> Self {
        let main = url.trim_end_matches('/').to_owned();
        // `http://snapshot.debian.org/archive/debian/20261122T020905Z` has the security archive of that time beside it.
        let security = match (main.strip_suffix("/debian"), main.split_once("/archive/debian/")) {
            (Some(server), _) => format!("{server}/debian-security"),
            (None, Some((server, snapshot))) => format!("{server}/archive/debian-security/{snapshot}"),
            (None, None) => DEFAULT_SECURITY.to_owned(),
        };
        Self { main, security, origin: MirrorOrigin::Machine, valid_until: ValidUntil::Checked }
    }

    fn of_sources(texts: &[String]) -> Self {
        let sources: Vec<(String, Vec<String>)> = texts.iter().flat_map(|text| sources_of(text)).collect();
        let find = |accepts: &dyn Fn(&str, &[String]) -> bool| {
            sources.iter().find(|(url, suites)| accepts(url, suites)).map(|(url, _)| url.clone())
        };
        let main = find(&|url, _| url.ends_with("/debian")).unwrap_or_else(|| DEFAULT_MAIN.to_owned());
        let security = find(&|_, suites| suites.iter().any(|suite| suite.ends_with("-security")));
        let beside = Self::beside(&main);
        Self { security: security.unwrap_or(beside.security), ..beside }
    }
}

/// The texts of apt's lists of sources.
fn apt_sources(folder: &Path) -> Vec<String> {
    let mut paths = vec![folder.join("sources.list")];
    if let Ok(entries) = fs::read_dir(folder.join("sources.list.d")) {
        let mut listed: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        listed.sort();
        paths.extend(listed);
    }
    let is_list = |path: &&std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    };
    paths.iter().filter(is_list).filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// URL and suites of each source in a text of one of apt's two forms (sources.list(5)).
fn sources_of(text: &str) -> Vec<(String, Vec<String>)> {
    let words = |value: &str| value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut sources = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &lines {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(rest, |(_, rest)| rest);
        if let [url, suite, ..] = words(rest).as_slice() {
            sources.push((url.clone(), vec![suite.clone()]));
        }
    }
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            stanza.iter().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        };
        let is_binary = field("Types").is_some_and(|(_, types)| words(types).iter().any(|kind| kind == "deb"));
        if let (true, Some((_, urls)), Some((_, suites))) = (is_binary, field("URIs"), field("Suites")) {
            sources.extend(words(urls).into_iter().map(|url| (url, words(suites))));
        }
    }
    for (url, _) in &mut sources {
        url.truncate(url.trim_end_matches('/').len());
    }
    sources.retain(|(url, _)| url.starts_with("http://") || url.starts_with("https://"));
    sources
}

/// What a mirror had at an address when it was asked last.
#[derive(Serialize, Deserialize)]
enum Remembered {
    File(Digest),
    Absent,
}

/// Fetches from a mirror into the cache.
pub(crate) struct Fetcher<'a> {
    pub(super) cache: &'a Cache,
    pub(super) cancelled: &'a (dyn Fn() -> bool + Sync),
    client: Client,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(cache: &'a Cache, cancelled: &'a (dyn Fn() -> bool + Sync)) -> Result<Self, MirrorError> {
        let client = Client::builder().timeout(SILENCE_MAX).connect_timeout(SILENCE_MAX).build();
        let client = client
            .map_err(|error| MirrorError::Transfer { url: DEFAULT_MAIN.to_owned(), source: io::Error::other(error) })?;
        Ok(Self { cache, cancelled, client })
    }

    /// The bytes of a small file that is signed; of one who is offline, those that were fetched last.
    pub(super) fn release(&self, url: &str) -> Result<Vec<u8>, MirrorError> {
        let key = Key::new("release", [url.as_bytes()]);
        if self.cache.is_offline() {
            let bytes = match self.cache.record::<Remembered>(key)? {
                Some(Remembered::Absent) => return Err(MirrorError::Status { url: url.to_owned(), status: ABSENT }),
                Some(Remembered::File(digest)) => self.cache.read_blob(digest)?,
                None => None,
            };
            return bytes.ok_or_else(|| MirrorError::Offline { url: url.to_owned() });
        }
        let fetched = self.attempt(|| {
            let mut bytes = Vec::new();
            self.copy(url, RELEASE_SIZE_BYTES_MAX, &mut bytes, &|_| {})?;
            Ok(bytes)
        });
        match &fetched {
            Ok(bytes) => {
                let stored = self.cache.store_bytes(bytes)?;
                self.cache.remember(key, &Remembered::File(stored.digest))?;
            }
            Err(error) if error.is_absent() => self.cache.remember(key, &Remembered::Absent)?,
            Err(_) => {}
        }
        fetched
    }

    /// Fetches a file of known digest and length into the cache, if it is not there. `received` is told the length of
    /// every piece that comes.
    pub(crate) fn blob(
        &self,
        url: &str,
        digest: Digest,
        size_bytes: u64,
        received: &dyn Fn(u64),
    ) -> Result<(), MirrorError> {
        let transfer = || {
            let mut blob = self.cache.blob_writer()?;
            self.copy(url, size_bytes, &mut blob, received)?;
            blob.commit_as(digest, url)?;
            Ok(())
        };
        self.cache.fetch_once(digest, || self.attempt(transfer))
    }

    fn attempt<T>(&self, transfer: impl Fn() -> Result<T, MirrorError>) -> Result<T, MirrorError> {
        let mut attempt = 1;
        loop {
            match transfer() {
                Err(MirrorError::Transfer { .. } | MirrorError::Status { status: 500.., .. })
                    if attempt < ATTEMPTS_MAX && !(self.cancelled)() =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn copy(
        &self,
        url: &str,
        size_bytes_max: u64,
        target: &mut dyn Write,
        received: &dyn Fn(u64),
    ) -> Result<(), MirrorError> {
        let failed = |source| MirrorError::Transfer { url: url.to_owned(), source };
        let mut response = self.get(url)?;
        let mut buffer = vec![0; 128 << 10];
        let mut size_bytes = 0;
        loop {
            if (self.cancelled)() {
                return Err(failed(io::Error::other("cancelled")));
            }
            let count = response.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(());
            }
            size_bytes += count as u64;
            if size_bytes > size_bytes_max {
                return Err(MirrorError::TooLarge { url: url.to_owned(), size_bytes_max });
            }
            target.write_all(&buffer[..count]).map_err(failed)?;
            received(count as u64);
            point::reached(Point::HalfFetched);
        }
    }

    fn get(&self, url: &str) -> Result<Response, MirrorError> {
        if self.cache.is_offline() {
            return Err(MirrorError::Offline { url: url.to_owned() });
        }
        let response = self
            .client
            .get(url)
            .send()
            .map_err(|error| MirrorError::Transfer { url: url.to_owned(), source: innermost(&error) })?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(MirrorError::Status { url: url.to_owned(), status: status.as_u16() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_apts_sources_are_read() {
        let deb822 = "# a comment\nTypes: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n\n\
                      Types: deb\nURIs: https://mirror.example/security\nSuites: bookworm-security\n";
        let one_line =
            "deb cdrom:[x]/ bookworm main\ndeb [arch=amd64 signed-by=/k] http://other.example/debian bookworm main\n";
        let mirror = Mirror::of_sources(&[deb822.to_owned()]);
        assert_eq!(
            (mirror.main.as_str(), mirror.security.as_str()),
            ("http://mirror.example/debian", "https://mirror.example/security")
        );
        let mirror = Mirror::of_sources(&[one_line.to_owned()]);
        assert_eq!(
            (mirror.main.as_str(), mirror.security.as_str()),
            ("http://other.example/debian", "http://other.example/debian-security")
        );
        assert_eq!(Mirror::of_sources(&[]).main, DEFAULT_MAIN);
    }
}
