//! The packages that a base is made of, chosen now or earlier, and the suites that its apt is told of.

use imagespec_core::lock::{LockedBase, LockedDeb};

use super::date::Date;
use super::fetch::Suites;
use super::mirror::Mirror;
use super::packages::{Archive, Package};

/// What a base is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Sorted by name.
    pub(super) packages: Vec<Package>,
    suites: Vec<Suite>,
    /// The name of a snapshot of Debian's archive that has the packages, if they were chosen earlier.
    pub(super) snapshot: Option<String>,
    newest: Date,
}

/// A suite that apt is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suite {
    archive: Archive,
    address: String,
    name: String,
}

/// The first part of a package's location: the name of the folder of each archive on Debian's servers.
const FOLDERS: [(Archive, &str); 2] = [(Archive::Security, "debian-security/"), (Archive::Main, "debian/")];

impl Selection {
    pub(super) fn new(packages: Vec<Package>, suites: Suites, mirror: &Mirror) -> Self {
        let newest = suites.iter().map(|(.., date)| *date).max().unwrap_or(Date(0));
        let suites = suites.into_iter().map(|(archive, name, _)| {
            let address = mirror.published_url(archive).to_owned();
            Suite { archive, address, name }
        });
        Self { packages, suites: suites.collect(), snapshot: None, newest }
    }

    /// What was chosen earlier; nothing if `locked` is no base of this kind, or a package lies elsewhere.
    pub fn of_lock(locked: &LockedBase) -> Option<Self> {
        let LockedBase::Bootstrap { snapshot, suites, packages } = locked else { return None };
        let suites = suites.iter().map(|suite| {
            let (address, name) = suite.split_once(' ')?;
            let archive = if name.ends_with("-security") { Archive::Security } else { Archive::Main };
            Some(Suite { archive, address: address.to_owned(), name: name.to_owned() })
        });
        let mut packages = packages.iter().map(package).collect::<Option<Vec<_>>>()?;
        packages.sort_by(|left, right| left.name.cmp(&right.name));
        Some(Self {
            packages,
            suites: suites.collect::<Option<_>>()?,
            snapshot: Some(snapshot.clone()),
            newest: Date(0),
        })
    }

    /// The same for a lock file.
    pub fn lock(&self) -> LockedBase {
        let packages = self.packages.iter().map(|package| {
            let folder =
                FOLDERS.iter().find(|(archive, _)| *archive == package.archive).map_or("", |(_, folder)| folder);
            LockedDeb {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                location: format!("{folder}{}", package.path),
                sha256: package.digest,
                size: package.size_bytes,
            }
        });
        LockedBase::Bootstrap {
            snapshot: self.snapshot.clone().unwrap_or_else(|| self.newest.compact()),
            suites: self.suites.iter().map(|Suite { address, name, .. }| format!("{address} {name}")).collect(),
            packages: packages.collect(),
        }
    }

    /// The version of the package `name`.
    pub fn version(&self, name: &str) -> Option<&str> {
        self.packages.iter().find(|package| package.name == name).map(|package| package.version.as_str())
    }

    /// apt's sources in the image (sources.list(5), "deb822-style format").
    pub(super) fn sources(&self) -> String {
        let stanza = |archive: Archive| {
            let suites: Vec<_> = self.suites.iter().filter(|suite| suite.archive == archive).collect();
            let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
            let signed_by = "/usr/share/keyrings/debian-archive-keyring.gpg";
            match suites.first() {
                None => String::new(),
                Some(Suite { address, .. }) => format!(
                    "Types: deb\nURIs: {address}\nSuites: {}\nComponents: main\nSigned-By: {signed_by}\n\n",
                    names.join(" ")
                ),
            }
        };
        stanza(Archive::Main) + &stanza(Archive::Security)
    }
}

fn package(deb: &LockedDeb) -> Option<Package> {
    let (archive, path) =
        FOLDERS.iter().find_map(|(archive, folder)| Some((*archive, deb.location.strip_prefix(folder)?)))?;
    Some(Package {
        name: deb.name.clone(),
        version: deb.version.clone(),
        architecture: deb.architecture.clone(),
        digest: deb.sha256,
        size_bytes: deb.size,
        path: path.to_owned(),
        archive,
    })
}
