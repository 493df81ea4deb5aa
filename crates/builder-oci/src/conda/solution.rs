//! Which conda packages an environment has. Pure data, so that a lock file can hold it.

use imagespec_core::digest::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::CondaError;

/// The packages of an environment, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Solution {
    /// Sorted by name, each name once.
    pub(crate) packages: Vec<SolvedPackage>,
}

/// One package: what it is, and where it can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SolvedPackage {
    /// Its normalised name.
    pub(crate) name: String,
    /// Its version, as its channel says it.
    pub(crate) version: String,
    /// Its build: `py311h64a7726_0`.
    pub(crate) build: String,
    /// `linux-64`, `linux-aarch64` or `noarch`.
    pub(crate) subdir: String,
    /// Its address in its channel, whatever mirror it comes from. Of a channel on this machine, that of
    /// [`super::channel::LOCAL`].
    pub(crate) url: Url,
    /// Digest of the archive.
    pub(crate) sha256: Digest,
    /// Length of the archive in bytes, if the channel says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<u64>,
    /// Of Python itself: where packages lie, below the environment, if it says that (CEP 17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) site_packages: Option<String>,
}

/// Python, as packages of pure Python need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CondaPython {
    pub(crate) minor: u16,
    pub(crate) patch: u16,
    /// Where packages lie, below the environment: `lib/python3.11/site-packages`.
    pub(crate) site_packages: String,
}

impl SolvedPackage {
    /// The archive's file name.
    pub(crate) fn file_name(&self) -> &str {
        self.url.path().rsplit('/').next().unwrap_or_default()
    }
}

impl Solution {
    /// The Python of the environment.
    ///
    /// # Errors
    /// When there is none, or one that is not laid out as CPython is.
    pub(crate) fn python(&self) -> Result<CondaPython, CondaError> {
        let python = self.packages.iter().find(|package| package.name == "python");
        let version = python.map_or("3", |python| python.version.as_str());
        let unfit = |problem| CondaError::Python { version: version.to_owned(), problem };
        let mut numbers = version.split('.').map(|number| number.parse::<u16>().ok());
        let (Some(Some(3)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
            return Err(unfit("it is no Python 3"));
        };
        let patch = numbers.next().flatten().unwrap_or(0);
        let usual = format!("lib/python3.{minor}/site-packages");
        let said = python.and_then(|python| python.site_packages.as_deref()).unwrap_or(&usual);
        if said != usual {
            return Err(unfit("its packages do not lie where those of CPython do"));
        }
        Ok(CondaPython { minor, patch, site_packages: usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(version: &str, site_packages: Option<&str>) -> Solution {
        let package = SolvedPackage {
            name: "python".to_owned(),
            version: version.to_owned(),
            build: "0".to_owned(),
            subdir: "linux-64".to_owned(),
            url: Url::parse("https://conda.example/c/linux-64/python-3-0.conda").unwrap(),
            sha256: Digest::of(b"python"),
            size_bytes: None,
            site_packages: site_packages.map(str::to_owned),
        };
        Solution { packages: vec![package] }
    }

    #[test]
    fn the_python_of_a_solution_says_where_packages_lie() {
        let found = python("3.11.2", None).python().unwrap();
        assert_eq!((found.minor, found.patch, found.site_packages.as_str()), (11, 2, "lib/python3.11/site-packages"));
        let error = |version, site| python(version, site).python().unwrap_err().to_string();
        insta::assert_snapshot!(error("2.7.18", None), @"conda's Python 2.7.18 cannot be used: it is no Python 3");
        insta::assert_snapshot!(error("3.13.0", Some("lib/python3.13t/site-packages")), @"conda's Python 3.13.0 cannot be used: its packages do not lie where those of CPython do");
    }

    #[test]
    fn a_solution_is_data_that_comes_back_as_it_was() {
        let solution = python("3.11.2", None);
        let text = serde_json::to_string(&solution).unwrap();
        insta::assert_snapshot!(text, @r#"{"packages":[{"name":"python","version":"3.11.2","build":"0","subdir":"linux-64","url":"https://conda.example/c/linux-64/python-3-0.conda","sha256":"sha256:11a4a60b518bf24989d481468076e5d5982884626aed9faeb35b8576fcd223e1"}]}"#);
        assert_eq!(serde_json::from_str::<Solution>(&text).unwrap(), solution);
    }
}
