//! What the user means by a word on the command line: a spec, an image of the project, a layout or a reference.

use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::document::Format;
use imagespec_core::project::Project;
use imagespec_core::reference::Reference;
use imagespec_core::suggestion;

use crate::arguments::{Lookup, Settings};
use crate::failure::Failure;

/// What a spec is called that a folder stands for.
pub(crate) const SPEC_FILE: &str = "imagespec.yaml";
/// What a project file is called.
const PROJECT_FILE: &str = "imagespec.toml";

/// What a word means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A spec file, whether or not it exists.
    File,
    /// One of the project's images.
    Image,
    /// An OCI image layout, which may end in `:TAG`.
    Layout(PathBuf),
    /// An image in the store or in a registry.
    Reference(Reference),
}

impl Subject {
    /// Decides what `text` means. The first that applies:
    ///
    /// 1. `oci:DIR` is a layout.
    /// 2. What ends as specs do (`.yaml`, `.yml`, `.toml`, `.json`) or begins as a path does (`./`, `../`, `/`) is a
    ///    spec file, even if there is none: that is then the error.
    /// 3. The name of one of the project's images is that image.
    /// 4. A file that exists is a spec file, and a folder with an `imagespec.yaml` means that one.
    /// 5. Anything else is an image reference.
    ///
    /// So a reference that ends as a spec does is written with its digest, and a spec with a strange name as `./NAME`.
    pub(crate) fn of(text: &str, project: Option<&Project>) -> Result<Self, Failure> {
        if let Some(folder) = text.strip_prefix("oci:") {
            return Ok(Self::Layout(folder.into()));
        }
        if let Some(file) = text.strip_prefix("docker-archive:") {
            return Err(Failure::usage(
                format!("`{text}` is an archive, and only layouts, stores and registries are looked in"),
                format!("`skopeo copy docker-archive:{file} oci:DIR` makes a layout of it; name that as `oci:DIR`"),
            ));
        }
        if is_spec_file(text, project) {
            return Ok(Self::File);
        }
        if has_image(project, text) {
            return Ok(Self::Image);
        }
        let reference = text.parse();
        reference.map(Self::Reference).map_err(|error| {
            let mut failure = Failure::of(&error);
            let hint = hint(text, project).unwrap_or_else(|| {
                "name a spec file, an image of the project, `oci:DIR` or an image as `registry/name:tag`".to_owned()
            });
            failure.diagnostics[0].hints.push(hint);
            failure
        })
    }
}

/// Whether `text` means a spec file: rules 2 to 4 of [`Subject::of`].
pub(crate) fn is_spec_file(text: &str, project: Option<&Project>) -> bool {
    names_file(text) || (!has_image(project, text) && (Path::new(text).is_file() || spec_in_folder(text).is_some()))
}

/// The `imagespec.yaml` of the folder `text`, if it is one that has it.
pub(crate) fn spec_in_folder(text: &str) -> Option<PathBuf> {
    let folder = Path::new(text);
    let file = if folder == Path::new(".") { SPEC_FILE.into() } else { folder.join(SPEC_FILE) };
    (folder.is_dir() && file.is_file()).then_some(file)
}

/// Refuses a folder without a spec. What `project` calls so is no folder.
pub(crate) fn refuse_folder(text: &str, project: Option<&Project>) -> Result<(), Failure> {
    let folder = Path::new(text);
    if has_image(project, text) || !folder.is_dir() || spec_in_folder(text).is_some() {
        return Ok(());
    }
    let diagnostic = Diagnostic::error(format!("`{text}` is a folder without `{SPEC_FILE}`"));
    Err(Failure::new(match folder.join(PROJECT_FILE).is_file() {
        true => diagnostic.hint(format!("`imagespec build` in it builds the images of its `{PROJECT_FILE}`")),
        false => diagnostic.hint(format!("name the spec in it, or write one by `imagespec init {text}`")),
    }))
}

/// Whether `text` means a file whatever there is: rule 2 of [`Subject::of`].
pub(crate) fn names_file(text: &str) -> bool {
    let is_path = ["./", "../", "/"].iter().any(|start| text.starts_with(start)) || matches!(text, "." | "..");
    is_path || (!text.starts_with("oci:") && Format::of(Path::new(text)).is_ok())
}

/// What the user may have meant by a reference that leads nowhere.
pub(crate) fn hint(text: &str, project: Option<&Project>) -> Option<String> {
    let names = project.iter().flat_map(|project| project.image_names());
    if let Some(name) = suggestion::closest(text, names) {
        return Some(format!("did you mean `{name}`, an image of the project?"));
    }
    for ending in ["yaml", "yml", "toml", "json"] {
        let file = format!("{text}.{ending}");
        if Path::new(&file).is_file() {
            return Some(format!("did you mean the spec `{file}`?"));
        }
    }
    let folder = Path::new(text);
    if folder.join("oci-layout").is_file() {
        return Some(format!("did you mean the layout `oci:{text}`?"));
    }
    folder.is_dir().then(|| format!("`{text}` is a folder here; name the spec file in it"))
}

/// Refuses what is about a spec's image where there is no spec.
pub(crate) fn refuse_lookup(text: &str, lookup: &Lookup) -> Result<(), Failure> {
    refuse_settings(text, &lookup.settings)?;
    let flag = match (&lookup.builder, lookup.builder_options.is_empty()) {
        (Some(_), _) => "--builder",
        (None, false) => "--builder-opt",
        (None, true) => return Ok(()),
    };
    let message = format!("`{flag}` says who built the image of a spec, and `{text}` is no spec");
    Err(Failure::usage(message, "name the spec, or leave it out"))
}

/// Refuses what changes a spec where there is none to change.
fn refuse_settings(text: &str, Settings { registry, overrides }: &Settings) -> Result<(), Failure> {
    let flag = match (registry, overrides.sets.is_empty(), overrides.platform.is_empty()) {
        _ if overrides.locked => "--locked",
        (Some(_), ..) => "--registry",
        (None, false, _) => "--set",
        (None, true, false) => "--platform",
        (None, true, true) => return Ok(()),
    };
    Err(Failure::usage(format!("`{flag}` changes a spec, and `{text}` is none"), "leave it out"))
}

fn has_image(project: Option<&Project>, text: &str) -> bool {
    project.is_some_and(|project| project.image_names().any(|name| name == text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_what_its_form_says() {
        let of = |text: &str| Subject::of(text, None);
        for spec in ["train.yaml", "a/b/train.YML", "spec.json", "./train", "/srv/train", "../x", "."] {
            assert!(matches!(of(spec), Ok(Subject::File)), "{spec}");
        }
        assert!(matches!(of("oci:out"), Ok(Subject::Layout(folder)) if folder == Path::new("out")));
        assert!(matches!(of("oci:out.json"), Ok(Subject::Layout(_))));
        for reference in ["debian", "team/train", "ghcr.io/team/train:1.0", "127.0.0.1:5000/x"] {
            assert!(matches!(of(reference), Ok(Subject::Reference(_))), "{reference}");
        }
        assert!(of("Train").is_err());
    }
}
