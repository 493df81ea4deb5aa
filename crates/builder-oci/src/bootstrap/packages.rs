//! `Packages`: the index of a suite's packages (Debian repository format, "Packages Indices"). The text is verified
//! already, and still nothing in it may cost more than its length.

use std::collections::HashMap;
use std::io::Read;

use debversion::Version;
use imagespec_core::digest::Digest;
use liblzma::read::XzDecoder;

/// Debian's largest has 55 MB.
const INDEX_SIZE_BYTES_MAX: u64 = 512 << 20;

/// No package of a base comes near.
const PACKAGE_SIZE_BYTES_MAX: u64 = 512 << 20;

/// Why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// It is no xz stream, or no text.
    #[error("cannot decompress the package index of `{suite}`")]
    Decompress {
        /// The suite.
        suite: String,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// It is longer than any index is.
    #[error("the package index of `{suite}` has more than {INDEX_SIZE_BYTES_MAX} bytes")]
    TooLarge {
        /// The suite.
        suite: String,
    },
    /// A field of a package is missing or is not what it must be.
    #[error("field `{field}` of package `{package}` in the package index is missing or malformed")]
    Field {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
    },
}

/// The text of an index and where its packages come from.
pub(super) struct Index {
    text: String,
    archive: Archive,
}

/// Which archive a package is fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Archive {
    /// Debian's main archive.
    Main,
    /// The security archive.
    Security,
}

impl Index {
    /// Decompresses the `Packages.xz` of `suite`.
    pub(super) fn read(compressed: &[u8], archive: Archive, suite: &str) -> Result<Self, PackagesError> {
        let mut text = String::new();
        let mut reader = XzDecoder::new(compressed).take(INDEX_SIZE_BYTES_MAX + 1);
        reader
            .read_to_string(&mut text)
            .map_err(|source| PackagesError::Decompress { suite: suite.to_owned(), source })?;
        if text.len() as u64 > INDEX_SIZE_BYTES_MAX {
            return Err(PackagesError::TooLarge { suite: suite.to_owned() });
        }
        Ok(Self { text, archive })
    }
}

/// One package of an index, its fields being looked for when they are asked for: of 60,000 packages a base needs 100.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stanza<'a> {
    text: &'a str,
    archive: Archive,
}

/// All packages of all indexes.
pub(super) struct PackageTable<'a> {
    /// By name, the newest version of each.
    packages: HashMap<&'a str, Stanza<'a>>,
    /// Who provides a virtual package, by its name; sorted.
    providers: HashMap<&'a str, Vec<&'a str>>,
}

/// What is fetched of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) path: String,
    pub(super) archive: Archive,
}

impl<'a> Stanza<'a> {
    /// The value of a field of one line.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.text;
        loop {
            let at = rest.find(name)?;
            let starts_line = at == 0 || rest.as_bytes()[at - 1] == b'\n';
            rest = &rest[at + name.len()..];
            if starts_line && let Some(value) = rest.strip_prefix(':') {
                return Some(value.lines().next().unwrap_or_default().trim());
            }
        }
    }

    pub(super) fn name(&self) -> &'a str {
        self.field("Package").unwrap_or_default()
    }

    pub(super) fn version(&self) -> &'a str {
        self.field("Version").unwrap_or_default()
    }

    /// Whether every Debian system has it.
    pub(super) fn is_required(&self) -> bool {
        self.field("Essential") == Some("yes") || self.field("Priority") == Some("required")
    }

    /// What is needed to fetch it.
    pub(super) fn package(&self) -> Result<Package, PackagesError> {
        let malformed = |field| PackagesError::Field { package: self.name().to_owned(), field };
        let field = |name| self.field(name).ok_or_else(|| malformed(name));
        let name = field("Package")?;
        if !is_package_name(name) {
            return Err(malformed("Package"));
        }
        let path = field("Filename")?;
        let is_path = path.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-~%:".contains(&byte));
        if !is_path {
            return Err(malformed("Filename"));
        }
        let size_bytes = field("Size")?.parse().map_err(|_| malformed("Size"))?;
        if size_bytes > PACKAGE_SIZE_BYTES_MAX {
            return Err(malformed("Size"));
        }
        Ok(Package {
            name: name.to_owned(),
            version: field("Version")?.to_owned(),
            architecture: field("Architecture")?.to_owned(),
            digest: Digest::from_hex(field("SHA256")?).map_err(|_| malformed("SHA256"))?,
            size_bytes,
            path: path.to_owned(),
            archive: self.archive,
        })
    }
}

impl<'a> PackageTable<'a> {
    /// The packages of all `indexes`; of several versions of one, the newest.
    pub(super) fn new(indexes: &'a [Index]) -> Self {
        let mut packages: HashMap<&'a str, Stanza<'a>> = HashMap::new();
        let mut providers: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for index in indexes {
            for text in index.text.split("\n\n").filter(|text| !text.is_empty()) {
                let stanza = Stanza { text, archive: index.archive };
                let name = stanza.name();
                let is_newest = packages.get(name).is_none_or(|known| is_newer(stanza.version(), known.version()));
                if is_newest {
                    packages.insert(name, stanza);
                }
            }
        }
        for (name, stanza) in &packages {
            for provided in stanza.field("Provides").into_iter().flat_map(|list| list.split(',')) {
                let provided = provided.split(['(', ' ', ':']).find(|word| !word.is_empty()).unwrap_or_default();
                providers.entry(provided.trim()).or_default().push(name);
            }
        }
        for names in providers.values_mut() {
            names.sort_unstable();
            names.dedup();
        }
        Self { packages, providers }
    }

    /// The package of a name.
    pub(super) fn get(&self, name: &str) -> Option<Stanza<'a>> {
        self.packages.get(name).copied()
    }

    /// The packages that provide a name, sorted.
    pub(super) fn providers(&self, name: &str) -> &[&'a str] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of the packages that every Debian system has, sorted.
    pub(super) fn required(&self) -> Vec<&'a str> {
        let mut names: Vec<_> =
            self.packages.iter().filter(|(_, stanza)| stanza.is_required()).map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }
}

/// Whether a text is a package's name (Debian policy, 5.6.1): it becomes a file name of dpkg's database.
pub(super) fn is_package_name(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

/// A version that cannot be read is older than all others.
fn is_newer(one: &str, other: &str) -> bool {
    match (Version::parse_lenient(one), Version::parse_lenient(other)) {
        (Ok(one), Ok(other)) => one > other,
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}
