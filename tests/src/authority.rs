//! Certificates for tests, by the machine's own openssl: an authority, and what it signs for servers and clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::registry::output;

/// New keys of every certificate.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
/// What `openssl ca` has to be told of. Only it makes certificates of another time.
const CONFIG: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nrand_serial = yes\nnew_certs_dir = .\n\
                      default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";

/// Whom certificates are signed by. Its own one and all others lie in the folder that it is given.
pub struct Authority {
    folder: PathBuf,
}

/// When a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Today and tomorrow.
    Now,
    /// In January 2020.
    Past,
}

/// A certificate and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one in `folder`, whose certificate is `ca.pem`.
    pub fn new(folder: &Path) -> Self {
        let authority = Self { folder: folder.to_owned() };
        fs::create_dir_all(folder).expect("a folder can be made");
        authority.openssl(&format!("req -x509 {KEY} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
        fs::write(folder.join("ca.config"), CONFIG).expect("written");
        fs::write(folder.join("index.txt"), "").expect("written");
        authority
    }

    /// The authority's own certificate, which says whom to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs `NAME.pem` with `NAME.key` for the server with the names `names`: `IP:127.0.0.1,DNS:build.example.org`.
    pub fn server(&self, name: &str, names: &str, validity: Validity) -> Certificate {
        self.sign(name, &format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n"), validity)
    }

    /// Signs `NAME.pem` with `NAME.key` for a client.
    pub fn client(&self, name: &str, validity: Validity) -> Certificate {
        self.sign(name, "extendedKeyUsage=clientAuth\n", validity)
    }

    fn sign(&self, name: &str, extension: &str, validity: Validity) -> Certificate {
        fs::write(self.folder.join("extension"), format!("{extension}basicConstraints=CA:FALSE\n")).expect("written");
        self.openssl(&format!("req {KEY} -subj /CN={name} -keyout {name}.key -out {name}.request"));
        let time = match validity {
            Validity::Now => "-days 2",
            Validity::Past => "-startdate 20200101000000Z -enddate 20200201000000Z",
        };
        self.openssl(&format!(
            "ca -batch -notext -config ca.config -cert ca.pem -keyfile ca.key {time} -extfile extension -in {name}.request -out {name}.pem"
        ));
        let path = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        Certificate { certificate: path("pem"), key: path("key") }
    }

    fn openssl(&self, arguments: &str) {
        output(Command::new("openssl").args(arguments.split(' ')).current_dir(&self.folder));
    }
}
