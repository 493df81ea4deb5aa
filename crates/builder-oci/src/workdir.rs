//! The working directory of an image, where no layer brings it.

use imagespec_core::plan::{Base, FILES_ROOT, Plan, Step};
use serde_json::{Map, Value};

use crate::base::{ImageLayer, own_layer};
use crate::builder::{Building, Failure};
use crate::cache::Key;
use crate::layer::{Attributes, FORMAT_VERSION, LayerPath};
use crate::survey::{self, Standing};

/// The working directory, if no layer of the image brings it. What stands there already keeps its owner and mode.
pub(crate) fn layer(
    building: &Building<'_>,
    plan: &Plan,
    base: &Map<String, Value>,
    layers: &[ImageLayer],
) -> Result<Option<ImageLayer>, Failure> {
    let workdir = plan.config.workdir.trim_end_matches('/');
    let of_base = base.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
    // Every system has a home for root, copied files lie in it, and every image has its own working directory: no
    // layer is read for these.
    let has_files = plan.steps.iter().any(|step| matches!(step, Step::Copy(copy) if !copy.files.is_empty()));
    let is_known = (workdir == FILES_ROOT && (has_files || plan.base != Base::Scratch))
        || of_base.strip_prefix(workdir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let (false, Ok(path)) = (is_known, LayerPath::new(workdir)) else { return Ok(None) };
    let standings = survey::folders(building, layers, &path)?;
    let is_complete = standings.iter().all(|standing| matches!(standing, Standing::Folder { .. }));
    // A link on the way leads to where only an engine can make a folder.
    if is_complete || standings.contains(&Standing::Other) {
        return Ok(None);
    }
    let described = format!("{standings:?}");
    let key = Key::new(
        "workdir",
        [FORMAT_VERSION, path.as_str(), &described, &building.request.timestamp.to_string()].map(str::as_bytes),
    );
    let (layer, outcome) = building.cache.layer::<Failure>(key, building.request.timestamp, |writer| {
        for (folder, standing) in path.parents().chain([path.as_str()]).zip(&standings) {
            let attributes = match *standing {
                Standing::Folder { mode, user, group } => Attributes { mode, uid: user.into(), gid: group.into() },
                Standing::Absent | Standing::Other => Attributes::root(0o755),
            };
            writer.directory(&LayerPath::new(folder).expect("a parent of a path is one"), attributes)?;
        }
        Ok(())
    })?;
    Ok(Some(own_layer(layer, outcome, "working directory")))
}
