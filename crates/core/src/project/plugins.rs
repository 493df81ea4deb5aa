//! `[plugins]` and `[approved]`: which files are builders, and what was looked at when they were chosen.

use std::path::{Path, PathBuf};

use super::file::{ProjectRole, Reader};
use crate::digest::Digest;
use crate::document::{Entry, Node};
use crate::place::Located;
use crate::spec::check;
use crate::spec::error::Refusal;
use crate::suggestion;

/// `[plugins.NAME]`: a builder that is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The file, absolute.
    pub path: Located<PathBuf>,
    /// The sha256 that it must have.
    pub sha256: Digest,
    /// Whether its code runs in the program's own process. The user's config alone says so.
    pub in_process: bool,
    /// Whether it stands in for a bundled builder of the name. The user's config alone says so.
    pub overrides: bool,
}

const KEYS: [&str; 4] = ["path", "sha256", "in_process", "override"];

impl Reader<'_> {
    pub(super) fn plugins(&mut self, node: &Node) {
        let Some(plugins) = self.decoder.mapping(node, "`plugins`") else { return };
        for Entry { key, value } in plugins {
            if let Err(refusal) = check::builder_name(&key.value) {
                self.decoder.refuse_key("plugins", key, refusal);
                continue;
            }
            if let Some(plugin) = self.plugin(key, value) {
                self.project.plugins.insert(key.value.clone(), plugin);
            }
        }
    }

    fn plugin(&mut self, key: &Located<String>, node: &Node) -> Option<Plugin> {
        let what = &format!("plugins.{}", key.value);
        let entries = self.decoder.mapping(node, &format!("`{what}`"))?;
        let (mut path, mut sha256, mut in_process, mut overrides) = (None, None, false, false);
        for entry in entries {
            let field = format!("{what}.{}", entry.key.value);
            match entry.key.value.as_str() {
                "path" => path = self.text(&field, &entry.value, check::one_line),
                "sha256" => sha256 = self.text(&field, &entry.value, sha256_text),
                "in_process" | "override" if self.role == ProjectRole::Project => {
                    let refusal = Refusal::new("only its user may decide that").hint(format!(
                        "leave it out; `imagespec plugin add --{}` writes it to your own config",
                        entry.key.value.replace('_', "-")
                    ));
                    self.decoder.refuse_key(what, &entry.key, refusal);
                }
                "in_process" => in_process = self.boolean(&field, &entry.value),
                "override" => overrides = self.boolean(&field, &entry.value),
                other => {
                    let suggestion = suggestion::closest(other, KEYS);
                    let known = "the keys are `path`, `sha256`, `in_process` and `override`";
                    self.decoder.unknown_key(&entry.key, Some(what), suggestion, known);
                }
            }
        }
        let has = |name: &str| entries.iter().any(|entry| entry.key.value == name);
        if !has("path") || !has("sha256") {
            let refusal = Refusal::new("a plugin has a `path` and the `sha256` that it must have");
            self.decoder.refuse_key("plugins", key, refusal.hint("`imagespec plugin add PATH` writes both"));
        }
        let directory = &self.project.directory;
        let path = path?.map(|path| directory.join(path));
        Some(Plugin { path, sha256: digest(&sha256?.value)?, in_process, overrides })
    }

    pub(super) fn approved(&mut self, node: &Node) {
        let Some(projects) = self.decoder.mapping(node, "`approved`") else { return };
        for Entry { key, value } in projects {
            let what = format!("approved.{:?}", key.value);
            let Some(entries) = self.decoder.mapping(value, &format!("`{what}`")) else { continue };
            for entry in entries {
                let text = self.text(&format!("{what}.{}", entry.key.value), &entry.value, sha256_text);
                let Some(digest) = text.and_then(|text| digest(&text.value)) else { continue };
                let approved = self.project.approved.entry(Path::new(&key.value).to_owned()).or_default();
                approved.insert(entry.key.value.clone(), digest);
            }
        }
    }
}

fn digest(text: &str) -> Option<Digest> {
    format!("sha256:{}", text.strip_prefix("sha256:").unwrap_or(text)).parse().ok()
}

fn sha256_text(text: &str) -> Result<(), Refusal> {
    match digest(text) {
        Some(_) => Ok(()),
        None => Err(Refusal::new("it is no sha256").hint("write the 64 digits that `sha256sum` prints")),
    }
}
