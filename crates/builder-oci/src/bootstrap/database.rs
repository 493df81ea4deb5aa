//! dpkg's database as it is when packages are unpacked and not yet configured (dpkg(1), "Package states"; deb-triggers(5)).
//! Pure: it says which files there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::deb::Deb;

/// What a database is made of: mode and content by path.
#[derive(Default)]
pub(super) struct Database {
    status: BTreeMap<String, String>,
    files: BTreeMap<String, (u32, Vec<u8>)>,
    triggers: BTreeMap<String, String>,
    /// Packages with a script for before the unpacking, under the name of their files.
    pub(super) before_unpacking: Vec<(String, String)>,
}

impl Database {
    /// Adds an unpacked package and the paths of all that it has, `/.` first.
    pub(super) fn add(&mut self, name: &str, deb: &Deb, paths: &[String]) {
        let control = deb.control_text("control");
        let field = |name: &str| {
            control
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .unwrap_or_default()
        };
        let file_name = match field("Multi-Arch") {
            "same" => format!("{name}:{}", field("Architecture")),
            _ => name.to_owned(),
        };
        self.status.insert(name.to_owned(), status(control, &conffiles(deb)));
        let list = paths.iter().fold(String::new(), |list, path| list + path + "\n");
        self.files.insert(format!("var/lib/dpkg/info/{file_name}.list"), (0o644, list.into_bytes()));
        for (script, content) in deb.control.iter().filter(|(script, _)| *script != "control") {
            let mode = if matches!(script.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config") {
                0o755
            } else {
                0o644
            };
            self.files.insert(format!("var/lib/dpkg/info/{file_name}.{script}"), (mode, content.clone()));
        }
        if deb.control.contains_key("preinst") {
            self.before_unpacking.push((name.to_owned(), file_name.clone()));
        }
        self.add_triggers(deb, &file_name);
    }

    /// All files of the database.
    pub(super) fn into_files(self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = self.files;
        let status = self.status.values().fold(String::new(), |all, stanza| all + stanza + "\n");
        for (path, content) in [
            ("status", status.as_str()),
            ("available", ""),
            ("diversions", ""),
            ("statoverride", ""),
            ("info/format", "1\n"),
        ] {
            files.insert(format!("var/lib/dpkg/{path}"), (0o644, content.as_bytes().to_vec()));
        }
        for (name, content) in self.triggers {
            files.insert(format!("var/lib/dpkg/triggers/{name}"), (0o644, content.into_bytes()));
        }
        files
    }

    /// Registers what a package wants to be told of.
    fn add_triggers(&mut self, deb: &Deb, file_name: &str) {
        for line in deb.control_text("triggers").lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let awaits = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            if trigger.starts_with('/') {
                let files = self.triggers.entry("File".to_owned()).or_default();
                // Writing to a string does not fail.
                let _ = writeln!(files, "{trigger} {file_name}{awaits}");
            } else if trigger.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._:".contains(&byte))
                && !trigger.starts_with('.')
            {
                let listeners = self.triggers.entry(trigger.to_owned()).or_default();
                let _ = writeln!(listeners, "{file_name}{awaits}");
            }
        }
    }
}

/// The configuration files of a package, without a slash before them.
pub(super) fn conffiles(deb: &Deb) -> Vec<&str> {
    deb.control_text("conffiles").lines().filter_map(|line| line.trim().strip_prefix('/')).collect()
}

/// A package's paragraph of the status file.
fn status(control: &str, conffiles: &[&str]) -> String {
    let mut stanza = String::new();
    for line in control.lines().filter(|line| !line.trim().is_empty()) {
        stanza += line;
        stanza.push('\n');
        if line.starts_with("Package:") {
            stanza += "Status: install ok unpacked\n";
        }
    }
    if !conffiles.is_empty() {
        stanza += "Conffiles:\n";
        for path in conffiles {
            let _ = writeln!(stanza, " /{path} newconffile");
        }
    }
    stanza
}
