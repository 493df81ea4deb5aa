//! Checks an OCI image layout as no available tool does: duplicate paths, paths that lead out, entries beneath
//! links, whiteouts, sizes, digests and diff_ids.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::EntryType;

/// Everything that is wrong with the layout in `folder`, a line each; empty if it is in order.
pub fn lint(folder: &Path) -> Vec<String> {
    lint_layers(folder, Path::new("/nonexistent"), Whiteouts::Refused)
}

/// The same for an image that stands on one of the layout in `base`. Of that one's layers only the digests are checked:
/// what other programs put into layers is not our affair. Layers above them may hide what they have.
pub fn lint_above(folder: &Path, base: &Path) -> Vec<String> {
    lint_layers(folder, base, Whiteouts::Allowed)
}

/// The same for an image on whatever base. Layers that its history does not name as made here have their digests
/// checked and no more; the others may hide what lies beneath them.
pub fn lint_own(folder: &Path) -> Vec<String> {
    lint_layers(folder, &OwnHistory, Whiteouts::Allowed)
}

/// Which layers somebody else made.
trait Foreign {
    /// For each layer of a manifest, lowest first.
    fn are_foreign(&self, layers: &[Value], config: &Value) -> Vec<bool>;
}

/// Those that a layout has.
impl Foreign for Path {
    fn are_foreign(&self, layers: &[Value], _config: &Value) -> Vec<bool> {
        layers.iter().map(|layer| blob_path(self, layer).is_file()).collect()
    }
}

/// Those that the program does not say in the history to have made. What it makes lies uppermost.
struct OwnHistory;

impl Foreign for OwnHistory {
    fn are_foreign(&self, layers: &[Value], config: &Value) -> Vec<bool> {
        let history = config["history"].as_array().into_iter().flatten();
        let steps: Vec<_> = history.filter(|step| step["empty_layer"] != true).collect();
        let is_own = |from_top: usize| {
            let step = steps.len().checked_sub(from_top + 1).map(|position| steps[position]);
            step.and_then(|step| step["created_by"].as_str()).is_some_and(|text| text.starts_with("imagespec: "))
        };
        (0..layers.len()).rev().map(|from_top| !is_own(from_top)).collect()
    }
}

fn lint_layers(folder: &Path, base: &(impl Foreign + ?Sized), whiteouts: Whiteouts) -> Vec<String> {
    let top: Value = match fs::read(folder.join("index.json")).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(top)) => top,
        other => return vec![format!("index.json: {other:?}")],
    };
    let mut linter = Linter { folder, base, whiteouts, problems: Vec::new() };
    linter.document(&top);
    linter.problems
}

struct Linter<'a, F: ?Sized> {
    folder: &'a Path,
    base: &'a F,
    whiteouts: Whiteouts,
    problems: Vec<String>,
}

impl<F: Foreign + ?Sized> Linter<'_, F> {
    fn document(&mut self, document: &Value) {
        for descriptor in document["manifests"].as_array().into_iter().flatten() {
            let bytes = blob(self.folder, descriptor, &mut self.problems);
            if let Ok(child) = serde_json::from_slice::<Value>(&bytes) {
                self.document(&child);
            }
        }
        let Some(layers) = document["layers"].as_array() else { return };
        let config = blob(self.folder, &document["config"], &mut self.problems);
        let config: Value = serde_json::from_slice(&config).unwrap_or_default();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
        if diff_ids.len() != layers.len() {
            self.problems.push(format!("{} layers, {} diff_ids", layers.len(), diff_ids.len()));
        }
        let are_foreign = self.base.are_foreign(layers, &config);
        for ((descriptor, diff_id), is_foreign) in layers.iter().zip(&diff_ids).zip(are_foreign) {
            let bytes = blob(self.folder, descriptor, &mut self.problems);
            // Others compress with zstd, too, or not at all.
            if is_foreign && !bytes.starts_with(&[0x1f, 0x8b]) {
                continue;
            }
            let Some(content) = content(&bytes, diff_id, &mut self.problems) else { continue };
            if !is_foreign {
                entries(&content, self.whiteouts, &mut self.problems);
            }
        }
    }
}

fn blob_path(folder: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    folder.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap_or("absent"))
}

fn blob(folder: &Path, descriptor: &Value, problems: &mut Vec<String>) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let bytes = fs::read(blob_path(folder, descriptor)).unwrap_or_default();
    if format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) != digest {
        problems.push(format!("{digest}: the content has another digest"));
    }
    if descriptor["size"].as_u64() != Some(bytes.len() as u64) {
        problems.push(format!("{digest}: {} bytes instead of {}", bytes.len(), descriptor["size"]));
    }
    bytes
}

/// The uncompressed layer, if it is one.
fn content(blob: &[u8], diff_id: &Value, problems: &mut Vec<String>) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    if let Err(error) = MultiGzDecoder::new(blob).read_to_end(&mut content) {
        problems.push(format!("a layer is no gzip: {error}"));
        return None;
    }
    let found = format!("sha256:{}", hex::encode(Sha256::digest(&content)));
    if diff_id != &found {
        problems.push(format!("diff_id {diff_id} instead of {found}"));
    }
    Some(content)
}

/// Whether a layer may hide what lies beneath it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whiteouts {
    Allowed,
    Refused,
}

fn entries(content: &[u8], whiteouts: Whiteouts, problems: &mut Vec<String>) {
    let mut seen: BTreeMap<String, EntryType> = BTreeMap::new();
    let mut archive = tar::Archive::new(content);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return problems.push(format!("a layer is no tar: {error}")),
    };
    for entry in entries {
        let Ok(entry) = entry else { return problems.push("a layer ends early".to_owned()) };
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = raw.trim_end_matches('/').to_owned();
        if !Path::new(&path).components().all(|component| matches!(component, Component::Normal(_))) {
            problems.push(format!("{path}: leads out"));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        match name.strip_prefix(".wh.") {
            None | Some(".wh..opq") => {}
            Some(hidden) if hidden.is_empty() || hidden.starts_with(".wh.") => {
                problems.push(format!("{path}: a whiteout of nothing"));
            }
            Some(hidden) if seen.contains_key(&format!("{folder}/{hidden}")) => {
                problems.push(format!("{path}: hides what its own layer brings"));
            }
            Some(_) if whiteouts == Whiteouts::Refused => {
                problems.push(format!("{path}: a whiteout, in an image that deletes nothing"));
            }
            Some(_) => {}
        }
        let parents = path.match_indices('/').map(|(index, _)| &path[..index]);
        for parent in parents {
            match seen.get(parent) {
                Some(EntryType::Directory) => {}
                Some(_) => problems.push(format!("{path}: lies beneath `{parent}`, which is no folder")),
                None => problems.push(format!("{path}: stands before its folder `{parent}`")),
            }
        }
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link) {
            problems.push(format!("{path}: of type {kind:?}"));
        }
        if seen.insert(path.clone(), kind).is_some() {
            problems.push(format!("{path}: stands twice"));
        }
    }
}
