//! A spec with everything that is laid beneath it and above it.
//!
//! From the bottom: `[defaults]` of the user's config, `[defaults]` of the project, the spec file, the inline fields of
//! `[images.NAME]`, each `--set`. Mappings (`env`, `labels`, `builder_options`) are merged by key; anything else is
//! replaced. A field that is `null` takes back what lies beneath. Nested specs get no defaults: they would be
//! installed twice.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{Image, Project};
use super::rebase;
use super::setting::Setting;
use crate::document::{Entry, Format, Node, SIZE_BYTES_MAX, Value};
use crate::place::{Located, Source};
use crate::requirements::UNREADABLE_HINT;
use crate::spec::Spec;
use crate::spec::error::{SpecError, SpecErrorKind, shorten};
use crate::spec::field::{self, Kind};
use crate::suggestion;

/// What is to be loaded.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A spec file, by the path that errors call it.
    File(&'a Path),
    /// An image of the project file, by name.
    Image(&'a str),
}

/// What lies beneath and above a spec.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers<'a> {
    /// The project file.
    pub project: Option<&'a Project>,
    /// The user's config.
    pub user: Option<&'a Project>,
    /// `--set`, each above the one before.
    pub settings: &'a [Setting],
}

/// A spec with its layers.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec. Its relative paths start from `directory`, whichever layer they came from.
    pub spec: Spec,
    /// The spec as its author wrote it: the file and the inline fields of `[images.NAME]`, without defaults and
    /// settings. The image's id is taken over it.
    pub declaration: Spec,
    /// The spec's own file, absolute, if it has one.
    pub path: Option<PathBuf>,
    /// The folder of the spec's file, or else that of the project file, absolute.
    pub directory: PathBuf,
    /// The name of the image in the project file.
    pub image_name: Option<String>,
    /// `[images.NAME] builder`
    pub image_builder: Option<Located<String>>,
}

/// A mapping and the folder that its relative paths start from.
pub(super) struct Layer {
    pub(super) source: Arc<Source>,
    pub(super) directory: PathBuf,
}

/// Loads a spec file or an image of the project, with all layers.
///
/// # Errors
/// Everything that is wrong with the spec; what is wrong with the project file was said when that was read.
pub fn load(target: Target<'_>, layers: &Layers<'_>) -> Result<Loaded, Vec<SpecError>> {
    let image = match target {
        Target::File(_) => None,
        Target::Image(name) => Some(find_image(name, layers.project).map_err(|error| vec![error])?),
    };
    let file = match (target, image) {
        (Target::File(path), _) => Some((path.to_owned(), path.display().to_string())),
        (_, Some((project, Image { spec: Some(spec), .. }))) => {
            let shown = Path::new(&spec.place.source.name).parent().unwrap_or(Path::new("")).join(&spec.value);
            Some((project.directory.join(&spec.value), shown.display().to_string()))
        }
        _ => None,
    };
    let named_at = image.and_then(|(_, image)| image.spec.as_ref()).map(|spec| &spec.place);
    let file = file.map(|(path, name)| read_node(&path, &name)).transpose().map_err(|mut error| {
        if matches!(&error.kind, SpecErrorKind::Read { source, .. } if source.kind() == ErrorKind::NotFound) {
            error.hints.push(match named_at {
                Some(_) => "paths are relative to the folder of the file that names them".to_owned(),
                None => "name a spec file by its path, or an image of `imagespec.toml` by its name".to_owned(),
            });
        }
        if matches!(&error.kind, SpecErrorKind::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied) {
            error.hints.push(UNREADABLE_HINT.to_owned());
        }
        error.place = error.place.or_else(|| named_at.cloned());
        vec![error]
    })?;

    let mut nodes: Vec<(&Node, &Path)> = Vec::new();
    for project in [layers.user, layers.project].into_iter().flatten() {
        nodes.extend(project.defaults.as_ref().map(|defaults| (defaults, project.directory.as_path())));
    }
    let defaults_count = nodes.len();
    nodes.extend(file.as_ref().map(|file| (&file.node, file.directory.as_path())));
    nodes.extend(image.map(|(project, image)| (&image.fields, project.directory.as_path())));
    let written = defaults_count..nodes.len();
    nodes.extend(layers.settings.iter().map(|setting| (&setting.node, setting.directory.as_path())));

    let merged = |layers: &[(&Node, &Path)]| {
        let merged = layers.iter().map(|(node, _)| (*node).clone()).reduce(merge);
        merged.expect("a target is a file or an image, and either is a layer")
    };
    let mut spec = Spec::from_node(&merged(&nodes))?;
    let declaration = Spec::from_node(&merged(&nodes[written]))?;
    let directory = match (&file, image) {
        (Some(file), _) => file.directory.clone(),
        (None, Some((project, _))) => project.directory.clone(),
        (None, None) => PathBuf::new(),
    };
    let sources: Vec<_> = nodes
        .iter()
        .map(|(node, directory)| Layer { source: Arc::clone(&node.place.source), directory: directory.to_path_buf() })
        .collect();
    rebase::rebase(&mut spec, &sources, &directory);
    let registry = layers.project.and_then(|project| project.registry.clone());
    spec.registry = spec.registry.or(registry).or_else(|| layers.user.and_then(|user| user.registry.clone()));
    if let (None, Some((_, image))) = (&spec.name, image) {
        spec.name = Some(image.name.clone());
    }
    Ok(Loaded {
        spec,
        declaration,
        path: file.map(|file| file.path),
        directory,
        image_name: image.map(|(_, image)| image.name.value.clone()),
        image_builder: image.and_then(|(_, image)| image.builder.clone()),
    })
}

/// Reads the spec file at `path` alone, without any layer, as one that `base_image` names. `name` is how errors call it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn read_spec(path: &Path, name: &str) -> Result<Spec, Vec<SpecError>> {
    let file = read_node(path, name).map_err(|error| vec![error])?;
    Spec::from_node(&file.node)
}

fn find_image<'a>(name: &str, project: Option<&'a Project>) -> Result<(&'a Project, &'a Image), SpecError> {
    let unknown = SpecError::nowhere(SpecErrorKind::UnknownImage { name: shorten(name) });
    let Some(project) = project else {
        return Err(unknown.hint("there is no `imagespec.toml` here or above; name a spec file instead"));
    };
    if let Some(image) = project.images.iter().find(|image| image.name.value == name) {
        return Ok((project, image));
    }
    let names: Vec<_> = project.image_names().map(|name| format!("`{name}`")).collect();
    Err(match suggestion::closest(name, project.image_names()) {
        Some(likely) => unknown.hint(format!("did you mean `{likely}`?")),
        None if names.is_empty() => unknown.hint("the project file has no `[images.NAME]`; name a spec file instead"),
        None => unknown.hint(format!("the project file has {}", names.join(", "))),
    })
}

/// Two mappings as one: `upper` wins.
fn merge(lower: Node, upper: Node) -> Node {
    let (Value::Mapping(mut entries), Value::Mapping(above)) = (lower.value, upper.value.clone()) else {
        return upper;
    };
    for entry in above {
        match entries.iter_mut().find(|beneath| beneath.key.value == entry.key.value) {
            Some(beneath) => *beneath = merge_field(beneath, entry),
            None => entries.push(entry),
        }
    }
    Node { place: upper.place, value: Value::Mapping(entries) }
}

fn merge_field(lower: &Entry, upper: Entry) -> Entry {
    let is_merged = field::find(&upper.key.value)
        .is_some_and(|field| matches!(field.kind, Kind::Variables { .. } | Kind::Options(_)));
    match is_merged && !upper.value.is_null() {
        true => Entry { key: upper.key, value: merge_names(lower.value.clone(), upper.value) },
        false => upper,
    }
}

fn merge_names(lower: Node, upper: Node) -> Node {
    match (lower.value, upper.value) {
        (Value::Mapping(beneath), Value::Mapping(above)) => {
            let is_kept = |entry: &Entry| above.iter().all(|upper| upper.key.value != entry.key.value);
            let mut entries: Vec<_> = beneath.into_iter().filter(is_kept).collect();
            entries.extend(above);
            Node { place: upper.place, value: Value::Mapping(entries) }
        }
        (_, value) => Node { place: upper.place, value },
    }
}

struct SpecFile {
    node: Node,
    path: PathBuf,
    directory: PathBuf,
}

fn read_node(path: &Path, name: &str) -> Result<SpecFile, SpecError> {
    let format = Format::of(path)?;
    let text = read(path)?;
    let (absolute, directory) = folder_of(path)?;
    Ok(SpecFile { node: Node::parse(name, &text, format)?, path: absolute, directory })
}

/// The file's bytes, at most one more than a spec may have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, SpecError> {
    let fail = |source| SpecError::nowhere(SpecErrorKind::Read { path: path.to_owned(), source });
    let metadata = fs::metadata(path).map_err(fail)?;
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(
            SpecError::nowhere(SpecErrorKind::NotFile { path: path.to_owned() }).hint("name the spec file itself")
        );
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut text).map_err(fail)?;
    Ok(text)
}

/// The file by its absolute path without links, and its folder.
pub(super) fn folder_of(path: &Path) -> Result<(PathBuf, PathBuf), SpecError> {
    let fail = |source| SpecError::nowhere(SpecErrorKind::Read { path: path.to_owned(), source });
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = parent.canonicalize().map_err(fail)?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidFilename.into()).map_err(fail)?;
    Ok((directory.join(name), directory))
}
